"""What the bodies of all dialects have in common: one way to read the values of the table.

Fields are known by their path in `darkroom.v1`'s requests; callers write any of the names given
here. `null` is the same as absent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.gateway.knobs import Knob
from darkroom_server.gateway.pictures import begins_as_picture
from darkroom_server.gateway.sent_pictures import Sent, number_of, one_picture, pictures_in
from darkroom_server.parameters.parameter import Kind, Parameter
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.wire.adapter_values import adapters_of

#: Width and height in one, which only bodies have.
SIZE = "size"
#: Every name of a field, in any dialect.
NAMES: Mapping[str, tuple[str, ...]] = {
    **{path: one.http for path, one in PARAMETERS.items() if one.http},
    SIZE: ("size", "image_size", "target_size"),
}
_FIELD_OF: Mapping[str, str] = {name: field for field, names in NAMES.items() for name in names}
_IMAGE, _MASK, _REFERENCES = "image.content", "mask.content", "reference_images"


class Fields:
    """The values of one body. `written` maps a field to the name that the caller wrote."""

    def __init__(
        self,
        body: Mapping[str, Any],
        *,
        shown: Mapping[str, str] | None = None,
        knobs: Mapping[str, Knob] | None = None,
        own: Collection[str] = (),
    ) -> None:
        """Reads the names of all dialects, and `knobs` of this one, which reads `own` itself.

        Raises InvalidParameter, InvalidImage.
        """
        # What the caller calls fields that are not in the body under that name.
        self._shown = dict(shown or {})
        self._values: dict[str, Any] = {}
        self.written: dict[str, str] = {}
        #: The names of pictures that have a field each, in their order.
        self.written_pictures: tuple[str, ...] = ()
        #: Names in the body that change nothing, those last of which nothing is known.
        self.ignored: list[str] = []
        unknown: list[str] = []
        numbered: dict[int, str] = {}
        for name, value in body.items():
            field, knob = _FIELD_OF.get(name), (knobs or {}).get(name)
            if value is None or name in own:
                continue
            number = None if field is not None else number_of(name)
            if field in (_IMAGE, _REFERENCES):
                self._put_pictures(field, name, pictures_in(value, name))
            elif field == _MASK:
                self._put(field, name, one_picture(value, name))
            elif field is not None:
                self._put(field, name, value)
            elif number is not None:
                if number in numbered:
                    text = f"is picture {number}, as {numbered[number]} is; send one of the two"
                    raise InvalidParameter(name, text)
                numbered[number] = name
            elif knob is not None:
                self.ignored += [name] if knob.is_asked_in_vain(name, value) else []
            else:
                _check_no_picture(name, value)
                unknown.append(name)
        self.ignored += unknown
        self._put_numbered(body, [numbered[number] for number in sorted(numbered)])

    def _put_pictures(self, field: str, name: str, pictures: tuple[Sent, ...]) -> None:
        """Several are an edit's references, under any of the names."""
        if field == _IMAGE and len(pictures) < 2:
            self._put(field, name, pictures[0] if pictures else None)
        else:
            self._put(_REFERENCES, name, pictures or None)

    def _put_numbered(self, body: Mapping[str, Any], names: list[str]) -> None:
        """Pictures in fields of their own: those that have a number, after one that has none."""
        found = [one_picture(body[name], name) for name in names]
        if not names:
            return
        first = self._values.pop(_IMAGE, None)
        if first is not None:
            found.insert(0, first)
            names = [self.written.pop(_IMAGE), *names]
        self._put_pictures(_IMAGE, names[0], tuple(one for one in found if one is not None))
        self.written_pictures = tuple(names)

    def _put(self, field: str, name: str, value: Any) -> None:
        if value is None:
            return
        if field in self._values and self._values[field] != value:
            raise InvalidParameter(
                name, f"says something else than {self.written[field]}; they mean the same"
            )
        if field not in self._values:
            self._values[field], self.written[field] = value, name

    def ignore(self, *fields: str) -> None:
        """Notes each that was set and has no effect; false counts as not set."""
        asked = [field for field in fields if self.raw(field) not in (None, "false")]
        self.ignored[:0] = [self.name(field) for field in asked if self.raw(field) is not False]

    def name(self, field: str) -> str:
        """What the caller calls the field, or would."""
        if field.startswith(f"{_REFERENCES}["):
            return self._name_of_picture(int(field.partition("[")[2].partition("]")[0]))
        if field in self._shown:
            return self._shown[field]
        return self.written.get(field, NAMES[field][0] if field in NAMES else field)

    def _name_of_picture(self, index: int) -> str:
        if index < len(self.written_pictures):
            return self.written_pictures[index]
        return f"{self.name(_REFERENCES)}[{index}]"

    def raw(self, field: str) -> Any:
        """The value as it came; None when there is none."""
        return self._values.get(field)

    def picture(self, field: str) -> Sent | None:
        """A file, or the text that stands for one."""
        value = self._values.get(field)
        return value if isinstance(value, bytes | str) else None

    def pictures(self, field: str) -> tuple[Sent, ...]:
        """Several of them, in their order."""
        value = self._values.get(field)
        return value if isinstance(value, tuple) else ()

    def text(self, field: str) -> str | None:
        """A string; raises InvalidParameter."""
        value = self.raw(field)
        if value is None or isinstance(value, str):
            return value
        raise InvalidParameter(self.name(field), "is no text")

    def one_text(self, field: str) -> str | None:
        """A string, or a list of one; raises InvalidParameter."""
        value = self.raw(field)
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
            return value[0]
        return self.text(field)

    def whole(self, field: str) -> int | None:
        """An integer, also as 4.0 or "4"; raises InvalidParameter."""
        return whole(self.raw(field), self.name(field))

    def number(self, field: str) -> float | None:
        """A number; "9" is one as well. Raises InvalidParameter."""
        value = self.raw(field)
        if value is None:
            return None
        found = _number(value)
        if found is None:
            raise InvalidParameter(self.name(field), "is no number")
        return found

    def flag(self, field: str) -> bool | None:
        """True or false, also as text; raises InvalidParameter."""
        value = self.raw(field)
        return None if value is None else flag(value, self.name(field))

    def choice(self, field: str, choices: Mapping[str, Any]) -> Any:
        """The value of one of the words, in any case. Raises InvalidParameter."""
        value = self.text(field)
        if value is None or value.lower() in choices:
            return None if value is None else choices[value.lower()]
        raise InvalidParameter(self.name(field), f"is none of: {', '.join(choices)}")

    def value(self, parameter: Parameter) -> Any:
        """The body's value of a parameter, None without one; raises InvalidParameter."""
        field = parameter.path
        match parameter.kind:
            case Kind.TEXT | Kind.NAME:
                return self.text(field) or None
            case Kind.WHOLE:
                return self.whole(field)
            case Kind.NUMBER:
                return self.number(field)
            case Kind.FLAG:
                return self.flag(field)
            case Kind.CHOICE:
                return self.choice(field, parameter.choices)
            case Kind.PICTURE:
                return self.picture(field)
            case Kind.PICTURES:
                return self.pictures(field) or None
            case Kind.ADAPTERS:
                value = self.raw(field)
                return None if value is None else adapters_of(value, self.name(field))


