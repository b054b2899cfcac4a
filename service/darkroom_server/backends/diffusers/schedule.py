"""A scheduler of one image's own: schedulers carry state from step to step."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection
from typing import Any

import diffusers
import torch

from darkroom_server.domain.errors import InvalidParameter


class PrivateSchedulers:
    """Schedulers for one image or run each, with the configuration of a pipeline's own.

    Copies of ones that were never used: a copy takes a fifth of the time of a construction.
    """

    def __init__(self, base: Any, *, allowed: Collection[str]) -> None:
        self._base = base
        self._allowed = frozenset(allowed)
        self._unused: dict[str, Any] = {}

    def make(self, name: str) -> Any:
        """A fresh scheduler of a class.

        Raises InvalidParameter for a class that is neither the base's own nor allowed, or that
        does not take the base's configuration.
        """
        if name not in self._unused:
            kind = self._class(name)
            try:
                self._unused[name] = kind.from_config(self._base.config)
            except (ValueError, NotImplementedError) as error:
                raise InvalidParameter(
                    "scheduler",
                    f"{name} does not take the configuration of this model's scheduler.",
                ) from error
        return copy.deepcopy(self._unused[name])

    def _class(self, name: str) -> Any:
        if name == type(self._base).__name__:
            return type(self._base)
        if name not in self._allowed:
            names = ", ".join(sorted(self._allowed))
            raise InvalidParameter("scheduler", f"Unknown scheduler {name}; one of {names}.")
        return getattr(diffusers, name)


class Schedule:
    """The timesteps that one image goes through, and how far it is.

    The first `skipped_step_count` steps are left out; `set_timesteps` is given the scheduler.
    Raises InvalidParameter for fewer steps than the scheduler can take.
    """

    def __init__(
        self,
        scheduler: Any,
        generator: torch.Generator,
        *,
        step_count: int,
        set_timesteps: Callable[[Any], None],
        skipped_step_count: int = 0,
    ) -> None:
        _check_step_count(scheduler, step_count)
        try:
            set_timesteps(scheduler)
        except ValueError as error:
            kind = type(scheduler).__name__
            raise InvalidParameter(
                "step_count", f"{kind} cannot take {step_count} steps as this model sets it."
            ) from error
        self.scheduler = scheduler
        self.generator = generator
        self.step_count = step_count - skipped_step_count
        skipped: int = skipped_step_count * scheduler.order
        self.timesteps: torch.Tensor = scheduler.timesteps[skipped:]
        self.evaluation_count = 0
        self._skipped = skipped
        if hasattr(scheduler, "set_begin_index"):
            # Spares a device sync in every step; DDIM and PNDM need no such hint.
            scheduler.set_begin_index(skipped)
        self._step_arguments = _step_arguments(scheduler, generator)
        #: Its attributes as they are before the first step.
        self._begun = dict(vars(scheduler))

    @property
    def completed_step_count(self) -> int:
        """Steps done as the caller counts them: some schedulers evaluate more often than once."""
        return self.evaluation_count * self.step_count // max(1, len(self.timesteps))

    @property
    def finished(self) -> bool:
        """Whether the last evaluation was done."""
        return self.evaluation_count >= len(self.timesteps)

    @property
    def timestep(self) -> torch.Tensor:
        """The timestep of the next evaluation, without dimensions."""
        return self.timesteps[self.evaluation_count]

    @property
    def index(self) -> int:
        """The place of the next evaluation among all of the scheduler's."""
        return self._skipped + self.evaluation_count

    def step(self, prediction: torch.Tensor, latents: torch.Tensor) -> Any:
        """The scheduler's output for the next step, from the denoiser's prediction of their shape.

        Changes the scheduler, but not the count: `advance` does.
        """
        return self.scheduler.step(prediction, self.timestep, latents, **self._step_arguments)

    def changed(self) -> dict[str, Any]:
        """What the scheduler keeps from step to step; lists, too, that may be as they were."""
        return {
            name: value
            for name, value in vars(self.scheduler).items()
            if value is not self._begun.get(name, self) or isinstance(value, list)
        }

    def go_on(self, evaluation_count: int, changed: dict[str, Any]) -> None:
        """Goes to where another schedule of the same image was, with what that had `changed`."""
        vars(self.scheduler).update(changed)
        self.evaluation_count = evaluation_count

    def advance(self) -> None:
        """Goes to the next evaluation."""
        self.evaluation_count += 1


def _check_step_count(scheduler: Any, step_count: int) -> None:
    """PNDM begins with Runge-Kutta over its first steps, unless the configuration skips that."""
    if not isinstance(scheduler, diffusers.PNDMScheduler) or scheduler.config.skip_prk_steps:
        return
    least: int = scheduler.pndm_order
    if step_count < least:
        raise InvalidParameter(
            "step_count", f"{step_count} is below the {least} that PNDMScheduler needs here"
        )


def _step_arguments(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    accepted = inspect.signature(scheduler.step).parameters
    arguments: dict[str, Any] = {}
    if "eta" in accepted:
        arguments["eta"] = 0.0
    if "generator" in accepted:
        arguments["generator"] = generator
    return arguments
