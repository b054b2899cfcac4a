"""Every scheduler class of the installed diffusers, found by looking through the package."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import diffusers
import diffusers.schedulers

#: Of these packages alone; the files of flax's schedulers hold none of torch's.
_FOLDERS = ("", "deprecated")


def scheduler_names() -> list[str]:
    """Classes with a `step`, whether what they need is installed or not."""
    names = set()
    for folder in _FOLDERS:
        for file in (Path(diffusers.schedulers.__path__[0]) / folder).glob("scheduling_*.py"):
            if not file.stem.endswith("flax"):
                names |= _stepping_classes(file)
    # What is not exported, no model_index.json can name.
    return sorted(name for name in names if name in dir(diffusers))


def _stepping_classes(file: Path) -> set[str]:
    return {
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(one, ast.FunctionDef) and one.name == "step" for one in node.body)
    }


def scheduler_class(name: str) -> Any:
    """The class, or None where something that it needs is not installed."""
    kind = getattr(diffusers, name)
    try:
        # A stand-in raises whatever is asked of it.
        return kind if kind.step else None
    except ImportError:
        return None


def has_known_step(kind: Any) -> bool:
    """Whether its step takes a prediction, a timestep and a sample, and needs nothing else."""
    parameters = list(inspect.signature(kind.step).parameters.values())[1:]
    return [one.name for one in parameters[:3]] == ["model_output", "timestep", "sample"] and all(
        one.default is not inspect.Parameter.empty for one in parameters[3:]
    )
