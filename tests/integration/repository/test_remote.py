"""A repository in a bucket, followed by a local copy, against a server that speaks S3."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from darkroom_server.repository import fetching
from darkroom_server.repository.remote_repository import RemoteLocation, RemoteRepository
from darkroom_server.repository.remote_store import RemoteError, RemoteStore
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.repository.scan import RepositoryScan
from tests.integration.repository.s3_server import URL, Bucket, serving_s3
from tests.unit.repository.builders import SDXL_INDEX, Repository, pipeline_files

WAIT_S = 30.0
FAKE = "backend: BACKEND_FAKE\n"
ROOMY = 10**9


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with serving_s3() as bucket:
        yield bucket


@contextmanager
def following(
    tmp_path: Path, url: str = URL, *, cache_bytes: int = ROOMY, settle_s: float = 0.0
) -> Iterator[RemoteRepository]:
    location = RemoteLocation(url, tmp_path / "cache", cache_bytes)
    repository = RemoteRepository(location, {}, settle_s=settle_s)
    try:
        yield repository
    finally:
        repository.close()


def settled(repository: RemoteRepository, in_use: frozenset[Path] = frozenset()) -> RepositoryScan:
    """What the copy holds when all that can be fetched has been."""
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        scan = repository.scan(in_use)
        if not scan.is_unfinished:
            return scan
        time.sleep(0.02)
    raise AssertionError(f"still unfinished: {scan}")


def errors(scan: RepositoryScan) -> list[str]:
    return [str(problem) for problem in scan.problems]


def versions(scan: RepositoryScan, name: str = "m") -> dict[int, str]:
    """Digests of a model's whole versions, or nothing."""
    return {
        one.version: one.digest
        for model in scan.models
        if model.info.name == name
        for one in model.versions
    }


def serving(scan: RepositoryScan, name: str = "m") -> tuple[int, ...]:
    return next((model.serving for model in scan.models if model.info.name == name), ())


def fake(bucket: Bucket, version: int, content: str = "", *, config: str = "") -> None:
    bucket.put("m/config.pbtxt", FAKE + config)
    bucket.put(f"m/{version}/weights", content or f"weights {version}")


def cached_bytes(tmp_path: Path) -> int:
    files = (tmp_path / "cache").glob("*/.objects/*")
    return sum(path.stat().st_size for path in files)


def test_a_bucket_is_served_as_the_same_folder_would_be(bucket: Bucket, tmp_path: Path) -> None:
    local = Repository(tmp_path / "local")
    local.pipeline("xl", 2)
    local.config("xl", 'hub { repo_id: "org/xl" }\n')
    local.fake("m", 1)
    local.write("m/1/weights", "w")
    local.write("m/1/empty", "")
    bucket.upload(local.root)
    with following(tmp_path) as repository:
        scan = settled(repository)
    wanted = ModelRepository(local.root).scan()
    assert errors(scan) == errors(wanted) == []
    assert [one.info for one in scan.models] == [one.info for one in wanted.models]
    assert versions(scan, "xl") == versions(wanted, "xl")
    assert versions(scan) == versions(wanted)
    # Two tokenizers and text encoders of the same content are kept once.
    assert cached_bytes(tmp_path) < sum(p.stat().st_size for p in local.root.rglob("*.*"))


def test_only_the_versions_that_the_policy_chooses_are_fetched(
    bucket: Bucket, tmp_path: Path
) -> None:
    for version in (1, 2, 3):
        fake(bucket, version)
    with following(tmp_path) as repository:
        assert list(versions(settled(repository))) == [3]
        bucket.put("m/config.pbtxt", FAKE + "version_policy { latest { num_versions: 2 } }")
        assert list(versions(settled(repository))) == [3, 2]


def test_changes_in_the_bucket_are_followed(bucket: Bucket, tmp_path: Path) -> None:
    fake(bucket, 1)
    with following(tmp_path) as repository:
        first = versions(settled(repository))
        fake(bucket, 1, "other weights")
        changed = versions(settled(repository))
        assert changed.keys() == {1}
        assert changed != first
        fake(bucket, 2)
        assert serving(settled(repository)) == (2,)
        bucket.delete("m/2/")
        assert versions(settled(repository)) == changed
        bucket.put("other/config.pbtxt", FAKE)
        bucket.put("other/1/weights", "")
        bucket.delete("m/")
        assert [model.info.name for model in settled(repository).models] == ["other"]


