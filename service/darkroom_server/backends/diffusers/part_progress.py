"""How far the reading of a pipeline's weights is, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers

#: How diffusers calls the bar over a pipeline's parts.
_BAR = "Loading pipeline components..."


@contextmanager
def reporting_parts(folder: Path, report: Callable[[int], None]) -> Iterator[None]:
    """While a pipeline is read from `folder`, reports the bytes of weights read after each part.

    Replaces the progress bar of diffusers, which is the only source of that.
    """
    logging = diffusers.utils.logging
    bar = logging.tqdm

    def reported(parts: Iterable[Any], *args: Any, **kwargs: Any) -> Iterable[Any]:
        if kwargs.get("desc") != _BAR:
            return bar(parts, *args, **kwargs)  # type: ignore[no-any-return]
        return _reported(parts, folder, report)

    logging.tqdm = reported
    try:
        yield
    finally:
        logging.tqdm = bar


def _reported(
    parts: Iterable[tuple[str, Any]], folder: Path, report: Callable[[int], None]
) -> Iterator[tuple[str, Any]]:
    loaded_bytes = 0
    for name, part in parts:
        yield name, part
        loaded_bytes += sum(file.stat().st_size for file in (folder / name).glob("*.safetensors"))
        report(loaded_bytes)
