"""What a caller should know about a request that runs all the same."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class NoticeReason(enum.Enum):
    """Stable reasons; the value goes on the wire."""

    #: A width or height was rounded down to the model's grid.
    DIMENSION_ROUNDED = "DIMENSION_ROUNDED"
    #: The input image's own size lies outside the model's limits, so another was chosen.
    DIMENSION_CLAMPED = "DIMENSION_CLAMPED"
    #: The model cannot honour the parameter; it was left out, as the caller's policy says.
    PARAMETER_IGNORED = "PARAMETER_IGNORED"
    #: The model takes the parameter but it changes nothing.
    PARAMETER_WITHOUT_EFFECT = "PARAMETER_WITHOUT_EFFECT"
    #: The model was not taught some words of a text.
    PROMPT_WORDS_UNKNOWN = "PROMPT_WORDS_UNKNOWN"
    #: The size is far from those that the model was trained at.
    SIZE_UNTRAINED = "SIZE_UNTRAINED"
    #: A text is longer than the model's text encoders read.
    PROMPT_TRUNCATED = "PROMPT_TRUNCATED"
    #: The program that rewrites the model's prompts failed.
    PROMPT_NOT_REWRITTEN = "PROMPT_NOT_REWRITTEN"
    #: The model made the image in another size than was asked for.
    DIMENSION_NOT_KEPT = "DIMENSION_NOT_KEPT"
    #: The file's EXIF orientation was applied to its pixels.
    IMAGE_ROTATED = "IMAGE_ROTATED"
    #: The image was scaled to the output's size.
    IMAGE_RESIZED = "IMAGE_RESIZED"
    #: Only the first frame of an animation is used.
    FIRST_FRAME_USED = "FIRST_FRAME_USED"
    #: Transparent pixels were laid on white.
    ALPHA_FLATTENED = "ALPHA_FLATTENED"
    #: The mask's transparency plays no part; its colours do.
    ALPHA_IGNORED = "ALPHA_IGNORED"
    #: CMYK, palette or greyscale became RGB.
    COLOR_CONVERTED = "COLOR_CONVERTED"
    #: Colours were converted from the file's own colour space to sRGB.
    PROFILE_CONVERTED = "PROFILE_CONVERTED"
    #: The file's colour profile is broken or not for its pixels; they were taken as sRGB.
    PROFILE_IGNORED = "PROFILE_IGNORED"
    #: More than 8 bits a channel became 8.
    DEPTH_REDUCED = "DEPTH_REDUCED"
    #: Nothing in the mask asks for new pixels, so nothing is repainted.
    MASK_REPAINTS_NOTHING = "MASK_REPAINTS_NOTHING"
    #: The mask was scaled to the image's size.
    MASK_RESIZED = "MASK_RESIZED"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that was changed or ignored. `field` is a path in the request, or empty.

    `words` are those of the field that it is about, for a notice about words.
    """

    reason: NoticeReason
    description: str
    field: str = ""
    words: tuple[str, ...] = ()
