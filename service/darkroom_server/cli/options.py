"""The options that `generate` and `fill` share, as types of their arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from darkroom_client import ImageOptions
from darkroom_server.cli.outputs import Format

Exactness = Literal["tolerance", "exact"]
PriorityClass = Literal["low", "normal", "high"]

DEFAULT_SERVER = "127.0.0.1:8001"


@dataclass(frozen=True, slots=True)
class Size:
    """A size in pixels."""

    width_px: int
    height_px: int


def parse_size(text: str) -> Size:
    """`256` or `256x192`. Raises typer.BadParameter."""
    match = re.fullmatch(r"(\d{1,9})(?:[xX](\d{1,9}))?", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a size such as 256 or 256x192")
    width, height = match[1], match[2] or match[1]
    return Size(int(width), int(height))


# typer 0.25 loses the help of arguments under click 8.5; the commands' own help says what they are.
Prompt = Annotated[str, typer.Argument(show_default=False)]
InputPath = Annotated[Path, typer.Argument(show_default=False)]
OutputPath = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="The file to write, over what is there; - is standard output. With --count 2: "
        "out-0.png and out-1.png. [default: a new file here, named by prompt and seed]",
        show_default=False,
    ),
]
Server = Annotated[
    str, typer.Option(envvar="DARKROOM_SERVER", help="Address of the server, host:port.")
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        envvar="DARKROOM_API_KEY",
        help="API key, where the server asks for one.",
        show_default=False,
    ),
]
Tls = Annotated[bool, typer.Option("--tls", help="Speak TLS, trusting gRPC's list of CAs.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(envvar="DARKROOM_TLS_CA", help="Speak TLS, trusting the CA in this PEM file."),
]
ClientCertificate = Annotated[
    Path | None, typer.Option(help="PEM file of a certificate to show to the server.")
]
ClientKey = Annotated[Path | None, typer.Option(help="PEM file of that certificate's key.")]
Model = Annotated[str, typer.Option(help="Model by name, hub id or alias. [default: the server's]")]
ModelVersion = Annotated[
    str, typer.Option(help="Version of the model: a number or a label such as stable.")
]
Negative = Annotated[str | None, typer.Option(help="What to avoid.")]
Seed = Annotated[
    int | None,
    typer.Option(help="Same seed, same image; image i has seed + i. [default: chosen, and told]"),
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")]
Guidance = Annotated[
    float | None,
    typer.Option(help="How strongly to follow the prompt. [default: the model's]"),
]
ImageSize = Annotated[
    Size | None,
    typer.Option(
        parser=parse_size,
        metavar="WIDTH[xHEIGHT]",
        help="Size in pixels, 256 or 256x192. [default: the model's, or for fill the image's]",
    ),
]
ImageFormat = Annotated[
    Format | None,
    typer.Option(help="Format of the file. [default: by the suffix of --output, else png]"),
]
Quality = Annotated[int | None, typer.Option(help="1 to 100, for jpeg and webp.")]
Count = Annotated[int, typer.Option(min=1, help="How many images to make.")]
Scheduler = Annotated[
    str | None, typer.Option(help="Scheduler by class name. [default: the model's]")
]
Exact = Annotated[
    Exactness | None,
    typer.Option(help="How exactly pixels repeat; stricter than the model's own level only."),
]
Priority = Annotated[
    PriorityClass | None,
    typer.Option(help="Goes before, or after, requests of other priorities. [default: normal]"),
]
FeatureCache = Annotated[
    float | None,
    typer.Option(
        metavar="THRESHOLD",
        help="Skip work that would change little, above 0 to 1; 0.1 is cautious. FLUX only.",
    ),
]
PreviewEvery = Annotated[
    int | None,
    typer.Option(min=1, help="Show a preview in OUTPUT.preview.jpg every so many steps."),
]
SourceImage = Annotated[
    Path | None, typer.Option("--image", help="An image to begin with instead of noise.")
]
Timeout = Annotated[float | None, typer.Option(min=0.0, help="Seconds the whole request may take.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Write the result to stdout as one JSON object.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Strength = Annotated[
    float | None,
    typer.Option(
        help="How far from the original, 0 to 1. [default: 0.6; to fill, the model's]",
    ),
]
PreserveUnmasked = Annotated[
    bool | None,
    typer.Option(
        "--preserve-unmasked/--no-preserve-unmasked",
        "--preserve/--no-preserve",
        help="Keep every pixel outside the mask exactly as it was. [default: the model's, which is"
        " to keep them]",
    ),
]
InvertMask = Annotated[bool, typer.Option("--invert-mask", help="Repaint black, keep white.")]


def request_options(
    *,
    model: str,
    version: str,
    negative_prompt: str | None,
    seed: int | None,
    steps: int | None,
    guidance_scale: float | None,
    size: Size | None,
    format: Format,
    quality: int | None,
    count: int,
    scheduler: str | None,
    exact: Exactness | None,
    priority: PriorityClass | None,
    preview_every: int | None,
    feature_cache: float | None,
) -> ImageOptions:
    """The options as the client takes them."""
    return ImageOptions(
        model=model,
        version=version,
        negative_prompt=negative_prompt,
        seed=seed,
        steps=steps,
        guidance_scale=guidance_scale,
        width=None if size is None else size.width_px,
        height=None if size is None else size.height_px,
        format=format,
        quality=quality,
        count=count,
        scheduler=scheduler,
        reproducibility=exact,
        priority=priority,
        preview_interval_steps=preview_every,
        feature_cache_threshold=feature_cache,
    )
