"""A generated world whose truth is known: toys with pictures and texts, and people whose taste moves.

What a toy looks like (colour, pattern) stands only in its picture, what it is made of, its price and its brand only in
its text, its category in both. A shopper has a lasting profile (materials, prices) and a current taste (colours,
patterns) that moves in time; the next toy is drawn from the softmax of a utility that adds the two. A few purchases are
gifts, drawn from nowhere. So the next item follows from picture and text *in time*.

One seed decides everything, with a stream of its own for every toy, picture and shopper: a larger shop starts with the
same toys, and more shoppers leave those before them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from srec.data import folder as dataset_folder
from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.folder import Dataset
from srec.data.intake import normalize_image
from srec.data.interactions import Interactions
from srec.data.render import COLOURS, PATTERNS, STICKERS, Look, draw
from srec.data.report import IntakeReport
from srec.data.silhouettes import CATEGORIES
from srec.data.truth import DAY, GIFTS, MATERIALS, PRICES, Motion, Shopper, Taste, Toy, Truth
from srec.errors import InputError
from srec.types import Item

OPENING = 1_640_995_200  # 2022-01-01 UTC, in Unix seconds
CONTRADICTIONS = 0.05  # share of items whose text names a wrong colour, unless told otherwise
NAMED_COLOURS = 0.1  # share of items whose text names the right one, so that a named colour alone proves nothing
QUALITY = 0.6  # standard deviation, beside `truth.WEIGHTS`
BASKETS = 0.02  # share of purchases in the same second as the one before
_TOY, _TEXT, _PICTURE, _SHOPPER, _PURCHASES = range(5)  # streams of a seed

BRANDS = ("Fernhill", "Okapi & Co", "Brightwell", "Tiny Atlas", "Marlowe", "Pebble Lane", "Lumo", "Hobbs & Daughter")
NAMES = ("Otto", "Juno", "Pip", "Wanda", "Max", "Tilda", "Bruno", "Fips", "Nelly", "Oskar", "Ida", "Mo")
TITLES = (
    "{brand} {category} {name}",
    "{name} the {category}, by {brand}",
    "{name} – {category} by {brand}",
    "{brand}: {category} '{name}'",
    "The little {category} {name} ({brand})",
    "{category} {name}, {brand} workshop",
)
SENTENCES = (
    "A {category} made of {material} {purpose}.",
    "{name} is a {material} {category} {purpose}.",
    "This {category} is all {material}, made {purpose}.",
    "Solid {material}, patient company: a {category} {purpose}.",
    "We build {name} from {material}, {purpose}.",
    "Our {material} {category} {purpose}, finished by hand.",
)
PURPOSES = (
    "for rainy afternoons",
    "for the windowsill",
    "for small hands",
    "for long journeys",
    "for collectors",
    "for first birthdays",
    "for the garden",
    "for bedtime stories",
)
COLOUR_SENTENCES = (
    "It comes in {colour}.",
    "This is the {colour} one.",
    "Painted {colour} all over.",
    "Colour: {colour}.",
    "You get {name} in {colour}.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyShop:
    """A dataset, and the truth behind it."""

    data: Dataset
    truth: Truth

    def write(self, folder: str | Path) -> None:
        """Write the dataset as a dataset folder; the truth stays behind, the seed brings it back."""
        log = self.data.interactions
        dataset_folder.write(folder, self.data.items.values(), log.rows(), name=self.data.name)


def toyshop(*, items: int = 300, users: int = 200, seed: int = 0, contradictions: float = CONTRADICTIONS) -> ToyShop:
    """Generate a toy shop. Same arguments, same bytes; a picture is drawn when its item is asked for.

    `contradictions` is the share of items whose text names another colour than the picture shows.

    >>> from srec.data.toyshop import toyshop
    >>> shop = toyshop(items=30, users=3, seed=7)
    >>> shop.truth.toys["toy00001"].look.category in shop.data.items["toy00001"].title
    True
    """
    if min(items, users) < 2 or seed < 0 or not 0.0 <= contradictions <= 1.0 - NAMED_COLOURS:  # noqa: PLR2004 - a choice needs two
        raise InputError(
            f"a toy shop needs items >= 2, users >= 2, seed >= 0 and contradictions from 0 to {1.0 - NAMED_COLOURS}; "
            f"got items={items}, users={users}, seed={seed}, contradictions={contradictions}"
        )
    toys = [_toy(n, seed=seed, contradictions=contradictions) for n in range(items)]
    shoppers = [_shopper(n, seed=seed) for n in range(users)]
    truth = Truth(toys={toy.item_id: toy for toy in toys}, shoppers={one.user_id: one for one in shoppers})
    bought = [purchase for n in range(users) for purchase in _purchases(truth, shoppers[n], seed=seed, n=n)]
    catalogue = Catalogue(
        tuple(truth.toys),
        open_item=lambda n: OpenedItem(item=_item(toys[n], seed=seed, n=n)),
        report=IntakeReport(),
    )
    events = ((buy.user_id, buy.item_id, buy.at, buy.rating) for buy in bought)
    data = Dataset(name="toyshop", items=catalogue, interactions=Interactions.of(events, item_ids=catalogue.ids))
    gifts = frozenset((buy.user_id, buy.item_id) for buy in bought if buy.gift)
    return ToyShop(data=data, truth=replace(truth, gifts=gifts))


# Toys


def _toy(n: int, *, seed: int, contradictions: float) -> Toy:
    rng = np.random.default_rng((seed, _TOY, n))
    colours = tuple(COLOURS)
    look = Look(
        category=_one(rng, tuple(CATEGORIES)),
        colour=_one(rng, colours),
        pattern=_one(rng, PATTERNS),
        sticker=_one(rng, STICKERS) if rng.random() < 0.4 else "",  # noqa: PLR2004 - a share
        frame=_one(rng, colours) if rng.random() < 0.12 else "",  # noqa: PLR2004 - a share
    )
    other = _one(rng, [colour for colour in colours if colour != look.colour])
    chance = rng.random()
    named = other if chance < contradictions else look.colour if chance < contradictions + NAMED_COLOURS else ""
    return Toy(
        item_id=f"toy{n:05d}",
        look=look,
        material=_one(rng, MATERIALS),
        price=_one(rng, PRICES),
        brand=_one(rng, BRANDS),
        named_colour=named,
        quality=float(rng.normal(scale=QUALITY)),
    )


def _item(toy: Toy, *, seed: int, n: int) -> Item:
    """What the shop shows of a toy."""
    rng = np.random.default_rng((seed, _TEXT, n))
    words = {
        "brand": toy.brand,
        "category": toy.look.category,
        "material": toy.material,
        "name": _one(rng, NAMES),
        "purpose": _one(rng, PURPOSES),
        "colour": toy.named_colour,
    }
    sentences = [_one(rng, SENTENCES), *([_one(rng, COLOUR_SENTENCES)] if toy.named_colour else [])]
    picture = BytesIO()
    draw(toy.look, np.random.default_rng((seed, _PICTURE, n))).save(picture, "BMP")
    return Item(
        item_id=toy.item_id,
        title=_one(rng, TITLES).format(**words),
        attributes={
            "brand": toy.brand,
            "price": toy.price,
            "description": " ".join(sentence.format(**words) for sentence in sentences),
        },
        image=normalize_image(picture.getvalue()),
    )


# Shoppers


def _shopper(n: int, *, seed: int) -> Shopper:
    rng = np.random.default_rng((seed, _SHOPPER, n))
    materials = zip(rng.permutation(MATERIALS), (1.0, 0.6, 0.2, 0.0, 0.0), strict=True)
    prices = zip(rng.permutation(PRICES), (1.0, 0.4, 0.0), strict=True)
    lasting = {str(fact): weight for fact, weight in (*materials, *prices)}
    return Shopper(user_id=f"user{n:05d}", lasting=lasting, taste=_taste(rng))


def _taste(rng: np.random.Generator) -> Taste:
    """`drift` moves colour and pattern in turn, the other two both at once."""
    motions: tuple[tuple[Motion, int, float], ...] = (("drift", 12, 60.0), ("change", 6, 140.0), ("season", 2, 90.0))
    motion, count, days = motions[int(rng.integers(len(motions)))]
    phases = [(_one(rng, tuple(COLOURS)), _one(rng, PATTERNS))]
    while len(phases) < count:
        colour, pattern = phases[-1]
        moves_colour, moves_pattern = (
            (len(phases) % 2 == 0, len(phases) % 2 == 1) if motion == "drift" else (True, True)
        )
        phases.append(
            (
                _one(rng, [other for other in COLOURS if other != colour]) if moves_colour else colour,
                _one(rng, [other for other in PATTERNS if other != pattern]) if moves_pattern else pattern,
            )
        )
    phase_days = days * rng.uniform(0.75, 1.25)
    since = OPENING - int(rng.uniform(0, phase_days) * DAY)
    return Taste(motion=motion, phases=tuple(phases), phase_days=phase_days, since=since)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Purchase:
    user_id: str
    item_id: str
    at: int
    rating: float
    gift: bool


def _purchases(truth: Truth, shopper: Shopper, *, seed: int, n: int) -> Iterator[_Purchase]:
    """12 to 36 toys, each bought once, mostly days apart; fewer where the shop is so small that half of it is less."""
    rng = np.random.default_rng((seed, _PURCHASES, n))
    item_ids = tuple(truth.toys)
    owned = np.zeros(len(item_ids), dtype=np.bool_)
    at = OPENING + int(rng.uniform(0, 365) * DAY)
    days_between = rng.uniform(4, 14)
    for _ in range(min(int(rng.integers(12, 37)), len(item_ids) // 2)):
        gift = bool(rng.random() < GIFTS)
        chances = ~owned / (~owned).sum() if gift else truth.choice(shopper.user_id, at, owned=owned)
        row = int(rng.choice(len(item_ids), p=chances))
        rating = _rating(truth.utility(truth.liking(shopper.user_id, at)), row, rng)
        yield _Purchase(user_id=shopper.user_id, item_id=item_ids[row], at=at, rating=rating, gift=gift)
        owned[row] = True
        at += 0 if rng.random() < BASKETS else 60 + int(rng.exponential(days_between) * DAY)


def _rating(worth: np.typing.NDArray[np.float64], row: int, rng: np.random.Generator) -> float:
    """1 to 5 by how much the buyer likes the toy, from the worst to the best in the shop; gifts included."""
    liking = (worth[row] - worth.min()) / max(float(np.ptp(worth)), 1e-9)
    return float(np.clip(np.rint(1.2 + 4.0 * liking + rng.normal(scale=0.5)), 1, 5))


def _one(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]
