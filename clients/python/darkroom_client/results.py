"""What a completed call returns."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom_client.files import write_whole

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedImage:
    """One image as the encoded file it came in.

    With `content_filtered` a content filter of the service objected: the image is black, or
    withheld, and then `content` is empty.
    """

    content: bytes = field(repr=False)
    media_type: str
    width_px: int
    height_px: int
    seed: int
    image_index: int
    sha256: str
    content_filtered: bool = False

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the file whole, over what is there. Raises OSError, and ValueError if empty.

        Example: `generation.images[0].save("circle.png")`.
        """
        if not self.content:
            raise ValueError("the image was withheld by the service's content filter")
        target = Path(path)
        write_whole(target, self.content)
        return target

    def pil(self) -> Image:
        """The decoded image; raises OSError if it is empty.

        Needs Pillow (`pip install darkroom-client[pillow]`), otherwise raises ImportError.
        """
        from PIL import Image

        image = Image.open(io.BytesIO(self.content))
        image.load()
        return image


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What the model ran with, after defaults and rounding.

    `strength` is None where images begin with noise, `preserve_unmasked` where none is filled.
    `seeds` has one for every image. Two servers with equal `fingerprint`s make equal pixels.
    `rewritten_prompt` is what was drawn where the server has a model's prompts rewritten.
    """

    model: str
    model_version: int
    model_digest: str
    width_px: int
    height_px: int
    step_count: int
    guidance_scale: float
    scheduler: str
    seeds: tuple[int, ...]
    strength: float | None
    preserve_unmasked: bool | None
    fingerprint: str
    rewritten_prompt: str | None = None


@dataclass(frozen=True, slots=True)
class Warning:
    """Something that was changed or ignored without failing the request.

    `words` are those of the field that it is about, when it is about words.
    """

    reason: str
    description: str
    field: str = ""
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where the time went, in seconds on the server; 0 for a stage that did not run."""

    queue_s: float
    load_s: float
    encode_s: float
    denoise_s: float
    decode_s: float
    compress_s: float
    total_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A denoising step that a request took part in; at its end, the fullest."""

    batch_id: str
    image_count: int
    request_image_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The images of one call, in order, with what they were made with and how long it took."""

    images: tuple[GeneratedImage, ...]
    parameters: Parameters
    warnings: tuple[Warning, ...]
    timings: Timings
    generation_id: str
    request_id: str
