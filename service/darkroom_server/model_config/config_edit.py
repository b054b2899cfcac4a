"""Changes a `config.pbtxt` without touching anything else in it, comments included."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from darkroom_server.domain.models import Denoiser, Dtype, ExportWeights
from darkroom_server.domain.problems import Position, ProblemLog
from darkroom_server.kept_files import PUBLIC, replace_file
from darkroom_server.model_config.config_file import CONFIG_NAME, read_config
from darkroom_server.model_config.config_source import ConfigSource, scan_config

_BRACES = re.compile(r"\#[^\n]*|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[{}<>]")


class NotEdited(Exception):
    """The file could not be changed safely; the message says why."""


def write_denoiser(folder: Path, denoiser: Denoiser) -> None:
    """Makes a model's config name a denoiser, in one step. Raises NotEdited, OSError."""
    path = folder / CONFIG_NAME
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    replace_file(path, with_denoiser(text, denoiser, model=folder.name), mode=PUBLIC)


def with_denoiser(text: str, denoiser: Denoiser, *, model: str) -> str:
    """The text of a config with another denoiser; everything else stays as it is written.

    Raises NotEdited.
    """
    before = read_config(text.encode(), shown=CONFIG_NAME, problems=ProblemLog(model))
    if before is None:
        raise NotEdited(f"{CONFIG_NAME} cannot be read; darkroom check-repo says why")
    edited = _without(text, "denoiser_options")
    value = f"DENOISER_{denoiser.kind.name}"
    source = scan_config(edited)
    use = source.find("denoiser")
    options = _options(denoiser)
    if use is None:
        edited = f"{edited.rstrip()}\n\ndenoiser: {value}\n{options}".lstrip()
    else:
        start = _offset(source, use.value_at)
        end = start + len(use.value or "")
        edited = f"{edited[:start]}{value}{edited[end:].rstrip()}\n{options}"
    after = read_config(edited.encode(), shown=CONFIG_NAME, problems=ProblemLog(model))
    if after is None or after.settings != dataclasses.replace(before.settings, denoiser=denoiser):
        raise NotEdited(f"{CONFIG_NAME} is written in a way that cannot be edited safely")
    return edited


def _options(denoiser: Denoiser) -> str:
    lines = []
    if denoiser.weights is not ExportWeights.FP32:
        lines.append(f"weights: EXPORT_WEIGHTS_{denoiser.weights.name}")
    if denoiser.compute is not Dtype.FP32:
        lines.append(f"compute: DTYPE_{denoiser.compute.name}")
    lines += [
        f"compiled_size {{ width_px: {width_px} height_px: {height_px} }}"
        for width_px, height_px in denoiser.compiled_sizes
    ]
    if denoiser.attention_backend:
        lines.append(f'attention_backend: "{denoiser.attention_backend}"')
    if denoiser.cuda_graphs:
        lines.append("cuda_graphs: true")
    if not lines:
        return ""
    return "denoiser_options {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _without(text: str, field: str) -> str:
    """The text without a field that is a group in braces."""
    source = scan_config(text)
    use = source.find(field)
    if use is None:
        return text
    start, depth = _offset(source, use.at), 0
    for match in _BRACES.finditer(text, _offset(source, use.value_at)):
        depth += {"{": 1, "<": 1, "}": -1, ">": -1}.get(match.group(), 0)
        if depth == 0:
            return text[:start].rstrip() + "\n" + text[match.end() :].lstrip("\n ,;")
    return text


def _offset(source: ConfigSource, at: Position) -> int:
    lines = source.text.split("\n")
    return sum(len(line) + 1 for line in lines[: at.line - 1]) + at.column - 1
