"""Pictures side by side on one sheet, each over what was asked for."""

from __future__ import annotations

import os
import sys
import textwrap
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL_PX, GAP_PX, CAPTION_PX = 256, 16, 64
_LETTERS_A_LINE = 34
_GROUND, _INK = "#ffffff", "#241c1e"


@dataclass(frozen=True, slots=True)
class Captioned:
    """A picture's file and the words below it."""

    path: Path
    caption: str


def draw_sheet(pictures: Sequence[Captioned], column_count: int) -> Image.Image:
    """The sheet; pictures of other sizes are scaled to its cells."""
    row_count = -(-len(pictures) // column_count)
    width_px = GAP_PX + column_count * (CELL_PX + GAP_PX)
    height_px = GAP_PX + row_count * (CELL_PX + CAPTION_PX)
    sheet = Image.new("RGB", (width_px, height_px), _GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, each in enumerate(pictures):
        row, column = divmod(i, column_count)
        x = GAP_PX + column * (CELL_PX + GAP_PX)
        y = GAP_PX + row * (CELL_PX + CAPTION_PX)
        with Image.open(each.path) as picture:
            fitted = picture.convert("RGB").resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)
        sheet.paste(fitted, (x, y))
        text = "\n".join(textwrap.wrap(each.caption, _LETTERS_A_LINE)[:2])
        draw.multiline_text((x, y + CELL_PX + 6), text, fill=_INK, font=font, spacing=4)
    return sheet


def show(path: Path) -> bool:
    """Opens a file with what the desktop opens such files with; False where there is no desktop."""
    has_desktop = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return has_desktop and sys.stdout.isatty() and webbrowser.open(path.resolve().as_uri())
