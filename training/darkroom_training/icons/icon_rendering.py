"""Renders the icons that the concepts name, once, into PNG files of 256 px.

Runs in an environment of its own that has `resvg-py`; needs nothing else:

    python icon_rendering.py FOLDER WANTED

FOLDER holds the unpacked packages (`noto/icons.json`, `fluent/icons.json`); WANTED lists one
`<set>/<name>` a line. Pictures go to `FOLDER/png/<set>-<name>.png`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SIZE_PX = 256


def svg(icons: dict[str, Any], name: str) -> str:
    """An icon as an SVG document."""
    name = icons.get("aliases", {}).get(name, {}).get("parent", name)
    icon = icons["icons"][name]
    width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{icon.get("left", 0)} {icon.get("top", 0)} {width} {height}">{icon["body"]}</svg>'
    )


def main(folder: Path, wanted: Path) -> None:
    """Renders every wanted icon."""
    import resvg_py  # type: ignore[import-not-found]  # in the rendering environment only

    packages: dict[str, dict[str, Any]] = {}
    partial = folder / "png.partial"
    partial.mkdir(exist_ok=True)
    for line in wanted.read_text().split():
        package, _, name = line.partition("/")
        if package not in packages:
            packages[package] = json.loads((folder / package / "icons.json").read_text())
        picture = resvg_py.svg_to_bytes(
            svg_string=svg(packages[package], name), width=SIZE_PX, height=SIZE_PX
        )
        (partial / f"{package}-{name}.png").write_bytes(bytes(picture))
    partial.rename(folder / "png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
