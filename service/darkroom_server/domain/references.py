"""Reference images: how many a pipeline class takes, and what its own code does with their sizes.

Pure. A new class that edits has an entry in `REFERENCE_RULES`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from darkroom_server.domain.image_size import Size

#: The square to which pipelines of 1024 px scale what they are shown.
MEGAPIXEL: Final = 1024 * 1024


class SizeSource(enum.Enum):
    """What an edit is made in the size of where its request names none."""

    DEFAULT = "the model's default size"
    FIRST = "the first image"
    LAST = "the last image"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRule:
    """What a class of pipelines takes.

    `max_count`: the most images of a request; `is_required`: nothing is drawn of words alone. With
    `shrinks`, an image of more than `area_px` is scaled down to that before anything else is done
    with it; otherwise the pipeline gets it as it came. Without `fills_area`, the size that an edit
    follows is that of its image, shrunk; with it, the image's shape scaled to `area_px`, each edge
    to the nearest multiple of `edge_multiple_px`. An edge is at least `min_edge_px` long, and the
    longer at most `max_ratio` times the other. What `is_beside` goes with an image that is changed
    or filled, and with `fits_output` it is scaled to the size that is made. Of a class that edits,
    `fill_count` may stand beside an image to fill.
    """

    max_count: int
    is_required: bool = False
    shrinks: bool = False
    area_px: int = MEGAPIXEL
    size_source: SizeSource = SizeSource.FIRST
    fills_area: bool = False
    edge_multiple_px: int = 1
    min_edge_px: int = 1
    max_ratio: float = math.inf
    is_beside: bool = False
    fits_output: bool = False
    fill_count: int = 0

    def shown(self, size: Size) -> Size:
        """The size in which the pipeline gets an image, rounded as diffusers does."""
        if not self.shrinks or size.width_px * size.height_px <= self.area_px:
            return size
        scale = math.sqrt(self.area_px / (size.width_px * size.height_px))
        return Size(max(1, int(size.width_px * scale)), max(1, int(size.height_px * scale)))

    def beside_count(self, *, is_filled: bool) -> int:
        """The most images beside one to begin with, or to fill."""
        if self.is_beside:
            return self.max_count
        return self.fill_count if is_filled else 0

    def followed(self, sizes: Sequence[Size]) -> Size | None:
        """The size that an edit of images of these sizes follows; None: the model's default."""
        match self.size_source:
            case SizeSource.DEFAULT:
                return None
            case SizeSource.FIRST:
                size = sizes[0]
            case SizeSource.LAST:
                size = sizes[-1]
        if not self.fills_area:
            return self.shown(size)
        ratio, multiple = size.width_px / size.height_px, self.edge_multiple_px
        width = math.sqrt(self.area_px * ratio)
        edges = (max(1, round(edge / multiple)) * multiple for edge in (width, width / ratio))
        return Size(*edges)

    def objection(self, size: Size) -> str | None:
        """Why an image of a size is not taken."""
        shorter, longer = sorted((size.width_px, size.height_px))
        if shorter < self.min_edge_px:
            return f"{size} is too small; each edge has at least {self.min_edge_px} pixels"
        if longer > shorter * self.max_ratio:
            return f"{size} is too long; at most {self.max_ratio:g} times its other edge"
        return None


#: What FLUX.2's image processor takes.
_FLUX2: Final = ReferenceRule(max_count=10, shrinks=True, min_edge_px=64, max_ratio=8)


#: By class.
REFERENCE_RULES: Final[Mapping[str, ReferenceRule]] = {
    "BriaFiboEditPipeline": ReferenceRule(max_count=1, is_required=True),
    "DreamLiteMobilePipeline": ReferenceRule(max_count=1),
    "DreamLitePipeline": ReferenceRule(max_count=1),
    "Flux2KleinKVPipeline": _FLUX2,
    "Flux2KleinPipeline": replace(_FLUX2, fill_count=1),
    "Flux2Pipeline": _FLUX2,
    # A token's edge: smaller images have no shape that tokens could express.
    "FluxKontextPipeline": ReferenceRule(
        max_count=1, size_source=SizeSource.DEFAULT, min_edge_px=16, fill_count=1
    ),
    "GlmImagePipeline": ReferenceRule(max_count=10),
    "JoyImageEditPipeline": ReferenceRule(max_count=1, is_required=True),
    "LongCatImageEditPipeline": ReferenceRule(max_count=1, is_required=True, fills_area=True),
    "OmniGenPipeline": ReferenceRule(max_count=10, size_source=SizeSource.DEFAULT),
    # What looks at pictures for Qwen's language model takes no longer ones.
    "QwenImageEditPipeline": ReferenceRule(
        max_count=1, is_required=True, fills_area=True, edge_multiple_px=32, max_ratio=160
    ),
    "QwenImageEditPlusPipeline": ReferenceRule(
        max_count=10,
        is_required=True,
        size_source=SizeSource.LAST,
        fills_area=True,
        edge_multiple_px=32,
        max_ratio=160,
    ),
    # Shrunk to the area of the image that is made, by its own code.
    "ZImageOmniPipeline": ReferenceRule(max_count=10, min_edge_px=64, max_ratio=8),
}
#: What a class takes beside its `image`, by the argument's name: of the picture's own size, or
#: as large as what is made, since it says where in the picture things are.
BESIDE_RULES: Final[Mapping[str, ReferenceRule]] = {
    "control_image": ReferenceRule(max_count=1, is_required=True, is_beside=True, fits_output=True),
    "original_image": ReferenceRule(
        max_count=1, is_required=True, is_beside=True, fits_output=True
    ),
    "image_reference": ReferenceRule(max_count=1, is_beside=True, min_edge_px=16),
}
#: What the fake takes; and one whose config names reference images, but no edits.
FAKE_RULE: Final = ReferenceRule(max_count=10, fill_count=1)
FAKE_BESIDE: Final = BESIDE_RULES["control_image"]
