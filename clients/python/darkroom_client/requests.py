"""Request messages from Python values. What the values may be is the service's to say."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, TypedDict, Unpack

from google.protobuf.message import Message

from darkroom.v1 import image_pb2, image_service_pb2
from darkroom_client.errors import FieldViolation, InvalidRequest

ImageFormat = Literal["png", "jpeg", "webp"]
MaskPolarity = Literal["white", "black", "transparent"]
Priority = Literal["low", "normal", "high"]
Reproducibility = Literal["tolerance", "exact"]

#: An encoded image (PNG, JPEG, WebP): its path, its bytes, or a file open for reading bytes.
ImageInput = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

#: Each option's field, by its path in the message.
FIELDS = {
    "prompt": "prompt",
    "model": "model",
    "version": "version",
    "negative_prompt": "negative_prompt",
    "width": "width_px",
    "height": "height_px",
    "steps": "step_count",
    "guidance_scale": "guidance_scale",
    "seed": "seed",
    "count": "image_count",
    "scheduler": "scheduler",
    "format": "output.format",
    "quality": "output.quality",
    "lossless": "output.lossless",
    "embed_metadata": "output.embed_metadata",
    "preview_interval_steps": "preview.interval_step_count",
    "preview_max_edge": "preview.max_edge_px",
    "feature_cache_threshold": "feature_cache.threshold",
    "adapters": "adapters",
    "reference_images": "reference_images",
    "strength": "strength",
    "mask_polarity": "mask_polarity",
    "preserve_unmasked": "preserve_unmasked",
    "priority": "priority",
    "reproducibility": "reproducibility",
    "ignore_unsupported": "unsupported_parameter_policy",
    "reject_off_grid_size": "dimension_policy",
    "validate_only": "validate_only",
}
#: What is sent for a word.
_WORDS: dict[str, dict[str, int]] = {
    "format": {
        "png": image_pb2.OUTPUT_FORMAT_PNG,
        "jpeg": image_pb2.OUTPUT_FORMAT_JPEG,
        "webp": image_pb2.OUTPUT_FORMAT_WEBP,
    },
    "mask_polarity": {
        "white": image_pb2.MASK_POLARITY_WHITE_REPAINTS,
        "black": image_pb2.MASK_POLARITY_BLACK_REPAINTS,
        "transparent": image_pb2.MASK_POLARITY_TRANSPARENT_REPAINTS,
    },
    "priority": {
        "low": image_pb2.PRIORITY_LOW,
        "normal": image_pb2.PRIORITY_NORMAL,
        "high": image_pb2.PRIORITY_HIGH,
    },
    "reproducibility": {
        "tolerance": image_pb2.REPRODUCIBILITY_TOLERANCE,
        "exact": image_pb2.REPRODUCIBILITY_EXACT,
    },
}
#: What is sent for False and for True.
_SWITCHES: dict[str, tuple[int, int]] = {
    "ignore_unsupported": (
        image_pb2.UNSUPPORTED_PARAMETER_POLICY_REJECT,
        image_pb2.UNSUPPORTED_PARAMETER_POLICY_IGNORE,
    ),
    "reject_off_grid_size": (
        image_pb2.DIMENSION_POLICY_ROUND_DOWN,
        image_pb2.DIMENSION_POLICY_REJECT,
    ),
}


class ImageOptions(TypedDict, total=False):
    """What a request may say besides its prompt; what is left out, the model's defaults decide."""

    #: Resource name, hub id or alias; empty for the server's default model of the task.
    model: str
    #: A number or a label such as `stable`.
    version: str
    negative_prompt: str | None
    #: Pixels. A size off the model's grid is rounded down unless `reject_off_grid_size`.
    width: int | None
    height: int | None
    steps: int | None
    guidance_scale: float | None
    #: Seed of the first image, image i has seed + i; None lets the server choose and report it.
    seed: int | None
    #: Images to make.
    count: int
    scheduler: str | None
    format: ImageFormat
    #: 1 to 100, for JPEG and lossy WebP.
    quality: int | None
    #: For WebP.
    lossless: bool
    #: Write prompt, seed and steps into the file.
    embed_metadata: bool
    #: Denoising steps from one Preview to the next; 0 for none.
    preview_interval_steps: int | None
    #: Pixels of a preview's longer edge.
    preview_max_edge: int | None
    priority: Priority | None
    #: How far pixels may depend on what shares the device, if not as far as the model allows.
    reproducibility: Reproducibility | None
    #: Above 0 to 1: skip work of the denoiser that would change little; 0.1 is cautious.
    feature_cache_threshold: float | None
    #: Weights of the model's adapters (LoRA) by name, or name/version; None: the adapter's own.
    adapters: Mapping[str, float | None] | None
    #: Run without the parameters the model cannot honour, with a warning, instead of failing.
    ignore_unsupported: bool
    reject_off_grid_size: bool
    #: Check everything, make nothing.
    validate_only: bool


