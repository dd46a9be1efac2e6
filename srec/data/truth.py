"""What is true in the toy shop: of every toy, of every shopper at every time, and of every choice of a candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srec.data.render import COLOURS, PATTERNS, Look
from srec.errors import CandidateError
from srec.types import Case

MATERIALS = ("wood", "tin", "felt", "rubber", "bamboo")
PRICES = ("budget", "mid-range", "premium")
VALUES: dict[str, Sequence[str]] = {
    "colour": tuple(COLOURS),
    "pattern": PATTERNS,
    "material": MATERIALS,
    "price": PRICES,
}
WEIGHTS = {"colour": 4.6, "pattern": 3.4, "material": 2.4, "price": 1.8}  # utility of full liking over none
GIFTS = 0.06  # share of purchases made for somebody else
DAY = 86_400  # seconds

Motion = Literal["drift", "change", "season"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """What is true of an item. `named_colour` is the colour that its text names, if it names one.

    `quality` is what everybody finds in it, the source of popularity.
    """

    item_id: str
    look: Look
    material: str
    price: str
    brand: str
    named_colour: str = ""
    quality: float = 0.0

    @property
    def contradicts(self) -> bool:
        """Whether text and picture name different colours."""
        return self.named_colour not in {"", self.look.colour}

    @property
    def facts(self) -> Mapping[str, str]:
        """What shoppers like it for, by aspect."""
        return {
            "colour": self.look.colour,
            "pattern": self.look.pattern,
            "material": self.material,
            "price": self.price,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Taste:
    """A favourite colour and pattern that move through `phases`, each `phase_days` long, and round again.

    `drift` blends every phase into the next, `change` jumps, `season` jumps to and fro between two phases.
    """

    motion: Motion
    phases: tuple[tuple[str, str], ...]
    phase_days: float
    since: int

    def at(self, at: int) -> dict[str, float]:
        """Liking in (0, 1] of the colours and patterns liked at the Unix second `at`; of all others it is 0."""
        position = (at - self.since) / (self.phase_days * DAY)
        now = math.floor(position)
        passed = position - now if self.motion == "drift" else 0.0
        liking: dict[str, float] = {}
        for phase, weight in ((now, 1.0 - passed), (now + 1, passed)):
            for fact in self.phases[phase % len(self.phases)]:
                liking[fact] = liking.get(fact, 0.0) + weight
        return {fact: weight for fact, weight in liking.items() if weight > 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shopper:
    """What is true of a user: `lasting`, the liking in [0, 1] of materials and prices, and a taste that moves."""

    user_id: str
    lasting: Mapping[str, float]
    taste: Taste


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Toys and shoppers by id, and the purchases (user id, item id) that were gifts."""

    toys: Mapping[str, Toy]
    shoppers: Mapping[str, Shopper]
    gifts: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)

    def liking(self, user_id: str, at: int) -> dict[str, float]:
        """What a user likes at the Unix second `at`: colours and patterns, materials and prices, each in [0, 1]."""
        shopper = self.shoppers[user_id]
        return {**shopper.lasting, **shopper.taste.at(at)}

    def utility(self, liking: Mapping[str, float]) -> NDArray[np.float64]:
        """What each toy, in the order of `toys`, is worth to somebody who likes these facts."""
        worth = np.array(self._quality)
        for aspect, values in VALUES.items():
            worth += WEIGHTS[aspect] * np.array([liking.get(value, 0.0) for value in values])[self._codes[aspect]]
        return worth

    def choice(self, user_id: str, at: int, *, owned: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Softmax of the utility: what a user takes for themselves, of the toys not `owned`, bool[toys]."""
        worth = np.where(owned, -np.inf, self.utility(self.liking(user_id, at)))
        weights = np.exp(worth - worth.max())
        chances: NDArray[np.float64] = weights / weights.sum()
        return chances

    def probability(self, case: Case) -> NDArray[np.float64]:
        """Probability of each candidate, in order, given that the user takes one of them at `case.at`.

        To rank by it is the best that can be done, so its AUC and NDCG are the ceiling of every ranker.
        """
        strange = [item.item_id for item in case.candidates if item.item_id not in self._rows]
        if strange or case.user_id not in self.shoppers:
            name = f"item {strange[0]!r}" if strange else f"user {case.user_id!r}"
            raise CandidateError(f"case {case.case_id}: {name} is not of this toy shop; give a case of its own data")
        owned = np.zeros(len(self.toys), dtype=np.bool_)
        owned[[self._rows[event.item.item_id] for event in case.history.events]] = True
        rows = [self._rows[item.item_id] for item in case.candidates]
        if owned[rows].all():
            raise CandidateError(f"case {case.case_id}: the user owns every candidate; give one that is new")
        chances = (1.0 - GIFTS) * self.choice(case.user_id, case.at, owned=owned) + GIFTS * ~owned / (~owned).sum()
        chances = chances[rows]
        among: NDArray[np.float64] = chances / chances.sum()
        return among

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.toys)}

    @cached_property
    def _quality(self) -> NDArray[np.float64]:
        return np.array([toy.quality for toy in self.toys.values()])

    @cached_property
    def _codes(self) -> dict[str, NDArray[np.int64]]:
        """Per aspect, the position in `VALUES` of what each toy has."""
        return {
            aspect: np.array([values.index(toy.facts[aspect]) for toy in self.toys.values()], dtype=np.int64)
            for aspect, values in VALUES.items()
        }
