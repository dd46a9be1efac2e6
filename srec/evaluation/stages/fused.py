"""Are descriptions true? Their facts and contradictions beside what is known of each toy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from srec.data.render import STICKERS
from srec.data.toy import FORMS, Toy
from srec.evaluation.questions import toy_questions
from srec.evaluation.stages.figure import Figure, by_strangers, share
from srec.evaluation.stages.words import named
from srec.stages.fusion import ItemFusion
from srec.stages.question import mentioned
from srec.types import ItemDescription

SEEN = ("colour", "pattern")
TOLD = ("material", "price", "brand")
NOISE = {**{words: (words,) for words in STICKERS}, **FORMS["colour"]}  # what `Toy.noise` may hold, and its forms


def toy_fusion(*, workers: int = 4) -> ItemFusion:
    """The fusion that is measured: closed questions about everything a toy is, and a text composed of the answers.

    Every difference of picture and text is named: that srec-tiny sees right is surer than that it answers yes or no
    rightly.
    """
    return ItemFusion(questions=toy_questions(), write="composed", doubt=1.0, workers=workers)


def measure(truth: Mapping[str, Toy], descriptions: Mapping[str, ItemDescription]) -> dict[str, Figure]:
    """Descriptions beside the truth of what was shown, both by item id; a missing one has no fact, no contradiction.

    `image_only` and `text_only`: share of what only one of the two gives that the description has right, and nothing
    beside it; `shared`: of what both give alike. `invented`: share of its values that neither gives. A contradiction is
    found where it is named in the very words of `contradiction`. `noise_leaked`: share of descriptions with a word that
    belongs to the picture or the text, but not to the toy.
    """
    rows = [Row.of(toy, descriptions.get(item_id)) for item_id, toy in truth.items()]
    return {
        "image_only": _accuracy(rows, image_only),
        "text_only": _accuracy(rows, text_only),
        "shared": _accuracy(rows, shared),
        "invented": _invented(rows),
        **_contradictions(rows),
        "noise_leaked": _leaked([row for row in rows if row.toy.item_id in descriptions]),
    }


def image_only(toy: Toy) -> dict[str, str]:
    """What only the picture tells, by aspect."""
    return {aspect: fact(toy, aspect) for aspect in SEEN if aspect not in toy.says}


def text_only(toy: Toy) -> dict[str, str]:
    """What only the text tells."""
    return {aspect: fact(toy, aspect) for aspect in TOLD}


def shared(toy: Toy) -> dict[str, str]:
    """What picture and text tell alike."""
    agreed = {aspect: said for aspect, said in toy.says.items() if aspect not in toy.contradictions}
    return {"category": toy.look.category, **agreed}


def fact(toy: Toy, aspect: str) -> str:
    """What a toy is in one aspect."""
    return str(getattr(toy if aspect in TOLD else toy.look, aspect))


def contradiction(toy: Toy, aspect: str) -> str:
    """The sentence that names a contradiction."""
    return f"{aspect}: the picture shows {fact(toy, aspect)}, the text says {toy.says[aspect]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A toy, and what its description says: values by aspect, contradictions, and words of noise (any toy's)."""

    toy: Toy
    values: Mapping[str, frozenset[str]]
    contradictions: tuple[str, ...]
    noise: frozenset[str]

    @classmethod
    def of(cls, toy: Toy, description: ItemDescription | None) -> Row:
        """The row of one description; an empty one where there is none."""
        said = description or ItemDescription(item_id=toy.item_id, text="")
        return cls(
            toy=toy,
            values={aspect: frozenset(_values(said, aspect)) for aspect in FORMS},
            contradictions=said.contradictions,
            noise=frozenset(mentioned([said.text, *(one.value for one in said.facts)], NOISE)),
        )


def _values(description: ItemDescription, aspect: str) -> Iterator[str]:
    """The values that the facts give for an aspect; a word that means none of them stands for itself."""
    for one in description.facts:
        if one.aspect == aspect:
            yield from named(one.value, aspect) or (one.value,)


def _accuracy(rows: Sequence[Row], wanted: Callable[[Toy], Mapping[str, str]]) -> Figure:
    """Share of the values by aspect that are `wanted` of each toy, and that its row has, alone."""
    asked = [(row, aspect, value) for row in rows for aspect, value in wanted(row.toy).items()]
    guesses = [1 / len(FORMS[aspect]) for _, aspect, _ in asked]
    return share(
        [row.values[aspect] == {value} for row, aspect, value in asked],
        of=[row.toy.item_id for row, _, _ in asked],
        chance=math.fsum(guesses) / len(guesses) if guesses else math.nan,
    )


def _invented(rows: Sequence[Row]) -> Figure:
    found = [(row.toy.item_id, invented) for row in rows for invented in _inventions(row, row.toy)]
    return share(
        [invented for _, invented in found],
        of=[item_id for item_id, _ in found],
        chance=by_strangers(_inventions, rows, [row.toy for row in rows]),
        ceiling=0.0,
    )


def _inventions(row: Row, toy: Toy) -> list[bool]:
    """Of each value in a row, whether neither picture nor text of the toy gives it."""
    return [
        value not in (fact(toy, aspect), toy.says.get(aspect)) for aspect, told in row.values.items() for value in told
    ]


def _contradictions(rows: Sequence[Row]) -> dict[str, Figure]:
    """Chance is what somebody gets who doubts as many claims, drawn at random, in the right words."""
    found = [(row.toy.item_id, sentence) for row in rows for sentence in row.contradictions]
    wanted = [(row.toy.item_id, contradiction(row.toy, aspect)) for row in rows for aspect in row.toy.contradictions]
    claims = sum(len(row.toy.says) for row in rows)
    both = set(found) & set(wanted)
    return {
        "contradiction_precision": share(
            [one in both for one in found],
            of=[item_id for item_id, _ in found],
            chance=len(wanted) / claims if claims else math.nan,
        ),
        "contradiction_recall": share(
            [one in both for one in wanted],
            of=[item_id for item_id, _ in wanted],
            chance=min(1.0, len(found) / claims) if claims else math.nan,
        ),
    }


def _leaked(rows: Sequence[Row]) -> Figure:
    """Chance is how often the noise of another toy stands there, by coincidence."""
    toys = [row.toy for row in rows]
    return share(
        [leak for row in rows for leak in _leaks(row, row.toy)],
        of=[toy.item_id for toy in toys],
        chance=by_strangers(_leaks, rows, toys),
        ceiling=0.0,
    )


def _leaks(row: Row, toy: Toy) -> list[bool]:
    """Whether a row has a word of the toy's noise that is not true or claimed of the row's own toy."""
    return [not row.noise.isdisjoint(set(toy.noise) - {row.toy.look.colour, row.toy.says.get("colour")})]
