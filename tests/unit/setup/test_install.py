"""What the set-up says of downloads and failures, without any."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", REPOSITORY / "setup" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["install"] = module
    spec.loader.exec_module(module)
    return module


def test_large_files_are_named_with_their_size_and_all_are_counted(install: ModuleType) -> None:
    fetched = install.Fetched()
    lines = [
        "Collecting torch==2.13.0",
        "  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl.metadata (31 kB)",
        "Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (203.5 MB)",
        "Downloading idna-3.20-py3-none-any.whl (70 kB)",
        "Using cached numpy-2.4.6-cp311-cp311-linux_x86_64.whl (16.0 MB)",
    ]
    said = [text for line in lines if (text := fetched.take(line))]
    assert said == ["torch, 203.5 MB", "numpy, 16.0 MB (kept from before)"]
    assert (fetched.count, fetched.cached_count) == (3, 1)
    assert fetched.total_bytes == pytest.approx(203.57e6)


def test_files_that_are_here_already_are_named_too(install: ModuleType, tmp_path: Path) -> None:
    fetched = install.Fetched()
    wheel = tmp_path / "torch-2.13.0-cp311.whl"
    with wheel.open("wb") as file:
        file.truncate(6_000_000)
    assert fetched.take(f"Processing {wheel}\n") == f"torch, 6.0 MB (from {tmp_path})"
    assert fetched.take("Processing ./service") is None
    assert (fetched.count, fetched.cached_count, fetched.total_bytes) == (1, 1, 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(
            "WARNING: Retrying (Retry(total=1)) after connection broken by "
            "'NewConnectionError: Temporary failure in name resolution': /simple/torch/",
            "the package index cannot be reached: no network; trying again",
            id="no-network",
        ),
        pytest.param(
            "WARNING: Retrying (Retry(total=1)) after connection broken by 'new': /simple/torch/",
            "the package index does not answer; trying again",
            id="another",
        ),
        pytest.param("Collecting torch==2.13.0", None, id="none"),
    ],
)
def test_that_pip_tries_again_is_told(install: ModuleType, line: str, said: str | None) -> None:
    assert install.retry_of(line) == said


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        pytest.param(
            ["ERROR: Could not install packages: [Errno 28] No space left on device"],
            "the disk is full",
            id="disk",
        ),
        pytest.param(
            [
                "WARNING: Retrying: Temporary failure in name resolution",
                "ERROR: No matching distribution found for torch==2.13.0",
            ],
            "no network",
            id="network-before-what-follows-from-it",
        ),
        pytest.param(
            ["ERROR: No matching distribution found for torch==9"], "no such version", id="version"
        ),
        pytest.param(["note", "error: something new"], "error: something new", id="unknown"),
        pytest.param([], "pip said nothing", id="nothing"),
    ],
)
def test_a_failure_is_one_line_with_what_helps(
    install: ModuleType, output: list[str], cause: str
) -> None:
    assert cause in install.cause_of(output)


def test_too_little_room_is_told_before_anything_is_fetched(
    install: ModuleType, tmp_path: Path
) -> None:
    install.require_room(tmp_path, 1)
    with pytest.raises(install.SetupError, match=r"GB free and about 1000000 GB are needed"):
        install.require_room(tmp_path, 10**15)


def test_what_runs_the_service_brings_no_tools(install: ModuleType) -> None:
    arguments = [word for step in install.STEPS["run"] for word in step.arguments]
    assert not [word for word in arguments if "dev" in word or "openvino" in word]
    assert arguments[0] == "torch==2.13.0"


def test_demo_and_serve_need_no_tools() -> None:
    text = (REPOSITORY / "Makefile").read_text()
    for target in ("demo", "serve"):
        assert f"\n{target}: runtime ##" in text


def test_wrong_usage_says_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "setup" / "install.py"), "all"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (2, "usage: install.py run | tools\n")


def test_what_the_service_imports_is_compiled_whatever_the_environment_says(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "entry.py").write_text("")
    monkeypatch.setattr(install, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(install, "ENTRIES", ("entry",))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    install.compile_modules()
    assert list((tmp_path / "__pycache__").glob("entry.*.pyc"))


def test_a_service_that_cannot_be_imported_is_no_environment(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(install, "ENTRIES", ("json", "not_there_at_all"))
    with pytest.raises(install.SetupError, match=r"cannot be imported.*not_there_at_all"):
        install.compile_modules()
