"""What one pipeline class of diffusers takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: How classes begin that add the scale to the prompt's own prediction; others take 1 for none.
_GUIDES_ABOVE_0 = ("Krea2", "ZImage")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCall:
    """The `__call__` of one class, and the parts that its folder cannot do without.

    `arguments` are all that it takes; `required` have no default, and `numbers` are the defaults
    that are numbers. `gives` is the field of its output, empty where its code does not say.
    `sample_size` are the latents along an edge that the class itself makes by default.
    """

    arguments: frozenset[str]
    required: frozenset[str] = frozenset()
    numbers: Mapping[str, float] = field(default_factory=dict)
    parts: frozenset[str] = frozenset()
    gives: str = ""
    sample_size: int | None = None

    def first_of(self, *names: str) -> str | None:
        """The first of some arguments that it takes."""
        return next((name for name in names if name in self.arguments), None)


def guides_above(class_name: str) -> float:
    """The guidance scale above which a class guides: 0 where scales count from no guidance on."""
    return 0.0 if class_name.startswith(_GUIDES_ABOVE_0) else 1.0
