"""How a plan of exact steps is stored: names of parts, by a text that says what they are for."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: By number of images of a step: parts that are computed for all of them in one call, each as if it
#: were alone, and those that are computed one image after another.
ONE_CALL, EACH = "one call", "each"

_TEXT = re.compile(rf"(?P<size>.*) (?P<rows>\d+)( x(?P<count>\d+) (?P<how>{ONE_CALL}|{EACH}))?")


@dataclass(frozen=True, slots=True)
class Keys:
    """What parts are named for: a size, the rows of an image, the number of a step's images."""

    size: str
    rows: int
    image_count: int | None = None
    how: str = EACH

    @property
    def text(self) -> str:
        """As it is written."""
        if self.image_count is None:
            return f"{self.size} {self.rows}"
        return f"{self.size} {self.rows} x{self.image_count} {self.how}"

    @classmethod
    def of(cls, text: str) -> Keys:
        """What was written; raises KeyError for anything else."""
        if (found := _TEXT.fullmatch(text)) is None:
            raise KeyError(text)
        count = found["count"]
        return cls(
            found["size"],
            int(found["rows"]),
            None if count is None else int(count),
            found["how"] or EACH,
        )
