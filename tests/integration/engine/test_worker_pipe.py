"""A worker whose end of the pipe no longer works does not stay where jobs are given to it."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from darkroom_server.domain.models import Placement
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.main import run_worker
from darkroom_server.worker.messages import WorkerReady, WorkerSpec
from tests.integration.engine.test_engine import fake_repository

WAIT_S = 30.0


@pytest.mark.parametrize(
    ("sent", "exit_code"),
    [
        pytest.param(b"no command", 1, id="what cannot be read"),
        pytest.param(None, 0, id="the server is gone"),
    ],
)
def test_a_worker_that_cannot_hear_ends(tmp_path: Path, sent: bytes | None, exit_code: int) -> None:
    [model] = ModelRepository(fake_repository(tmp_path)).scan().models
    spec = WorkerSpec(
        version=model.versions[0], thread_count=1, placement=Placement(), prompt_cache_bytes=0
    )
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=run_worker, args=(theirs, spec))
    worker.start()
    theirs.close()
    while not isinstance(ours.recv(), WorkerReady):
        pass
    if sent is None:
        ours.close()
    else:
        ours.send_bytes(sent)
    worker.join(WAIT_S)
    assert worker.exitcode == exit_code