def _check_no_picture(name: str, value: Any) -> None:
    """Raises InvalidParameter where an unknown name holds what is plainly a picture.

    Without it, something else would be drawn than what was meant.
    """
    while isinstance(value, list | dict):
        if isinstance(value, dict):
            value = value.get("url") or value.get("image_url")
        else:
            value = value[0] if value else None
    if isinstance(value, bytes) or (isinstance(value, str) and begins_as_picture(value)):
        text = "no picture is taken by this name; the one to change is `image`, its mask `mask`"
        raise InvalidParameter(name, text)


def whole(value: Any, name: str) -> int | None:
    """An integer from JSON or from a form; raises InvalidParameter."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and value.isascii() and value.strip().removeprefix("-").isdecimal():
        # Longer ones are out of every range, and int() refuses the very long.
        return int(value) if len(value) <= 20 else 10**20
    found = _number(value)
    if found is None or found != int(found):
        raise InvalidParameter(name, "is no whole number")
    return int(found)


def flag(value: Any, name: str) -> bool:
    """A truth value from JSON or from a form; raises InvalidParameter."""
    words = {None: False, True: True, False: False, "true": True, "false": False}
    if isinstance(value, bool | str | None) and value in words:
        return words[value]
    raise InvalidParameter(name, "is neither true nor false")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