def test_a_fetch_goes_on_where_an_earlier_process_was_interrupted(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block_bytes = 1000
    monkeypatch.setattr(fetching, "_BLOCK_BYTES", block_bytes)
    fake(bucket, 1, "x" * 10 * block_bytes)
    read, reads = RemoteStore.read, list[int]()

    def breaking(store: RemoteStore, name: str, begin: int, end: int) -> bytes:
        if begin == 6 * block_bytes and begin not in reads:
            reads.append(begin)
            raise RemoteError("the network is down")
        if name.endswith("weights"):
            reads.append(begin)
        return read(store, name, begin, end)

    monkeypatch.setattr(RemoteStore, "read", breaking)
    with following(tmp_path) as repository:
        while not (scan := repository.scan()).problems:
            time.sleep(0.02)
        assert errors(scan) == ["m/1: error: cannot be fetched: the network is down"]
        assert versions(scan) == {}
    with following(tmp_path) as repository:
        assert serving(settled(repository)) == (1,)
    assert reads == [k * block_bytes for k in (*range(7), *range(6, 10))]


def test_a_file_that_changes_while_it_is_fetched_is_fetched_anew(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_BLOCK_BYTES", 1000)
    fake(bucket, 1, "a" * 3000)
    read, changed = RemoteStore.read, list[str]()

    def changing(store: RemoteStore, name: str, begin: int, end: int) -> bytes:
        if begin == 1000 and not changed:
            changed.append(name)
            fake(bucket, 1, "b" * 3000)
        return read(store, name, begin, end)

    monkeypatch.setattr(RemoteStore, "read", changing)
    with following(tmp_path) as repository:
        scan = settled(repository)
        [version] = scan.models[0].versions
        assert changed
        assert (version.path / "weights").read_text() == "b" * 3000


def test_a_version_that_is_not_whole_yet_does_not_appear_and_the_one_before_serves(
    bucket: Bucket, tmp_path: Path
) -> None:
    files = pipeline_files(SDXL_INDEX)
    for name, content in files.items():
        bucket.put(f"m/1/{name}", content)
    with following(tmp_path) as repository:
        assert serving(settled(repository)) == (1,)
        for name, content in list(files.items())[:-2]:
            bucket.put(f"m/2/{name}", content)
            assert serving(settled(repository)) == (1,)
        scan = settled(repository)
        assert any(text.startswith("m/2") for text in errors(scan))
        for name, content in list(files.items())[-2:]:
            bucket.put(f"m/2/{name}", content)
        assert serving(settled(repository)) == (2,)


def test_a_copy_begun_beside_a_broken_version_has_the_one_before(
    bucket: Bucket, tmp_path: Path
) -> None:
    for name, content in pipeline_files(SDXL_INDEX).items():
        bucket.put(f"m/1/{name}", content)
        bucket.put(f"m/2/{name}", content[:-1] if name.endswith("safetensors") else content)
    with following(tmp_path) as repository:
        scan = settled(repository)
        assert serving(scan) == (1,)
        assert any("truncated" in text for text in errors(scan))


def test_what_has_not_settled_waits_unless_a_manifest_vouches_for_it(
    bucket: Bucket, tmp_path: Path
) -> None:
    fake(bucket, 1)
    with following(tmp_path, settle_s=3600.0) as repository:
        scan = repository.scan()
        assert scan.is_unfinished
        assert scan.fetching == ("m",)
        assert scan.models == ()
        digest = hashlib.sha256(b"weights 1").hexdigest()
        bucket.put("m/1/MANIFEST.sha256", f"{digest}  weights\n")
        assert serving(settled(repository)) == (1,)


def test_a_config_counts_once_the_versions_that_it_names_are_there(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(bucket, 1)
    with following(tmp_path) as repository:
        settled(repository)
        read, is_down = RemoteStore.read, [True]

        def without_weights(store: RemoteStore, name: str, begin: int, end: int) -> bytes:
            if is_down[0] and name.endswith("weights"):
                raise RemoteError("not now")
            return read(store, name, begin, end)

        monkeypatch.setattr(RemoteStore, "read", without_weights)
        monkeypatch.setattr(fetching, "_FIRST_RETRY_S", 0.0)
        fake(bucket, 2, config="version_policy { specific { versions: 2 } }")
        for _ in range(5):
            assert serving(repository.scan()) == (1,)
            time.sleep(0.05)
        is_down[0] = False
        assert serving(settled(repository)) == (2,)


def test_pickles_and_code_are_refused_without_being_fetched(bucket: Bucket, tmp_path: Path) -> None:
    fake(bucket, 1)
    with following(tmp_path) as repository:
        first = versions(settled(repository))
        fake(bucket, 2)
        bucket.put("m/2/unet/model.bin", "a pickle")
        bucket.put("m/1/handler.py", "print()")
        scan = settled(repository)
        # What serves stays as it was.
        assert versions(scan) == first
        assert sorted(text.partition(" error")[0] for text in errors(scan)) == [
            "m/1/handler.py:",
            "m/2/unet/model.bin:",
        ]
    assert cached_bytes(tmp_path) == len("weights 1")


def test_names_that_lead_out_of_the_repository_are_left_out(bucket: Bucket, tmp_path: Path) -> None:
    fake(bucket, 1)
    for name in ("../evil", "m/1/../../../evil", "m/../evil", "m/1//evil", "m/1/", ".git/config"):
        bucket.put(name, "evil")
    with following(tmp_path) as repository:
        scan = settled(repository)
    assert serving(scan) == (1,)
    assert sum("is no name for a file" in text for text in errors(scan)) == 4
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_versions_out_of_use_make_room_and_those_in_use_stay(
    bucket: Bucket, tmp_path: Path
) -> None:
    with following(tmp_path, cache_bytes=2500) as repository:
        for version in range(1, 6):
            fake(bucket, version, str(version) * 1000)
            scan = settled(repository)
            assert serving(scan) == (version,)
            assert cached_bytes(tmp_path) <= 2500
        assert set(versions(scan)) == {5, 4}
        in_use = frozenset({one.path for one in scan.models[0].versions if one.version == 4})
        fake(bucket, 6, "6" * 1000)
        scan = repository.scan(in_use)
        assert errors(scan) == []
        scan = settled(repository, in_use)
        assert set(versions(scan)) == {6, 4}


def test_what_does_not_fit_is_told_and_leaves_what_serves(bucket: Bucket, tmp_path: Path) -> None:
    fake(bucket, 1, "x" * 1000)
    with following(tmp_path, cache_bytes=1500) as repository:
        [path] = {one.path for one in settled(repository).models[0].versions}
        fake(bucket, 2, "y" * 1000)
        scan = repository.scan(frozenset({path}))
        assert serving(scan) == (1,)
        assert "raise --repository-cache-bytes" in errors(scan)[0]
        # Once the server has let it go there is room.
        assert serving(settled(repository)) == (2,)


@pytest.mark.parametrize("broken", ["server", "bucket"])
def test_a_store_that_goes_away_leaves_the_copy_and_says_why(
    bucket: Bucket, tmp_path: Path, broken: str
) -> None:
    fake(bucket, 1)
    with following(tmp_path) as repository:
        before = versions(settled(repository))
        if broken == "server":
            bucket.server.stop()
        else:
            bucket.delete("")
            bucket.client.delete_bucket(Bucket="models")
        scan = repository.scan()
        assert versions(scan) == before
        assert scan.is_unfinished
        reason = {"server": "cannot be reached", "bucket": "no such bucket"}[broken]
        assert reason in errors(scan)[0]
    # A server that starts meanwhile serves what the last one had.
    with following(tmp_path) as repository:
        assert versions(repository.scan()) == before
    if broken == "bucket":
        bucket.server.stop()


def test_missing_credentials_are_told(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(bucket, 1)
    for name in [name for name in os.environ if name.startswith("AWS_") and "KEY" in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with following(tmp_path) as repository:
        scan = repository.scan()
    assert scan.models == ()
    assert "no usable credentials were found" in errors(scan)[0]


def test_an_empty_prefix_is_told_and_not_taken_for_a_repository_of_no_models(
    bucket: Bucket, tmp_path: Path
) -> None:
    fake(bucket, 1)
    with following(tmp_path) as repository:
        before = versions(settled(repository))
        bucket.delete("")
        scan = repository.scan()
        assert "holds nothing" in errors(scan)[0]
        assert versions(scan) == before


def test_two_servers_do_not_share_a_copy(bucket: Bucket, tmp_path: Path) -> None:
    fake(bucket, 1)
    with following(tmp_path) as first, following(tmp_path) as second:
        settled(first)
        scan = second.scan()
        assert not scan.is_readable
        assert "--repository-cache" in errors(scan)[0]
        first.close()
        assert serving(settled(second)) == (1,)


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_any_url_that_fsspec_knows_can_be_followed(tmp_path: Path, protocol: str) -> None:
    root = str(tmp_path / "store")
    store = fsspec.filesystem(protocol)
    store.makedirs(f"{root}/m/1")
    store.pipe(f"{root}/m/config.pbtxt", FAKE.encode())
    store.pipe(f"{root}/m/1/weights", b"one")
    with following(tmp_path, f"{protocol}://{root}") as repository:
        first = versions(settled(repository))
        assert serving(settled(repository)) == (1,)
        store.pipe(f"{root}/m/1/weights", b"two")
        assert versions(settled(repository)) != first
    store.rm(root, recursive=True)
