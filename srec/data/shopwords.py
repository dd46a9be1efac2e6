"""How the toy shop writes: titles and sentences about a toy, and sentences that say nothing of it.

Every template stands on one of two sides: `seen` ones may be trained on, `held_out` ones are written only when asked
for. A slot takes any of the word forms of its value, so that one fact reads in many ways.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Literal

import numpy as np

from srec.data.toy import FORMS, Toy

Wordings = Literal["seen", "held-out", "all"]
COLUMNS = ("brand", "price", "description")  # attributes of an item, in order
MAX_SENTENCES = 4
NO_COLUMN = 0.3  # share of items whose column of brand or price is empty, so that a sentence must tell it
AGAIN = 0.2  # chance that brand or price is told once more in a sentence
ASIDES = 0.4  # chance of a sentence that says nothing of the product, where there is room for one


@dataclass(frozen=True, slots=True, kw_only=True)
class Templates:
    """Ways to say one thing, on the two sides of the split."""

    seen: tuple[str, ...]
    held_out: tuple[str, ...]

    def of(self, wordings: Wordings) -> tuple[str, ...]:
        """The templates that `wordings` allows."""
        if wordings == "all":
            return self.seen + self.held_out
        return self.seen if wordings == "seen" else self.held_out


TITLES = Templates(
    seen=(
        "{brand} {category} {name}",
        "{name} the {category}, by {brand}",
        "{name} – {category} by {brand}",
        "{brand}: {category} '{name}'",
        "The little {category} {name} ({brand})",
        "{category} {name}, {brand} workshop",
        "{adjective} {category} {name}",
        "{name}, the {adjective} {category}",
        "{category} from {brand}: {name}",
        "{brand} presents: {name} the {category}",
        "My first {category} – {name}",
        "{name} ({category})",
        "Toy {category} {name} {purpose}",
        "{adjective} {category} {purpose}, {brand}",
        "{material} {category} {name}",
        "{name}, a {material} {category} by {brand}",
        "{price} {category} {name}",
        "{category} {purpose}: {name}",
    ),
    held_out=(
        "Meet {name}: {category} {purpose}",
        "A {category} called {name} ({brand})",
        "{brand} – {adjective} {category}",
        "{name}: your {material} {category}",
        "{category} no. {number}, {name} by {brand}",
        "{purpose}: {name}, {price} {category}",
    ),
)
SENTENCES = {
    "material": Templates(
        seen=(
            "A {material} {category} {purpose}.",
            "{name} has a {material} body, made {purpose}.",
            "This {category} is a {material} toy {purpose}.",
            "Patient {material} company: a {category} {purpose}.",
            "Our {material} {category} {purpose} is finished by hand.",
            "Material: {material}.",
            "We gave {name} a sturdy {material} build.",
            "{adjective} {material} craft, down to the last detail.",
            "Every part is {material} work.",
            "Pick up {name} and you hold a {adjective} {material} {category}.",
        ),
        held_out=(
            "In your hands: a {material} {category}, meant {purpose}.",
            "Made to last, {name} is {material} through and through.",
            "What it consists of: {material} parts.",
            "Children tell at a touch that this is a {material} {category}.",
        ),
    ),
    "price": Templates(
        seen=(
            "A {price} toy {purpose}.",
            "Price class: {price}.",
            "One of our {price} toys.",
            "A {price} {category} that lacks nothing.",
            "You will find it among the {price} toys.",
            "{name} is a {price} choice {purpose}.",
            "Think of it as a {price} present.",
        ),
        held_out=(
            "Sold as a {price} {category}.",
            "This is {price} toy making.",
            "Where we would place it: {price}.",
        ),
    ),
    "brand": Templates(
        seen=(
            "Made by {brand}.",
            "A {brand} original.",
            "From the makers at {brand}.",
            "{brand} stands behind it.",
            "Designed at {brand}.",
            "Another {category} of the {brand} family.",
        ),
        held_out=(
            "The people at {brand} thought it up.",
            "Brand: {brand}.",
            "{brand} signs every {category}.",
        ),
    ),
    "colour": Templates(
        seen=(
            "It comes in {colour}.",
            "This is the {colour} one.",
            "Painted {colour} all over.",
            "Colour: {colour}.",
            "You get {name} in {colour}.",
            "A {colour} {category}, as you can see.",
            "{name} wears {colour}.",
        ),
        held_out=(
            "Its colour is {colour}.",
            "Shown here is the version in {colour}.",
            "We dyed this one {colour}.",
        ),
    ),
    "pattern": Templates(
        seen=(
            "It has a {pattern} design.",
            "Pattern: {pattern}.",
            "A {pattern} {category} {purpose}.",
            "Its coat is {pattern}.",
            "This is the {pattern} version.",
            "{name} looks {pattern}.",
            "Decorated with a {pattern} finish.",
        ),
        held_out=(
            "On its sides: a {pattern} print.",
            "Its surface is {pattern}.",
            "The {pattern} sort, {purpose}.",
        ),
    ),
    "charm": Templates(
        seen=(
            "{name} is a {adjective} friend {purpose}.",
            "Made {purpose}.",
            "A {adjective} companion for every child.",
            "Who could say no to {name}?",
            "Stands firmly on any shelf.",
            "Thought up {purpose}, loved everywhere.",
        ),
        held_out=(
            "No day passes without {name}.",
            "{adjective}, and glad to be yours.",
        ),
    ),
    "box": Templates(
        seen=(
            "Packed in a {box} box.",
            "It arrives in a {box} carton.",
            "Tied with a {box} ribbon.",
            "You receive it in {box} wrapping paper.",
        ),
        held_out=(
            "The parcel is {box}.",
            "A {box} bag is included.",
        ),
    ),
    "aside": Templates(
        seen=(
            "Dispatched within {number} days.",
            "Free returns for {number} weeks.",
            "{number} buyers gave it five stars.",
            "“My son will not let go of it”, writes a mother.",
            "Delivery to {number} countries.",
            "Reduced for a few days only.",
            "Arrives in a cardboard box.",
            "Batteries are not needed.",
            "Order two and save the postage.",
            "Often bought together with a colouring book.",
            "Customers rate it {number} out of 30.",
            "Only {number} left in stock.",
        ),
        held_out=(
            "Our warehouse packs it on the same day.",
            "“Better than expected”, says one of {number} reviews.",
            "Gift wrapping costs extra.",
            "Pay after {number} days.",
        ),
    ),
}
NAMES = (
    *("Otto", "Juno", "Pip", "Wanda", "Max", "Tilda", "Bruno", "Fips", "Nelly", "Oskar"),
    *("Ida", "Mo", "Lotte", "Kasper", "Greta", "Emil", "Hedda", "Anton", "Mika", "Smilla"),
    *("Theo", "Frieda", "Jasper", "Elli", "Rufus", "Dora", "Balthasar", "Zoe", "Konrad", "Lina"),
    *("Milo", "Paula", "Tom", "Vera", "Willi", "Yuki", "Alma", "Benno", "Carla", "Edgar"),
)
ADJECTIVES = (
    *("cheerful", "clever", "sturdy", "gentle", "brave", "curious", "quiet", "lively"),
    *("friendly", "nimble", "patient", "proud", "merry", "trusty", "tireless", "charming"),
)
PURPOSES = (
    *("for rainy afternoons", "for the windowsill", "for small hands", "for long journeys", "for collectors"),
    *("for first birthdays", "for the garden", "for bedtime stories", "for the nursery", "for two players"),
    *("for grandparents", "for quiet mornings", "for the bath", "for days at the beach", "for the holidays"),
    *("for winter evenings", "for train rides", "for siblings", "for the playroom", "for little explorers"),
)


def text_of(toy: Toy, *, rng: np.random.Generator, wordings: Wordings = "seen") -> tuple[str, dict[str, str]]:
    """Title and attributes of a toy: `COLUMNS` in order, those without text left out.

    Category, material, price and brand are always told, colour and pattern only as `toy.says`. The description has one
    to `MAX_SENTENCES` sentences in any order.
    """
    writer = _Writer(toy, rng)
    template = pick(rng, TITLES.of(wordings))
    columns = {"brand", "price"}
    if rng.random() < NO_COLUMN:
        columns.remove(pick(rng, ("brand", "price")))
    told = columns | slots(template)
    sentences = [writer.write(pick(rng, SENTENCES[kind].of(wordings))) for kind in _kinds(toy, told, rng)]
    values = {
        "brand": writer.word("brand") if "brand" in columns else "",
        "price": writer.word("price") if "price" in columns else "",
        "description": " ".join(sentences),
    }
    return writer.write(template), {name: values[name] for name in COLUMNS if values[name]}


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """One of the choices, all alike."""
    return choices[int(rng.integers(len(choices)))]


def slots(template: str) -> set[str]:
    """The names of what a template leaves open."""
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def _kinds(toy: Toy, told: set[str], rng: np.random.Generator) -> list[str]:
    """What the sentences are about: all that must be told, then what there is room for, in any order."""
    kinds = [aspect for aspect in ("material", "price", "brand") if aspect not in told]
    kinds += [*toy.says, *(["box"] if toy.box else [])]
    if rng.random() < ASIDES:
        kinds.append("aside")
    kinds += [aspect for aspect in ("price", "brand") if aspect in told and rng.random() < AGAIN]
    if not kinds or rng.random() < ASIDES:
        kinds.append("charm")
    kinds = kinds[:MAX_SENTENCES]
    return [kinds[place] for place in rng.permutation(len(kinds))]


class _Writer:
    """Fills the templates of one item; its name stays, all other words vary from slot to slot."""

    def __init__(self, toy: Toy, rng: np.random.Generator) -> None:
        self._rng = rng
        self._values = {"category": toy.look.category, "material": toy.material, "price": toy.price, "brand": toy.brand}
        self._values |= toy.says
        self._fixed = {"name": pick(rng, NAMES), "box": toy.box}

    def write(self, template: str) -> str:
        line = template.format_map({name: self.word(name) for name in sorted(slots(template))})
        line = re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", line)
        return line[0].upper() + line[1:]

    def word(self, slot: str) -> str:
        if slot in self._fixed:
            return self._fixed[slot]
        if slot == "number":
            return str(self._rng.integers(2, 30))
        free = {"adjective": ADJECTIVES, "purpose": PURPOSES}
        return pick(self._rng, free.get(slot) or FORMS[slot][self._values[slot]])
