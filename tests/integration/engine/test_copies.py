"""Ways in which people replace a version's files, under an engine that polls and is asked.

Each test has a stream of requests from its beginning to its end. None may fail, and every one is
served by an edition that was whole: what a half-done copy would be is never among them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.model_status import VersionState
from darkroom_server.engine.engine import Engine
from darkroom_server.repository.repository import ModelRepository
from tests.integration.engine.test_updates import (
    picture,
    polling,
    serves,
    states,
    until,
    write_config,
)

SETTLE_S = 0.6
#: Longer than two looks, shorter than it takes files to settle.
PAUSE_S = 0.15


def fill(folder: Path, content: str) -> Path:
    """A version of three files."""
    for name in ("index", "unet/weights", "vae/weights"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{content} {name}")
    return folder


def digest_of(folder: Path) -> str:
    """What an edition with these files is known by."""
    root = folder.parent / f".seen-{folder.name}"
    shutil.copytree(folder, root / "fake" / "1")
    (root / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    [model] = ModelRepository(root).scan().models
    shutil.rmtree(root)
    return model.versions[0].digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    write_config(root)
    fill(root / "fake" / "1", "old")
    return root


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """What is to take the place of version 1, or to be version 2; as long as the old one."""
    return fill(tmp_path / "new", "new")


@asynccontextmanager
async def asked_all_along(
    root: Path, *whole: Path, settle_s: float = SETTLE_S
) -> AsyncIterator[Engine]:
    """An engine that serves version 1 and is asked until the block ends."""
    allowed = {digest_of(folder) for folder in (root / "fake" / "1", *whole)}
    seen: set[str] = set()
    async with polling(root, settle_s=settle_s) as engine:
        await serves(engine, 1)
        ended = asyncio.Event()

        async def ask() -> None:
            while not ended.is_set():
                seen.add((await picture(engine, 1))[1])

        asking = asyncio.create_task(ask())
        try:
            yield engine
        finally:
            ended.set()
            await asking
    assert seen <= allowed


async def serves_digest(engine: Engine, digest: str) -> None:
    await until(
        engine,
        lambda: any(
            one.digest == digest and one.state is VersionState.READY
            for one in engine.get_model("fake").versions
        ),
    )


async def test_a_slow_copy_is_loaded_when_it_is_whole(root: Path, new: Path) -> None:
    async with asked_all_along(root, new) as engine:
        for path in sorted(new.rglob("*")):
            if path.is_file():
                to = root / "fake" / "2" / path.relative_to(new)
                to.parent.mkdir(parents=True, exist_ok=True)
                for end in (1, 3, None):
                    to.write_bytes(path.read_bytes()[:end])
                    await asyncio.sleep(PAUSE_S)
                    assert 2 not in states(engine)
        await serves(engine, 2)
        assert (await picture(engine, 1))[1] == digest_of(new)


async def test_a_copy_with_old_times_is_loaded_when_it_is_whole(root: Path, new: Path) -> None:
    for path in new.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    async with asked_all_along(root, new) as engine:
        (root / "fake" / "2").mkdir()
        for name in sorted(path.name for path in new.iterdir()):
            subprocess.run(["cp", "-rp", str(new / name), str(root / "fake" / "2")], check=True)
            await asyncio.sleep(2 * PAUSE_S)
            assert 2 not in states(engine)
        assert (root / "fake" / "2" / "index").stat().st_mtime == 1_000_000_000
        await serves(engine, 2)


async def test_files_that_are_replaced_by_renaming_are_another_edition_once_all_are(
    root: Path, new: Path
) -> None:
    """As rsync does it: each file under a name of its own first, with the times of its source."""
    async with asked_all_along(root, new) as engine:
        for path in sorted(new.rglob("*")):
            if path.is_file():
                to = root / "fake" / "1" / path.relative_to(new)
                draft = to.with_name(f".{to.name}.x8Fk2a")
                shutil.copyfile(path, draft)
                os.utime(draft, ns=(to.stat().st_atime_ns, to.stat().st_mtime_ns))
                draft.replace(to)
                await asyncio.sleep(PAUSE_S)
        await serves_digest(engine, digest_of(new))


async def test_files_that_are_rewritten_in_place_are_another_edition_once_all_are(
    root: Path, new: Path
) -> None:
    """As `rsync --inplace --times` does it: the same inode, size and time, another content."""
    async with asked_all_along(root, new) as engine:
        for path in sorted(new.rglob("*")):
            if path.is_file():
                to = root / "fake" / "1" / path.relative_to(new)
                before = to.stat()
                with to.open("r+b") as file:
                    file.write(path.read_bytes())
                os.utime(to, ns=(before.st_atime_ns, before.st_mtime_ns))
                after = to.stat()
                assert (before.st_size, before.st_mtime_ns, before.st_ino) == (
                    after.st_size,
                    after.st_mtime_ns,
                    after.st_ino,
                )
                await asyncio.sleep(PAUSE_S)
        await serves_digest(engine, digest_of(new))


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
@pytest.mark.parametrize("flags", [(), ("--inplace",)], ids=["renaming", "in-place"])
async def test_what_rsync_puts_there_is_another_edition(
    root: Path, new: Path, flags: tuple[str, ...]
) -> None:
    async with asked_all_along(root, new) as engine:
        source, target = f"{new}/", str(root / "fake" / "1")
        command = ["rsync", "-a", "--ignore-times", *flags, source, target]
        await asyncio.to_thread(subprocess.run, command, check=True)
        await serves_digest(engine, digest_of(new))


async def test_a_link_that_leads_elsewhere_is_another_edition(root: Path, new: Path) -> None:
    store = root / ".store"
    shutil.copytree(new, store / "new")
    (root / "fake" / "1").rename(store / "old")
    (root / "fake" / "1").symlink_to("../.store/old")
    async with asked_all_along(root, new) as engine:
        draft = root / "fake" / ".link"
        draft.symlink_to("../.store/new")
        draft.replace(root / "fake" / "1")
        await serves_digest(engine, digest_of(new))


async def test_a_version_that_is_deleted_while_it_loads_leaves_the_old_one(
    root: Path, new: Path
) -> None:
    async with asked_all_along(root, new) as engine:
        write_config(root, "fake { load_s: 0.5 }")
        shutil.copytree(new, root / "fake" / "2")
        await until(engine, lambda: states(engine).get(2) is VersionState.LOADING)
        shutil.rmtree(root / "fake" / "2")
        await until(engine, lambda: 2 not in states(engine))
        assert states(engine) == {1: VersionState.READY}


async def test_a_version_of_which_a_file_is_replaced_while_it_loads_is_never_served_so(
    root: Path, new: Path, tmp_path: Path
) -> None:
    mixed = shutil.copytree(new, tmp_path / "mixed")
    (mixed / "vae" / "weights").write_text("replaced")
    # Loaded long before it settles again.
    async with asked_all_along(root, mixed, settle_s=3.0) as engine:
        write_config(root, "fake { load_s: 0.2 }")
        shutil.copytree(new, root / "fake" / "2")
        await until(engine, lambda: states(engine).get(2) is VersionState.LOADING)
        shutil.copy(mixed / "vae" / "weights", root / "fake" / "2" / "vae" / "weights")
        await serves_digest(engine, digest_of(mixed))


async def test_broken_models_beside_a_good_one_stop_none_of_its_updates(
    root: Path, new: Path
) -> None:
    async with asked_all_along(root, new) as engine:
        for name, content in {"no-config": "{", "bad-config": "backend: NO_SUCH"}.items():
            (root / name / "1").mkdir(parents=True)
            (root / name / "config.pbtxt").write_text(content)
        (root / "pickled" / "1").mkdir(parents=True)
        (root / "pickled" / "1" / "model.bin").write_bytes(b"a pickle")
        (root / "dangling").symlink_to("nowhere")
        shutil.copytree(new, root / "fake" / "2")
        await serves(engine, 2)


async def test_a_manifest_vouches_for_a_copy_only_when_all_of_it_is_there(
    root: Path, new: Path
) -> None:
    names = sorted(path for path in new.rglob("*") if path.is_file())
    manifest = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(new)}\n"
        for path in names
    )
    (new / "MANIFEST.sha256").write_text(manifest)
    async with asked_all_along(root, new) as engine:
        target = root / "fake" / "2"
        target.mkdir()
        (target / "MANIFEST.sha256").write_text(manifest)
        for path in names:
            await asyncio.sleep(PAUSE_S)
            assert 2 not in states(engine)
            (target / path.relative_to(new)).parent.mkdir(exist_ok=True)
            shutil.copy(path, target / path.relative_to(new))
        await serves(engine, 2)


async def test_a_worker_restarted_while_its_files_are_replaced_serves_no_half_of_them(
    root: Path, new: Path
) -> None:
    old = digest_of(root / "fake" / "1")
    async with polling(root, settle_s=SETTLE_S) as engine:
        await serves(engine, 1)
        shutil.copy(new / "index", root / "fake" / "1" / "index")
        os.kill(engine.worker_pids()[0], signal.SIGKILL)
        await until(engine, lambda: states(engine)[1] is VersionState.FAILED)
        with pytest.raises(ModelUnavailable, match="Files of version 1 were replaced"):
            await picture(engine, 1)
        for name in ("unet/weights", "vae/weights"):
            await asyncio.sleep(PAUSE_S)
            shutil.copy(new / name, root / "fake" / "1" / name)
        await serves_digest(engine, digest_of(new))
        assert (await picture(engine, 1))[1] == digest_of(new) != old
