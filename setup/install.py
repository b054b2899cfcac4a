"""Makes `.venv`: `make demo` and `make serve` need what runs the service, `make setup` tools too.

Runs under any Python from 3.11 on, with the standard library alone. Says what is downloaded, how
large it is and how far it has come; what goes wrong is said in one line with what helps.

    python3.11 setup/install.py run     # the service and the client
    python3.11 setup/install.py tools   # and what builds, checks and tests them
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"

OWN = ("-e", "protos/gen/python", "-e", "clients/python")
#: OpenVINO's exporter asks for a torchvision whose wheel needs CUDA; pictures are Pillow's here.
WITHOUT_TORCHVISION = "optimum-intel"


@dataclass(frozen=True, slots=True)
class Step:
    """One call of pip. Without constraints where it comes first, for torch is chosen by itself."""

    what: str
    arguments: Sequence[str]


_CONSTRAINED = ("-c", "constraints.txt")
_TORCH = Step("torch, the largest download", ("torch==2.13.0",))
STEPS = {
    "run": (
        _TORCH,
        Step("the service and the client", (*_CONSTRAINED, *OWN, "-e", "service")),
    ),
    "tools": (
        _TORCH,
        Step("the service, the client and the tools", (*_CONSTRAINED, *OWN, "-e", "service[dev]")),
        Step("OpenVINO", (*_CONSTRAINED, "openvino", "openvino-tokenizers", "nncf")),
        Step("its pipelines", (*_CONSTRAINED, "--no-deps", WITHOUT_TORCHVISION)),
    ),
}
#: Where the processes of the service begin.
ENTRIES = ("darkroom_server.cli.main", "darkroom_server.worker.preload")
#: Room that an environment takes with a torch for processors; one for GPUs takes 6 GB more.
NEEDED_BYTES = {"run": 2_000_000_000, "tools": 4_000_000_000}

#: What pip says when something is fetched: `Downloading torch-2.13.0-….whl (203.0 MB)`.
_FETCH = re.compile(r"^\s*(Downloading|Using cached)\s+(\S+)\s+\(([\d.]+)\s*(\S+)\)")
#: What it says of a file that is here already: `Processing /wheels/torch-2.13.0-….whl`.
_LOCAL = re.compile(r"^\s*Processing\s+(\S+\.whl)\s*$")
_UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}
#: Most modules are never used: compile_modules() compiles those that are. Without a network,
#: more tries of each package would take minutes.
_PIP_FLAGS = ("--no-compile", "--progress-bar", "off", "--retries", "2")
_REPORT_S = 2.0
_QUIET_REPORT_S = 15.0
#: Smaller files are counted, not named.
_NAMED_BYTES = 5e6

#: Signs in pip's output, and what to say.
_CAUSES = (
    ("No space left on device", "the disk is full; make room, or set TMPDIR to a larger disk"),
    ("Disk quota exceeded", "your quota is used up; make room, or set TMPDIR to another disk"),
    ("Temporary failure in name resolution", "the package index cannot be reached: no network"),
    ("Name or service not known", "the package index cannot be reached: no network"),
    ("Network is unreachable", "the package index cannot be reached: no network"),
    ("Failed to establish a new connection", "the package index cannot be reached"),
    ("Connection to", "the package index cannot be reached, or a proxy is needed (HTTPS_PROXY)"),
    ("CERTIFICATE_VERIFY_FAILED", "the index's certificate is not trusted (PIP_CERT)"),
    ("No matching distribution found", "the package index has no such version"),
)


class SetupError(Exception):
    """Why there is no environment, in one line with what helps."""


@dataclass(slots=True)
class Fetched:
    """What pip has fetched so far."""

    count: int = 0
    total_bytes: float = 0.0
    cached_count: int = 0
    named: list[str] = field(default_factory=list)

    def take(self, line: str) -> str | None:
        """Takes in a line of pip's; what to say of it, if anything."""
        local = _LOCAL.match(line)
        if local is not None:
            return self._take_local(Path(local[1]))
        found = _FETCH.match(line)
        if found is None or found[2].endswith(".metadata"):
            return None
        how, file, number, unit = found.groups()
        size_bytes = float(number) * _UNITS.get(unit, 1)
        self.count += 1
        if how == "Using cached":
            self.cached_count += 1
        else:
            self.total_bytes += size_bytes
        if size_bytes < _NAMED_BYTES:
            return None
        name = file.rpartition("/")[2].split("-")[0]
        return f"{name}, {number} {unit}" + (" (kept from before)" if how == "Using cached" else "")

    def _take_local(self, file: Path) -> str | None:
        self.count += 1
        self.cached_count += 1
        try:
            size_bytes = file.stat().st_size
        except OSError:
            return None
        if size_bytes < _NAMED_BYTES:
            return None
        return f"{file.name.split('-')[0]}, {size_bytes / 1e6:.1f} MB (from {file.parent})"


def retry_of(line: str) -> str | None:
    """What to say of a line with which pip tells that it tries again, if it is one."""
    if "Retrying" not in line:
        return None
    cause = next(
        (each for sign, each in _CAUSES if sign in line), "the package index does not answer"
    )
    return f"{cause}; trying again"


