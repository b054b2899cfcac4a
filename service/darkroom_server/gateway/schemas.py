"""What the OpenAPI document says of bodies that are read by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darkroom_server.gateway.fields import NAMES, SIZE
from darkroom_server.parameters.parameter import Kind
from darkroom_server.parameters.table import PARAMETERS

#: What brings a picture, or several.
_IMAGES = ("image.content", "reference_images")
_TEXT = {"type": ["string", "null"]}
_TYPES: Mapping[Kind, dict[str, Any]] = {
    Kind.TEXT: _TEXT,
    Kind.NAME: _TEXT,
    Kind.WHOLE: {"type": ["integer", "null"]},
    Kind.NUMBER: {"type": ["number", "null"]},
    Kind.FLAG: {"type": ["boolean", "null"]},
    Kind.CHOICE: _TEXT,
    Kind.PICTURE: {"type": ["string", "object", "array", "null"]},
    Kind.PICTURES: {"type": ["string", "object", "array", "null"]},
    Kind.ADAPTERS: {"type": ["string", "object", "array", "null"]},
}


_PARAMETERS: dict[str, Any] = {
    **{name: _TYPES[one.kind] for one in PARAMETERS.values() for name in one.http},
    **{name: {"type": ["string", "object", "null"]} for name in NAMES[SIZE]},
}


def fields_schema() -> dict[str, Any]:
    """The object that every dialect's body is, with all names of the fields.

    It needs a prompt or an image.
    """
    return {
        "type": "object",
        "properties": _PARAMETERS,
        "anyOf": _any_of("prompt", *_IMAGES),
    }


def edit_schema() -> dict[str, Any]:
    """A body that changes an image: it needs one, and no prompt."""
    return {"type": "object", "properties": _PARAMETERS, "anyOf": _any_of(*_IMAGES)}


def hugging_face_schema() -> dict[str, Any]:
    """A body of the Hugging Face routes."""
    parameters = {"type": ["object", "null"], "properties": _PARAMETERS}
    return {
        "type": "object",
        "properties": {"inputs": {"type": "string"}, "parameters": parameters},
        "required": ["inputs"],
    }


def generations_schema() -> dict[str, Any]:
    """A body of OpenAI's, or Hugging Face's by its `inputs`."""
    of_others = hugging_face_schema()
    return {
        "type": "object",
        "properties": _PARAMETERS | of_others["properties"],
        "anyOf": [*_any_of("prompt", *_IMAGES), {"required": of_others["required"]}],
    }


def _any_of(*fields: str) -> list[dict[str, Any]]:
    """That one of these fields is there, by any of its names."""
    return [{"required": [name]} for field in fields for name in NAMES[field]]


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
    schema = edit_schema()
    file = {"type": "string", "format": "binary"}
    form = {**schema, "properties": _PARAMETERS | {"image": file, "mask": file}}
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}
