"""`darkroom generate` and `darkroom fill`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator
from dataclasses import asdict

import typer
from rich.console import Console

from darkroom_client import (
    Client,
    Event,
    FillOptions,
    GenerateOptions,
    Generation,
    ImageOptions,
    ImageReady,
    Preview,
)
from darkroom_client.assembly import generation_of
from darkroom_server.cli import options
from darkroom_server.cli.access import ServerAccess, with_access
from darkroom_server.cli.exits import EXIT_CODES_HELP, one_line_errors
from darkroom_server.cli.outputs import Output
from darkroom_server.cli.progress import view_for

EPILOG = EXIT_CODES_HELP


@with_access
@options.with_request_options
def generate(
    prompt: options.Prompt,
    output: options.OutputPath,
    *,
    access: ServerAccess,
    image: options.SourceImage = None,
    strength: options.Strength = None,
    shared: ImageOptions,
    timeout: options.Timeout = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Makes images of what PROMPT says; with --image, changes that image.

    For example: darkroom generate "a red circle on a blue background" -o out.png
    """
    with one_line_errors():
        target = Output(output, shared["count"])
        shared["format"] = target.format(shared.get("format"))
        request = GenerateOptions(**shared, image=image, strength=strength)
        target.require_writable()
        _run(
            access,
            lambda client: client.generate_events(prompt, timeout=timeout, **request),
            target=target,
            as_json=as_json,
            quiet=quiet,
        )


@with_access
@options.with_request_options
def fill(
    image: options.InputPath,
    mask: options.InputPath,
    prompt: options.Prompt,
    output: options.OutputPath,
    *,
    access: ServerAccess,
    strength: options.Strength = None,
    preserve_unmasked: options.PreserveUnmasked = None,
    invert_mask: options.InvertMask = False,
    shared: ImageOptions,
    timeout: options.Timeout = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Repaints IMAGE where MASK is white, as PROMPT says; where it is black, IMAGE is kept.

    Both are PNG, JPEG or WebP files; a mask of another size is scaled to the image's.

    For example: darkroom fill in.png mask.png "a green star" -o out.png
    """
    with one_line_errors():
        target = Output(output, shared["count"])
        shared["format"] = target.format(shared.get("format"))
        request = FillOptions(
            **shared,
            strength=strength,
            preserve_unmasked=preserve_unmasked,
            mask_polarity="black" if invert_mask else "white",
        )
        target.require_writable()
        _run(
            access,
            lambda client: client.fill_events(image, mask, prompt, timeout=timeout, **request),
            target=target,
            as_json=as_json,
            quiet=quiet,
        )


def _run(
    access: ServerAccess,
    call: Callable[[Client], Generator[Event, None, None]],
    *,
    target: Output,
    as_json: bool,
    quiet: bool,
) -> None:
    """Runs one call, writes every image as soon as it is there, and says so at the end."""
    seen: list[Event] = []
    try:
        with (
            access.connect() as client,
            contextlib.closing(call(client)) as events,
            view_for(Console(stderr=True), quiet=quiet) as view,
        ):
            for event in events:
                view.show(event)
                if isinstance(event, ImageReady):
                    target.save(event.image)
                elif isinstance(event, Preview):
                    target.save_preview(event)
                seen.append(event)
    finally:
        target.remove_previews()
        # Also after an error: what is written is written.
        if not (as_json or quiet):
            _print_files(seen, target)
    if as_json:
        typer.echo(json.dumps(_as_json(generation_of(seen), target)))


def _print_files(events: list[Event], target: Output) -> None:
    for event in events:
        if isinstance(event, ImageReady):
            image = event.image
            path = target.path_of(image.image_index)
            typer.echo(f"{path}: {image.width_px}x{image.height_px}, seed {image.seed}")


def _as_json(generation: Generation, target: Output) -> dict[str, object]:
    return {
        "images": [
            {
                "path": str(target.path_of(image.image_index)),
                "media_type": image.media_type,
                "width_px": image.width_px,
                "height_px": image.height_px,
                "seed": image.seed,
                "size_bytes": len(image.content),
                "sha256": image.sha256,
            }
            for image in generation.images
        ],
        "parameters": asdict(generation.parameters),
        "warnings": [asdict(warning) for warning in generation.warnings],
        "timings": asdict(generation.timings),
        "generation_id": generation.generation_id,
        "request_id": generation.request_id,
    }
