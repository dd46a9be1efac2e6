"""What tells systems apart in a plot: a colour, a shape, and a name that fits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

COLOURS = 8
SHAPES = {  # round (0, 0), about as large as a circle of radius 1
    "circle": ((0, -1), "a1 1 0 1 1 0 2a1 1 0 1 1 0-2z"),
    "diamond": ((0, -1.3), "l1.3 1.3l-1.3 1.3l-1.3-1.3z"),
    "square": ((-0.9, -0.9), "h1.8v1.8h-1.8z"),
    "triangle": ((0, -1.2), "l1.2 2.1h-2.4z"),
    "wedge": ((0, 1.2), "l1.2-2.1h-2.4z"),
}
NAME_CHARS = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A name that fits beside a plot, a colour by its number, a shape by its name, filled or hollow."""

    label: str
    colour: int
    shape: str
    hollow: bool

    @property
    def path(self) -> str:
        """The outline, in units of the radius."""
        (x, y), rest = SHAPES[self.shape]
        return f"M{x} {y}{rest}"


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """A look for each system, the same in every plot; the first 80 differ, neighbours in colour and in shape."""
    shapes = tuple(SHAPES)  # their number and that of the colours have no factor in common
    filled = COLOURS * len(shapes)
    return {
        name: Look(
            label=label,
            colour=place % COLOURS,
            shape=shapes[place % len(shapes)],
            hollow=place // filled % 2 == 1,
        )
        for place, (name, label) in enumerate(_labels(list(names)).items())
    }


def _labels(names: Sequence[str]) -> dict[str, str]:
    """Short names as they are; long ones without their middle, and with a number where that makes two alike."""
    taken = {name for name in names if len(name) <= NAME_CHARS}
    found = {}
    for name in names:
        found[name] = name if name in taken else next(one for one in _shortened(name) if one not in taken)
        taken.add(found[name])
    return found


def _shortened(name: str) -> Iterator[str]:
    """`start…end`, `start… 2`, `start… 3`, and so on."""
    end = NAME_CHARS // 2
    yield f"{name[: NAME_CHARS - 1 - end].rstrip()}…{name[-end:].lstrip()}"
    for number in count(2):
        yield f"{name[: NAME_CHARS - 2 - len(str(number))].rstrip()}… {number}"
