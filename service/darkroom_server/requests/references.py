"""Reference images of a request: how many, how large, and their pixels for the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from PIL import Image

from darkroom_server.domain.errors import (
    ImageTooLarge,
    InvalidImage,
    InvalidParameter,
    UnsupportedParameter,
)
from darkroom_server.domain.image_size import Size
from darkroom_server.domain.jobs import Pixels, Task
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.domain.references import ReferenceRule
from darkroom_server.image_decoding.images import ImageLimits, decode, to_rgb
from darkroom_server.parameters.bounds import MAX_REFERENCE_COUNT
from darkroom_server.parameters.parameter import WITH_IMAGE
from darkroom_server.requests.image_requests import ImageRequest

REFERENCES_FIELD = "reference_images"


def reference_field(index: int) -> str:
    """The path of one of them in `darkroom.v1`'s request."""
    return f"{REFERENCES_FIELD}[{index}].content"


def check_references(images: Sequence[bytes], limits: ImageLimits) -> None:
    """Holds files to what every model takes; raises InvalidParameter or ImageTooLarge."""
    if len(images) > MAX_REFERENCE_COUNT:
        text = f"{len(images)} images; at most {MAX_REFERENCE_COUNT} are taken"
        raise InvalidParameter(REFERENCES_FIELD, text)
    total_bytes = 0
    for index, content in enumerate(images):
        if not content:
            raise InvalidParameter(reference_field(index), "there is no image in it")
        total_bytes += len(content)
        if total_bytes > limits.max_total_bytes:
            text = (
                f"{total_bytes} bytes up to this image; at most {limits.max_total_bytes} together"
            )
            raise ImageTooLarge(reference_field(index), f"{text} are taken")


def check_takes(
    request: ImageRequest, model: ModelInfo, served: Callable[[], Iterable[ModelInfo]]
) -> None:
    """Whether a model takes as many as the request has.

    `served`: the models that serve, of which those are named that would. Raises InvalidParameter or
    UnsupportedParameter.
    """
    task, image_count = request.task, len(request.reference_images)
    if task in WITH_IMAGE:
        _check_beside(model, task, image_count)
        return
    rule = model.references if Task.EDIT in model.tasks else None
    if task is Task.TEXT_TO_IMAGE and rule is not None and task not in model.tasks:
        text = f"models/{model.name} changes images: give it {_range(rule.max_count)}"
        raise InvalidParameter(REFERENCES_FIELD, text)
    if task is not Task.EDIT:
        return
    beside = model.references
    if beside is not None and beside.is_beside:
        text = f"models/{model.name} takes {_range(beside.max_count)} beside the image to change"
        raise InvalidParameter("image", f"{text}: give it that image, too")
    if rule is None:
        able = sorted(f"models/{one.name}" for one in served() if _takes(one, image_count))
        hint = (
            f"these take {image_count}: {', '.join(able)}" if able else "no model served takes any"
        )
        text = f"{_images(image_count)}; models/{model.name} takes none, {hint}"
        raise UnsupportedParameter(REFERENCES_FIELD, text)
    if image_count > rule.max_count:
        text = f"{_images(image_count)}; models/{model.name} takes {_range(rule.max_count)}"
        raise InvalidParameter(REFERENCES_FIELD, text)


def _check_beside(model: ModelInfo, task: Task, image_count: int) -> None:
    """Whether a model takes as many beside the image that it changes."""
    rule = model.references
    is_filled = task is Task.FILL and Task.EDIT in model.tasks
    most = 0 if rule is None else rule.beside_count(is_filled=is_filled)
    if rule is None or not most:
        if image_count:
            text = f"not together with an image to begin with or to fill: models/{model.name}"
            raise InvalidParameter(REFERENCES_FIELD, f"{text} takes none beside it")
        return
    is_lacking = rule.is_beside and rule.is_required and not image_count
    if image_count > most or is_lacking:
        text = f"models/{model.name} takes {_range(most)} beside the image to change"
        raise InvalidParameter(REFERENCES_FIELD, f"{text}; the request has {image_count}")


def _takes(model: ModelInfo, image_count: int) -> bool:
    rule = model.references
    return Task.EDIT in model.tasks and rule is not None and image_count <= rule.max_count


def _range(most: int) -> str:
    return "one image" if most == 1 else f"1 to {most} images"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def check_sizes(sizes: Sequence[Size], rule: ReferenceRule, limits: ImageLimits) -> None:
    """Holds images of these sizes to what is taken; raises InvalidImage or ImageTooLarge."""
    total_count = 0
    for index, size in enumerate(sizes):
        objection = rule.objection(size)
        if objection is not None:
            raise InvalidImage(reference_field(index), objection)
        shown = rule.shown(size)
        total_count += shown.width_px * shown.height_px
        if total_count > limits.max_total_pixel_count:
            text = f"{total_count} pixels up to this image; at most {limits.max_total_pixel_count}"
            raise ImageTooLarge(reference_field(index), f"{text} together are taken")


def decode_reference(
    content: bytes, index: int, size: Size, limits: ImageLimits
) -> tuple[Pixels, tuple[Notice, ...]]:
    """One image in RGB at the size in which the pipeline gets it. CPU-bound.

    Raises InvalidImage, ImageTooLarge.
    """
    field = reference_field(index)
    picture = decode(content, field, limits)
    rgb, notices = to_rgb(picture, field, flatten=True)
    notices = picture.notices + notices
    if picture.size != size:
        text = f"the image was scaled from {picture.size} to {size}"
        notices += (Notice(NoticeReason.IMAGE_RESIZED, text, field),)
        rgb = rgb.resize((size.width_px, size.height_px), Image.Resampling.LANCZOS)
    return Pixels(rgb.width, rgb.height, 3, rgb.tobytes()), notices
