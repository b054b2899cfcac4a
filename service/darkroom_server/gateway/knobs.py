"""What callers may turn at other services, and changes nothing here: every value that exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom_server.domain.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class Knob:
    """A field with a closed list of values; without one, any text.

    `idle` are those that ask for what is done anyway.
    """

    values: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    def is_asked_in_vain(self, name: str, value: Any) -> bool:
        """Whether the value asks for something; raises InvalidParameter for one that is none."""
        text = _text(value)
        if not self.values:
            if not isinstance(value, str):
                raise InvalidParameter(name, "is no text")
            return False
        if text not in self.values:
            raise InvalidParameter(name, f"is none of: {', '.join(self.values)}")
        return text not in self.idle


_FLAG = ("true", "false")

#: Of OpenAI's images, and of those who share their address.
OPENAI: Mapping[str, Knob] = {
    "quality": Knob(
        ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"), idle=("auto",)
    ),
    "style": Knob(("vivid", "natural")),
    "background": Knob(("auto", "opaque", "transparent"), idle=("auto", "opaque")),
    "moderation": Knob(("auto", "low"), idle=("auto",)),
    "input_fidelity": Knob(("high", "low")),
    "user": Knob(),
    "safety_identifier": Knob(),
}
HYPERBOLIC: Mapping[str, Knob] = {"backend": Knob(("auto", "tvm", "torch"), idle=("auto",))}
FAL: Mapping[str, Knob] = {
    "acceleration": Knob(("none", "regular", "high"), idle=("none",)),
    "enable_safety_checker": Knob(_FLAG, idle=("false",)),
    "safety_tolerance": Knob(("1", "2", "3", "4", "5", "6")),
}


def _text(value: Any) -> str | None:
    if isinstance(value, bool | int):
        return str(value).lower()
    return value.lower() if isinstance(value, str) else None
