"""ICC profiles of RGB spaces that are given by numbers: a gamma, and where the primaries lie."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

#: A gamma of a file near this is how programs write "as sRGB": 1 / 2.2.
_USUAL_GAMMA, _GAMMA_TOLERANCE = 0.45455, 0.005
#: The white that profiles are relative to, as XYZ (ICC.1:2010, 7.2.16).
_D50 = np.array([0.9642, 1.0, 0.8249])
#: Cone responses of XYZ (Bradford), by which white is adapted.
_CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@dataclass(frozen=True, slots=True)
class Chromaticities:
    """White and primaries as x and y, in the order of a PNG's cHRM."""

    white_x: float
    white_y: float
    red_x: float
    red_y: float
    green_x: float
    green_y: float
    blue_x: float
    blue_y: float


SRGB_CHROMATICITIES = Chromaticities(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


def rgb_profile(gamma: float | None, chromaticities: Chromaticities | None) -> bytes | None:
    """The profile; None where the numbers say no more than "as sRGB".

    `gamma` is a file's, the exponent by which light became numbers; None is
    sRGB's curve. Raises ValueError for numbers that make no space.
    """
    if gamma is not None and not 0.05 <= gamma <= 20:
        raise ValueError(gamma)
    is_usual = gamma is None or abs(gamma - _USUAL_GAMMA) < _GAMMA_TOLERANCE
    if is_usual and chromaticities in (None, SRGB_CHROMATICITIES):
        return None
    curve = _srgb_curve() if gamma is None else _gamma_curve(1 / gamma)
    red, green, blue = _primaries(chromaticities or SRGB_CHROMATICITIES).T
    return _file(
        {
            b"desc": b"desc" + bytes(4) + struct.pack(">I", 4) + b"RGB\0" + bytes(78),
            b"cprt": b"text" + bytes(4) + b"none\0",
            b"wtpt": _xyz(_D50),
            b"rXYZ": _xyz(red),
            b"gXYZ": _xyz(green),
            b"bXYZ": _xyz(blue),
            **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
        }
    )


def _primaries(given: Chromaticities) -> np.ndarray:
    """XYZ of red, green and blue as columns, which add up to D50 white."""
    points = [
        (given.red_x, given.red_y),
        (given.green_x, given.green_y),
        (given.blue_x, given.blue_y),
        (given.white_x, given.white_y),
    ]
    if any(y <= 0.001 or x < 0 or x > 1 or y > 1 for x, y in points):
        raise ValueError(given)
    *primaries, white = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in points)
    columns = np.array(primaries).T
    if abs(np.linalg.det(columns)) < 1e-6:
        raise ValueError(given)
    scaled = columns * np.linalg.solve(columns, white)
    gains = (_CONES @ _D50) / (_CONES @ white)
    adapted: np.ndarray = np.linalg.inv(_CONES) @ (gains[:, None] * (_CONES @ scaled))
    if np.abs(adapted).max() > 100:
        raise ValueError(given)
    return adapted


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values.tolist()))


def _fixed(value: float) -> bytes:
    """s15Fixed16Number."""
    return struct.pack(">i", round(value * 65536))


def _gamma_curve(exponent: float) -> bytes:
    """A parametric curve: a power alone."""
    return b"para" + bytes(4) + struct.pack(">HH", 0, 0) + _fixed(exponent)


def _srgb_curve() -> bytes:
    """A parametric curve: a power above, a line below (IEC 61966-2-1)."""
    values = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, values))


def _file(tags: dict[bytes, bytes]) -> bytes:
    """A display profile of version 4 with these tags, which share what is equal."""
    offset = 128 + 4 + 12 * len(tags)
    table, data, places = struct.pack(">I", len(tags)), b"", dict[bytes, int]()
    for name, content in tags.items():
        if content not in places:
            places[content] = offset + len(data)
            data += content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", places[content], len(content))
    size = 132 + 12 * len(tags) + len(data)
    head = struct.pack(">I4sI", size, b"lcms", 0x04200000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += b"".join(map(_fixed, _D50.tolist()))
    return head.ljust(128, b"\0") + table + data
