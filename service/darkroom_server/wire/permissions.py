"""What an RPC needs of its caller, by its path; also where it is carried over HTTP."""

from __future__ import annotations

from darkroom_server.access.caller import current_caller, set_caller
from darkroom_server.access.gate import Gate, Need

_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection."
#: Balancers ask without a key, as they do for health.
_LOAD = "/xds.service.orca.v3.OpenRcaService/"
_IMAGES = "/darkroom.v1.ImageService/"
_MODELS = "/darkroom.v1.ModelService/"
_INFERENCE = "/inference.GRPCInferenceService/"
#: Its probes, and those of its methods that load models. Of settings, who only looks needs less.
_INFERENCE_PROBES = tuple(_INFERENCE + name for name in ("ServerLive", "ServerReady", "ModelReady"))
_INFERENCE_LOADS = tuple(
    _INFERENCE + name for name in ("RepositoryModelLoad", "RepositoryModelUnload")
)
#: Methods of the model service that only look.
_LOOKING = ("List", "Get")


def let_in(gate: Gate, method: str, authorization: str | None, *, connection: str) -> None:
    """Says who makes the call of an RPC; raises InvalidApiKey, PermissionDenied."""
    need = need_of_rpc(method, reflection_needs_key=gate.reflection_needs_key)
    set_caller(gate.enter(authorization, need, connection=connection))


async def count_call(method: str) -> None:
    """Counts a call that requests images, before its message is parsed: invalid calls count, too.
    The caller has been authenticated. Raises RateLimited, LimitsUnavailable.
    """
    # Of a stream each request counts, when it comes.
    if method.startswith(_IMAGES) or method == _INFERENCE + "ModelInfer":
        await current_caller().count()


def need_of_rpc(method: str, *, reflection_needs_key: bool) -> Need:
    """What a call of `/package.Service/Method` needs; what is not known here needs the most."""
    if method.startswith((_HEALTH, _LOAD)) or method in _INFERENCE_PROBES:
        return Need.NOTHING
    if method.startswith(_REFLECTION):
        return Need.KEY if reflection_needs_key else Need.NOTHING
    if method.startswith(_INFERENCE):
        return Need.MANAGE if method in _INFERENCE_LOADS else Need.KEY
    looks = method.startswith(tuple(_MODELS + verb for verb in _LOOKING))
    return Need.KEY if looks or method.startswith(_IMAGES) else Need.MANAGE
