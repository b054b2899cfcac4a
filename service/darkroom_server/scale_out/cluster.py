"""The Ray cluster that replicas run on: its start, the replicas on it, and their status.

Methods block unless they say otherwise, and are for any thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import ray
import structlog
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.exceptions import RayServeException
from ray.serve.schema import LoggingConfig

from darkroom_server.scale_out.autoscaling import DeviceSeconds
from darkroom_server.scale_out.messages import JobNews, ReplicaState, RunJob
from darkroom_server.scale_out.options import LOCAL, ReplicaOrder, ScaleOutOptions
from darkroom_server.scale_out.replica import ModelReplica
from darkroom_server.scale_out.replicas import AppStatus, ClusterLost, ReplicaLost
from darkroom_server.scale_out.router import BatchingRouter

log = structlog.get_logger(__name__)

DEPLOYMENT = "model"
#: Statuses of all applications are asked for at most this often, however many want one.
STATUS_INTERVAL_S = 0.5
#: Health check interval of a replica.
STATE_TIMEOUT_S = 10.0
#: Replicas take what they are given; their admission refuses, and says why.
MAX_ONGOING = 100_000
#: Attempts to load a model.
MAX_START_COUNT = 3
#: Health check time-out, after which a replica is replaced; on a busy node answers are slow.
HEALTH_TIMEOUT_S = 60
#: Of a cluster of this machine alone: pictures on their way are kept there for moments only.
OBJECT_STORE_BYTES = 256 << 20
#: What a cluster of this machine counts with: replicas share its processors, as workers do.
LOCAL_CPU_COUNT = 64

#: Settings of Ray, unless the environment has others: report its use to nobody, and be
#: patient with a machine that is busy.
RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_agent_register_timeout_ms": "120000"}

#: In what Serve says of a deployment of which replicas fail to start.
FAILED_START = "failed to start"

#: What Ray raises when it, or a part of it, cannot be reached.
RAY_ERRORS = (RayError, RayServeException, RuntimeError, ConnectionError, TimeoutError)


class ServeCall:
    """A job at a replica, as a streaming call of Serve."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self._is_cancelled = False

    async def news(self) -> AsyncGenerator[JobNews]:
        """What happens to the job; raises ReplicaLost."""
        try:
            async for one in self._response:
                yield one
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_cancelled or (task is not None and task.cancelling()):
                raise
            raise ReplicaLost("its replica was ended") from None
        except (*RAY_ERRORS, grpc.RpcError) as error:
            raise ReplicaLost(f"{type(error).__name__}: {first_line(error)}") from error

    def cancel(self) -> None:
        """Stops the work, or keeps it from beginning."""
        self._is_cancelled = True
        self._response.cancel()


class ServeReplicas:
    """The replicas of a Serve application, by its handle."""

    def __init__(self, handle: Any) -> None:
        # Over gRPC from here to the replica: a message costs a third of one over an actor's call.
        self._handle = handle.options(stream=True, method_name="run", _by_reference=False)
        self._state = handle.options(method_name="state", _by_reference=False)

    def send(self, request: RunJob) -> ServeCall:
        """Gives a job to the one that the router chooses."""
        return ServeCall(self._handle.remote(request))

    async def state(self) -> ReplicaState:
        """How one of them is; raises ReplicaLost."""
        try:
            async with asyncio.timeout(STATE_TIMEOUT_S):
                state: ReplicaState = await self._state.remote()
                return state
        except (*RAY_ERRORS, grpc.RpcError) as error:
            raise ReplicaLost(f"{type(error).__name__}: {first_line(error)}") from error


