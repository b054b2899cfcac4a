"""What all families of diffusers pipelines share: private schedules, the step, checks, sizes.

A family says what its denoiser takes (`arguments`, `predict`), what an image begins with (`begin`),
and how latents become pixels (`to_image`). Thread-bound to the worker's model thread.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic

import numpy as np
import torch

from darkroom_server.backends.base import (
    CompileCounts,
    Encoded,
    ImageArray,
    Painter,
    SharingPlan,
)
from darkroom_server.backends.diffusers import snapshots
from darkroom_server.backends.diffusers.adapters.low_rank import AdapterSet
from darkroom_server.backends.diffusers.adapters.pipeline import PipelineAdapters
from darkroom_server.backends.diffusers.device import device_of
from darkroom_server.backends.diffusers.memory_use import weight_bytes
from darkroom_server.backends.diffusers.networks.eager import EagerNetwork
from darkroom_server.backends.diffusers.networks.exact import ExactSharing
from darkroom_server.backends.diffusers.networks.image_rows import ImageRows
from darkroom_server.backends.diffusers.networks.network import Inputs, Network
from darkroom_server.backends.diffusers.pictures import keep_unmasked
from darkroom_server.backends.diffusers.previews import LatentColours, denoised
from darkroom_server.backends.diffusers.schedule import PrivateSchedulers, Schedule
from darkroom_server.backends.diffusers.token_limits import CutTexts, TokenLimits, token_limits
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory, Extra
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.errors import GenerationFailed, InvalidParameter
from darkroom_server.domain.jobs import ImageSpec, Reproducibility, StrengthRounding
from darkroom_server.domain.models import Dtype

DTYPES = {
    torch.float32: Dtype.FP32,
    torch.float16: Dtype.FP16,
    torch.bfloat16: Dtype.BF16,
}


_PROCESSOR = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInputs:
    """What a step evaluates: the denoiser's arguments, the size, and the rows of each image."""

    arguments: Inputs
    is_exact: bool
    size: str
    image_rows: ImageRows
    #: Each image's, or nothing where no image has any.
    adapters: tuple[AdapterSet, ...] = ()


