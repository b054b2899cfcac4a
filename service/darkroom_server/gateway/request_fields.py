"""From the fields of a body to the request that both edges share."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import (
    ImageFormat,
    MaskPolarity,
    PreviewSpec,
    Task,
    UnsupportedParameterPolicy,
)
from darkroom_server.domain.models import ModelRef
from darkroom_server.gateway.bodies import off_loop
from darkroom_server.gateway.fields import SIZE, Fields, whole
from darkroom_server.gateway.pictures import picture_bytes
from darkroom_server.gateway.sent_pictures import Sent
from darkroom_server.image_decoding.images import says_alpha, shows_through
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.parameters.bounds import MAX_REFERENCE_COUNT
from darkroom_server.parameters.parameter import EVERY_TASK, Kind
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.requests.image_requests import ImageRequest, image_request
from darkroom_server.requests.limits import check_limits, check_name, check_value
from darkroom_server.requests.references import REFERENCES_FIELD as _REFERENCES
from darkroom_server.requests.references import reference_field

#: In lists of one as well, or together with others.
_READ_APART = ("model", "negative_prompt", "width_px", "height_px")
_PLAIN = tuple(
    one
    for one in PARAMETERS.values()
    if one.http
    and one.tasks == EVERY_TASK
    and one.group != "output"
    and one.path not in _READ_APART
)
#: What is asked of an image that came along.
_OF_IMAGE = tuple(
    one
    for one in PARAMETERS.values()
    if one.http and one.needs_image and one.kind is not Kind.PICTURE
)
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})", re.IGNORECASE | re.ASCII)
#: Sizes that have a name at fal.
_NAMED_SIZES = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a dialect means what its bodies leave open.

    `needs_image`: the route changes images, so that one without would draw something else.
    """

    format: ImageFormat = ImageFormat.PNG
    mask_polarity: MaskPolarity = MaskPolarity.WHITE_REPAINTS
    preview: PreviewSpec | None = None
    needs_image: bool = False


async def read_request(
    fields: Fields, manner: Manner, tasks: frozenset[Task], pictures: Pictures
) -> tuple[ModelRef, ImageRequest]:
    """The model and the request; images are decoded off the event loop.

    `tasks` are those of the model. Raises FieldError, naming fields as `darkroom.v1` does or as the
    caller did.
    """
    model = fields.text("model") or ""
    check_name("model", model)
    said = _said(fields, manner)
    task, of_image = await _given(fields, manner, tasks, pictures)
    request = image_request(task, said | of_image | {"": said[""] | of_image[""]})
    request = replace(request, preview=manner.preview)
    # Of a text that may be as long as the body.
    await off_loop(check_limits, request)
    return ModelRef(model), request


def _said(fields: Fields, manner: Manner) -> dict[str, dict[str, Any]]:
    """What the body says besides its images."""
    width_px, height_px = _size(fields)
    own: dict[str, Any] = {
        "negative_prompt": fields.one_text("negative_prompt") or None,
        "width_px": width_px,
        "height_px": height_px,
        "unsupported_parameter_policy": UnsupportedParameterPolicy.IGNORE,
    }
    said = {"": own}
    for parameter in _PLAIN:
        value = fields.value(parameter)
        if value is not None:
            said.setdefault(parameter.group, {})[parameter.leaf] = value
    if own.get("seed", 0) < 0:
        # That is how callers of such services ask for any.
        del own["seed"]
    return said | {"output": _output(fields, manner.format)}


