"""Real weights: the plain questions, and the fusion that the truth is held against."""

import dspy
import pytest

from srec import bulk
from srec.data.toyshop import toyshop
from srec.evaluation.stages import fused, vqa
from srec.lm.checkpoint import packaged_file
from srec.store import Store

pytestmark = pytest.mark.model
needs_training = pytest.mark.skipif(
    packaged_file("srec-tiny") is None, reason="the trained weights of srec-tiny are not packaged"
)


@pytest.fixture(scope="module")
def small():
    return toyshop(items=16, users=2, seed=90_001)


@pytest.fixture(scope="module")
def answered(small, sighted, tmp_path_factory):
    with Store(tmp_path_factory.mktemp("store")) as store:
        asked = vqa.questions(small.data.items.values())
        return vqa.answers(asked, "closed", lm=sighted, store=store, label="", workers=16, progress=False)


@pytest.fixture(scope="module")
def described(small, sighted):
    with dspy.context(lm=sighted):
        outcomes = bulk.run(fused.toy_fusion(), small.data.items.values(), workers=4, progress=False)
        return {outcome.input.item_id: outcome.value for outcome in outcomes if not outcome.error}


def test_every_question_is_answered(answered):
    found, summary = answered
    assert summary.failed == 0
    assert all(one.text for one in found)


def test_every_description_says_what_the_text_says(small, described):
    assert described.keys() == small.truth.toys.keys()
    figures = fused.measure(small.truth.toys, described)
    assert figures["text_only"].value > 0.9
    assert figures["text_only"].n == 16


@needs_training
def test_trained_eyes_see(small, answered, described):
    figures = vqa.measure(answered[0], small.truth.toys)
    assert min(figure.value for figure in figures.values()) > 0.85
    assert fused.measure(small.truth.toys, described)["image_only"].value > 0.85
