"""API keys: what each allows, and the unit in which its use is counted."""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from darkroom_server.domain.jobs import ImageSpec, StrengthRounding, Task

#: A credit is a megapixel-step: a million pixels taken through one denoising step. Amounts are
#: whole pixel-steps, so that sums of them are exact.
PIXEL_STEPS_PER_CREDIT = 1_000_000


class Permission(enum.Enum):
    """What a key can be allowed to do."""

    GENERATE = "generate"
    FILL = "fill"
    PRIORITIZE = "prioritize"
    MANAGE = "manage"


#: What each task needs.
PERMISSION_OF_TASK = {
    Task.TEXT_TO_IMAGE: Permission.GENERATE,
    Task.IMAGE_TO_IMAGE: Permission.GENERATE,
    Task.FILL: Permission.FILL,
    Task.EDIT: Permission.GENERATE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as the server knows it: not the key itself, but the SHA-256 of it.

    `models` are globs over names, hub ids and aliases. `rate_limit` is such as `60/minute`.
    None: no limit. `weight`: its part of a device that others use, too, beside their weights.
    """

    id: str
    name: str
    sha256: bytes
    permissions: frozenset[Permission]
    models: tuple[str, ...] = ("*",)
    rate_limit: str | None = None
    max_concurrent_requests: int | None = None
    budget_pixel_steps: int | None = None
    weight: float = 1.0
    is_revoked: bool = False

    def allows_model(self, names: Iterable[str]) -> bool:
        """Whether one of a model's names is among those that the key is for; case is ignored."""
        patterns = [pattern.casefold() for pattern in self.models]
        return any(
            fnmatch.fnmatchcase(name.casefold(), pattern) for name in names for pattern in patterns
        )


def cost_pixel_steps(spec: ImageSpec, rounding: StrengthRounding) -> int:
    """What a request takes: pixels, also of reference images, times the steps that run."""
    run_step_count = rounding.run_step_count(spec.step_count, spec.strength)
    return spec.step_pixel_count * run_step_count * len(spec.seeds)


def in_credits(pixel_steps: int) -> float:
    """The amount in credits."""
    return pixel_steps / PIXEL_STEPS_PER_CREDIT
