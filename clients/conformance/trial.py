"""Runs of clients against served models, and what was wrong with them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.serving import Server, connected, serving
from clients.conformance.cases import FILE, Case, judge, load_cases, write_repository
from clients.conformance.languages import REPOSITORY, Language
from darkroom_client import Client
from darkroom_client.events import Progress

BUILD_TIMEOUT_S = 1800.0
RUN_TIMEOUT_S = 300.0
#: The model of the cases whose configuration nobody can read.
BROKEN = "broken"
PROMPT = "a red circle on a blue background"
#: A server whose models are replicas of a Ray cluster of its own.
ON_RAY = (sys.executable, "-m", "darkroom_server.cli.main")


@contextlib.contextmanager
def served(models: Path, *, on_ray: bool) -> Iterator[Server]:
    """A server of these models, in workers of its own or on Ray."""
    if not on_ray:
        with serving(models) as server:
            yield server
        return
    # A machine may have fewer processors than there are models.
    os.environ["DARKROOM_REPLICA_CPUS"] = "0.2"
    with serving(models, "--on", "ray", program=ON_RAY) as server:
        try:
            yield server
        finally:
            # The cluster ends with a server that ends by itself.
            server.process.terminate()
            server.process.wait(RUN_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Trial:
    """What one client did: the faults of each case by its name."""

    language: str
    faults: dict[str, list[str]]

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not any(self.faults.values())


def build(language: Language) -> None:
    """Generates, compiles and tests a client. Raises CalledProcessError."""
    if language.build is not None:
        # What generates the code is installed beside this Python, or beside the one that is named.
        environment = {"PYTHON": sys.executable, **os.environ}
        subprocess.run(
            language.build, cwd=REPOSITORY, env=environment, check=True, timeout=BUILD_TIMEOUT_S
        )


def try_cases(languages: Sequence[Language], *, on_ray: bool = False) -> list[Trial]:
    """Every client through every case, against one served fake."""
    cases = load_cases()
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        write_repository(models)
        names = {model.name for model in models.iterdir()} - {BROKEN}
        with served(models, on_ray=on_ray) as server, connected(server):
            for name in names:
                server.until("model", model=f"{name}/1", state="ready")
            return [
                Trial(each.name, _faults(each, cases, server, on_ray=on_ray)) for each in languages
            ]


def _faults(
    language: Language, cases: list[Case], server: Server, *, on_ray: bool
) -> dict[str, list[str]]:
    mark = len(server.log)
    with tempfile.TemporaryDirectory() as folder, occupied(server.address, "full"):
        reports, crash = _reports(language, server.address, Path(folder))
        faults = {each.name: judge(each, reports.get(each.name), Path(folder)) for each in cases}
    if crash:
        faults["the run"] = [crash]
    for case in cases:
        # Replicas have logs of their own; what they still do is measured by `make ray-changes`.
        if case.cancel_after and not faults[case.name] and not on_ray:
            # The server must have noticed: its work ended before the last step.
            steps = case.request["step_count"]
            stopped = server.until("job stopped", after=mark, step_count=steps)
            if not stopped["completed_step_count"] < steps:
                faults[case.name].append("the server worked on")
    return faults


def _reports(
    language: Language, address: str, folder: Path
) -> tuple[dict[str, dict[str, Any]], str]:
    """The reports by case, and the last words of a client that failed."""
    command = (*language.cases, address, str(FILE), str(folder))
    ran = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=RUN_TIMEOUT_S
    )
    reports = [json.loads(line) for line in ran.stdout.splitlines()]
    crash = f"exit {ran.returncode}: {ran.stderr[-800:]}" if ran.returncode else ""
    return {report["case"]: report for report in reports}, crash


@contextlib.contextmanager
def occupied(address: str, model: str) -> Iterator[None]:
    """Keeps a model busy, so that its queue of one is full."""
    with Client(address) as client:
        events = client.generate_events("a house", model=model, steps=500)
        next(event for event in events if isinstance(event, Progress))
        try:
            yield
        finally:
            events.close()


def try_pictures(languages: Sequence[Language], *, on_ray: bool = False) -> list[Trial]:
    """One picture of an embedded model by every client: the same bytes by all."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        # Alone it is the default model.
        shutil.copytree(REPOSITORY / "model_repo" / "tiny-sdxl", repository / "tiny-sdxl")
        with served(repository, on_ray=on_ray) as server, connected(server) as client:
            expected = client.generate(PROMPT, seed=7).images[0].sha256
            return [
                Trial(each.name, {"picture": _picture(each, server.address, folder, expected)})
                for each in languages
            ]


def _picture(language: Language, address: str, folder: str, expected: str) -> list[str]:
    file = Path(folder) / f"{language.name}.png"
    command = (*language.picture, address, PROMPT, str(file))
    ran = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=RUN_TIMEOUT_S
    )
    if ran.returncode:
        return [f"exit {ran.returncode}: {ran.stderr[-800:]}"]
    if not file.exists():
        return ["no file was written"]
    same = hashlib.sha256(file.read_bytes()).hexdigest() == expected
    return [] if same else ["it is not the picture that the Python client gets"]
