"""Work on pictures done on the spot, where a test is not about the processes for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from darkroom_server.image_decoding.images import ImageLimits

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


class PicturesHere:
    """Stands in for `PictureProcesses`."""

    def __init__(self) -> None:
        self.limits = ImageLimits()

    async def run(
        self,
        work: Callable[_Arguments, _Value],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Value:
        return work(*args, **kwargs)
