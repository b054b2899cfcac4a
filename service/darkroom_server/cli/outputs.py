"""Where a command writes its images: a file that is named, one named by the prompt, or stdout."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from darkroom_client import FieldViolation, GeneratedImage, InvalidRequest, Preview
from darkroom_client.files import write_whole

Format = Literal["png", "jpeg", "webp"]

_FORMATS: dict[str, Format] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}


#: Longest part of a file's name that comes from the prompt.
_MAX_NAME_LENGTH = 48


class Output(Protocol):
    """Where the images of one command go."""

    def format(self, given: Format | None) -> Format:
        """The format to ask for. Raises InvalidRequest when it cannot be."""

    def require_writable(self) -> None:
        """Raises OSError if an image could not be written; creates and changes nothing."""

    def save(self, image: GeneratedImage) -> str:
        """Writes one image whole; where it is now. Raises OSError, and ValueError if empty."""

    def save_preview(self, preview: Preview) -> None:
        """Writes a preview whole, so that a viewer never sees half of one. Raises OSError."""

    def remove_previews(self) -> None:
        """Removes what previews there are."""


def output_for(path: Path | None, prompt: str, image_count: int, *, as_json: bool) -> Output:
    """What `--output` names; without it, a file that the prompt names."""
    if path is None:
        return PromptFiles(prompt, image_count)
    if str(path) != "-":
        return NamedFiles(path, image_count)
    if image_count > 1:
        raise _invalid("--output", "standard output takes one image; name a file, or --count 1")
    if as_json:
        raise _invalid("--output", "standard output has the image or --json, not both")
    return StandardOutput()


def _invalid(option: str, wrong: str) -> InvalidRequest:
    return InvalidRequest(wrong, violations=(FieldViolation(option, wrong),))


@dataclass(frozen=True, slots=True)
class NamedFiles:
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

    def save(self, image: GeneratedImage) -> str:
        """Writes one image whole, over what is there."""
        return str(image.save(self.path_of(image.image_index)))

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
            raise _invalid("--format", f"{given} contradicts the name {self.path.name!r}")
        if given is not None:
            return given
        if of_suffix is None:
            wrong = f"{self.path.name!r} does not end in {', '.join(_FORMATS)}; name a --format"
            raise _invalid("--output", wrong)
        return of_suffix


@dataclass(slots=True)
class PromptFiles:
    """Files here that are named by the prompt and the seed, `a-red-circle-7.png`; none is lost."""

    prompt: str
    image_count: int
    _format: Format = field(default="png", init=False)

    @property
    def name(self) -> str:
        """The prompt as part of a file's name."""
        plain = unicodedata.normalize("NFKD", self.prompt).encode("ascii", "ignore").decode()
        words = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
        if len(words) > _MAX_NAME_LENGTH:
            # Whole words, if there are some.
            words = words[: _MAX_NAME_LENGTH + 1].rpartition("-")[0] or words[:_MAX_NAME_LENGTH]
        return words or "image"

    def format(self, given: Format | None) -> Format:
        """The format given, else PNG."""
        self._format = given or "png"
        return self._format

    def require_writable(self) -> None:
        """Raises OSError if nothing can be written here."""
        if not os.access(".", os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(Path.cwd()))

    def save(self, image: GeneratedImage) -> str:
        """Writes one image whole, under a name that no file has."""
        suffix = "jpg" if self._format == "jpeg" else self._format
        with contextlib.ExitStack() as undone:
            path = _new_file(f"{self.name}-{image.seed}", suffix)
            undone.callback(path.unlink, missing_ok=True)
            image.save(path)
            undone.pop_all()
        return str(path)

    def save_preview(self, preview: Preview) -> None:
        """Writes a preview over the last one of the image; raises OSError."""
        write_whole(self._preview_path(preview.image_index), preview.content)

    def remove_previews(self) -> None:
        """Removes what previews there are."""
        for image_index in range(self.image_count):
            self._preview_path(image_index).unlink(missing_ok=True)

    def _preview_path(self, image_index: int) -> Path:
        # One for each process: the seed is not known here, and others may draw the same.
        return Path(f"{self.name}-{os.getpid()}-{image_index}.preview.jpg")


def _new_file(stem: str, suffix: str) -> Path:
    """An empty file that was not there before: `stem.suffix`, `stem-2.suffix`, … Raises OSError."""
    number = 1
    while True:
        path = Path(f"{stem}.{suffix}" if number == 1 else f"{stem}-{number}.{suffix}")
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path


class StandardOutput:
    """Standard output, for one image; previews are left out."""

    def format(self, given: Format | None) -> Format:
        """The format given, else PNG."""
        return given or "png"

    def require_writable(self) -> None:
        """Raises OSError where the image would be drawn as text."""
        if sys.stdout.isatty():
            raise OSError(errno.EINVAL, "is a terminal; send it to a file or a program", "-o -")

    def save(self, image: GeneratedImage) -> str:
        """Writes the image; raises ValueError without one, OSError when nothing reads stdout."""
        if not image.content:
            raise ValueError("the image was withheld by the service's content filter")
        try:
            sys.stdout.buffer.write(image.content)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            closed = "was closed by its reader before the image was through"
            raise OSError(errno.EPIPE, closed, "standard output") from None
        return "standard output"

    def save_preview(self, preview: Preview) -> None:
        """Does nothing."""

    def remove_previews(self) -> None:
        """Does nothing."""
