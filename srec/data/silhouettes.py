"""The toys of the toy shop as shapes: recognisable by their outline alone.

A toy is a list of shapes in a square from -1 to 1 (y down), painted in order. Shapes of the role `body` wear the
colour and the pattern of the product; `trim`, `dark` and `light` are the same neutral colours for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Point = tuple[float, float]
Points = Sequence[Point]
Role = Literal["body", "trim", "dark", "light"]


@dataclass(frozen=True, slots=True)
class Shape:
    """An area, or a line of a width above 0."""

    role: Role
    points: Points
    width: float = 0.0


def _oval(x: float, y: float, rx: float, ry: float, *arc: float) -> list[Point]:
    start, stop = arc or (0, 360)  # degrees, clockwise from the right
    angles = (math.radians(start + (stop - start) * step / 36) for step in range(37))
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


def _box(left: float, top: float, right: float, bottom: float, corner: float = 0.08) -> list[Point]:
    """A rectangle with round corners."""
    corners = ((right, bottom, 0), (left, bottom, 90), (left, top, 180), (right, top, 270))
    points: list[Point] = []
    for x, y, start in corners:
        inner_x, inner_y = (x - corner if x == right else x + corner), (y - corner if y == bottom else y + corner)
        points += _oval(inner_x, inner_y, corner, corner, start, start + 90)
    return points


def _car(rng: np.random.Generator) -> Iterator[Shape]:
    roof, wheel = rng.uniform(-0.62, -0.5), rng.uniform(0.24, 0.3)
    yield Shape("body", [(-0.68, 0.0), (-0.46, roof), (0.26, roof), (0.62, 0.0)])
    yield Shape("light", [(-0.5, -0.04), (-0.37, roof + 0.1), (-0.12, roof + 0.1), (-0.12, -0.04)])
    yield Shape("light", [(0.0, -0.04), (0.0, roof + 0.1), (0.2, roof + 0.1), (0.44, -0.04)])
    yield Shape("body", _box(-0.96, -0.06, 0.96, 0.5, 0.18))
    for x in (-0.54, 0.54):
        yield Shape("dark", _oval(x, 0.5, wheel, wheel))
        yield Shape("trim", _oval(x, 0.5, wheel * 0.5, wheel * 0.5))
    yield Shape("light", _oval(0.86, 0.12, 0.08, 0.1))


def _boat(rng: np.random.Generator) -> Iterator[Shape]:
    deck, top = rng.uniform(0.28, 0.38), rng.uniform(-0.98, -0.88)
    yield Shape("trim", [(0, deck), (0, top)], 0.08)
    yield Shape("body", [(0.08, top + 0.04), (0.08, deck - 0.12), (0.8, deck - 0.12)])
    yield Shape("body", [(-0.08, top + 0.3), (-0.08, deck - 0.12), (-0.66, deck - 0.12)])
    yield Shape(
        "body",
        [(-0.96, deck), (0.98, deck), *_oval(0.3, deck, 0.5, 0.52, 30, 90), *_oval(-0.3, deck, 0.5, 0.52, 90, 150)],
    )
    yield Shape("dark", [(-0.9, deck + 0.04), (0.92, deck + 0.04)], 0.06)


def _rocket(rng: np.random.Generator) -> Iterator[Shape]:
    girth, fin = rng.uniform(0.36, 0.44), rng.uniform(0.7, 0.84)
    for side in (-1, 1):
        yield Shape(
            "trim", [(side * girth * 0.8, 0.12), (side * fin, 0.62), (side * fin, 0.92), (side * girth * 0.6, 0.7)]
        )
    hull = [(girth * math.cos(turn) ** 0.8, 0.1 - 1.08 * math.sin(turn)) for turn in np.linspace(0, math.pi / 2, 16)]
    yield Shape("body", [(girth * 0.66, 0.78), *hull, *[(-x, y) for x, y in reversed(hull)], (-girth * 0.66, 0.78)])
    yield Shape("dark", _box(-girth * 0.5, 0.76, girth * 0.5, 0.92, 0.04))
    yield Shape("trim", _oval(0, -0.28, 0.2, 0.2))
    yield Shape("light", _oval(0, -0.28, 0.14, 0.14))


def _kite(rng: np.random.Generator) -> Iterator[Shape]:
    wide, middle = rng.uniform(0.6, 0.7), rng.uniform(-0.4, -0.28)
    tail = [(0.14 * math.sin(9 * y), y) for y in np.linspace(0.44, 1.0, 15)]
    yield Shape("dark", tail, 0.035)
    for x, y in (tail[5], tail[9], tail[13]):
        yield Shape("trim", [(x - 0.14, y - 0.07), (x - 0.14, y + 0.07), (x + 0.14, y - 0.07), (x + 0.14, y + 0.07)])
    yield Shape("body", [(0, -0.98), (wide, middle), (0, 0.48), (-wide, middle)])
    yield Shape("dark", [(0, -0.94), (0, 0.44)], 0.03)
    yield Shape("dark", [(-wide, middle), (wide, middle)], 0.03)


def _bear(rng: np.random.Generator) -> Iterator[Shape]:
    head, belly = rng.uniform(0.4, 0.46), rng.uniform(0.46, 0.54)
    for side in (-1, 1):
        yield Shape("body", _oval(side * 0.36, -0.78, 0.17, 0.17))
        yield Shape("body", _oval(side * 0.56, 0.14, 0.17, 0.28))
        yield Shape("body", _oval(side * 0.36, 0.8, 0.24, 0.19))
    yield Shape("body", _oval(0, 0.4, belly, 0.5))
    yield Shape("body", _oval(0, -0.42, head + 0.04, head))
    yield Shape("light", _oval(0, -0.28, 0.19, 0.15))
    yield Shape("dark", _oval(0, -0.33, 0.07, 0.05))
    for side in (-1, 1):
        yield Shape("dark", _oval(side * 0.17, -0.52, 0.05, 0.06))


def _duck(rng: np.random.Generator) -> Iterator[Shape]:
    head, plump = rng.uniform(0.34, 0.4), rng.uniform(0.44, 0.52)
    yield Shape("trim", [(-0.68, -0.5), (-0.98, -0.36), (-0.94, -0.26), (-0.62, -0.28)])
    yield Shape("body", [(0.5, 0.1), (0.98, -0.16), (0.8, 0.5)])
    yield Shape("body", _oval(0.1, 0.36, 0.78, plump))
    yield Shape("body", _oval(-0.4, -0.42, head, head))
    yield Shape("dark", _oval(-0.5, -0.5, 0.05, 0.06))
    yield Shape("dark", _oval(0.24, 0.26, 0.34, 0.24, 10, 165), 0.045)


def _robot(rng: np.random.Generator) -> Iterator[Shape]:
    head, chest = rng.uniform(0.34, 0.42), rng.uniform(0.46, 0.56)
    yield Shape("trim", [(0, -0.7), (0, -0.92)], 0.06)
    yield Shape("trim", _oval(0, -0.92, 0.08, 0.08))
    for side in (-1, 1):
        yield Shape("trim", [(side * chest, -0.02), (side * (chest + 0.24), 0.16), (side * (chest + 0.2), 0.44)], 0.15)
        yield Shape("trim", [(side * 0.24, 0.6), (side * 0.24, 0.9)], 0.2)
        yield Shape("dark", _box(side * 0.27 - 0.17, 0.84, side * 0.27 + 0.17, 0.98, 0.05))
    yield Shape("body", _box(-chest, -0.12, chest, 0.68))
    yield Shape("body", _box(-head, -0.72, head, -0.16))
    for side in (-1, 1):
        yield Shape("light", _oval(side * head * 0.48, -0.5, 0.1, 0.1))
        yield Shape("dark", _oval(side * head * 0.48, -0.5, 0.045, 0.045))
    yield Shape("dark", [(-head * 0.5, -0.28), (head * 0.5, -0.28)], 0.06)


def _drum(rng: np.random.Generator) -> Iterator[Shape]:
    wide, top = rng.uniform(0.7, 0.8), rng.uniform(-0.3, -0.2)
    yield Shape("body", [(-wide, top), (wide, top), *_oval(0, 0.68, wide, 0.22, 0, 180)])
    yield Shape("trim", _oval(0, 0.66, wide, 0.22, 0, 180), 0.09)
    yield Shape("light", _oval(0, top, wide, 0.24))
    yield Shape("trim", _oval(0, top, wide, 0.24), 0.09)
    for side in (-1, 1):
        yield Shape("dark", [(-side * 0.1, top + 0.04), (side * 0.66, -0.88)], 0.055)
        yield Shape("dark", _oval(-side * 0.1, top + 0.04, 0.08, 0.07))


CATEGORIES: dict[str, Callable[[np.random.Generator], Iterator[Shape]]] = {
    "car": _car,
    "boat": _boat,
    "rocket": _rocket,
    "kite": _kite,
    "bear": _bear,
    "duck": _duck,
    "robot": _robot,
    "drum": _drum,
}
