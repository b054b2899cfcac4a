"""What the cost of a whole run depends on."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom_server.domain.jobs import ImageSpec, Task


@dataclass(frozen=True, slots=True)
class RunKind:
    """Runs of one kind take time in proportion to their steps."""

    task: Task
    width_px: int
    height_px: int
    is_guided: bool
    #: Of the reference images.
    reference_pixel_count: int = 0

    @classmethod
    def of(cls, spec: ImageSpec) -> RunKind:
        """The kind of a request's runs."""
        width_px, height_px = spec.width_px, spec.height_px
        shown = spec.step_pixel_count - width_px * height_px
        return cls(spec.task, width_px, height_px, spec.guidance_scale > 1, shown)

    @property
    def pixel_count(self) -> int:
        """Of one image, and of its references."""
        return self.width_px * self.height_px + self.reference_pixel_count

    @property
    def step_px(self) -> int:
        """Pixels that go through the denoiser in a step of one image."""
        return self.pixel_count * (1 + self.is_guided)


def run_step_count(spec: ImageSpec) -> int:
    """Steps that run, about: pipelines round the part that a strength leaves differently."""
    return max(1, round(spec.step_count * spec.strength))