class DiffusersStepModel(ABC, Generic[Encoded, Extra]):
    """A loaded pipeline as a `StepModel`. `module` is its UNet or transformer.

    What computes it is its `network`: the module itself until another one is set. `decoder` is what
    the VAE does with latents.
    """

    strength_rounding: ClassVar[StrengthRounding] = StrengthRounding.DOWN
    #: The schedulers' method that noises an image.
    noising: ClassVar[str] = "add_noise"
    #: Arguments that every call of the module has.
    constants: ClassVar[Mapping[str, Any]] = {}
    #: Whether what is computed of a row does not depend on the other rows' content. Where it does,
    #: no proof by examples holds.
    has_independent_rows: ClassVar[bool] = True
    #: Tokens of a text that encoders read, by the component that makes them, where it is less than
    #: the tokenizer's own limit.
    token_counts: ClassVar[Mapping[str, int]] = {}
    #: Dimensions of the network's inputs that depend on the image's size; rows always come first.
    size_axes: ClassVar[Mapping[str, tuple[int, ...]]] = {}

    def __init__(
        self,
        pipeline: Any,
        module: torch.nn.Module,
        *,
        allowed_schedulers: Sequence[str],
        prompts: PromptCache,
    ) -> None:
        self._pipeline = pipeline
        self.module: Any = module
        self.vae: Any = pipeline.vae
        #: Pixels [1, 3, height, width] of scaled latents [1, C, h, w].
        self.decoder: Callable[[torch.Tensor], torch.Tensor] = self._decoded_by_vae
        # Not `pipeline.device`, where the weights lie: they may be taken to the GPU part by part.
        self._device: torch.device = pipeline._execution_device
        self._place = device_of(self._device)
        self._schedulers = PrivateSchedulers(pipeline.scheduler, allowed=allowed_schedulers)
        self.adapters = PipelineAdapters(pipeline, module, prompts, self._device)
        self._prompts = self.adapters.prompts
        self.network = EagerNetwork(module, self.constants)
        self._evaluations: dict[Hashable, int] = {}
        with torch.inference_mode():
            self._colours = LatentColours(pipeline.vae)

    @abstractmethod
    def batch_key(self, spec: ImageSpec) -> Hashable:
        """Facts about tensor shapes only: images with equal keys may share a step."""

    @abstractmethod
    def rows(self, spec: ImageSpec) -> int:
        """Denoiser rows of one image."""

    def encode(self, spec: ImageSpec) -> Encoded:
        """What all images of a request share, read by text encoders with the request's adapters."""
        with self.adapters.encoding(spec):
            return self.encoded(spec)

    def prepared(self, spec: ImageSpec, wait_s: float = 0.0) -> bool:
        """Whether what the request needs besides the model is in memory. Any thread."""
        return self.adapters.prepared(spec, wait_s)

    @abstractmethod
    def encoded(self, spec: ImageSpec) -> Encoded:
        """What all images of a request share; texts seen before come from the prompt cache."""

    def cut_fields(self, spec: ImageSpec) -> tuple[str, ...]:
        """Which of a request's texts no text encoder reads to the end."""
        texts = {"prompt": spec.prompt, "negative_prompt": spec.negative_prompt or ""}
        return tuple(field for field, text in texts.items() if text in self._cut_texts)

    def token_limits(self) -> TokenLimits:
        """The tokenizers whose encoders read a text, each with the tokens that they read."""
        return token_limits(self._pipeline, self.token_counts)

    @functools.cached_property
    def _cut_texts(self) -> CutTexts:
        return CutTexts(self.token_limits())

    @abstractmethod
    def begin(
        self, spec: ImageSpec, encoded: Encoded, image_index: int
    ) -> DiffusersTrajectory[Encoded, Extra]:
        """Draws the noise, in the order of the stock pipeline, and prepares a private schedule."""

    @abstractmethod
    def arguments(self, trajectories: Sequence[DiffusersTrajectory[Encoded, Extra]]) -> Inputs:
        """The denoiser's arguments for the next step of trajectories with equal keys."""

    def predict(self, arguments: Inputs) -> torch.Tensor:
        """What the scheduler takes, of all rows: the network's predictions [rows, …]."""
        return self.network(arguments)

    @torch.inference_mode()
    def snapshot(self, trajectory: DiffusersTrajectory[Encoded, Extra]) -> bytes | None:
        """What its steps have changed; None of a scheduler that keeps what cannot be written."""
        return snapshots.snapshot(trajectory)

    @torch.inference_mode()
    def restore(self, trajectory: DiffusersTrajectory[Encoded, Extra], state: bytes) -> None:
        """Goes on from there."""
        snapshots.restore(trajectory, state)

    def gather(self, trajectories: Sequence[DiffusersTrajectory[Encoded, Extra]]) -> StepInputs:
        """What the next step of trajectories with equal keys and of one level evaluates."""
        spec = trajectories[0].spec
        return StepInputs(
            arguments=self.arguments(trajectories),
            is_exact=spec.reproducibility is Reproducibility.EXACT,
            size=repr(self.batch_key(spec)),
            image_rows=tuple(self.rows(one.spec) for one in trajectories),
            adapters=self.adapters.of_images(trajectories),
        )

    @torch.inference_mode()
    def denoise(self, inputs: StepInputs) -> torch.Tensor:
        """One evaluation: predictions [rows, …]; at EXACT kept apart as was found needed."""
        with self.adapters.denoising(inputs.adapters, inputs.image_rows):
            if not inputs.is_exact:
                return self.predict(inputs.arguments)
            with self._sharing.sharing(inputs.size, inputs.image_rows):
                return self.predict(inputs.arguments)

    def prove(self, inputs: StepInputs, alone: Sequence[torch.Tensor]) -> Iterator[bool | None]:
        """Whether images that take this step together have the predictions of each `alone`."""

        @torch.inference_mode()
        def evaluate() -> torch.Tensor:
            return self.predict(inputs.arguments)

        if not self.has_independent_rows:
            return iter([False])
        return self._sharing.prove(inputs.size, inputs.image_rows, alone, evaluate)

    def sharing_plan(self) -> SharingPlan:
        """What is computed for each image by itself in exact steps, by size."""
        return self._sharing.plan()

    def use_sharing_plan(self, plan: SharingPlan) -> None:
        """Takes over what was found before; raises KeyError where it is of another denoiser."""
        self._sharing.use(plan)

    @property
    def network(self) -> Network:
        """What computes the denoiser."""
        return self._network

    @network.setter
    def network(self, network: Network) -> None:
        self._network = network
        is_divisible = isinstance(network, EagerNetwork)
        self._sharing = ExactSharing(self.module if is_divisible else None, self.adapters.present)

    def end_warm_up(self) -> None:
        """Nothing is compiled from now on: steps of other shapes run uncompiled."""
        self.network.end_warm_up()

    def compile_counts(self) -> CompileCounts:
        """What has been compiled."""
        return self.network.compile_counts()

    def guided(
        self, one: DiffusersTrajectory[Encoded, Extra], predicted: torch.Tensor
    ) -> torch.Tensor:
        """One image's prediction [1, …] from its rows: of two, classifier-free guidance."""
        if len(predicted) == 1:
            return predicted
        negative, positive = predicted.chunk(2)
        combined: torch.Tensor = negative + one.spec.guidance_scale * (positive - negative)
        return combined

    def unpacked(self, latents: torch.Tensor, spec: ImageSpec) -> torch.Tensor:
        """Latents as the VAE takes them, scaled: [1, C, h, w]."""
        del spec
        return latents

    @abstractmethod
    def to_image(self, latents: torch.Tensor) -> torch.Tensor:
        """Runs the VAE on unpacked latents: [1, 3, height, width], -1 to 1."""

    def finished_image(self, trajectory: DiffusersTrajectory[Encoded, Extra]) -> torch.Tensor:
        """A finished trajectory's pixels as the VAE makes them: [1, 3, height, width], -1 to 1."""
        return self.to_image(self.unpacked(trajectory.latents, trajectory.spec))

    def objects_to(self, decoded: torch.Tensor) -> bool:
        """Whether a content filter of the pipeline objects to an image; none has one but SD's."""
        del decoded
        return False

    def set_timesteps(self, scheduler: Any, spec: ImageSpec, device: torch.device) -> None:
        """Sets a fresh scheduler's timesteps as the stock pipeline does."""
        scheduler.set_timesteps(spec.step_count, device=device)

    def schedule(self, spec: ImageSpec, image_index: int) -> Schedule:
        """A private schedule and generator for one image; raises InvalidParameter."""
        return self._schedule(spec, image_index, self._device)

    def _schedule(self, spec: ImageSpec, image_index: int, device: torch.device) -> Schedule:
        run_step_count = self.strength_rounding.run_step_count(spec.step_count, spec.strength)
        scheduler = self._schedulers_for(spec).make(spec.scheduler)
        if self.begins_with_image(spec) and not hasattr(scheduler, self.noising):
            raise InvalidParameter(
                "scheduler", f"{spec.scheduler} cannot begin with an image: name another."
            )
        return Schedule(
            scheduler,
            torch.Generator("cpu").manual_seed(spec.seeds[image_index]),
            step_count=spec.step_count,
            set_timesteps=lambda scheduler: self.set_timesteps(scheduler, spec, device),
            skipped_step_count=spec.step_count - run_step_count,
        )

    def begins_with_image(self, spec: ImageSpec) -> bool:
        """Whether a scheduler has to noise an image of the request."""
        return spec.source is not None or spec.fill is not None

    def _schedulers_for(self, spec: ImageSpec) -> PrivateSchedulers:
        """Schedulers configured as the stock pipeline of the spec's task configures them."""
        del spec
        return self._schedulers

    def evaluations(self, spec: ImageSpec) -> int:
        """Denoiser evaluations of one image: Heun's are twice its steps, less one.

        From any thread, on the processor, by a schedule of its own. Raises InvalidParameter.
        """
        run_step_count = self.strength_rounding.run_step_count(spec.step_count, spec.strength)
        key = (spec.task, spec.scheduler, spec.step_count, run_step_count)
        if key not in self._evaluations:
            self._evaluations[key] = len(self._schedule(spec, 0, _PROCESSOR).timesteps)
        return self._evaluations[key]

    def memory_bytes(self) -> int:
        """Bytes of all parameters and buffers, and of the network's own."""
        return weight_bytes(self._pipeline) + self.network.memory_bytes()

    def peak_memory_bytes(self) -> int:
        """The most that torch has taken of a GPU."""
        return self._place.peak_memory_bytes()

    def device_name(self) -> str:
        """The GPU's name, or the processor's kind, its vectors, and how many threads compute."""
        return self._place.name()

    def dtype(self) -> Dtype:
        """That of the denoiser."""
        dtype: torch.dtype = self.module.dtype
        return DTYPES[dtype]

    @torch.inference_mode()
    def scatter(
        self, trajectory: DiffusersTrajectory[Encoded, Extra], outputs: torch.Tensor, first_row: int
    ) -> None:
        """Guidance and the scheduler's step; changes the trajectory."""
        one = trajectory
        predicted = outputs[first_row : first_row + self.rows(one.spec)]
        prediction = self.guided(one, predicted)
        stepped = one.schedule.step(prediction, one.latents)
        if one.is_preview_due:
            one.denoised = denoised(one.schedule, stepped, prediction, one.latents)
        one.latents = stepped.prev_sample
        one.schedule.advance()

    def wait(self) -> None:
        """Waits for the GPU; a processor has always finished."""
        self._place.synchronize()

    def _decoded_by_vae(self, latents: torch.Tensor) -> torch.Tensor:
        decoded: torch.Tensor = self.vae.decode(latents, return_dict=False)[0]
        return decoded

    @torch.inference_mode()
    def painter(self, trajectories: Sequence[DiffusersTrajectory[Encoded, Extra]]) -> Painter:
        """Takes what the last step of each aimed at, and paints it: uint8 [h, w, 3], a pixel a
        latent.
        """
        latents = torch.cat(
            [
                self.unpacked(one.latents if one.denoised is None else one.denoised, one.spec)
                for one in trajectories
            ]
        )
        return functools.partial(self._colours.paint, latents)

    @torch.inference_mode()
    def decode(self, trajectory: DiffusersTrajectory[Encoded, Extra]) -> ImageArray:
        """Runs the VAE: uint8 [h, w, 3], black if a content filter objects.

        Raises GenerationFailed for latents or pixels that are not finite.
        """
        _require_finite(trajectory.latents)
        decoded = self.finished_image(trajectory)
        _require_finite(decoded)
        if self.objects_to(decoded):
            trajectory.is_filtered = True
            decoded = torch.full_like(decoded, -1.0)
        image = self._pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
        pixels = np.asarray(image, dtype=np.uint8)
        fill = trajectory.spec.fill
        if fill is None or not fill.preserve_unmasked or trajectory.is_filtered:
            return pixels
        return keep_unmasked(pixels, fill)


#: A pipeline of whatever family, for what does not look into its trajectories.
AnyFamilyModel = DiffusersStepModel[Any, Any]


@contextmanager
def kept_dtype(module: Any) -> Iterator[None]:
    """Restores the dtype of a module that the work upcasts, also when the work fails."""
    if not isinstance(module, torch.nn.Module):
        yield
        return
    # Of the first parameter: diffusers' own `dtype` looks at every part, for every image.
    dtype = next(module.parameters()).dtype
    try:
        yield
    finally:
        if next(module.parameters()).dtype != dtype:
            module.to(dtype=dtype)


def _require_finite(values: torch.Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise GenerationFailed("The model produced values that are not finite.")
