"""Shoppers of the toy shop: what they like for good, and a taste in looks that moves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DAY = 86_400  # seconds
# Liking of a shopper's first, second, … choice of five materials and three price tiers; who likes which is drawn.
LASTING_LIKINGS = {"material": (1.0, 0.6, 0.2, 0.0, 0.0), "price": (1.0, 0.4, 0.0)}

Motion = Literal["drift", "change", "season"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taste:
    """A favourite (colour, pattern) that moves through `phases`, each `phase_days` long, and round again.

    `drift` blends every phase into the next, `change` jumps, `season` jumps to and fro between two phases. The first
    phase begins at the Unix second `since`.
    """

    motion: Motion
    phases: tuple[tuple[str, str], ...]
    phase_days: float
    since: int

    def at(self, at: int) -> dict[str, float]:
        """Liking in (0, 1] of the colours and patterns liked at the Unix second `at`; of all others it is 0."""
        position = self._position(at)
        now = math.floor(position)
        passed = position - now if self.motion == "drift" else 0.0
        liking: dict[str, float] = {}
        for phase, weight in ((now, 1.0 - passed), (now + 1, passed)):
            for fact in self._phase(phase):
                liking[fact] = liking.get(fact, 0.0) + weight
        return {fact: weight for fact, weight in liking.items() if weight > 0.0}

    def favourite(self, at: int) -> dict[str, str]:
        """The colour and the pattern liked most at the Unix second `at`, by aspect."""
        colour, pattern = self._phase(math.floor(self._position(at) + self._lead))
        return {"colour": colour, "pattern": pattern}

    def changes(self, since: int, until: int) -> tuple[int, ...]:
        """Unix seconds in (since, until], ascending, from which on the favourite is another than just before."""
        first = math.floor(self._position(since) + self._lead)
        last = math.floor(self._position(until) + self._lead)
        return tuple(
            math.ceil(self.since + (phase - self._lead) * self.phase_days * DAY)
            for phase in range(first + 1, last + 1)
            if self._phase(phase) != self._phase(phase - 1)
        )

    @property
    def _lead(self) -> float:
        """By how much of a phase the next favourite takes over before that phase is reached."""
        return 0.5 if self.motion == "drift" else 0.0

    def _position(self, at: int) -> float:
        return (at - self.since) / (self.phase_days * DAY)

    def _phase(self, number: int) -> tuple[str, str]:
        return self.phases[number % len(self.phases)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shopper:
    """What is true of a user: `lasting`, the liking in [0, 1] of materials and prices, and a taste that moves.

    `held_out` keeps a fifth of the users from all training.
    """

    user_id: str
    lasting: Mapping[str, float]
    taste: Taste
    held_out: bool = False
