"""What a caller may know of its own key: `/darkroom/v1/key`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from darkroom_server.access.caller import Caller, current_caller
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.keys import in_credits
from darkroom_server.gateway.dialects.events import refused


def key_router() -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/darkroom/v1", tags=["key"])

    @router.get("/key")
    async def key() -> Response:
        """The key's permissions, limits and credits left; `required` false where none is needed."""
        caller = current_caller()
        if not caller.key.id:
            return JSONResponse({"required": False})
        try:
            await caller.look()
        except DarkroomError as error:
            return refused(error)
        return JSONResponse(standing(caller))

    return router


def standing(caller: Caller) -> dict[str, Any]:
    """How the caller's key stands; what has no limit is null."""
    key, rate, balance = caller.key, caller.rate, caller.balance
    return {
        "required": True,
        "id": key.id,
        "name": key.name,
        "permissions": sorted(permission.value for permission in key.permissions),
        "models": list(key.models),
        "rateLimit": None
        if rate is None
        else {
            "limit": rate.limit_count,
            "windowSeconds": rate.window_s,
            "remaining": rate.remaining_count,
            "resetSeconds": round(rate.reset_s, 3),
        },
        "concurrentRequests": key.max_concurrent_requests,
        "weight": key.weight,
        "credits": None
        if balance is None
        else {
            "spent": in_credits(balance.spent),
            "budget": None
            if key.budget_pixel_steps is None
            else in_credits(key.budget_pixel_steps),
            "left": None if balance.left is None else in_credits(balance.left),
        },
    }
