"""Draws the pictures of the README and the gallery with the served models: `make gallery`."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw

from bench.serving import connected, serving
from darkroom_client import Client, ImageReady, Preview

REPOSITORY = Path(__file__).parents[1]
OUT = REPOSITORY / "docs" / "pictures"

PROMPTS = (
    "a dog on a yellow background",
    "an astronaut",
    "a sunset over the sea",
    "two pizzas on a blue background",
    "a red car",
    "a small house in the snow at night",
    "three balloons",
    "a butterfly at the top on a white to purple gradient",
)
SHAPES = (
    "a red circle on a blue background",
    "a yellow star on the left on a purple background",
    "a green house at the bottom on a white background",
    "the sea by day",
)
FILL_PROMPT = "a cat on a yellow background"
BRUSH_PROMPT = "a yellow star on the right on a blue background"
CHANGE_PROMPT = "a fox on a yellow background"
ADAPTED_PROMPT, ADAPTER = "a house on a blue background", "grayscale"
SDXL, SCHNELL, FILL = "tiny-sdxl", "tiny-flux-schnell", "tiny-flux-fill"
SEED = 7
EDGE_PX, GAP_PX, TEXT_PX = 192, 10, 30


def main() -> None:
    """Writes a sheet for each model and feature."""
    OUT.mkdir(parents=True, exist_ok=True)
    with serving(REPOSITORY / "model_repo") as server, connected(server) as client:
        server.until_ready(SDXL, SCHNELL, FILL)
        drawn = {prompt: generated(client, prompt, SDXL) for prompt in PROMPTS}
        few_steps = {prompt: generated(client, prompt, SCHNELL) for prompt in SHAPES}
        dog, circle = drawn[PROMPTS[0]], few_steps[SHAPES[0]]
        sheets = {
            "prompts": sheet(drawn, 4),
            "flux-schnell": sheet(few_steps, 4),
            "fill": sheet(filled(client, dog, box(dog), FILL_PROMPT, SDXL), 3),
            "brush": sheet(filled(client, circle, brush(circle), BRUSH_PROMPT, FILL), 3),
            "image-to-image": sheet(changed(client, dog), 4),
            "previews": sheet(previews(client), 4),
            "adapter": sheet(adapted(client), 3),
        }
    for name, made in sheets.items():
        made.save(OUT / f"{name}.png", optimize=True)
    print(f"wrote {', '.join(sheets)} to {OUT.relative_to(REPOSITORY)}/")


def generated(client: Client, prompt: str, model: str) -> Image.Image:
    """A model's picture for a prompt."""
    return opened(client.generate(prompt, model=model, seed=SEED).images[0].content)


def filled(
    client: Client, image: Image.Image, mask: Image.Image, prompt: str, model: str
) -> dict[str, Image.Image]:
    """An image, a mask, and what Fill makes of them."""
    made = client.fill(
        encoded(image), encoded(mask), prompt, model=model, seed=SEED, preserve_unmasked=True
    )
    return {"the image": image, "the mask": mask, prompt: opened(made.images[0].content)}


def box(image: Image.Image) -> Image.Image:
    """A mask of the middle of an image."""
    mask, edge_px = Image.new("L", image.size, 0), image.width // 8
    ImageDraw.Draw(mask).rectangle((edge_px, edge_px, image.width - edge_px, 7 * edge_px), fill=255)
    return mask


def brush(image: Image.Image) -> Image.Image:
    """A mask of one thick stroke over the right half of an image."""
    mask, (width_px, height_px) = Image.new("L", image.size, 0), image.size
    points = [(0.55, 0.2), (0.8, 0.35), (0.7, 0.6), (0.85, 0.8)]
    stroke = [(x * width_px, y * height_px) for x, y in points]
    pen = ImageDraw.Draw(mask)
    pen.line(stroke, fill=255, width=width_px // 3, joint="curve")
    return mask


def changed(client: Client, image: Image.Image) -> dict[str, Image.Image]:
    """An image, and what image to image makes of it at several strengths."""
    sheets = {"the image": image}
    for strength in (0.5, 0.7, 0.9):
        made = client.generate(
            CHANGE_PROMPT, model=SDXL, seed=SEED, image=encoded(image), strength=strength
        )
        sheets[f"{CHANGE_PROMPT}, {strength}"] = opened(made.images[0].content)
    return sheets


def adapted(client: Client) -> dict[str, Image.Image]:
    """A picture with a style of several weights."""
    sheets = {}
    for weight in (0.0, 0.5, 1.0):
        adapters = {ADAPTER: weight} if weight else None
        made = client.generate(ADAPTED_PROMPT, model=SDXL, seed=SEED, adapters=adapters)
        sheets[f"{ADAPTED_PROMPT}, {ADAPTER} {weight:g}"] = opened(made.images[0].content)
    return sheets


def previews(client: Client) -> dict[str, Image.Image]:
    """What a caller who asked for previews sees, and the picture in the end."""
    seen: dict[str, Image.Image] = {}
    asked = client.generate_events(PROMPTS[1], model=SDXL, seed=SEED, preview_interval_steps=5)
    for event in asked:
        match event:
            case Preview():
                seen[f"after step {event.completed_step_count}"] = opened(event.content)
            case ImageReady():
                seen[PROMPTS[1]] = opened(event.image.content)
    return seen


def opened(content: bytes) -> Image.Image:
    """The picture of an encoded file."""
    return Image.open(io.BytesIO(content))


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
