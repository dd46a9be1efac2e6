"""What is true in the toy shop: of every toy, of every shopper at every time, and of every choice of a candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from srec.data.render import COLOURS, PATTERNS
from srec.data.shopper import LASTING_LIKINGS, Shopper
from srec.data.toy import CLAIMABLE, CONTRADICTIONS, FORMS, LIKED, MATERIALS, PRICES, VALUES, Floats, Toy, believed
from srec.errors import CandidateError
from srec.types import Case

__all__ = ["FORMS", "Shopper", "Toy", "Truth"]

WEIGHTS = {"colour": 4.6, "pattern": 3.4, "material": 2.4, "price": 1.8}  # utility of full liking over none
GIFTS = 0.06  # share of purchases made for somebody else

Missing = Literal["image", "order", "profile"]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Toys and shoppers by id, and the purchases (user id, item id) that were gifts.

    `contradictions` is the share of items whose text was made to name a wrong colour or pattern.
    """

    toys: Mapping[str, Toy] = field(repr=False)
    shoppers: Mapping[str, Shopper] = field(repr=False)
    gifts: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)
    contradictions: float = CONTRADICTIONS

    @property
    def held_out_items(self) -> tuple[str, ...]:
        """Items whose combination of category, colour and pattern is kept from all training, in order of the shop."""
        return tuple(item_id for item_id, toy in self.toys.items() if toy.look.held_out)

    def liking(self, user_id: str, at: int) -> dict[str, float]:
        """What a user likes at the Unix second `at`: colours and patterns, materials and prices, each in [0, 1]."""
        shopper = self.shoppers[user_id]
        return {**shopper.lasting, **shopper.taste.at(at)}

    def taste_at(self, user_id: str, at: int) -> dict[str, str]:
        """A user's favourite colour and pattern at the Unix second `at`, by aspect."""
        return self.shoppers[user_id].taste.favourite(at)

    def preferred(self, user_id: str) -> dict[str, tuple[str, ...]]:
        """What a user likes for good, best first: their two `material`s and their `price` tier."""
        lasting = self.shoppers[user_id].lasting
        return {
            aspect: tuple(sorted(VALUES[aspect], key=lambda value: -lasting.get(value, 0.0))[:count])
            for aspect, count in (("material", 2), ("price", 1))
        }

    def utility(self, liking: Mapping[str, float]) -> Floats:
        """What each toy, in the order of `toys`, is worth to somebody who likes these facts."""
        worth: Floats = self._quality + _worth(liking)[self._kinds]
        return worth

    def worth(self, row: int, liking: Mapping[str, float]) -> float:
        """The utility of the toy at one position."""
        return float(self._quality[row] + _worth(liking)[self._kinds[row]])

    def choice(self, user_id: str, at: int, *, owned: NDArray[np.bool_]) -> Floats:
        """Softmax of the utility: what a user takes for themselves, of the toys not `owned`, bool[toys]."""
        return self._choice(_worth(self.liking(user_id, at))[None], owned)

    def probability(self, case: Case, without: Missing | None = None) -> Floats:
        """Probability of each candidate, in order, given that the user takes one of them at `case.at`.

        To rank by it is the best that can be done, so its AUC and NDCG are the ceiling of every ranker. A toy j of
        utility u(j) is taken with probability p(j) = g / n + (1 - g) exp u(j) / sum over k of exp u(k), where g is the
        share of gifts and n counts the toys not owned. `without` gives the ceiling of those who lack something, by
        the mean over what it could be:

        - "image": over looks, exp u(j) becomes the sum over looks l of P(l | what the text of j claims) exp u(j, l),
          above and below the line. P(l | claims) follows from the stated shares of right and wrong claims; where a text
          claims nothing, all looks are alike.
        - "order": over times, p(j) becomes its mean over the times of the user's own history and `case.at`, as the
          present may be any of them. Without a history nothing is lost.
        - "profile": over people, p(j) becomes its mean over all lasting likings that shoppers are drawn from.
        """
        owned, rows = self._placed(case)
        if without == "image":
            own = self._choice_unseen(case, owned)
        else:
            own = self._choice(self._worths(case, without), owned)
        chances = (1.0 - GIFTS) * own[rows] + GIFTS * ~owned[rows] / (~owned).sum()
        among: Floats = chances / chances.sum()
        return among

    def _placed(self, case: Case) -> tuple[NDArray[np.bool_], list[int]]:
        """Which toys the user owned, bool[toys], and where the candidates stand."""
        strange = [item.item_id for item in case.candidates if item.item_id not in self._rows]
        if strange or case.user_id not in self.shoppers:
            name = f"item {strange[0]!r}" if strange else f"user {case.user_id!r}"
            raise CandidateError(f"case {case.case_id}: {name} is not of this toy shop; give a case of its own data")
        owned = np.zeros(len(self.toys), dtype=np.bool_)
        owned[[self._rows[event.item.item_id] for event in case.history.events]] = True
        rows = [self._rows[item.item_id] for item in case.candidates]
        if owned[rows].all():
            raise CandidateError(f"case {case.case_id}: the user owns every candidate; give one that is new")
        return owned, rows

    def _worths(self, case: Case, without: Missing | None) -> Floats:
        """What the kinds of toys may be worth to the user as far as is known, one row for each way it may be."""
        if without == "profile":
            return _LASTING_WORTHS + _worth(self.shoppers[case.user_id].taste.at(case.at))
        past = [event.at for event in case.history.events] if without == "order" else []
        return np.stack([_worth(self.liking(case.user_id, at)) for at in (*past, case.at)])

    def _choice(self, worths: Floats, owned: NDArray[np.bool_]) -> Floats:
        """Mean over the rows of `worths` of the softmax, for each toy; by kind, as toys of a kind are liked alike."""
        appeal = np.where(owned, 0.0, self._appeal)
        stock = np.bincount(self._kinds, weights=appeal, minlength=worths.shape[1])
        weights = np.exp(worths - worths.max(axis=1, keepdims=True))
        chances = (weights / (weights * stock).sum(axis=1, keepdims=True)).mean(axis=0)
        each: Floats = appeal * chances[self._kinds]
        return each

    def _choice_unseen(self, case: Case, owned: NDArray[np.bool_]) -> Floats:
        """What the user would seem to take, for each toy, to somebody who knows the texts only."""
        lasting = self.shoppers[case.user_id].lasting
        taste = np.exp(_worth(self.shoppers[case.user_id].taste.at(case.at)).reshape(_SHAPE)[:, :, 0, 0])
        look = np.array([(belief * taste).sum() for belief in self._beliefs])
        odds = np.where(owned, 0.0, np.exp(self.utility(lasting)) * look[self._claims])
        each: Floats = odds / odds.sum()
        return each

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.toys)}

    @cached_property
    def _quality(self) -> Floats:
        return np.array([toy.quality for toy in self.toys.values()])

    @cached_property
    def _appeal(self) -> Floats:
        appeal: Floats = np.exp(self._quality)
        return appeal

    @cached_property
    def _kinds(self) -> NDArray[np.int64]:
        """Per toy, the place of its facts in a table of shape `_SHAPE`, flat."""
        places = [np.array([VALUES[aspect].index(toy.facts[aspect]) for toy in self.toys.values()]) for aspect in LIKED]
        kinds: NDArray[np.int64] = np.ravel_multi_index(places, _SHAPE).astype(np.int64)
        return kinds

    @cached_property
    def _beliefs(self) -> list[Floats]:
        """For each claim of `_CLAIMS`, the probability of every (colour, pattern) of the toy."""
        return [believed(claim, contradictions=self.contradictions) for claim in _CLAIMS]

    @cached_property
    def _claims(self) -> NDArray[np.int64]:
        """Per toy, the place in `_CLAIMS` of what its text claims."""
        places = {tuple(claim.get(aspect) for aspect in CLAIMABLE): place for place, claim in enumerate(_CLAIMS)}
        said = (tuple(toy.says.get(aspect) for aspect in CLAIMABLE) for toy in self.toys.values())
        return np.array([places[claim] for claim in said], dtype=np.int64)


def _worth(liking: Mapping[str, float]) -> Floats:
    """Utility of every kind of toy, less its quality: a table of shape `_SHAPE`, flat."""
    worth = np.zeros(())
    for aspect in LIKED:
        worth = np.add.outer(worth, [WEIGHTS[aspect] * liking.get(value, 0.0) for value in VALUES[aspect]])
    flat: Floats = worth.reshape(-1)
    return flat


_SHAPE = tuple(len(VALUES[aspect]) for aspect in LIKED)
_CLAIMS: tuple[dict[str, str], ...] = tuple(
    {aspect: value for aspect, value in zip(CLAIMABLE, pair, strict=True) if value}
    for pair in product(("", *COLOURS), ("", *PATTERNS))
)
# One row for each liking of materials and prices that a shopper may have, all equally likely.
_LASTING_WORTHS = np.stack(
    [
        _worth(dict((*zip(MATERIALS, by_material, strict=True), *zip(PRICES, by_price, strict=True))))
        for by_material in sorted(set(permutations(LASTING_LIKINGS["material"])))
        for by_price in sorted(set(permutations(LASTING_LIKINGS["price"])))
    ]
)
