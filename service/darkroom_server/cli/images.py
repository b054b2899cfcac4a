"""`darkroom generate` and `darkroom fill`."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import typer
from rich.console import Console

from darkroom_client import (
    Accepted,
    Client,
    Event,
    FillOptions,
    GeneratedImage,
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
from darkroom_server.cli.outputs import Output, StandardOutput, output_for
from darkroom_server.cli.progress import view_for

EPILOG = EXIT_CODES_HELP


@with_access
@options.with_request_options
def generate(
    prompt: options.Prompt,
    output: options.OutputPath = None,
    *,
    access: ServerAccess,
    image: options.SourceImage = None,
    strength: options.Strength = None,
    reference: options.References = None,
    shared: ImageOptions,
    timeout: options.Timeout = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Makes images of what PROMPT says; with --image, changes that image.

    With --reference, edits the images given. Which models can, `darkroom models` says: edit.

    For example: darkroom generate "a red circle on a blue background" -o out.png
    """
    with one_line_errors():
        target = output_for(output, prompt, shared["count"], as_json=as_json)
        shared["format"] = target.format(shared.get("format"))
        request = GenerateOptions(
            **shared, image=image, strength=strength, reference_images=reference
        )
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
    output: options.OutputPath = None,
    *,
    access: ServerAccess,
    strength: options.Strength = None,
    preserve_unmasked: options.PreserveUnmasked = None,
    invert_mask: options.InvertMask = False,
    reference: options.References = None,
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
        target = output_for(output, prompt, shared["count"], as_json=as_json)
        shared["format"] = target.format(shared.get("format"))
        request = FillOptions(
            **shared,
            strength=strength,
            preserve_unmasked=preserve_unmasked,
            mask_polarity="black" if invert_mask else "white",
            reference_images=reference,
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
    saved = _Saved(time.monotonic())
    try:
        with (
            access.connect() as client,
            contextlib.closing(call(client)) as events,
            view_for(Console(stderr=True), quiet=quiet) as view,
        ):
            for event in events:
                view.show(event)
                if isinstance(event, ImageReady):
                    saved.note(event.image, target.save(event.image), time.monotonic())
                elif isinstance(event, Preview):
                    target.save_preview(event)
                seen.append(event)
    finally:
        target.remove_previews()
        # Also after an error: what is written is written.
        if not (as_json or quiet):
            for line in saved.lines(seen):
                typer.echo(line, err=isinstance(target, StandardOutput))
    if as_json:
        typer.echo(json.dumps(_as_json(generation_of(seen), saved)))


@dataclass(slots=True)
class _Saved:
    """The images that were written, where, and how long after the command's start."""

    started_s: float
    images: list[tuple[GeneratedImage, str, float]] = field(default_factory=list)

    def note(self, image: GeneratedImage, where: str, now_s: float) -> None:
        """One more image."""
        self.images.append((image, where, now_s - self.started_s))

    def lines(self, seen: Sequence[Event]) -> Iterator[str]:
        """A line for each image: where and how large it is, what made it, and how fast."""
        run = next((event.parameters for event in seen if isinstance(event, Accepted)), None)
        model = f", {run.model.removeprefix('models/')} version {run.model_version}" if run else ""
        for image, where, took_s in self.images:
            size = f"{image.width_px}x{image.height_px}"
            yield f"{where}: {size}, seed {image.seed}{model}, {took_s:.1f} s"


def _as_json(generation: Generation, saved: _Saved) -> dict[str, object]:
    paths = {image.image_index: where for image, where, _ in saved.images}
    return {
        "images": [
            {
                "path": paths[image.image_index],
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
