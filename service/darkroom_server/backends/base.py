"""What runs a model: the seam between the worker and the pipelines.

Most models are run one denoising step at a time. A worker drives a `StepModel` from one thread. A
request becomes one `Trajectory` per image; the worker chooses which trajectories share the next
step and calls `gather` and `denoise` for all of them, then `scatter` for each. `denoise` is the
only call whose cost matters, and the only one that a compiler or another runtime replaces. A
failure in `encode`, `begin`, `scatter` or `decode` concerns one job; one in `denoise` may be any
job's of the batch.

Pipelines that no family takes apart are a `RequestModel`, which runs requests from end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.models import Dtype

ImageArray = npt.NDArray[np.uint8]

#: Names of the parts of a denoiser that exact steps compute for each image by itself, by size.
SharingPlan = dict[str, list[str]]


class Trajectory(Protocol):
    """One image on its way from noise to pixels, with all of its private state."""

    #: Denoising steps in all, as the caller counts them.
    step_count: int
    #: Denoising steps done.
    completed_step_count: int
    #: Whether it is ready to be decoded.
    finished: bool
    #: Whether a content filter of the model made it black; known when it is decoded.
    is_filtered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileCounts:
    """What a model has compiled; numbers only grow.

    `graph_count` in all, `recompile_count` of them after the warm-up, where none should be;
    `uncompiled_step_count` steps of shapes that the warm-up did not have.
    """

    graph_count: int = 0
    recompile_count: int = 0
    uncompiled_step_count: int = 0


class StepModel(Protocol):
    """A loaded model. All methods are called from the worker's one model thread."""

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """Facts about tensor shapes only: images with equal keys may share a step."""
        ...

    def rows(self, spec: ImageSpec) -> int:
        """Denoiser rows that one image of the request takes: 2 with guidance, else 1."""
        ...

    def evaluations(self, spec: ImageSpec) -> int:
        """Denoiser evaluations that one image of the request takes, from begin to end."""
        ...

    def encode(self, spec: ImageSpec) -> Any:
        """Runs the text encoders; what all images of a request share."""
        ...

    def cut_fields(self, spec: ImageSpec) -> tuple[str, ...]:
        """Which of a request's texts are longer than the text encoders read."""
        ...

    def begin(self, spec: ImageSpec, encoded: Any, image_index: int) -> Any:
        """A fresh `Trajectory` for one image, its noise drawn from `spec.seeds[image_index]`."""
        ...

    def gather(self, trajectories: Sequence[Any]) -> Any:
        """The denoiser's inputs for the next step of trajectories with equal keys."""
        ...

    def denoise(self, inputs: Any) -> Any:
        """One evaluation of the denoiser.

        At EXACT each image gets the bits that it gets alone, if such a step was proved.
        """
        ...

    def prove(self, inputs: Any, alone: Sequence[Any]) -> Iterator[bool | None]:
        """Whether an exact step of these inputs has what `denoise` returned for each image `alone`.

        What must be computed for each image by itself is found out and kept. Yields None before
        each evaluation of the denoiser, and at last the answer.
        """
        ...

    def sharing_plan(self) -> SharingPlan:
        """What exact steps compute for each image by itself."""
        ...

    def use_sharing_plan(self, plan: SharingPlan) -> None:
        """Takes over what was found before; raises KeyError where it is of another denoiser."""
        ...

    def scatter(self, trajectory: Any, outputs: Any, first_row: int) -> None:
        """Advances one trajectory by its rows of the outputs, which begin at `first_row`."""
        ...

    def wait(self) -> None:
        """Returns when the device has done what it was asked: until then durations mean nothing."""
        ...

    def previews(self, trajectories: Sequence[Any]) -> list[ImageArray]:
        """What images look like so far, rough and cheap: uint8 [h, w, 3], a pixel a latent.

        All of trajectories with equal keys.
        """
        ...

    def decode(self, trajectory: Any) -> ImageArray:
        """The finished image: uint8 [height, width, 3]."""
        ...

    def memory_bytes(self) -> int:
        """Memory that the weights take."""
        ...

    def peak_memory_bytes(self) -> int:
        """The most device memory that was taken so far; 0 where the device does not tell."""
        ...

    def device_name(self) -> str:
        """What it runs on, for telling measurements of different machines apart."""
        ...

    def dtype(self) -> Dtype:
        """Numeric type that the denoiser computes in; never AUTO."""
        ...

    def end_warm_up(self) -> None:
        """Nothing is compiled from now on: steps of other shapes run uncompiled."""
        ...

    def compile_counts(self) -> CompileCounts:
        """What has been compiled."""
        ...


@runtime_checkable
class RequestModel(Protocol):
    """A loaded model that runs whole requests. Called from the worker's one model thread."""

    def compatible_key(self, spec: ImageSpec) -> Hashable:
        """Requests with equal keys may run together. Called from any thread.

        Raises a FieldError for a request that the pipeline cannot honour.
        """
        ...

    def run(
        self, specs: Sequence[ImageSpec], on_step: Callable[[int, int], None]
    ) -> list[list[ImageArray]]:
        """The images of each request, one a seed: uint8 [height, width, 3].

        `on_step` is told the steps done and their number after each; what it raises stops the run
        and leaves here. Pipelines that tell of no steps run to their end.
        """
        ...

    def memory_bytes(self) -> int:
        """Memory that the weights take."""
        ...

    def peak_memory_bytes(self) -> int:
        """The most device memory that was taken so far; 0 where the device does not tell."""
        ...

    def dtype(self) -> Dtype:
        """Numeric type that the weights are in; never AUTO."""
        ...
