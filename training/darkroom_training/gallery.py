"""Contact sheets: every picture with its prompt and what is wrong with it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from darkroom_training.evaluation import Pixels

THUMBNAIL_PX = 144
COLUMNS = 8
_TEXT_PX = 76
_GAP_PX = 8
_GOOD, _BAD, _INK, _PAPER = (40, 150, 70), (210, 40, 40), (20, 20, 20), (250, 250, 250)


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A picture, uint8 [height, width, 3], what was asked for, and what is wrong if anything."""

    picture: Pixels
    title: str
    fault: str | None


def write_sheet(path: Path, exhibits: Sequence[Exhibit]) -> None:
    """Writes the exhibits as one PNG or JPEG, `COLUMNS` in a row; nothing when there are none."""
    if not exhibits:
        path.unlink(missing_ok=True)
        return
    cell = (THUMBNAIL_PX + _GAP_PX, THUMBNAIL_PX + _TEXT_PX)
    row_count = -(-len(exhibits) // COLUMNS)
    sheet = Image.new("RGB", (cell[0] * COLUMNS + _GAP_PX, cell[1] * row_count + _GAP_PX), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for k, exhibit in enumerate(exhibits):
        x, y = _GAP_PX + k % COLUMNS * cell[0], _GAP_PX + k // COLUMNS * cell[1]
        thumbnail = Image.fromarray(exhibit.picture).resize((THUMBNAIL_PX, THUMBNAIL_PX))
        sheet.paste(thumbnail, (x, y))
        edge = (x - 2, y - 2, x + THUMBNAIL_PX + 1, y + THUMBNAIL_PX + 1)
        pen.rectangle(edge, outline=_BAD if exhibit.fault else _GOOD, width=2)
        title = "\n".join(textwrap.wrap(exhibit.title, 24)[:3])
        pen.multiline_text((x, y + THUMBNAIL_PX + 2), title, fill=_INK, spacing=1)
        if exhibit.fault:
            fault = "\n".join(textwrap.wrap(exhibit.fault, 24)[:2])
            pen.multiline_text((x, y + THUMBNAIL_PX + 41), fault, fill=_BAD, spacing=1)
    sheet.save(path, quality=78, optimize=True)
