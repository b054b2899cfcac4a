from __future__ import annotations

import pytest

from darkroom.v1 import image_service_pb2, model_service_pb2
from darkroom_server.access.gate import Need
from darkroom_server.wire.permissions import need_of_rpc

METHODS = [
    f"/{service.full_name}/{method.name}"
    for file in (image_service_pb2, model_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_in_the_contract_needs_a_key_and_what_changes_models_more(method: str) -> None:
    is_managing = "ModelService" in method and not method.split("/")[2].startswith(("Get", "List"))
    need = need_of_rpc(method, reflection_needs_key=False)
    assert need is (Need.MANAGE if is_managing else Need.KEY)


def test_both_of_managing_and_looking_are_there() -> None:
    needs = {need_of_rpc(method, reflection_needs_key=False) for method in METHODS}
    assert needs == {Need.KEY, Need.MANAGE}


@pytest.mark.parametrize(
    ("method", "open_need", "closed_need"),
    [
        ("/grpc.health.v1.Health/Check", Need.NOTHING, Need.NOTHING),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need.NOTHING, Need.KEY),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Need.NOTHING, Need.KEY),
        ("/darkroom.v2.ImageService/Generate", Need.MANAGE, Need.MANAGE),
        ("/darkroom.v1.ImageServiceX/Generate", Need.MANAGE, Need.MANAGE),
        ("/inference.GRPCInferenceService/ServerLive", Need.NOTHING, Need.NOTHING),
        ("/inference.GRPCInferenceService/ModelReady", Need.NOTHING, Need.NOTHING),
        ("/inference.GRPCInferenceService/ModelInfer", Need.KEY, Need.KEY),
        ("/inference.GRPCInferenceService/ModelStreamInfer", Need.KEY, Need.KEY),
        ("/inference.GRPCInferenceService/RepositoryIndex", Need.KEY, Need.KEY),
        ("/inference.GRPCInferenceService/RepositoryModelLoad", Need.MANAGE, Need.MANAGE),
        ("/inference.GRPCInferenceService/RepositoryModelUnload", Need.MANAGE, Need.MANAGE),
        ("", Need.MANAGE, Need.MANAGE),
    ],
)
def test_the_rest(method: str, open_need: Need, closed_need: Need) -> None:
    assert need_of_rpc(method, reflection_needs_key=False) is open_need
    assert need_of_rpc(method, reflection_needs_key=True) is closed_need
