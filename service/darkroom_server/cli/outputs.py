"""Where a command writes its images."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darkroom_client import FieldViolation, GeneratedImage, InvalidRequest, Preview
from darkroom_client.files import write_whole

Format = Literal["png", "jpeg", "webp"]

_FORMATS: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}


@dataclass(frozen=True, slots=True)
class Output:
    """The files of one command: the path given, or `name-0.png`, `name-1.png`, … for several."""

    path: Path
    image_count: int

    def path_of(self, image_index: int) -> Path:
        """Where an image goes."""
        if self.image_count == 1:
            return self.path
        return self.path.with_name(f"{self.path.stem}-{image_index}{self.path.suffix}")

    def require_writable(self) -> None:
        """Raises OSError if a file could not be written; creates and changes nothing."""
        for path in map(self.path_of, range(self.image_count)):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            if not path.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def save(self, image: GeneratedImage) -> Path:
        """Writes one image whole, over what is there. Raises OSError, and ValueError if empty."""
        return image.save(self.path_of(image.image_index))

    def preview_path_of(self, image_index: int) -> Path:
        """Where previews of an image go, each over the last."""
        path = self.path_of(image_index)
        return path.with_name(f"{path.name}.preview.jpg")

    def save_preview(self, preview: Preview) -> None:
        """Writes a preview whole, so that a viewer never sees half of one. Raises OSError."""
        write_whole(self.preview_path_of(preview.image_index), preview.content)

    def remove_previews(self) -> None:
        """Removes what previews there are."""
        for image_index in range(self.image_count):
            self.preview_path_of(image_index).unlink(missing_ok=True)

    def format(self, given: Format | None) -> Format:
        """The format given, else the one of the path's suffix; raises InvalidRequest when the two
        contradict each other.
        """
        of_suffix = _FORMATS.get(self.path.suffix.lower())
        if given is not None and of_suffix not in (given, None):
            wrong = f"{given} contradicts the name {self.path.name!r}"
            raise InvalidRequest(wrong, violations=(FieldViolation("--format", wrong),))
        if given is not None:
            return given
        if of_suffix is None:
            wrong = f"{self.path.name!r} does not end in {', '.join(_FORMATS)}; name a --format"
            raise InvalidRequest(wrong, violations=(FieldViolation("--output", wrong),))
        return of_suffix