async def _given(
    fields: Fields, manner: Manner, tasks: frozenset[Task], pictures: Pictures
) -> tuple[Task, dict[str, dict[str, Any]]]:
    """The task that the images sent along make of the request, and what is said of them."""
    image, mask = fields.picture("image.content"), fields.picture("mask.content")
    references, beside = _references(fields, image)
    asked = {one.path: fields.value(one) for one in _OF_IMAGE}
    chosen = asked["mask_polarity"]
    if len(references) > 1 and mask is None and chosen is None:
        return await _edit(fields, references, asked)
    image, name = _only(fields, references)
    if image is None:
        if manner.needs_image or mask is not None:
            raise InvalidParameter("image.content", "give the image to change")
        for parameter in _OF_IMAGE:
            check_value(parameter, asked[parameter.path])
        fields.ignore(*asked)
        return Task.TEXT_TO_IMAGE, {"": {}}
    content = await off_loop(picture_bytes, image, name)
    given: dict[str, dict[str, Any]] = {"image": {"content": content}}
    others = {_REFERENCES: await _contents(fields, beside)} if beside else {}
    polarity = manner.mask_polarity if chosen is None else chosen
    if mask is None and chosen is None:
        only_fills = Task.FILL in tasks and not tasks & {Task.IMAGE_TO_IMAGE, Task.EDIT}
        by_colour = polarity is MaskPolarity.WHITE_REPAINTS
        only_edits = Task.EDIT in tasks and not tasks & {Task.IMAGE_TO_IMAGE, Task.FILL}
        if not only_fills and (
            by_colour
            or only_edits
            or not await pictures.run(shows_through, content, name, pictures.limits)
        ):
            if Task.EDIT in tasks and Task.IMAGE_TO_IMAGE not in tasks and not beside:
                return await _edit(fields, references, asked)
            of_fill = [one.path for one in _OF_IMAGE if Task.IMAGE_TO_IMAGE not in one.tasks]
            fields.ignore(*of_fill)
            kept = {path: value for path, value in asked.items() if path not in of_fill}
            return Task.IMAGE_TO_IMAGE, given | {"": kept | others}
        if await pictures.run(says_alpha, content, name, pictures.limits):
            polarity = MaskPolarity.TRANSPARENT_REPAINTS
    if mask is not None:
        mask_name = fields.name("mask.content")
        given["mask"] = {"content": await off_loop(picture_bytes, mask, mask_name)}
    return Task.FILL, given | {"": asked | {"mask_polarity": polarity} | others}


def _references(fields: Fields, image: Sent | None) -> tuple[tuple[Sent, ...], tuple[Sent, ...]]:
    """All pictures but a mask, and those of them that were sent beside the image to change."""
    found = fields.pictures(_REFERENCES)
    if image is None:
        return found, ()
    return (image,), () if found == (image,) else found


async def _edit(
    fields: Fields, references: tuple[Sent, ...], asked: dict[str, Any]
) -> tuple[Task, dict[str, dict[str, Any]]]:
    fields.ignore(*asked)
    return Task.EDIT, {"": {_REFERENCES: await _contents(fields, references)}}


async def _contents(fields: Fields, references: tuple[Sent, ...]) -> tuple[bytes, ...]:
    if len(references) > MAX_REFERENCE_COUNT:
        text = f"{len(references)} images were sent; at most {MAX_REFERENCE_COUNT} are taken"
        raise InvalidParameter(fields.name(_REFERENCES), text)
    names = [fields.name(reference_field(index)) for index in range(len(references))]
    read = [
        await off_loop(picture_bytes, one, name)
        for one, name in zip(references, names, strict=True)
    ]
    return tuple(read)


def _only(fields: Fields, references: tuple[Sent, ...]) -> tuple[Sent | None, str]:
    """The one picture to change, and its name; raises InvalidParameter of several."""
    is_listed = fields.picture("image.content") is None and fields.pictures(_REFERENCES)
    name = fields.name(_REFERENCES if is_listed else "image.content")
    if len(references) > 1:
        text = f"{len(references)} images were sent; one goes with a mask"
        raise InvalidParameter(name, text)
    fields.written["image.content"] = name
    return (references[0] if references else None), name


def _size(fields: Fields) -> tuple[int | None, int | None]:
    """Width and height, from their own fields or from a size."""
    own = fields.whole("width_px"), fields.whole("height_px")
    value, name = fields.raw(SIZE), fields.name(SIZE)
    if value is None or value == "auto":
        return own
    if isinstance(value, dict):
        size = whole(value.get("width"), name), whole(value.get("height"), name)
    else:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is not None:
            size = int(match[1]), int(match[2])
        elif isinstance(value, str) and value in _NAMED_SIZES:
            size = _NAMED_SIZES[value]
        else:
            known = ", ".join(_NAMED_SIZES)
            raise InvalidParameter(name, f'is no size such as "1024x768", nor one of: {known}')
    if any(one is not None and one != other for one, other in zip(own, size, strict=True)):
        raise InvalidParameter(name, "says something else than width and height")
    return size


def _output(fields: Fields, default: ImageFormat) -> dict[str, Any]:
    chosen = fields.value(PARAMETERS["output.format"]) or default
    quality = fields.whole("output.quality")
    if quality is not None and not 0 <= quality <= 100:
        raise InvalidParameter("output.quality", f"{quality} is not between 0 and 100")
    if quality == 0:
        quality = 1  # OpenAI's scale begins at 0, encoders' at 1
    if chosen is ImageFormat.PNG:
        # Callers send a compression along with PNG too, where it means nothing.
        fields.ignore("output.quality")
        quality = None
    return {"format": chosen, "quality": quality}
