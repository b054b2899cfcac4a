"""Colours of a file with an ICC profile, as sRGB. CPU-bound; thread-safe."""

from __future__ import annotations

import enum
import io

import numpy as np
from PIL import Image, ImageCms

#: What the library raises of profiles that are broken, or are not for such pixels.
_PROFILE_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)
#: Bands of the pictures that a profile's colour space is for.
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
#: Steps of each channel among the colours by which a profile is distinguished from sRGB's.
_PROBE_STEPS = np.linspace(0, 255, 9).astype(np.uint8)
#: Of 255: as far as roundings of one and the same space lie apart.
_SAME_WITHIN = 2


class Conversion(enum.Enum):
    """What became of a picture's colours."""

    #: They were sRGB already.
    NONE = "none"
    CONVERTED = "converted"
    #: The profile is broken or of another kind than the pixels.
    UNREADABLE = "unreadable"


def to_srgb(pixels: Image.Image, profile: bytes | None) -> tuple[Image.Image, Conversion]:
    """The picture as RGB, converted from its profile where that is another space than sRGB.

    `pixels` has 8 bits a channel and any mode without transparency. Without a usable profile its
    numbers are taken as sRGB.
    """
    if profile is None:
        return pixels.convert("RGB"), Conversion.NONE
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES[source.profile.xcolor_space]
        given = _as_mode(pixels, mode)
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if _changes_nothing(transform, mode):
            return pixels.convert("RGB"), Conversion.NONE
        converted = ImageCms.applyTransform(given, transform)
    except (*_PROFILE_ERRORS, KeyError):
        return pixels.convert("RGB"), Conversion.UNREADABLE
    if converted is None:
        raise AssertionError("a transform that is not in place makes a picture")
    return converted, Conversion.CONVERTED


def _as_mode(pixels: Image.Image, mode: str) -> Image.Image:
    """The picture as the profile takes it; raises ValueError for colours that it is not for."""
    is_grey = pixels.mode in ("1", "L")
    if pixels.mode == mode or (mode == "RGB" and pixels.mode != "CMYK"):
        return pixels.convert(mode)
    if mode == "L" and is_grey:
        return pixels.convert(mode)
    raise ValueError(mode)


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether the space is sRGB by another name."""
    if mode == "CMYK":
        return False
    if mode == "L":
        probe = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    else:
        grid = np.stack(np.meshgrid(_PROBE_STEPS, _PROBE_STEPS, _PROBE_STEPS), axis=-1)
        probe = Image.fromarray(grid.reshape(-1, len(_PROBE_STEPS), 3))
    made = ImageCms.applyTransform(probe, transform)
    as_it_is = np.asarray(probe.convert("RGB"), np.int16)
    return bool(np.abs(np.asarray(made, np.int16) - as_it_is).max() <= _SAME_WITHIN)
