"""ListModels and GetModel over a real channel."""

from __future__ import annotations

from dataclasses import replace

import grpc
import pytest
from grpc import aio

from darkroom.v1.model_service_pb2 import GetModelRequest, ListModelsRequest, Model
from tests.unit.example_models import SDXL, status


@pytest.fixture
def five_models(engine):
    engine.models = tuple(status(replace(SDXL, name=name)) for name in "edcba")


async def names_of(models, **request) -> tuple[list[str], str]:
    response = await models.ListModels(ListModelsRequest(**request))
    return [model.name.removeprefix("models/") for model in response.models], (
        response.next_page_token
    )


@pytest.mark.usefixtures("five_models")
async def test_models_come_by_name_in_pages(models):
    first, token = await names_of(models, page_size=2)
    second, token = await names_of(models, page_size=2, page_token=token)
    third, last_token = await names_of(models, page_size=2, page_token=token)
    assert [first, second, third] == [["a", "b"], ["c", "d"], ["e"]]
    assert last_token == ""


@pytest.mark.usefixtures("five_models")
async def test_a_last_page_that_is_full_has_no_successor(models):
    assert await names_of(models, page_size=5) == (list("abcde"), "")


@pytest.mark.usefixtures("five_models")
async def test_without_a_page_size_all_fit(models):
    assert await names_of(models) == (list("abcde"), "")


async def test_one_model_by_name(models):
    response = await models.GetModel(GetModelRequest(name="models/sdxl"))
    assert response.model.name == "models/sdxl"
    assert response.model.state == Model.STATE_READY


@pytest.mark.parametrize(
    ("name", "code"),
    [
        pytest.param("", grpc.StatusCode.INVALID_ARGUMENT, id="no-name"),
        pytest.param("a" * 257, grpc.StatusCode.INVALID_ARGUMENT, id="absurd-name"),
        pytest.param("nope", grpc.StatusCode.NOT_FOUND, id="unknown"),
    ],
)
async def test_a_model_that_cannot_be_named(models, name, code):
    with pytest.raises(aio.AioRpcError) as caught:
        await models.GetModel(GetModelRequest(name=name))
    assert caught.value.code() is code


async def test_a_negative_page_size_is_refused(models):
    with pytest.raises(aio.AioRpcError) as caught:
        await models.ListModels(ListModelsRequest(page_size=-1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