class GenerateOptions(ImageOptions, total=False):
    """What a Generate may say besides its prompt."""

    #: An image to begin with instead of noise.
    image: ImageInput | None
    #: Above 0 to 1: how far from `image`.
    strength: float | None
    #: Images to edit instead, in the order in which the prompt names them; with `image`, what the
    #: model takes beside it, such as a control image.
    reference_images: Sequence[ImageInput] | None


class FillOptions(ImageOptions, total=False):
    """What a Fill may say besides image, mask and prompt."""

    #: 0 to 1: how far from the original.
    strength: float | None
    #: Whether every pixel outside the mask stays exactly as it was; None: as the model's default
    #: says, which is to keep them.
    preserve_unmasked: bool | None
    #: What is repainted: the mask's white (the default), its black, or its transparent pixels.
    mask_polarity: MaskPolarity
    #: What the model takes beside the image, such as a control image.
    reference_images: Sequence[ImageInput] | None


def generate_request(
    prompt: str, **options: Unpack[GenerateOptions]
) -> image_service_pb2.GenerateRequest:
    """The Generate request, with the images read from their files.

    Raises InvalidRequest for a value that no message can carry, TypeError for an option that does
    not exist or is of another type, OSError for an unreadable file.
    """
    request = image_service_pb2.GenerateRequest()
    image = options.pop("image", None)
    if image is not None:
        request.image.content = _read(image)
    _add_references(request, options.pop("reference_images", None))
    _apply(request, {"prompt": prompt, **options})
    return request


def fill_request(
    image: ImageInput,
    mask: ImageInput | None,
    prompt: str,
    **options: Unpack[FillOptions],
) -> image_service_pb2.FillRequest:
    """The Fill request, with the images read from their files; raises as `generate_request`.

    `mask` is None only with `mask_polarity="transparent"`: the image's own alpha is the mask.
    """
    request = image_service_pb2.FillRequest()
    request.image.content = _read(image)
    if mask is not None:
        request.mask.content = _read(mask)
    _add_references(request, options.pop("reference_images", None))
    _apply(request, {"prompt": prompt, "mask_polarity": "white", **options})
    return request


def _apply(
    request: image_service_pb2.GenerateRequest | image_service_pb2.FillRequest,
    options: dict[str, object],
) -> None:
    for name, value in options.items():
        if value is None:
            continue
        if name not in FIELDS:
            raise TypeError(f"unknown option {name!r}")
        if name == "adapters":
            _add_adapters(request, value)
            continue
        group, _, field = FIELDS[name].rpartition(".")
        if name in _WORDS:
            value = _number(name, value)
        elif name in _SWITCHES:
            value = _SWITCHES[name][bool(value)]
        _set(getattr(request, group) if group else request, field, value)


def _add_adapters(
    request: image_service_pb2.GenerateRequest | image_service_pb2.FillRequest, weights: object
) -> None:
    if not isinstance(weights, Mapping):
        raise TypeError("adapters: weights by name")
    for name, weight in weights.items():
        adapter = request.adapters.add()
        _set(adapter, "name", name)
        if weight is not None:
            _set(adapter, "weight", weight)


def _set(message: Message, field: str, value: object) -> None:
    if field == "image_count" and value == 0:
        # On the wire 0 means "not said".
        raise _invalid(field, "must be at least 1")
    if field not in message.DESCRIPTOR.fields_by_name:
        raise TypeError(f"{message.DESCRIPTOR.name} has no {field!r}")
    try:
        setattr(message, field, value)
    except TypeError:
        raise TypeError(f"{field}: {type(value).__name__} is of the wrong type") from None
    except ValueError:
        # An integer beyond 32 or 64 bits, or text that is not Unicode.
        raise _invalid(field, f"{value!a:.80} cannot be sent") from None


def _number(name: str, word: object) -> int:
    if isinstance(word, str) and word in _WORDS[name]:
        return _WORDS[name][word]
    raise _invalid(name, f"must be one of {', '.join(_WORDS[name])}")


def _invalid(field: str, description: str) -> InvalidRequest:
    return InvalidRequest(description, violations=(FieldViolation(field, description),))


def _add_references(
    request: image_service_pb2.GenerateRequest | image_service_pb2.FillRequest,
    images: Sequence[ImageInput] | None,
) -> None:
    for image in _listed(images):
        request.reference_images.add().content = _read(image)


def _listed(images: Sequence[ImageInput] | None) -> Sequence[ImageInput]:
    """Raises TypeError for one image by itself, whose characters or bytes are no images."""
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike):
        raise TypeError("reference_images: a list of images")
    return images or ()


def _read(source: ImageInput) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    return source.read()