def cause_of(output: Iterable[str]) -> str:
    """What to say of a pip that failed."""
    lines = list(output)
    for sign, cause in _CAUSES:
        if any(sign in line for line in lines):
            return cause
    errors = [line.strip() for line in lines if line.lstrip().lower().startswith("error")]
    return errors[-1] if errors else (lines[-1].strip() if lines else "pip said nothing")


def require_room(folder: Path, needed_bytes: int) -> None:
    """Raises SetupError where an environment would not fit."""
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise SetupError(
            f"{folder} has {free_bytes / 1e9:.1f} GB free and about {needed_bytes / 1e9:.0f} GB "
            "are needed; make room, or clone onto a larger disk"
        )


def say(text: str) -> None:
    """One line of the set-up's own."""
    print(f"setup: {text}", flush=True)


def make_environment() -> None:
    """An empty `.venv`, unless there is one. Raises SetupError."""
    if PYTHON.exists():
        return
    say(f"a virtual environment in .venv, with Python {sys.version.split()[0]}")
    done = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments "
            "(on Debian and Ubuntu: apt install python3-venv)"
        )


def install(step: Step, name: str) -> Fetched:
    """Runs pip for one step and says how it goes. Raises SetupError."""
    say(f"{name} {step.what}")
    fetched, began_s = Fetched(), time.monotonic()
    # What pip downloads it puts into TMPDIR first: so its growth is the progress.
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", VENV)) as scratch:
        command = [str(PYTHON), "-m", "pip", "install", *_PIP_FLAGS]
        environment = os.environ | {"TMPDIR": scratch, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        pip = subprocess.Popen(
            [*command, *step.arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        ended = threading.Event()
        watcher = threading.Thread(target=_report, args=(Path(scratch), ended), daemon=True)
        watcher.start()
        lines = list(_follow(pip, fetched))
        code = pip.wait()
        ended.set()
        watcher.join()
    if code:
        raise SetupError(f"{step.what} could not be installed: {cause_of(lines)}")
    kept = f", {fetched.cached_count} kept from before" if fetched.cached_count else ""
    took_s = time.monotonic() - began_s
    say(
        f"  {fetched.count} files, {fetched.total_bytes / 1e6:.0f} MB fetched{kept}; {took_s:.0f} s"
    )
    return fetched


def _follow(pip: subprocess.Popen[str], fetched: Fetched) -> Iterator[str]:
    assert pip.stdout is not None
    retries: set[str] = set()
    for line in pip.stdout:
        said = fetched.take(line)
        retry = retry_of(line)
        if retry and retry not in retries:
            retries.add(retry)
            said = retry
        if said:
            _clear()
            say(f"  {said}")
        yield line.rstrip("\n")


def _report(scratch: Path, ended: threading.Event) -> None:
    """Says every little while how much is on its way: over the last line on a terminal."""
    is_terminal = sys.stdout.isatty()
    began_s = time.monotonic()
    while not ended.wait(_REPORT_S if is_terminal else _QUIET_REPORT_S):
        # Nothing lies here while pip looks for versions, or copies what it kept from before.
        here_bytes = size_bytes(scratch)
        so_far = f"{here_bytes / 1e6:.0f} MB on their way" if here_bytes > 1e6 else "at work"
        text = f"setup:   {so_far}, {time.monotonic() - began_s:.0f} s"
        if is_terminal:
            print(f"\r\x1b[K{text}", end="", flush=True)
        else:
            print(text, flush=True)
    _clear()


def _clear() -> None:
    if sys.stdout.isatty():
        print("\r\x1b[K", end="", flush=True)


def size_bytes(folder: Path) -> int:
    """What the files in a folder take, as far as they can be seen."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(place) / name).st_size
            except OSError:
                continue
    return total


def check_packages() -> None:
    """Raises SetupError where packages do not fit together."""
    done = subprocess.run(
        [str(PYTHON), "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    expected = re.compile(rf"^(No broken|{WITHOUT_TORCHVISION} .* requires torchvision)")
    problems = [line for line in done.stdout.splitlines() if not expected.match(line)]
    if problems:
        raise SetupError("packages do not fit together: " + "; ".join(problems))


def compile_modules() -> None:
    """Imports what a server, a worker and the command line import, which keeps it compiled.

    Also where PYTHONDONTWRITEBYTECODE is set, as container images do: without it every process
    would compile thousands of modules anew, for ten seconds and more. Raises SetupError where they
    cannot be imported.
    """
    say("compiling what the service imports")
    began_s = time.monotonic()
    done = subprocess.run(
        [str(PYTHON), "-c", "import " + ", ".join(ENTRIES)],
        # An empty value counts as none.
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip() or "Python said nothing").splitlines()[-1]
        raise SetupError(f"the service cannot be imported: {last}")
    say(f"  {time.monotonic() - began_s:.0f} s")


def main(arguments: Sequence[str]) -> int:
    """Makes the environment that is asked for; the exit code."""
    wanted = arguments[0] if arguments else ""
    if wanted not in STEPS:
        print(f"usage: install.py {' | '.join(STEPS)}", file=sys.stderr)
        return 2
    try:
        if not PYTHON.exists():
            require_room(ROOT, NEEDED_BYTES[wanted])
        make_environment()
        steps = STEPS[wanted]
        for i, step in enumerate(steps, 1):
            install(step, f"{i}/{len(steps)}")
        check_packages()
        compile_modules()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
