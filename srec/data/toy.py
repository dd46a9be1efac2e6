"""A toy of the toy shop: what is true of it, and what its text claims of its look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from srec.data.render import COLOURS, PATTERNS, Look

# Aspect -> value -> the words by which texts say it, the value itself first.
FORMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "category": {
        "car": ("car", "automobile", "roadster"),
        "boat": ("boat", "ship", "sailboat"),
        "rocket": ("rocket", "spaceship", "spacecraft"),
        "kite": ("kite", "stunt kite", "wind kite"),
        "bear": ("bear", "teddy", "teddy bear"),
        "duck": ("duck", "duckling", "ducky"),
        "robot": ("robot", "android", "automaton"),
        "drum": ("drum", "tom-tom", "snare drum"),
    },
    "colour": {
        "red": ("red", "scarlet", "crimson"),
        "orange": ("orange", "tangerine"),
        "yellow": ("yellow", "lemon", "canary yellow"),
        "green": ("green", "emerald", "leaf green"),
        "teal": ("teal", "turquoise", "petrol"),
        "blue": ("blue", "cobalt", "royal blue"),
        "purple": ("purple", "violet", "plum"),
        "pink": ("pink", "rose pink", "salmon"),
    },
    "pattern": {
        "plain": ("plain", "unpatterned", "single-tone"),
        "striped": ("striped", "stripy", "pinstriped"),
        "dotted": ("dotted", "polka-dot", "spotted"),
        "checked": ("checked", "chequered", "gingham"),
        "zigzag": ("zigzag", "zig-zag", "chevron"),
    },
    "material": {
        "wood": ("wood", "wooden", "beech", "oak"),
        "tin": ("tin", "tinplate", "sheet-metal"),
        "felt": ("felt", "felted", "wool-felt"),
        "rubber": ("rubber", "latex", "caoutchouc"),
        "bamboo": ("bamboo", "bamboo-cane", "bamboo-fibre"),
    },
    "price": {
        "budget": ("budget", "low-cost", "inexpensive", "wallet-friendly"),
        "mid-range": ("mid-range", "mid-priced", "moderately priced"),
        "premium": ("premium", "high-end", "luxury", "deluxe"),
    },
    "brand": {
        "Fernhill": ("Fernhill", "Fern Hill", "Fernhill Toys"),
        "Okapi & Co": ("Okapi & Co", "Okapi", "Okapi and Company"),
        "Brightwell": ("Brightwell", "House of Brightwell"),
        "Tiny Atlas": ("Tiny Atlas", "TinyAtlas"),
        "Marlowe": ("Marlowe", "Marlowe Ltd"),
        "Pebble Lane": ("Pebble Lane", "PebbleLane", "Pebble Lane Toys"),
        "Lumo": ("Lumo", "Lumo Studio"),
        "Hobbs & Daughter": ("Hobbs & Daughter", "Hobbs and Daughter", "Hobbs"),
    },
}
LIKED = ("colour", "pattern", "material", "price")  # what shoppers choose by
CLAIMABLE = ("colour", "pattern")  # what the picture shows and a text may claim
VALUES = {aspect: tuple(FORMS[aspect]) for aspect in LIKED}
MATERIALS, PRICES, BRANDS = VALUES["material"], VALUES["price"], tuple(FORMS["brand"])
CLAIMS = {"colour": 0.15, "pattern": 0.1}  # share of items whose text names what the picture shows, rightly
CONTRADICTIONS = 0.1  # share of items whose text names one of the two wrongly, unless told otherwise

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """What is true of an item.

    `says` is what its text claims of colour and pattern, rightly or not; `box` a colour that its text names of
    something else. `quality` is what everybody finds in it, the source of popularity.
    """

    item_id: str
    look: Look
    material: str
    price: str
    brand: str
    says: Mapping[str, str] = field(default_factory=dict)
    box: str = ""
    quality: float = 0.0

    @property
    def facts(self) -> Mapping[str, str]:
        """What shoppers like it for, by aspect."""
        return {
            "colour": self.look.colour,
            "pattern": self.look.pattern,
            "material": self.material,
            "price": self.price,
        }

    @property
    def contradictions(self) -> tuple[str, ...]:
        """The aspects of which the text claims something else than the picture shows."""
        return tuple(aspect for aspect, said in self.says.items() if said != self.facts[aspect])

    @property
    def contradicts(self) -> bool:
        """Whether text and picture disagree in anything."""
        return bool(self.contradictions)

    @property
    def noise(self) -> tuple[str, ...]:
        """What picture and text hold and the product does not: a sticker's words, colours of sticker, frame and box.

        A colour that the product has as well, or that its text claims, is left out: naming it is no leak.
        """
        named = [word for word in self.look.sticker.lower().split() if word in COLOURS]
        strange = [*named, self.look.frame, self.box]
        own = {"", self.look.colour, self.says.get("colour", "")}
        sticker = [self.look.sticker] if self.look.sticker else []
        return tuple(dict.fromkeys([*sticker, *(colour for colour in strange if colour not in own)]))


def right_claim(aspect: str, *, contradictions: float) -> float:
    """Chance that a text names an aspect rightly if not wrongly, so that `CLAIMS` are shares of all texts."""
    return CLAIMS[aspect] / (1.0 - contradictions / 2)


def silent_share(*, contradictions: float) -> float:
    """Share of the texts that claim nothing of the look."""
    silent = 1.0 - contradictions
    for aspect in CLAIMABLE:
        silent *= 1.0 - right_claim(aspect, contradictions=contradictions)
    return silent


def believed(says: Mapping[str, str], *, contradictions: float) -> Floats:
    """P(colour, pattern | what the text claims), of shape [colours, patterns], in the order of `COLOURS`, `PATTERNS`.

    A text errs in the colour with probability c / 2, in the pattern with c / 2, in nothing with 1 - c, for c the share
    of contradictions; where it errs it names any other value, where it does not it names the right one now and then.
    """
    total = np.zeros((len(COLOURS), len(PATTERNS)))
    errors: tuple[tuple[str, float], ...] = (
        ("", 1.0 - contradictions),
        ("colour", contradictions / 2),
        ("pattern", contradictions / 2),
    )
    for wrong, chance in errors:
        colour, pattern = (
            _likelihood(aspect, says.get(aspect), wrong=wrong == aspect, contradictions=contradictions)
            for aspect in CLAIMABLE
        )
        total += chance * np.outer(colour, pattern)
    looks: Floats = total / total.sum()
    return looks


def _likelihood(aspect: str, said: str | None, *, wrong: bool, contradictions: float) -> Floats:
    """P(a text says this of an aspect | the aspect's true value), for each value; said is None where it is silent."""
    values = VALUES[aspect]
    if wrong:
        return np.array([0.0 if said in {None, value} else 1.0 / (len(values) - 1) for value in values])
    right = right_claim(aspect, contradictions=contradictions)
    return np.array([1.0 - right if said is None else right if said == value else 0.0 for value in values])
