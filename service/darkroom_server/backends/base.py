"""What runs a model: the seam between the worker and the pipelines.

Most models are run one denoising step at a time. A worker drives a `StepModel` from one thread. A
request becomes one `Trajectory` per image; the worker chooses which trajectories share the next
step and calls `gather` and `denoise` for all of them, then `scatter` for each. `denoise` is the
only call whose cost matters, and the only one that a compiler or another runtime replaces. A
failure in `encode`, `begin`, `scatter` or `decode` concerns one job; one in `denoise` may be any
job's of the batch.

Pipelines that no family takes apart are a `RequestModel`, which runs requests from end to end.

Threads: a model belongs to one thread, the worker's model thread, and all its methods are called
there but for those that say otherwise: `batch_key`, `rows`, `evaluations` and `compatible_key`,
which admission asks for from the thread that hears of a request, also while a step runs. These
touch no device, change nothing that another method reads, and cost no more than a scheduler's
timesteps on the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.models import Dtype

ImageArray = npt.NDArray[np.uint8]

#: Names of the parts of a denoiser that exact steps compute for each image by itself, by size.
SharingPlan = dict[str, list[str]]

#: Paints what some images looked like when it was made.
Painter = Callable[[], list[ImageArray]]


class Trajectory(Protocol):
    """One image on its way from noise to pixels, with all of its private state."""

    @property
    def step_count(self) -> int:
        """Denoising steps in all, as the caller counts them."""
        ...

    @property
    def completed_step_count(self) -> int:
        """Denoising steps done."""
        ...

    @property
    def finished(self) -> bool:
        """Whether it is ready to be decoded."""
        ...

    @property
    def is_filtered(self) -> bool:
        """Whether a content filter of the model made it black; known when it is decoded."""
        ...


#: What all images of a request share: its texts as the denoiser takes them.
Encoded = TypeVar("Encoded")
#: A model's own kind of `Trajectory`.
OneTrajectory = TypeVar("OneTrajectory", bound=Trajectory)
#: What one evaluation of the denoiser takes, of all rows of a step, and what it returns.
Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileCounts:
    """What a model has compiled; numbers only grow.

    `graph_count` in all, `recompile_count` of them after the warm-up, where none should be;
    `uncompiled_step_count` steps of shapes that the warm-up did not have.
    """

    graph_count: int = 0
    recompile_count: int = 0
    uncompiled_step_count: int = 0


class StepShapes(Protocol):
    """What admission asks of a model. Called from any thread."""

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """Facts about tensor shapes only: images with equal keys may share a step."""
        ...

    def rows(self, spec: ImageSpec) -> int:
        """Denoiser rows that one image of the request takes: 2 with guidance, else 1."""
        ...

    def evaluations(self, spec: ImageSpec) -> int:
        """Denoiser evaluations that one image of the request takes, from begin to end.

        Raises a FieldError for a request that the model cannot honour.
        """
        ...


class LoadedModel(Protocol):
    """What every loaded model reports about itself."""

    def memory_bytes(self) -> int:
        """Memory that the weights take."""
        ...

    def peak_memory_bytes(self) -> int:
        """Peak device memory so far; 0 where it is unknown."""
        ...

    def dtype(self) -> Dtype:
        """Numeric type that it computes in; never AUTO."""
        ...


class StepModel(StepShapes, LoadedModel, Protocol[Encoded, OneTrajectory, Inputs, Outputs]):
    """A loaded model. Its caller passes on what it made, and reads none of it."""

    def prepared(self, spec: ImageSpec, wait_s: float = 0.0) -> bool:
        """Whether the adapters of a request are in memory, after `wait_s` at most. Any thread.

        What is not there is on its way. Only asked of requests that have some.
        """
        ...

    def encode(self, spec: ImageSpec) -> Encoded:
        """Runs the text encoders; what all images of a request share."""
        ...

    def cut_fields(self, spec: ImageSpec) -> tuple[str, ...]:
        """Which of a request's texts are longer than the text encoders read."""
        ...

    def begin(self, spec: ImageSpec, encoded: Encoded, image_index: int) -> OneTrajectory:
        """A fresh trajectory for one image, its noise drawn from `spec.seeds[image_index]`."""
        ...

    def snapshot(self, trajectory: OneTrajectory) -> bytes | None:
        """What its steps have changed of a trajectory; None where that cannot be written down."""
        ...

    def restore(self, trajectory: OneTrajectory, state: bytes) -> None:
        """A trajectory that has just begun goes on from the snapshot of another of its image.

        Perhaps of another process. Where it raises, the trajectory is not to be used.
        """
        ...

    def gather(self, trajectories: Sequence[OneTrajectory]) -> Inputs:
        """The denoiser's inputs for the next step of trajectories with equal keys."""
        ...

    def denoise(self, inputs: Inputs) -> Outputs:
        """One evaluation of the denoiser.

        At EXACT each image gets the bits that it gets alone, if such a step was proved.
        """
        ...

    def prove(self, inputs: Inputs, alone: Sequence[Outputs]) -> Iterator[bool | None]:
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

    def scatter(self, trajectory: OneTrajectory, outputs: Outputs, first_row: int) -> None:
        """Advances one trajectory by its rows of the outputs, which begin at `first_row`."""
        ...

    def wait(self) -> None:
        """Returns when the device has done what it was asked: until then durations mean nothing."""
        ...

    def painter(self, trajectories: Sequence[OneTrajectory]) -> Painter:
        """Takes what images have come to, and paints it when it is called, in whatever thread.

        Rough and cheap: uint8 [h, w, 3], a pixel a latent. All of trajectories with equal keys.
        """
        ...

    def decode(self, trajectory: OneTrajectory) -> ImageArray:
        """The finished image: uint8 [height, width, 3]."""
        ...

    def device_name(self) -> str:
        """What it runs on, to distinguish measurements of different machines."""
        ...

    def end_warm_up(self) -> None:
        """Nothing is compiled from now on: steps of other shapes run uncompiled."""
        ...

    def compile_counts(self) -> CompileCounts:
        """What has been compiled."""
        ...


@runtime_checkable
class RequestModel(LoadedModel, Protocol):
    """A loaded model that runs whole requests."""

    def compatible_key(self, spec: ImageSpec) -> Hashable:
        """Requests with equal keys may run together. Called from any thread.

        Raises a FieldError for a request that the pipeline cannot honour.
        """
        ...

    def run(
        self, specs: Sequence[ImageSpec], on_step: Callable[[int, int], None]
    ) -> list[list[ImageArray]]:
        """The images of each request, one a seed: uint8 [height, width, 3].

        `on_step` is called after each step with the steps done and their number; an error of its
        stops the run and is raised. Pipelines without a step callback run to their end.
        """
        ...
