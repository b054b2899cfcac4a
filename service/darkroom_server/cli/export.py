"""`darkroom export`."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from darkroom_server.backends.exports import UnusableDenoiser
from darkroom_server.cli.exits import ExitCode, file_problem
from darkroom_server.cli.local_models import local_version, quieten
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.models import DenoiserKind, ExportWeights, VersionInfo
from darkroom_server.worker.trial import trial_spec

if TYPE_CHECKING:
    from darkroom_server.backends.diffusers.exporting.export import Exported

EPILOG = (
    "Serve it with denoiser: DENOISER_ONNXRUNTIME or DENOISER_OPENVINO in config.pbtxt. "
    "Exit codes: 0 done, 1 it could not be exported, 130 interrupted; then nothing has changed."
)

#: A prompt that every model may be asked.
PROMPT = "a red circle on a blue background"
#: Stages that an export reports, at most.
_STAGE_COUNT = 6


class Target(enum.Enum):
    """What the export is for."""

    ONNX = "onnx"
    OPENVINO = "openvino"

    @property
    def kind(self) -> DenoiserKind:
        """The denoiser that runs it."""
        match self:
            case Target.ONNX:
                return DenoiserKind.ONNXRUNTIME
            case Target.OPENVINO:
                return DenoiserKind.OPENVINO


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's folder.")],
    to: Annotated[Target, typer.Option(help="What is to run it.")],
    weights: Annotated[
        ExportWeights, typer.Option(help="Type of the weights; int8 is smaller and less exact.")
    ] = ExportWeights.FP32,
    version: Annotated[
        int | None, typer.Option(help="Which version. [default: the one that serves]")
    ] = None,
    model_repository: Annotated[Path, typer.Option(help="Folder of the models.")] = Path(
        "model_repo"
    ),
    threads: Annotated[
        int | None, typer.Option(help="Processor threads. [default: all]", min=1)
    ] = None,
) -> None:
    """Exports a model's denoiser, which then may run faster than by torch.

    The export is compared with torch, image by image, and is kept only if it is right.
    """
    quieten()
    info = local_version(model_repository, model, version)
    try:
        with _bar() as bar:
            exported = _export(info, to.kind, weights, threads or os.cpu_count() or 1, bar)
    except (UnusableDenoiser, DarkroomError) as error:
        typer.echo(f"darkroom export: {error}", err=True)
        raise typer.Exit(ExitCode.FILE_ERROR) from None
    except OSError as error:
        typer.echo(f"darkroom export: {file_problem(error)}", err=True)
        raise typer.Exit(ExitCode.FILE_ERROR) from None
    except KeyboardInterrupt:
        typer.echo("darkroom export: interrupted; nothing has changed", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    gain = exported.decoder_gain
    decoder = "" if gain is None else f", with a decoder {gain:.1f} times as fast"
    typer.echo(
        f"{exported.folder}: {exported.size_bytes / 2**20:.1f} MiB, images within "
        f"{exported.psnr_db:.1f} dB PSNR of torch's{decoder}"
    )


def _export(
    version: VersionInfo, kind: DenoiserKind, weights: ExportWeights, threads: int, bar: Progress
) -> Exported:
    # Imported here: --help needs no torch.
    from darkroom_server.backends.diffusers.exporting.export import export_denoiser

    task = bar.add_task("reading the model", total=_STAGE_COUNT)

    def say(stage: str) -> None:
        if not bar.console.is_terminal:
            bar.console.print(stage, markup=False, highlight=False)
        bar.update(task, description=stage)
        bar.advance(task)

    info = version.model
    defaults = info.defaults
    spec = trial_spec(
        info,
        defaults.width_px,
        defaults.height_px,
        prompt=PROMPT,
        guidance_scale=defaults.guidance_scale,
    )
    return export_denoiser(version, kind, weights, spec=spec, thread_count=threads, say=say)


def _bar() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
