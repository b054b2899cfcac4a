"""Hyperbolic's images: `model_name` in, `images[].image` out."""

from __future__ import annotations

import base64
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from darkroom_server.domain.jobs import ImageFormat
from darkroom_server.gateway.bodies import read_object
from darkroom_server.gateway.error_responses import Problem
from darkroom_server.gateway.fields import Fields
from darkroom_server.gateway.image_calls import ImageMaker, answering
from darkroom_server.gateway.image_results import outcome_headers
from darkroom_server.gateway.knobs import HYPERBOLIC
from darkroom_server.gateway.request_fields import Manner
from darkroom_server.gateway.schemas import json_body


def hyperbolic_router(maker: ImageMaker) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["hyperbolic"])

    @router.post("/v1/image/generation", openapi_extra=json_body())
    async def generation(request: Request) -> Response:
        """Text to image, and with an image, image to image; images come as base64 in JSON."""

        async def work() -> Response:
            return await infer(maker, request, await read_object(request.stream()))

        return await answering(request, render, work())

    return router


async def infer(maker: ImageMaker, request: Request, body: dict[str, Any]) -> Response:
    """The answer to a body; JPEG unless it says otherwise. Raises DarkroomError."""
    fields = Fields(body, knobs=HYPERBOLIC)
    outcome = await maker.make(request, fields, Manner(format=ImageFormat.JPEG))
    images = [
        {
            "index": image.image_index,
            "image": base64.b64encode(image.content).decode(),
            "random_seed": image.seed,
        }
        for image in outcome.images
    ]
    headers = outcome_headers(outcome, fields.ignored)
    return JSONResponse({"images": images, "inference_time": outcome.inference_s}, headers=headers)


def render(problem: Problem) -> dict[str, Any]:
    """The error's body."""
    return {"error": problem.openai}
