"""Draws the pictures of the README with the served embedded model: `make gallery`."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw

from bench.serving import connected, serving
from darkroom_client import Client

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "docs" / "pictures"

PROMPTS = (
    "a red circle on a blue background",
    "a yellow star on the left on a purple background",
    "a white heart at the top on a red background",
    "a green house at the bottom on a white background",
    "a black triangle on an orange background",
    "a purple square on the right on a white background",
    "a blue star on a white to yellow gradient background",
    "the sea by day",
)
FILL_PROMPT = "a yellow star on a blue background"
SEED = 7
EDGE_PX, GAP_PX, TEXT_PX, COLUMNS = 192, 10, 30, 4


def main() -> None:
    """Writes `prompts.png` and `fill.png`."""
    OUT.mkdir(parents=True, exist_ok=True)
    with serving(REPOSITORY / "model_repo") as server, connected(server) as client:
        drawn = {prompt: generated(client, prompt) for prompt in PROMPTS}
        sheet(drawn, COLUMNS).save(OUT / "prompts.png", optimize=True)
        sheet(filled(client, drawn[PROMPTS[0]]), 3).save(OUT / "fill.png", optimize=True)
    print(f"wrote {OUT.relative_to(REPOSITORY)}/prompts.png and fill.png")


def generated(client: Client, prompt: str) -> Image.Image:
    """The model's picture for a prompt."""
    return Image.open(io.BytesIO(client.generate(prompt, seed=SEED).images[0].content))


def filled(client: Client, image: Image.Image) -> dict[str, Image.Image]:
    """An image, a mask over its middle, and what Fill makes of them."""
    mask = Image.new("L", image.size, 0)
    edge_px = image.width // 8
    ImageDraw.Draw(mask).rectangle((edge_px, edge_px, image.width - edge_px, 7 * edge_px), fill=255)
    made = client.fill(
        encoded(image), encoded(mask), FILL_PROMPT, seed=SEED, preserve_unmasked=True
    )
    after = Image.open(io.BytesIO(made.images[0].content))
    return {"the image": image, "the mask": mask, FILL_PROMPT: after}


def encoded(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def sheet(pictures: dict[str, Image.Image], columns: int) -> Image.Image:
    """The pictures in rows, each with its text below."""
    rows = -(-len(pictures) // columns)
    width_px, height_px = EDGE_PX + GAP_PX, EDGE_PX + TEXT_PX
    paper = Image.new("RGB", (columns * width_px + GAP_PX, rows * height_px + GAP_PX), "white")
    pen = ImageDraw.Draw(paper)
    for number, (text, picture) in enumerate(pictures.items()):
        x, y = GAP_PX + number % columns * width_px, GAP_PX + number // columns * height_px
        paper.paste(picture.convert("RGB").resize((EDGE_PX, EDGE_PX)), (x, y))
        pen.rectangle((x - 1, y - 1, x + EDGE_PX, y + EDGE_PX), outline="#d0d0d0")
        middle = text.find(" ", len(text) // 2) if len(text) > 30 else -1
        shown = text if middle < 0 else f"{text[:middle]}\n{text[middle + 1 :]}"
        pen.multiline_text((x, y + EDGE_PX + 4), shown, fill="#303030", spacing=1)
    return paper


if __name__ == "__main__":
    main()
