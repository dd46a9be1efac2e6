import pytest

from srec.data.render import Look
from srec.data.toy import Toy
from srec.evaluation.questions import HELD_OUT_QUESTIONS, TOY_QUESTIONS
from srec.evaluation.stages.vqa import ASPECTS, Answer, Question, answers, measure, questions
from srec.lm.usage import count_usage
from srec.store import Store

TOY = Toy(
    item_id="t",
    look=Look(category="boat", colour="red", pattern="dotted"),
    material="tin",
    price="budget",
    brand="Lumo",
)


def accuracy(aspect, text):
    question = Question(item_id="t", aspect=aspect, text="?", image=None)
    return measure([Answer(question=question, text=text)], {"t": TOY})[aspect].value


@pytest.mark.parametrize(
    ("aspect", "text", "right"),
    [
        ("colour", "Red.", True),
        ("colour", "It is a crimson toy", True),
        ("colour", "red or blue", False),
        ("colour", "The bored duck", False),
        ("colour", "", False),
        ("pattern", "polka dots", True),
        ("pattern", "Dotted, not striped", False),
        ("category", "a sailboat", True),
    ],
)
def test_an_answer_is_right_if_it_names_the_value_in_any_form_and_no_other(aspect, text, right):
    assert accuracy(aspect, text) == right


def test_every_aspect_has_many_wordings_and_none_is_what_the_fusion_asks():
    assert set(HELD_OUT_QUESTIONS) == set(ASPECTS)
    wordings = [words for each in HELD_OUT_QUESTIONS.values() for words in each]
    assert len(set(wordings)) == len(wordings)
    assert min(map(len, HELD_OUT_QUESTIONS.values())) >= 6
    assert not set(wordings) & {words for words, _ in TOY_QUESTIONS.values()}


def test_every_item_is_asked_about_each_aspect_and_wordings_take_turns(shop):
    asked = questions(shop.data.items.values())
    assert len(asked) == 3 * len(shop.data.items)
    assert {(one.aspect, one.text) for one in asked} == {
        (aspect, words) for aspect, each in HELD_OUT_QUESTIONS.items() for words in each
    }


@pytest.mark.parametrize("form", ["closed", "open"])
def test_a_model_that_sees_is_right_and_is_not_asked_again(form, shop, asking, connoisseur, tmp_path):
    engine = connoisseur(shop)
    asked = questions(shop.data.items.values())[:30]
    with Store(tmp_path) as store, count_usage() as usage:
        for _ in range(2):
            found, summary = answers(asked, form, lm=asking(engine), store=store, label="", workers=2, progress=False)
    assert [figure.value for figure in measure(found, shop.truth.toys).values()] == [1.0, 1.0, 1.0]
    assert engine.calls == usage.lm_calls == usage.cache_hits == 30
    assert (summary.done, summary.failed) == (30, 0)
