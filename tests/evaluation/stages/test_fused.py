from dataclasses import replace

import pytest

from srec.data.render import Look
from srec.data.toy import Toy
from srec.evaluation.stages.fused import contradiction, fact, image_only, measure, shared, text_only
from srec.types import Fact, ItemDescription

TOY = Toy(
    item_id="t",
    look=Look(category="boat", colour="red", pattern="dotted", sticker="SALE", frame="blue"),
    material="tin",
    price="budget",
    brand="Lumo",
)
CLAIMS = replace(TOY, item_id="c", says={"colour": "red"})
CONTRADICTS = replace(TOY, item_id="x", says={"pattern": "striped"})


def described(toy, *, contradictions=None, text="A toy.", **other):
    """What a perfect fusion says, but for the values in `other`."""
    values = {**text_only(toy), **shared(toy), **image_only(toy), **other}
    true = tuple(contradiction(toy, aspect) for aspect in toy.contradictions)
    return ItemDescription(
        item_id=toy.item_id,
        text=text,
        facts=tuple(Fact(aspect=aspect, value=value, source="both") for aspect, value in values.items()),
        contradictions=true if contradictions is None else contradictions,
    )


def measured(*descriptions):
    toys = {toy.item_id: toy for toy in (TOY, CLAIMS, CONTRADICTS)}
    by_id = {toy_id: described(toy) for toy_id, toy in toys.items()} | {one.item_id: one for one in descriptions}
    return {name: figure.value for name, figure in measure(toys, by_id).items()}


def test_a_true_description_has_every_fact_invents_nothing_and_leaks_nothing():
    assert measured() == {
        "image_only": 1.0,
        "text_only": 1.0,
        "shared": 1.0,
        "invented": 0.0,
        "contradiction_precision": 1.0,
        "contradiction_recall": 1.0,
        "noise_leaked": 0.0,
    }


def test_what_only_the_picture_shows_leaves_out_what_the_text_claims_rightly_or_not():
    assert image_only(TOY) == {"colour": "red", "pattern": "dotted"}
    assert image_only(CLAIMS) == {"pattern": "dotted"}
    assert image_only(CONTRADICTS) == {"colour": "red"}
    assert shared(CLAIMS) == {"category": "boat", "colour": "red"}
    assert shared(CONTRADICTS) == {"category": "boat"}
    assert fact(TOY, "material") == "tin"


@pytest.mark.parametrize(
    ("aspect", "value", "name", "of"),
    [("colour", "teal", "image_only", 4), ("material", "felt", "text_only", 9), ("category", "car", "shared", 4)],
)
def test_a_wrong_value_is_missed_where_it_belongs_and_invented(aspect, value, name, of):
    found = measured(described(TOY, **{aspect: value}))
    assert found[name] == pytest.approx(1 - 1 / of)
    assert found["invented"] > 0
    assert [other for other in ("image_only", "text_only", "shared") if found[other] < 1] == [name]


def test_a_second_value_beside_the_right_one_is_not_right():
    one = described(TOY)
    two = replace(one, facts=(*one.facts, Fact(aspect="colour", value="teal", source="text")))
    assert measured(two)["image_only"] == 0.75


def test_a_value_in_another_form_is_right():
    assert measured(described(TOY, price="wallet-friendly", colour="scarlet")) == measured()


def test_what_the_text_claims_wrongly_is_not_invented():
    both = replace(described(CONTRADICTS), facts=(Fact(aspect="pattern", value="striped", source="text"),))
    assert measured(both)["invented"] == 0.0


def test_a_contradiction_counts_in_the_very_words_only():
    assert contradiction(CONTRADICTS, "pattern") == "pattern: the picture shows dotted, the text says striped"
    found = measured(
        described(CONTRADICTS, contradictions=("pattern: the picture shows plain, the text says striped",))
    )
    assert (found["contradiction_precision"], found["contradiction_recall"]) == (0.0, 0.0)
    found = measured(described(TOY, contradictions=("colour: the picture shows red, the text says blue",)))
    assert (found["contradiction_precision"], found["contradiction_recall"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "leaks"),
    [("A boat on sale.", True), ("Blue boat.", True), ("A cobalt boat.", True), ("A red boat.", False), ("", False)],
)
def test_words_of_sticker_and_frame_leak_in_any_form_and_true_words_do_not(text, leaks):
    assert measured(described(TOY, text=text))["noise_leaked"] == pytest.approx(leaks / 3)


def test_a_missing_description_has_nothing_right_and_leaks_nothing():
    found = measure({"t": TOY}, {})
    assert [found[name].value for name in ("image_only", "text_only", "shared")] == [0.0, 0.0, 0.0]
    assert found["noise_leaked"].n == found["invented"].n == 0
