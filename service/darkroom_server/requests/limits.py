"""Limits that hold for every request, whatever the model."""

from __future__ import annotations

import math

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import ImageFormat, MaskPolarity
from darkroom_server.image_decoding.images import ImageLimits
from darkroom_server.parameters.bounds import MAX_NAME_LENGTH, MAX_PROMPT_BYTES
from darkroom_server.parameters.parameter import Kind, Parameter
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.requests.adapters import check_adapters
from darkroom_server.requests.image_requests import ImageRequest, OutputRequest, value_of
from darkroom_server.requests.references import check_references

_OF_THE_MODEL = ("model", "version")


def check_limits(request: ImageRequest) -> None:
    """Raises InvalidParameter for the first field that is out of its absolute bounds.

    Fields are named by their path in `darkroom.v1`'s requests. Raises ImageTooLarge for images that
    are too many bytes.
    """
    # With an image an empty prompt has a meaning: the mask's surroundings, or the image itself.
    has_image = request.image_input is not None or request.reference_images
    if not has_image and not request.prompt.strip():
        raise InvalidParameter("prompt", "the prompt is empty; say what to draw")
    for parameter in PARAMETERS.values():
        # Which model, a request does not know.
        if parameter.path not in _OF_THE_MODEL:
            check_value(parameter, value_of(request, parameter))
    _check_output(request.output)
    check_adapters(request.adapters)
    _check_image(request)
    check_references(request.reference_images, ImageLimits())


def check_value(parameter: Parameter, value: object) -> None:
    """Raises InvalidParameter for a value out of the parameter's bounds; None is in all."""
    match value:
        case str() if parameter.kind is Kind.TEXT:
            _check_text(parameter.path, value)
        case str() if parameter.kind is Kind.NAME:
            check_name(parameter.path, value)
        case int() | float() if parameter.kind in (Kind.WHOLE, Kind.NUMBER):
            _check_number(parameter, value)


def check_name(field: str, name: str, *, required: bool = False) -> None:
    """Raises InvalidParameter when the name of a model, version or scheduler is absurdly long.

    With `required` also when there is none.
    """
    if required and not name:
        raise InvalidParameter(field, f"give a {field}")
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidParameter(field, f"longer than {MAX_NAME_LENGTH} characters")


def _check_text(field: str, text: str) -> None:
    # A lone surrogate, which JSON can smuggle in, has no UTF-8 form; it is counted, then refused.
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_PROMPT_BYTES:
        raise InvalidParameter(
            field, f"{len(encoded)} bytes of text; at most {MAX_PROMPT_BYTES} are taken"
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidParameter(field, "the text is not valid Unicode")


def _check_number(parameter: Parameter, value: float) -> None:
    lowest, highest = parameter.lowest, parameter.highest
    if lowest is None or highest is None:
        return
    is_above = value > lowest if parameter.above_lowest else value >= lowest
    if math.isfinite(value) and is_above and value <= highest:
        return
    if parameter.above_lowest:
        text = f"{value} is not above {lowest:g} and up to {highest:g}"
    else:
        shown = f"{highest:g}" if parameter.kind is Kind.NUMBER else str(highest)
        text = f"{value} is not between {lowest} and {shown}"
    raise InvalidParameter(parameter.path, text)


def _check_output(output: OutputRequest) -> None:
    if output.lossless and output.format is not ImageFormat.WEBP:
        raise InvalidParameter("output.lossless", "only WebP can be made lossless by choice")
    if output.quality is not None and (output.lossless or output.format is ImageFormat.PNG):
        raise InvalidParameter("output.quality", "leave quality unset for a lossless format")


def _check_image(request: ImageRequest) -> None:
    fill, given = request.fill, request.image_input
    if given is not None and not given.image:
        what = "begin with" if fill is None else "change"
        raise InvalidParameter("image.content", f"give the image to {what}")
    transparent = MaskPolarity.TRANSPARENT_REPAINTS
    if fill is not None and not fill.mask and fill.mask_polarity is not transparent:
        raise InvalidParameter("mask.content", "give a mask that says which part to change")
