"""Client of Darkroom, a gRPC service that makes images."""

from darkroom_client.async_client import AsyncClient
from darkroom_client.client import Client
from darkroom_client.connection import tls_credentials
from darkroom_client.errors import (
    Cancelled,
    CorruptImage,
    DarkroomError,
    DeadlineExceeded,
    FieldViolation,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    PermissionDenied,
    QueueFull,
    RateLimited,
    RetryableError,
    ServerError,
    Unauthenticated,
    Unavailable,
)
from darkroom_client.events import (
    Accepted,
    Completed,
    Event,
    ImageReady,
    Preview,
    Progress,
    Queued,
    Stage,
)
from darkroom_client.health import Health
from darkroom_client.models import Model, ModelState, ModelVersion, ParameterSpec, Task
from darkroom_client.requests import FillOptions, GenerateOptions, ImageInput, ImageOptions
from darkroom_client.results import Batch, GeneratedImage, Generation, Parameters, Timings, Warning

__all__ = [
    "Accepted",
    "AsyncClient",
    "Batch",
    "Cancelled",
    "Client",
    "Completed",
    "CorruptImage",
    "DarkroomError",
    "DeadlineExceeded",
    "Event",
    "FieldViolation",
    "FillOptions",
    "GenerateOptions",
    "GeneratedImage",
    "Generation",
    "Health",
    "ImageInput",
    "ImageOptions",
    "ImageReady",
    "InvalidRequest",
    "Model",
    "ModelNotFound",
    "ModelState",
    "ModelUnavailable",
    "ModelVersion",
    "ParameterSpec",
    "Parameters",
    "PermissionDenied",
    "Preview",
    "Progress",
    "QueueFull",
    "Queued",
    "RateLimited",
    "RetryableError",
    "ServerError",
    "Stage",
    "Task",
    "Timings",
    "Unauthenticated",
    "Unavailable",
    "Warning",
    "tls_credentials",
]
