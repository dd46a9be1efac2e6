"""A generated world whose truth is known: toys with pictures and texts, and people whose taste moves.

What a toy looks like (colour, pattern) stands only in its picture, unless its text claims it, rightly or not; what it
is made of, its price and its brand only in its text; its category in both. A shopper has a lasting profile (materials,
prices) and a current taste (colours, patterns) that moves in time; the next toy is drawn from the softmax of a utility
that adds the two. A few purchases are gifts, drawn from nowhere. So the next item follows from picture and text *in
time*.

One seed decides everything, with a stream of its own for every toy, text, picture and shopper: a larger shop starts
with the same toys, more shoppers leave those before them as they are, and any number of processes makes the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from srec.data import folder as dataset_folder
from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.folder import Dataset
from srec.data.interactions import Interactions, arrange
from srec.data.recipe import Recipe, Stream, made_in_order
from srec.data.render import COLOURS, PATTERNS
from srec.data.report import IntakeReport
from srec.data.shopper import DAY, LASTING_LIKINGS, Motion, Shopper, Taste
from srec.data.shopwords import COLUMNS, Wordings, pick
from srec.data.toy import CONTRADICTIONS, FORMS, MATERIALS, PRICES
from srec.data.truth import GIFTS, WEIGHTS, Truth
from srec.errors import InputError
from srec.progress import Tick, bar
from srec.types import Item

OPENING = 1_640_995_200  # 2022-01-01 UTC, in Unix seconds
MOST_CONTRADICTIONS = 0.9  # beyond it, a text that claims nothing would hardly occur
BASKETS = 0.02  # share of purchases in the same second as the one before
HELD_OUT_USERS = 5  # one in so many
CHOICES = FORMS  # what questions about a toy may be answered by: aspect -> value -> word forms


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyShop:
    """A dataset, and the truth behind it."""

    data: Dataset
    truth: Truth
    recipe: Recipe = field(repr=False)

    @property
    def held_out_users(self) -> tuple[str, ...]:
        """A fifth of the users, to be kept from all training; a larger shop has the same ones, and more."""
        return tuple(user_id for user_id, shopper in self.truth.shoppers.items() if shopper.held_out)

    @property
    def training_users(self) -> tuple[str, ...]:
        """All other users."""
        held_out = set(self.held_out_users)
        return tuple(user_id for user_id in self.truth.shoppers if user_id not in held_out)

    @property
    def training_items(self) -> tuple[str, ...]:
        """All items but those that are held out (`Truth.held_out_items`)."""
        held_out = set(self.truth.held_out_items)
        return tuple(item_id for item_id in self.truth.toys if item_id not in held_out)

    def write(self, folder: str | Path, *, workers: int | None = None) -> None:
        """Write the dataset as a dataset folder; the truth stays behind, the seed brings it back.

        Pictures are drawn by `workers` processes (None: one for each core, where there are enough pictures), written in
        order and not held; the bytes do not depend on how many. A script that writes with more than one worker needs
        the usual `if __name__ == "__main__":`, as they import it.
        """
        count = len(self.data.items)
        items = made_in_order(self.recipe, count, workers=workers)
        with closing(items), bar("toys", total=count) as tick:
            shown = _counted(items, tick)
            rows = self.data.interactions.rows()
            dataset_folder.write(folder, shown, rows, name=self.data.name, attributes=COLUMNS)


def toyshop(
    *,
    items: int = 300,
    users: int = 200,
    seed: int = 0,
    contradictions: float = CONTRADICTIONS,
    wordings: Wordings = "seen",
) -> ToyShop:
    """Generate a toy shop. Same arguments, same bytes; a picture is drawn when its item is asked for.

    `contradictions` is the share of items whose text names another colour (half of them) or another pattern than the
    picture shows, from 0 to 0.9; there are two items and two users at least. `wordings` are the titles and sentences
    to write with: those that may be trained on, those held out, or all; toys, pictures and purchases are the same for
    each.

    >>> from srec.data.toyshop import toyshop
    >>> shop = toyshop(items=30, users=3, seed=7)
    >>> shop.truth.toys["toy00001"].look.category, shop.data.items["toy00001"].title
    ('duck', 'Proud duckling for winter evenings, Lumo')
    """
    if min(items, users) < 2 or seed < 0 or not 0.0 <= contradictions <= MOST_CONTRADICTIONS:  # noqa: PLR2004 - a choice needs two
        raise InputError(
            f"a toy shop needs items >= 2, users >= 2, seed >= 0 and contradictions from 0 to {MOST_CONTRADICTIONS}; "
            f"got items={items}, users={users}, seed={seed}, contradictions={contradictions}"
        )
    if wordings not in get_args(Wordings):
        raise InputError(f"wordings of a toy shop are {', '.join(get_args(Wordings))}; got {wordings!r}")
    recipe = Recipe(seed=seed, contradictions=contradictions, wordings=wordings)
    toys = [recipe.toy(n) for n in range(items)]
    shoppers = [_shopper(n, seed=seed) for n in range(users)]
    truth = Truth(
        toys={toy.item_id: toy for toy in toys},
        shoppers={one.user_id: one for one in shoppers},
        contradictions=contradictions,
    )
    log, gifts = _bought(truth, seed=seed)
    catalogue = Catalogue(log.item_ids, open_item=lambda n: OpenedItem(item=recipe.item(n)), report=IntakeReport())
    data = Dataset(name="toyshop", items=catalogue, interactions=log)
    return ToyShop(data=data, truth=replace(truth, gifts=gifts), recipe=recipe)


def _counted(items: Iterator[Item], tick: Tick) -> Iterator[Item]:
    start = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        tick(finished=number, rate=number / max(time.monotonic() - start, 1e-9))


# Shoppers


def _shopper(n: int, *, seed: int) -> Shopper:
    rng = np.random.default_rng((seed, Stream.SHOPPER, n))
    materials = zip(rng.permutation(MATERIALS), LASTING_LIKINGS["material"], strict=True)
    prices = zip(rng.permutation(PRICES), LASTING_LIKINGS["price"], strict=True)
    lasting = {str(fact): weight for fact, weight in (*materials, *prices)}
    block, place = divmod(n, HELD_OUT_USERS)
    chosen = np.random.default_rng((seed, Stream.HELD_OUT, block)).integers(HELD_OUT_USERS)
    return Shopper(user_id=f"user{n:05d}", lasting=lasting, taste=_taste(rng), held_out=bool(chosen == place))


def _taste(rng: np.random.Generator) -> Taste:
    """`drift` moves colour and pattern in turn, the other two both at once."""
    motions: tuple[tuple[Motion, int, float], ...] = (("drift", 12, 60.0), ("change", 6, 140.0), ("season", 2, 90.0))
    motion, count, days = motions[int(rng.integers(len(motions)))]
    phases = [(pick(rng, tuple(COLOURS)), pick(rng, PATTERNS))]
    while len(phases) < count:
        colour, pattern = phases[-1]
        moves_colour, moves_pattern = (
            (len(phases) % 2 == 0, len(phases) % 2 == 1) if motion == "drift" else (True, True)
        )
        phases.append(
            (
                pick(rng, [other for other in COLOURS if other != colour]) if moves_colour else colour,
                pick(rng, [other for other in PATTERNS if other != pattern]) if moves_pattern else pattern,
            )
        )
    phase_days = days * rng.uniform(0.75, 1.25)
    since = OPENING - int(rng.uniform(0, phase_days) * DAY)
    return Taste(motion=motion, phases=tuple(phases), phase_days=phase_days, since=since)


# Purchases


@dataclass(frozen=True, slots=True, kw_only=True)
class _Basket:
    """What one shopper bought, as columns; `row` is a place in the shop."""

    row: NDArray[np.int32]
    at: NDArray[np.int64]
    rating: NDArray[np.float32]
    gift: NDArray[np.bool_]


def _bought(truth: Truth, *, seed: int) -> tuple[Interactions, frozenset[tuple[str, str]]]:
    """The log of all shoppers, and those (user id, item id) in it that were gifts."""
    user_ids, item_ids = tuple(truth.shoppers), tuple(truth.toys)
    baskets = [_basket(truth, user_id, seed=seed, n=n) for n, user_id in enumerate(user_ids)]
    gifts = frozenset(
        (user_id, item_ids[row])
        for user_id, basket in zip(user_ids, baskets, strict=True)
        for row in basket.row[basket.gift]
    )
    log, _ = arrange(
        user_ids=user_ids,
        item_ids=item_ids,
        user=np.repeat(np.arange(len(baskets), dtype=np.int32), [len(basket.row) for basket in baskets]),
        item=np.concatenate([basket.row for basket in baskets]),
        at=np.concatenate([basket.at for basket in baskets]),
        rating=np.concatenate([basket.rating for basket in baskets]),
    )
    return log, gifts


def _basket(truth: Truth, user_id: str, *, seed: int, n: int) -> _Basket:
    """12 to 36 toys, each bought once, mostly days apart; fewer where the shop is so small that half of it is less."""
    rng = np.random.default_rng((seed, Stream.PURCHASES, n))
    owned = np.zeros(len(truth.toys), dtype=np.bool_)
    at = OPENING + int(rng.uniform(0, 365) * DAY)
    days_between = rng.uniform(4, 14)
    count = min(int(rng.integers(12, 37)), len(owned) // 2)
    events: list[tuple[int, int, float, bool]] = []
    for _ in range(count):
        gift = bool(rng.random() < GIFTS)
        chances = (~owned).astype(np.float64) if gift else truth.choice(user_id, at, owned=owned)
        reached = np.cumsum(chances)
        row = int(np.searchsorted(reached, rng.random() * reached[-1], side="right"))
        events.append((row, at, _rating(truth.worth(row, truth.liking(user_id, at)), rng), gift))
        owned[row] = True
        at += 0 if rng.random() < BASKETS else 60 + int(rng.exponential(days_between) * DAY)
    rows, times, ratings, gifts = zip(*events, strict=True)
    return _Basket(
        row=np.array(rows, np.int32),
        at=np.array(times, np.int64),
        rating=np.array(ratings, np.float32),
        gift=np.array(gifts, np.bool_),
    )


def _rating(worth: float, rng: np.random.Generator) -> float:
    """1 to 5 by how much of all that could be liked the buyer likes in the toy; gifts included."""
    liking = worth / sum(WEIGHTS.values())
    return float(np.clip(np.rint(1.2 + 4.0 * liking + rng.normal(scale=0.5)), 1, 5))
