import copy
import itertools

import dspy
import pytest
from dspy.utils.exceptions import LMError

from srec.stages.fusion import ItemFusion
from srec.testing import check_ranker, scripted
from srec.types import Case, Event, History, Item, Score

CASE = Case(
    user_id="7",
    at=2,
    history=History(user_id="7", events=(Event(item=Item(item_id="x"), at=1),)),
    candidates=(Item(item_id="a"), Item(item_id="b")),
    target_ids=("a",),
)
HEAT = Item(item_id="6", title="Heat")


def scores(*values, ids="ab"):
    return [Score(item_id=i, value=value) for i, value in zip(ids, values, strict=True)]


def test_a_ranker_that_keeps_the_contract_passes():
    check_ranker(lambda case: scores(0.1, None), CASE)
    check_ranker(lambda case: tuple(scores(-3.0, 3.0)), CASE)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (scores(0.1, ids="a"), "one score per candidate"),
        (scores(0.1, 0.2, ids="ba"), "one score per candidate"),
        (scores(0.1, 0.2, 0.3, ids="abc"), "one score per candidate"),
    ],
)
def test_a_ranker_that_loses_adds_or_moves_a_score_fails(given, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_ranker(lambda case: given, CASE)


def test_a_ranker_that_changes_its_mind_fails():
    count = itertools.count()
    with pytest.raises(AssertionError, match="the same case has the same scores"):
        check_ranker(lambda case: scores(float(next(count)), 0.0), CASE)


def test_the_scripted_lm_answers_by_signature_and_keeps_its_prompts():
    lm = scripted({"FuseItem": {"description": "A film.", "contradictions": []}})
    assert ItemFusion(lm=lm)(item=HEAT).text == "Heat. A film."
    assert lm.engine.prompts[0].endswith("### Title\nHeat")
    assert len(lm.engine.requests) == 1


def test_an_answer_may_be_a_function_of_the_prompt_or_an_error():
    lm = scripted({"FuseItem": lambda prompt: {"description": prompt[-4:], "contradictions": []}})
    assert ItemFusion(lm=lm)(item=HEAT).text == "Heat. Heat"
    with pytest.raises(LMError, match="no more"):
        ItemFusion(lm=scripted({"FuseItem": RuntimeError("no more")}))(item=HEAT)


def test_a_signature_that_the_script_lacks_is_named():
    with pytest.raises(LMError, match="the script has no answer for FuseItem"):
        ItemFusion(lm=scripted({}))(item=HEAT)


def test_instructions_that_no_signature_has_are_said_to_be_unknown():
    fusion = ItemFusion(lm=scripted({}))
    fusion.fuse.signature = fusion.fuse.signature.with_instructions("Say something.")
    with pytest.raises(LMError, match=r"Say something\."):
        fusion(item=HEAT)


def test_copies_of_the_lm_share_one_engine():
    lm = scripted({})
    assert copy.deepcopy(lm).engine is lm.engine
    assert isinstance(lm, dspy.LM)
