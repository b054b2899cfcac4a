"""The connection to Ray, without a cluster. Needs Ray: `make test-ray`."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from darkroom_server.app import serve
from darkroom_server.config import ConfigError, ServerConfig

pytest.importorskip("ray", reason="needs Ray: make test-ray")

from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID

from darkroom_server.scale_out import cluster
from darkroom_server.scale_out.messages import RunJob
from darkroom_server.scale_out.options import ScaleOutOptions
from darkroom_server.scale_out.router import BatchingRouter
from tests.unit.specs import job

DEPLOYMENT = DeploymentID(name="model", app_name="router-of-a-test")


def test_one_application_is_deployed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = 0, 0
    counting = threading.Lock()

    def run_many(*_: Any, **__: Any) -> tuple[object]:
        nonlocal inside, most
        with counting:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with counting:
            inside -= 1
        return (Handle(),)

    monkeypatch.setattr(cluster.serve, "run_many", run_many)
    monkeypatch.setattr(cluster, "_application", lambda *_: None)
    monkeypatch.setattr(cluster.serve, "RunTarget", lambda **_: None)
    made = cluster.Cluster(ScaleOutOptions())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(made.run, [Order() for _ in range(4)]))
    assert most == 1


async def test_a_cluster_that_does_not_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def init(**_: Any) -> None:
        # As Ray does, when a part of it did not start in its time.
        raise Exception("The current node timed out during startup.\nAnd so on.")

    monkeypatch.setattr(cluster.ray, "init", init)
    config = ServerConfig(
        on="ray", model_repository=str(tmp_path), host="127.0.0.1", grpc_port=0, http_port=0
    )
    with pytest.raises(ConfigError) as raised:
        await serve(config)
    (problem,) = raised.value.problems
    assert problem == (
        "no Ray cluster at local: The current node timed out during startup. "
        "(on a busy machine Ray gives up too soon: try again)"
    )


async def test_a_job_goes_out_without_a_question_to_the_replica_first() -> None:
    router = BatchingRouter(
        deployment_id=DEPLOYMENT,
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
    )
    router.initialize_state()
    replicas = [BusyReplica(name) for name in "ab"]
    router.curr_replicas.update({one.replica_id: one for one in replicas})
    request = RunJob(job=job("x"), left_s=None, is_promised=False, avoided=frozenset())
    ((chosen,),) = await router.choose_replicas(replicas, Pending([request]))
    selected = await router._select_from_candidate_replicas([chosen], 0)
    assert selected is chosen


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "A replica failed to start with exception. Retrying. Error:\n"
            "ray::ServeReplica (pid=1)\n  File x.py\nOSError: m/1: No space left on device\n",
            "OSError: m/1: No space left on device",
        ),
        ("The controller is not there.", "The controller is not there."),
        ("", ""),
    ],
)
def test_why_replicas_do_not_start_is_one_line(said: str, cause: str) -> None:
    assert cluster.cause_of(said) == cause


class BusyReplica:
    """It has no time to say how long its queue is."""

    max_ongoing_requests = 1

    def __init__(self, name: str) -> None:
        self.replica_id = ReplicaID(unique_id=name, deployment_id=DEPLOYMENT)

    async def get_queue_len(self, **_: Any) -> int:
        raise AssertionError("it was asked")


class Pending:
    def __init__(self, args: list[Any]) -> None:
        self.args = args


class Handle:
    def options(self, **_: Any) -> Handle:
        return self


class Order:
    app_name = "m-1"
