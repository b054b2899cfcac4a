"""Nebula Block's image generation: `/api/v1/images/generation` and its list of models."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.models import ModelInfo
from darkroom_server.gateway.bodies import read_object
from darkroom_server.gateway.error_responses import Problem
from darkroom_server.gateway.fields import Fields
from darkroom_server.gateway.image_calls import ImageMaker, answering
from darkroom_server.gateway.image_results import Outcome, outcome_headers
from darkroom_server.gateway.request_fields import Manner
from darkroom_server.gateway.schemas import json_body


def nebula_router(maker: ImageMaker) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/api/v1", tags=["nebula"])

    @router.post("/images/generation", openapi_extra=json_body())
    async def generation(request: Request) -> Response:
        """Text to image, and with an image and a mask, fill; images come as base64 in JSON."""

        async def work() -> Response:
            fields = Fields(await read_object(request.stream()))
            outcome = await maker.make(request, fields, Manner())
            headers = outcome_headers(outcome, fields.ignored)
            return JSONResponse(_answer(outcome, fields), headers=headers)

        return await answering(request, render, work())

    @router.get("/serverless/models")
    async def models() -> Response:
        """Every model."""
        found = [_model(status.model) for status in maker.engine.list_models()]
        return JSONResponse(
            {
                "data": {"models": found},
                "message": "Get models list successfully.",
                "status": "success",
            }
        )

    return router


def render(problem: Problem) -> dict[str, Any]:
    """The error's body."""
    return {"status": "failed", "message": problem.message, "error": problem.openai}


def _answer(outcome: Outcome, fields: Fields) -> dict[str, Any]:
    return {
        "model": fields.text("model") or f"models/{outcome.accepted.model.name}",
        "object": "list",
        "data": [
            {
                "timings": {"inference": outcome.inference_s},
                "index": image.image_index,
                "b64_json": base64.b64encode(image.content).decode(),
            }
            for image in outcome.images
        ],
        "message": "Image generated successfully",
        "status": "success",
    }


def _model(model: ModelInfo) -> dict[str, Any]:
    return {
        "model_name": model.hub_id or model.name,
        "model_alias": model.display_name or model.name,
        "model_type": "Image",
        "context_length": None,
        "max_completion_tokens": None,
        "description": ", ".join(sorted(task.value for task in model.tasks)),
        "price": None,
        "huggingface_url": f"https://huggingface.co/{model.hub_id}" if model.hub_id else None,
    }