class Cluster:
    """A connection to Ray, and what of Serve is used."""

    def __init__(self, options: ScaleOutOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        #: While Serve pickles a deployment it changes what pickling does in the whole process.
        self._deploying = threading.Lock()
        self._statuses: dict[str, AppStatus] = {}
        self._asked_s = -STATUS_INTERVAL_S
        #: Set when the server leaves a cluster that goes on: applications stay.
        self.is_leaving = False

    @property
    def is_own(self) -> bool:
        """Whether it begins and ends with this server."""
        return self.options.address == LOCAL

    def connect(self) -> None:
        """Starts a cluster of this machine, or joins one; raises ClusterLost."""
        try:
            self._connect()
        except Exception as error:
            # Ray says by plain Exceptions, too, that a part of it did not start in its time.
            ray.shutdown()
            raise ClusterLost(first_line(error)) from error
        log.info("cluster", address=self.options.address, nodes=len(ray.nodes()))

    def _connect(self) -> None:
        for name, value in RAY_SETTINGS.items():
            os.environ.setdefault(name, value)
        environment = {"env_vars": dict(self.options.environment or {})}
        if self.is_own:
            ray.init(
                num_cpus=LOCAL_CPU_COUNT,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                logging_level="warning",
                log_to_driver=True,
                runtime_env=environment,
            )
        else:
            ray.init(address=self.options.address, logging_level="warning", runtime_env=environment)
        # Requests come in over Darkroom's own ports, through this process.
        serve.start(proxy_location="Disabled")

    def close(self) -> None:
        """Leaves the cluster; one of its own ends."""
        if self.is_own:
            serve.shutdown()
        ray.shutdown()

    def run(self, order: ReplicaOrder) -> ServeReplicas:
        """Has Serve run replicas, and does not wait for them; raises ClusterLost."""
        with self._deploying, _lost():
            application = _application(order, self.options)
            target = serve.RunTarget(target=application, name=order.app_name, route_prefix=None)
            (handle,) = serve.run_many([target], wait_for_applications_running=False)
            return ServeReplicas(handle)

    def delete(self, app_name: str) -> None:
        """Ends an application, whose replicas end what they run; raises ClusterLost."""
        with _lost():
            serve.delete(app_name, _blocking=False)

    def status(self, app_name: str) -> AppStatus:
        """How an application is; raises ClusterLost."""
        with self._lock, _lost():
            if time.monotonic() - self._asked_s >= STATUS_INTERVAL_S:
                found = serve.status().applications
                self._statuses = {name: _status(one) for name, one in found.items()}
                self._asked_s = time.monotonic()
            return self._statuses.get(app_name, AppStatus())


def first_line(error: BaseException) -> str:
    """Of an error's text, which has whole tracebacks of other processes."""
    return next(iter(str(error).splitlines()), "")


def cause_of(message: str) -> str:
    """What Serve says of replicas that fail, without the trace: the last line is the error."""
    said, _, trace = message.partition("Error:\n")
    lines = [one.strip() for one in trace.splitlines() if one.strip()]
    return lines[-1] if lines else said.strip()


@contextmanager
def _lost() -> Iterator[None]:
    try:
        yield
    except RAY_ERRORS as error:
        raise ClusterLost(f"{type(error).__name__}: {first_line(error)}") from error


def _status(found: Any) -> AppStatus:
    deployment = found.deployments.get(DEPLOYMENT)
    states = {} if deployment is None else deployment.replica_states
    replicas = {getattr(state, "value", str(state)): count for state, count in states.items()}
    said = "" if deployment is None else deployment.message
    has_failed = found.status.value == "DEPLOY_FAILED"
    target = getattr(deployment, "target_num_replicas", None)
    return AppStatus(
        is_there=True,
        has_failed=has_failed,
        is_failing=not has_failed and FAILED_START in said,
        message=cause_of(said or found.message),
        replicas=replicas,
        target_count=sum(replicas.values()) if target is None else target,
    )


def _application(order: ReplicaOrder, options: ScaleOutOptions) -> Any:
    has_gpus = bool(ray.cluster_resources().get("GPU", 0))
    resources: dict[str, Any] = {"num_cpus": options.cpu_count}
    if order.needs_gpu(has_gpus=has_gpus):
        resources["num_gpus"] = 1
    deployment = serve.deployment(
        name=DEPLOYMENT,
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options=resources,
        graceful_shutdown_timeout_s=options.drain_s,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=5,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        max_constructor_retry_count=MAX_START_COUNT,
        # The front tier writes a line for every call; another in each replica costs, and says less.
        logging_config=LoggingConfig(enable_access_log=False),
        request_router_config=RequestRouterConfig(request_router_class=BatchingRouter),
        **_size(order, options),
    )(ModelReplica)
    return deployment.bind(order)


def metrics_interval_s(most_replica_count: int) -> float:
    """How often replicas report their work: Serve's one controller takes 100 reports a second."""
    return max(1.0, most_replica_count / 100)


def _size(order: ReplicaOrder, options: ScaleOutOptions) -> dict[str, Any]:
    count = order.replica_count(options)
    if not options.max_replica_count:
        return {"num_replicas": count}
    interval_s = metrics_interval_s(options.max_replica_count)
    scaling = AutoscalingConfig(
        min_replicas=options.min_replica_count,
        initial_replicas=count,
        max_replicas=options.max_replica_count,
        metrics_interval_s=interval_s,
        look_back_period_s=3 * interval_s,
        upscale_delay_s=2.0,
        downscale_delay_s=options.shrink_delay_s,
        policy=AutoscalingPolicy(
            policy_function=f"{DeviceSeconds.__module__}:{DeviceSeconds.__name__}",
            policy_kwargs={"wait_s": options.wait_s},
        ),
    )
    return {"num_replicas": None, "autoscaling_config": scaling}
