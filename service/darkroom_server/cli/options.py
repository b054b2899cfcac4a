"""The options that `generate` and `fill` share, as types of their arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from darkroom_client import ImageOptions
from darkroom_server.cli.option_groups import with_group
from darkroom_server.cli.outputs import Format
from darkroom_server.parameters.table import PARAMETERS

Exactness = Literal["tolerance", "exact"]
PriorityClass = Literal["low", "normal", "high"]

DEFAULT_SERVER = "127.0.0.1:8001"


@dataclass(frozen=True, slots=True)
class Size:
    """A size in pixels."""

    width_px: int
    height_px: int


def parse_adapters(texts: Sequence[str]) -> dict[str, float | None] | None:
    """`name`, `name=0.8`, `name/2=-1`, by name. Raises typer.BadParameter."""
    weights: dict[str, float | None] = {}
    for text in texts:
        name, has_weight, weight = text.partition("=")
        try:
            weights[name] = float(weight) if has_weight else None
        except ValueError as error:
            raise typer.BadParameter(
                f"{text!r} is not an adapter such as ink or ink=0.8"
            ) from error
    return weights or None


def parse_size(text: str) -> Size:
    """`256` or `256x192`. Raises typer.BadParameter."""
    match = re.fullmatch(r"(\d{1,9})(?:[xX](\d{1,9}))?", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a size such as 256 or 256x192")
    width, height = match[1], match[2] or match[1]
    return Size(int(width), int(height))


def _option(path: str, *names: str, unset: str | None = None, **more: Any) -> Any:
    """The option of a request parameter; `unset` is what to say that it is by default, if not what
    the table says.
    """
    parameter = PARAMETERS[path]
    default = parameter.unset if unset is None else unset
    text = parameter.flag_help or parameter.meaning
    return typer.Option(
        *(names or (parameter.flag,)),
        help=f"{text} [default: {default}]" if default else text,
        **more,
    )


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
Model = Annotated[str, _option("model")]
ModelVersion = Annotated[str, _option("version")]
Negative = Annotated[str | None, _option("negative_prompt")]
Seed = Annotated[int | None, _option("seed")]
Steps = Annotated[int | None, _option("step_count")]
Guidance = Annotated[float | None, _option("guidance_scale")]
ImageSize = Annotated[Size | None, _option("width_px", parser=parse_size, metavar="WIDTH[xHEIGHT]")]
ImageFormat = Annotated[
    Format | None, _option("output.format", unset="by the suffix of --output, else png")
]
Quality = Annotated[int | None, _option("output.quality", unset="")]
Count = Annotated[int, _option("image_count", unset="", min=1)]
Scheduler = Annotated[str | None, _option("scheduler")]
Exact = Annotated[Exactness | None, _option("reproducibility")]
Priority = Annotated[PriorityClass | None, _option("priority")]
FeatureCache = Annotated[
    float | None, _option("feature_cache.threshold", unset="", metavar="THRESHOLD")
]
Adapters = Annotated[list[str] | None, _option("adapters", unset="", metavar="NAME[=WEIGHT]")]
PreviewEvery = Annotated[int | None, _option("preview.interval_step_count", unset="", min=1)]
SourceImage = Annotated[Path | None, _option("image.content")]
References = Annotated[list[Path] | None, _option("reference_images", unset="")]
Timeout = Annotated[float | None, typer.Option(min=0.0, help="Seconds the whole request may take.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Write the result to stdout as one JSON object.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Strength = Annotated[float | None, _option("strength")]
PreserveUnmasked = Annotated[
    bool | None,
    _option(
        "preserve_unmasked",
        "--preserve-unmasked/--no-preserve-unmasked",
        "--preserve/--no-preserve",
    ),
]
InvertMask = Annotated[bool, _option("mask_polarity", unset="")]


def request_options(
    *,
    model: Model = "",
    model_version: ModelVersion = "",
    negative: Negative = None,
    seed: Seed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    size: ImageSize = None,
    format: ImageFormat = None,
    quality: Quality = None,
    count: Count = 1,
    scheduler: Scheduler = None,
    exact: Exact = None,
    priority: Priority = None,
    preview_every: PreviewEvery = None,
    feature_cache: FeatureCache = None,
    adapter: Adapters = None,
) -> ImageOptions:
    """What `generate` and `fill` have in common, as the client takes it; a format if one is set."""
    shared = ImageOptions(
        model=model,
        version=model_version,
        negative_prompt=negative,
        seed=seed,
        steps=steps,
        guidance_scale=guidance,
        width=None if size is None else size.width_px,
        height=None if size is None else size.height_px,
        quality=quality,
        count=count,
        scheduler=scheduler,
        reproducibility=exact,
        priority=priority,
        preview_interval_steps=preview_every,
        feature_cache_threshold=feature_cache,
        adapters=parse_adapters(adapter or []),
    )
    return shared if format is None else ImageOptions(**shared, format=format)


#: Gives a command these options, in place of its parameter `shared`.
with_request_options = with_group("shared", request_options)
