"""Settings of logs, metrics and traces, which `config.py` has with all others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class TelemetrySettings(BaseSettings):
    """Settings of logs and traces."""

    log_format: Literal["text", "json"] = Field(
        default="text",
        description="text or json.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="debug, info, warning or error.",
    )
    log_prompts: bool = Field(
        default=False,
        description="Put prompts into the log; without it nothing that callers write is.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        description="Where traces are sent by OTLP over gRPC, such as http://127.0.0.1:4317.",
    )
    trace_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0,
        description="Share of the traces begun here that is recorded; callers decide on theirs.",
    )
