"""Whatever lies in one model's folder, the others are looked at, and it is said what is wrong."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from darkroom_server.model_config.config_file import read_config
from darkroom_server.repository import model_folder, version_files
from tests.unit.deep_folders import nest, remove
from tests.unit.repository.builders import Repository


@pytest.fixture(autouse=True)
def _removed(tmp_path: Path) -> Iterator[None]:
    yield
    remove(tmp_path)


def make_socket(path: Path) -> None:
    # Paths of sockets are short.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def many_paths(folder: Path) -> None:
    """Forty folders, each with two links to the next: 2**40 paths, and no loop."""
    for number in range(40):
        (folder / f"d{number}").mkdir()
        for name in "ab":
            (folder / f"d{number}" / name).symlink_to(f"../d{number + 1}")
    (folder / "d40").mkdir()


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "folders-in-each-other": (lambda at: nest(at / "1", 600), "is more than 32 folders deep"),
    "long-names-in-each-other": (
        lambda at: nest(at / "1", 20, "x" * 255),
        "cannot be read: File name too",
    ),
    "loop": (lambda at: (at / "1" / "loop").symlink_to("."), "is a link to a folder that contains"),
    "loop-of-two": (
        lambda at: [(at / "1" / one).symlink_to(two) for one, two in ("ab", "ba")],
        "cannot be read: Too many levels of symbolic links",
    ),
    "links-of-links": (lambda at: many_paths(at / "1"), "holds more than 1000 files and folders"),
    "many-files": (
        lambda at: [(at / "1" / str(number)).touch() for number in range(1001)],
        "holds more than 1000 files and folders",
    ),
    "fifo": (lambda at: os.mkfifo(at / "1" / "model.safetensors"), "is neither a file nor"),
    "socket": (lambda at: make_socket(at / "1" / "s"), "is neither a file nor a folder"),
    "device": (lambda at: (at / "1" / "zero").symlink_to("/dev/zero"), "is neither a file nor"),
    "bytes-as-name": (
        lambda at: (Path(os.fsdecode(os.fsencode(at / "1") + b"/\xff\xfe"))).touch(),
        "has a name that is not printable text",
    ),
    "no-rights": (lambda at: (at / "1" / "locked").mkdir(), "cannot be read: Permission denied"),
    "config-is-a-fifo": (
        lambda at: ((at / "config.pbtxt").unlink(), os.mkfifo(at / "config.pbtxt")),
        "is not a file",
    ),
    "config-is-a-device": (
        lambda at: ((at / "config.pbtxt").unlink(), (at / "config.pbtxt").symlink_to("/dev/zero")),
        "leaves the repository",
    ),
    "config-is-a-loop": (
        lambda at: (
            (at / "config.pbtxt").unlink(),
            (at / "config.pbtxt").symlink_to("config.pbtxt"),
        ),
        "is a link that leads nowhere",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_file_is_told_and_the_other_models_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, expected = ODD[case]
    repository = Repository(tmp_path / "root")
    for name in ("a", "m", "z"):
        repository.fake(name)
    make(tmp_path / "root" / "m")
    monkeypatch.setattr(version_files, "MAX_FILE_COUNT", 1000)
    scandir = os.scandir

    def refuse_locked(path: str | Path) -> object:
        if Path(path).name == "locked":  # who runs tests may look everywhere
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_locked)
    scan = repository.scan()
    assert [model.info.name for model in scan.models] == ["a", "z"]
    assert any(expected in one.message for one in scan.problems if one.model == "m"), scan.problems


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda root: os.mkfifo(root / "fifo"), id="fifo"),
        pytest.param(lambda root: make_socket(root / "socket"), id="socket"),
        pytest.param(lambda root: nest(root, 600), id="folders-in-each-other"),
        pytest.param(lambda root: (root / "loop").symlink_to("loop"), id="loop"),
        pytest.param(lambda root: (root / "all").symlink_to("."), id="itself"),
        pytest.param(lambda root: (root / "long").symlink_to("x" * 300), id="no-possible-target"),
        pytest.param(
            lambda root: Path(os.fsdecode(os.fsencode(root) + b"/\xff")).mkdir(), id="bytes"
        ),
        pytest.param(lambda root: (root / "a" / "zero").symlink_to("/dev/zero"), id="device"),
        pytest.param(lambda root: (root / "a" / "l").symlink_to("y" * 300), id="beside-a-version"),
    ],
)
def test_odd_files_beside_models_and_versions_stop_nothing(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    repository = Repository(tmp_path)
    repository.fake("a")
    make(tmp_path)
    scan = repository.scan()
    assert [model.info.name for model in scan.models] == ["a"]


def test_a_model_that_the_reader_fails_on_stops_no_look_at_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(tmp_path)
    for name in ("a", "m", "z"):
        repository.fake(name)

    def read(content: bytes, *, shown: str, problems: object) -> object:
        if shown.startswith("m/"):
            raise RecursionError("of nobody's making")
        return read_config(content, shown=shown, problems=problems)  # type: ignore[arg-type]

    monkeypatch.setattr(model_folder, "read_config", read)
    assert [model.info.name for model in repository.scan().models] == ["a", "z"]
    assert repository.errors() == ["m: error: could not be read; the log has the cause"]


def test_problems_without_end_are_counted_and_the_first_are_told(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.fake("m")
    lines = (f"{'a' * 64}  nowhere/{number}" for number in range(10_000))
    repository.write("m/1/MANIFEST.sha256", "\n".join(lines))
    errors = repository.errors()
    assert len(errors) == 201
    assert errors[-1] == "m: error: has more than 200 errors: the rest is left out"
