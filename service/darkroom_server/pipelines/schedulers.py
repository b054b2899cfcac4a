"""What diffusers' schedulers can do with a denoiser, by their classes. Pure.

A test goes through every scheduler class of the installed diffusers and holds these tables to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

_EPSILON = frozenset({"epsilon"})
_EPSILON_V = _EPSILON | {"v_prediction"}
_THREE = _EPSILON_V | {"sample"}
#: What a denoiser may predict for those that can step by flow-matching sigmas as well.
_ALL_PREDICTIONS = _THREE | {"flow_prediction"}


class SchedulerKind(Enum):
    """What is stepped: a UNet by its noise, or a transformer that predicts velocities."""

    DIFFUSION = "diffusion"
    FLOW = "flow"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerFacts:
    """One class. `predictions` are the `prediction_type`s that it steps by.

    With `noises_images` it can begin with an image instead of noise. `takes` are the arguments that
    its `set_timesteps` takes besides the number of steps.
    """

    predictions: frozenset[str] = _EPSILON
    noises_images: bool = True
    takes: frozenset[str] = frozenset()


_Table = Mapping[str, SchedulerFacts]

_ANY = SchedulerFacts(predictions=_ALL_PREDICTIONS)
_MOST = SchedulerFacts(predictions=_THREE)
_NOISE_OR_VELOCITY = SchedulerFacts(predictions=_EPSILON_V)

_DIFFUSION: Final[_Table] = {
    "CMStochasticIterativeScheduler": SchedulerFacts(),
    "CogVideoXDDIMScheduler": _MOST,
    "DDIMInverseScheduler": SchedulerFacts(predictions=_THREE, noises_images=False),
    "DDIMParallelScheduler": _MOST,
    "DDIMScheduler": _MOST,
    "DDPMParallelScheduler": _MOST,
    "DDPMScheduler": _MOST,
    "DEISMultistepScheduler": _ANY,
    "DPMSolverMultistepInverseScheduler": _ANY,
    "DPMSolverMultistepScheduler": _ANY,
    "DPMSolverSinglestepScheduler": _ANY,
    "EDMDPMSolverMultistepScheduler": _NOISE_OR_VELOCITY,
    "EDMEulerScheduler": _NOISE_OR_VELOCITY,
    "EulerAncestralDiscreteScheduler": _NOISE_OR_VELOCITY,
    "EulerDiscreteScheduler": _MOST,
    "HeunDiscreteScheduler": _MOST,
    "IPNDMScheduler": SchedulerFacts(noises_images=False),
    "KDPM2AncestralDiscreteScheduler": _NOISE_OR_VELOCITY,
    "KDPM2DiscreteScheduler": _NOISE_OR_VELOCITY,
    "LCMScheduler": _MOST,
    "LMSDiscreteScheduler": _MOST,
    "PNDMScheduler": _NOISE_OR_VELOCITY,
    "SASolverScheduler": _ANY,
    "TCDScheduler": _MOST,
    "UniPCMultistepScheduler": _ANY,
}

_ALL_GIVEN = frozenset({"timesteps", "sigmas", "mu"})

_FLOW: Final[_Table] = {
    "FlowMapEulerDiscreteScheduler": SchedulerFacts(takes=frozenset({"sigmas"})),
    "FlowMatchEulerDiscreteScheduler": SchedulerFacts(takes=_ALL_GIVEN),
    "FlowMatchHeunDiscreteScheduler": SchedulerFacts(),
    "FlowMatchLCMScheduler": SchedulerFacts(takes=_ALL_GIVEN),
}

#: Those of the first table that step velocities where their configuration has `use_flow_sigmas`.
#: They work out their sigmas themselves, and cannot begin with an image.
_BY_FLOW_SIGMAS: Final[_Table] = {
    name: SchedulerFacts(
        predictions=frozenset({"flow_prediction"}),
        noises_images=False,
        takes=takes,
    )
    for name, takes in (
        ("DEISMultistepScheduler", frozenset({"mu"})),
        ("DPMSolverMultistepScheduler", frozenset({"mu"})),
        ("DPMSolverSinglestepScheduler", frozenset({"mu"})),
        ("SASolverScheduler", frozenset()),
        ("UniPCMultistepScheduler", frozenset({"mu"})),
    )
}
#: Takes a shift, and does nothing with it where its configuration does not shift.
_IGNORES_SHIFT = "UniPCMultistepScheduler"

_TOKENS = "it steps tokens of a codebook, not latents"
_NOT_INSTALLED = "it needs torchsde, and draws noise that no request's seed decides"

#: Those of the installed diffusers that no family can step, and why.
REFUSED: Final[Mapping[str, str]] = {
    "AmusedScheduler": _TOKENS,
    "BlockRefinementScheduler": _TOKENS,
    "CogVideoXDPMScheduler": "its steps need what CogVideoX's pipeline keeps from the step before",
    "CosineDPMSolverMultistepScheduler": _NOT_INSTALLED,
    "DDPMWuerstchenScheduler": "it is for Würstchen's pipelines, which step by ratios",
    "DPMSolverSDEScheduler": _NOT_INSTALLED,
    "DiscreteDDIMScheduler": _TOKENS,
    "EntropyBoundScheduler": _TOKENS,
    "HeliosDMDScheduler": "it steps the stages of Helios's pipeline",
    "HeliosScheduler": "it steps the stages of Helios's pipeline",
    "KarrasVeScheduler": "its steps are between two sigmas, which no pipeline served here gives",
    "LTXEulerAncestralRFScheduler": "it is for LTX's pipelines, which make videos",
    "RePaintScheduler": "its steps need an image and a mask of RePaint's pipeline",
    "SCMScheduler": "it is for Sana Sprint's pipeline, which steps by angles",
    "UnCLIPScheduler": "it is for unCLIP's pipelines, which name the timestep before",
    "VQDiffusionScheduler": _TOKENS,
}


@dataclass(frozen=True, slots=True)
class Schedulers:
    """Which classes can step a pipeline whose own scheduler is `own`, with its configuration.

    `gives` is what the pipeline gives to `set_timesteps` besides the number of steps.
    """

    kind: SchedulerKind
    gives: frozenset[str]
    own: str
    config: Mapping[str, object]

    def is_known(self) -> bool:
        """Whether the tables say anything of the pipeline's own scheduler."""
        return self.own in {*_DIFFUSION, *_FLOW, *REFUSED}

    def reason_against(self, name: str) -> str | None:
        """Why a class cannot step the pipeline, or None."""
        if name in REFUSED:
            return REFUSED[name]
        facts = self._table.get(name)
        if facts is None and name in {*_DIFFUSION, *_FLOW}:
            return f"it is not for schedules as that of its {self.own}"
        if facts is None:
            return "it is no scheduler that can be stepped here"
        if self._predicted not in facts.predictions:
            return f"it does not step by a prediction of '{self._predicted}'"
        missing = self._given - facts.takes
        if missing:
            return f"it takes no {min(missing)}, which the pipeline gives"
        if self._steps_by_flow_sigmas:
            return self._reason_against_flow_sigmas(name)
        return None

    def _reason_against_flow_sigmas(self, name: str) -> str | None:
        if self.config.get("use_flow_sigmas", True) is not True:
            return "it steps velocities with use_flow_sigmas only"
        if "mu" in self._given and not self._shifts and name != _IGNORES_SHIFT:
            return "it takes the pipeline's mu with use_dynamic_shifting only"
        return None

    def usable(self) -> tuple[str, ...]:
        """Every class that can step the pipeline, by name."""
        return tuple(name for name in sorted(self._table) if self.reason_against(name) is None)

    def can_begin_with_images(self, name: str) -> bool:
        """Whether a class noises images for the step that a request begins with."""
        facts = self._table.get(name)
        return facts is None or facts.noises_images

    @property
    def _table(self) -> _Table:
        if self.kind is SchedulerKind.DIFFUSION:
            return _DIFFUSION
        return _BY_FLOW_SIGMAS if self._steps_by_flow_sigmas else _FLOW

    @property
    def _steps_by_flow_sigmas(self) -> bool:
        return self.kind is SchedulerKind.FLOW and self.own in _BY_FLOW_SIGMAS

    @property
    def _predicted(self) -> str:
        if self.kind is SchedulerKind.FLOW and not self._steps_by_flow_sigmas:
            return "epsilon"  # said by none of them: they know velocities only
        unsaid = "flow_prediction" if self._steps_by_flow_sigmas else "epsilon"
        predicted = self.config.get("prediction_type", unsaid)
        return predicted if isinstance(predicted, str) else unsaid

    @property
    def _shifts(self) -> bool:
        return self.config.get("use_dynamic_shifting") is True

    @property
    def _given(self) -> frozenset[str]:
        """With dynamic shifting, every pipeline gives the shift; with flow sigmas, no sigmas."""
        given = self.gives - ({"sigmas"} if self._steps_by_flow_sigmas else set())
        return given | {"mu"} if self.kind is SchedulerKind.FLOW and self._shifts else given
