from dataclasses import replace

import pytest
from dspy.utils.exceptions import LMTransportError

from srec.errors import AnswerError, InputError
from srec.lm.adapters import BlindModelWarning
from srec.lm.usage import count_usage
from srec.stages.scoring import CoTScoring
from srec.testing import scripted
from srec.types import Item, Score

PROBABILITIES = {"Alpha": 0.9, "Beta": 0.2, "Gamma": 0.6}
ITEMS = [Item(item_id=str(n), title=title) for n, title in enumerate(PROBABILITIES)]
REASONS = {"ReasonAboutUser": {"reasoning": "about the user"}, "ReasonAboutItem": {"reasoning": "about the item"}}


def by_title(prompt):
    return next(p for title, p in PROBABILITIES.items() if title in prompt)


def judging(answer=by_title, *, sees_images=True):
    judges = dict.fromkeys(("JudgeItem", "JudgeReasonedItem", "DeduceNext"), answer)
    return scripted({**REASONS, **judges}, sees_images=sees_images)


@pytest.mark.parametrize(
    ("reasoning", "reason", "calls"),
    [("user", "about the user", 1 + 3), ("candidate", "about the item", 3 + 3), ("none", "", 3)],
)
def test_scores_are_probabilities_in_the_order_of_the_candidates(reasoning, reason, calls, profile, summary):
    lm = judging()
    scores = CoTScoring(reasoning=reasoning, lm=lm)(profile, summary, ITEMS)
    assert [(score.item_id, score.reason, score.error) for score in scores] == [(str(n), reason, "") for n in range(3)]
    assert [score.value for score in scores] == pytest.approx([0.9, 0.2, 0.6])
    assert [score.mass for score in scores] == pytest.approx([1.0, 1.0, 1.0])
    assert len(lm.engine.prompts) == calls


def test_the_prompts_of_a_user_share_everything_before_the_candidate(profile, summary):
    lm = judging()
    CoTScoring(lm=lm)(profile, summary, ITEMS)
    shared = {prompt.split("### Target item\n")[0] for prompt in lm.engine.prompts[1:]}
    assert len(shared) == 1


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (AnswerError("the server answered with garbage"), "the server answered with garbage"),
        (LMTransportError("connection refused"), "connection refused"),
        ({"answer": "Yes."}, "no log-probabilities"),
    ],
)
def test_a_failing_candidate_is_a_score_of_none_with_its_reason_while_others_live(failure, reason, profile, summary):
    lm = judging(lambda prompt: failure if "Beta" in prompt else by_title(prompt))
    with count_usage() as usage:
        scores = CoTScoring(lm=lm)(profile, summary, ITEMS)
    assert [score.item_id for score in scores] == ["0", "1", "2"]
    assert [score.value is None for score in scores] == [False, True, False]
    assert reason in scores[1].error
    assert "\n" not in scores[1].error
    assert usage.failures == 1


def test_reasoning_that_fails_for_a_candidate_fails_that_candidate_alone(profile, summary):
    def reason(prompt):
        return AnswerError("no thought") if "Beta" in prompt else {"reasoning": "thought"}

    lm = scripted({"ReasonAboutItem": reason, "JudgeReasonedItem": by_title})
    scores = CoTScoring(reasoning="candidate", lm=lm)(profile, summary, ITEMS)
    assert [score.error for score in scores] == ["", "[scripted/lm] no thought", ""]


def test_reasoning_that_is_not_the_json_asked_for_is_one_sentence(profile, summary):
    lm = scripted({"ReasonAboutItem": {"thought": "wrong field"}, "JudgeReasonedItem": 0.5})
    (score,) = CoTScoring(reasoning="candidate", lm=lm)(profile, summary, ITEMS[:1])
    assert score.value is None
    assert "not the JSON object asked for" in score.error
    assert "\n" not in score.error


def test_a_bug_is_raised_and_not_counted_as_a_failure(profile, summary):
    scoring = CoTScoring(lm=judging())
    with pytest.raises(AttributeError):
        scoring(profile, summary, ["not an item"])


@pytest.mark.parametrize("option", [{"reasoning": "always"}, {"view": "picture"}])
def test_an_unknown_option_is_refused_with_those_known(option):
    with pytest.raises(InputError, match="is not known; give one of: "):
        CoTScoring(**option)


def test_an_lm_that_cannot_see_judges_by_the_description_and_is_counted(profile, summary, toy_story, heat):
    lm = judging(0.5, sees_images=False)
    with count_usage() as usage, pytest.warns(BlindModelWarning, match="cannot see"):
        scores = CoTScoring(view="image", lm=lm, workers=1)(profile, summary, [toy_story, heat])
    assert [score.value for score in scores] == [0.5, 0.5]
    assert usage.unseen_images == 1
    assert "Toy Story" in lm.engine.prompts[1]
    assert "<picture>" not in "".join(lm.engine.prompts)


def test_a_candidate_without_a_picture_is_shown_by_its_description(profile, summary, heat):
    lm = judging(0.5)
    CoTScoring(view="image", lm=lm)(profile, summary, [heat])
    assert "### Target item\nHeat (1995; Action, Crime, Thriller)" in lm.engine.prompts[-1]


def test_a_picture_alone_leaves_the_text_out(profile, summary, toy_story):
    lm = judging(0.5)
    CoTScoring(view="image", lm=lm)(profile, summary, [toy_story])
    assert "Toy Story" not in lm.engine.prompts[-1]
    assert "<picture>" in lm.engine.prompts[-1]


def test_a_candidate_is_shown_by_its_description_where_there_is_one(profile, summary, toy_story, descriptions):
    lm = judging(0.5)
    CoTScoring(lm=lm)(profile, summary, [toy_story], descriptions)
    assert lm.engine.prompts[-1].endswith(descriptions["1"].text)


def test_no_candidate_is_no_score(profile, summary):
    assert CoTScoring(reasoning="none", lm=judging())(profile, summary, []) == []


def test_a_score_does_not_depend_on_the_number_of_workers(profile, summary):
    many = [replace(ITEMS[n % 3], item_id=str(n)) for n in range(40)]
    one, all_at_once = (CoTScoring(workers=w, lm=judging())(profile, summary, many) for w in (1, 16))
    assert one == all_at_once
    assert isinstance(one[0], Score)


@pytest.mark.parametrize(
    ("view", "shows_picture", "shows_text"),
    [("description", False, True), ("image", True, False), ("both", True, True)],
)
def test_a_candidate_is_judged_by_what_the_view_shows_of_it(  # noqa: PLR0917 (fixtures)
    view, shows_picture, shows_text, profile, summary, toy_story, descriptions
):
    lm = judging(0.5)
    CoTScoring(view=view, lm=lm)(profile, summary, [toy_story], descriptions)
    assert ("<picture>" in lm.engine.prompts[-1]) is shows_picture
    assert (descriptions["1"].text in lm.engine.prompts[-1]) is shows_text
