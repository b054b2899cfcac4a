"""What the OpenAPI document says of bodies that are read by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darkroom_server.gateway.fields import NAMES, SIZE
from darkroom_server.parameters.parameter import Kind
from darkroom_server.parameters.table import PARAMETERS

_TEXT = {"type": ["string", "null"]}
_TYPES: Mapping[Kind, dict[str, Any]] = {
    Kind.TEXT: _TEXT,
    Kind.NAME: _TEXT,
    Kind.WHOLE: {"type": ["integer", "null"]},
    Kind.NUMBER: {"type": ["number", "null"]},
    Kind.FLAG: {"type": ["boolean", "null"]},
    Kind.CHOICE: _TEXT,
    Kind.PICTURE: {"type": ["string", "object", "array", "null"]},
}


_PARAMETERS: dict[str, Any] = {
    **{name: _TYPES[one.kind] for one in PARAMETERS.values() for name in one.http},
    **{name: {"type": ["string", "object", "null"]} for name in NAMES[SIZE]},
}


def fields_schema() -> dict[str, Any]:
    """The object that every dialect's body is, with all names of the fields."""
    return {"type": "object", "properties": _PARAMETERS, "required": ["prompt"]}


def hugging_face_schema() -> dict[str, Any]:
    """A body of the Hugging Face routes."""
    parameters = {**fields_schema(), "type": ["object", "null"], "required": []}
    return {
        "type": "object",
        "properties": {"inputs": {"type": "string"}, "parameters": parameters},
        "required": ["inputs"],
    }


def prediction_schema() -> dict[str, Any]:
    """A body of the Replicate routes."""
    return {
        "type": "object",
        "properties": {"input": fields_schema(), "version": {"type": "string"}},
        "required": ["input"],
    }


def json_body(schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a JSON object."""
    content = {"application/json": {"schema": schema or fields_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def form_body() -> dict[str, Any]:
    """`openapi_extra` of a route that takes a form, or the same as a JSON object."""
    schema = fields_schema()
    file = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": schema["properties"] | {"image": file, "mask": file},
        "required": ["image"],
    }
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}
