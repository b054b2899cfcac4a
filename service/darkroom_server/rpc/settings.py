"""Settings of gRPC connections and of their inspection, which `config.py` has too."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings


class ConnectionSettings(BaseSettings):
    """Settings of gRPC connections."""

    keepalive_time_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0,
        description="Seconds of silence after which a gRPC connection is pinged.",
    )
    keepalive_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=20.0,
        description="Seconds that the answer to a ping may take before the connection is closed.",
    )
    connection_idle_s: Annotated[float, Field(gt=0)] = Field(
        default=600.0,
        description="Seconds that a gRPC connection may be without a call.",
    )
    connection_age_s: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Seconds after which a gRPC connection takes no new calls, so that clients "
        "distribute again; 0: never.",
    )
    connection_age_grace_s: Annotated[float, Field(ge=0)] = Field(
        default=600.0,
        description="Seconds that calls may go on on a connection that has reached its age.",
    )
    admin_port: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None,
        description="Port of this machine alone for channelz, health and reflection; 0 picks one. "
        "Unset: none.",
    )
