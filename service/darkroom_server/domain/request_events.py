"""What happens to a request, from its admission to its end, as every edge gets it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self, TypeAlias

from darkroom_server.domain.jobs import ImageSpec, JobEvent
from darkroom_server.domain.notices import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningModel:
    """Which model version runs a job. `digest` is that of its files, `dtype` its weights' type.

    `runtime` computes the pixels; `variant` names what else of the configuration changes them, and
    `made_by` the libraries and the device, which round each in their way.
    """

    name: str
    version: int
    digest: str
    dtype: str
    runtime: str = "torch"
    variant: tuple[str, ...] = ()
    made_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The request was admitted: its first event, with the parameters that will run.

    `spec` has no pixels: an accepted request may be kept long after its images were made. Of those
    that it was given, `strength` and `preserve_unmasked` are what will run; None without any.
    `rewritten_prompt` is empty where the prompt is the caller's.
    """

    job_id: str
    model: RunningModel
    spec: ImageSpec
    strength: float | None = None
    preserve_unmasked: bool | None = None
    rewritten_prompt: str = ""
    notices: tuple[Notice, ...] = ()

    @classmethod
    def of(
        cls,
        job_id: str,
        model: RunningModel,
        spec: ImageSpec,
        *,
        rewritten_prompt: str = "",
        notices: tuple[Notice, ...] = (),
    ) -> Self:
        """The event of a request that will run the spec, whose pixels are left out."""
        return cls(
            job_id=job_id,
            model=model,
            spec=dataclasses.replace(spec, fill=None, source=None, reference_images=()),
            strength=spec.strength if spec.fill or spec.source else None,
            preserve_unmasked=spec.fill.preserve_unmasked if spec.fill else None,
            rewritten_prompt=rewritten_prompt,
            notices=notices,
        )

    def with_notices(self, notices: tuple[Notice, ...]) -> Self:
        """The same with what became known while it ran."""
        return dataclasses.replace(self, notices=self.notices + notices)


@dataclass(frozen=True, slots=True)
class Validated:
    """The last event of a request that was only to be checked."""


#: `Accepted`, then either `Validated` or the events of the job.
RequestEvent: TypeAlias = Accepted | Validated | JobEvent
