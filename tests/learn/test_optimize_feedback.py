"""The metric of a case, and the words that go with it."""

import math

import dspy
import pytest
from colours import case, program, pupil

from srec.errors import InputError
from srec.learn.feedback import candidate_of, feedback
from srec.learn.objective import metric_named, pairwise
from srec.learn.trial import Ranked, Trial
from srec.types import Score


@pytest.fixture(scope="module")
def ranked():
    """User 2, who likes blue: the target comes last."""
    return program(lm=pupil())(case(2))


def scores(*values):
    return [Score(item_id=str(n), value=value) for n, value in enumerate(values)]


# Words


@pytest.mark.parametrize("stage", ["fusion.fuse", "preference.summarize", "profiling", "scoring.judge", "theirs"])
def test_every_stage_hears_where_the_wanted_item_came(stage, ranked):
    words = feedback(stage, ranked, case(2))
    assert words.startswith("The user took 'blue toy z2 (blue)' next; it came in place 4 of 4 (0.10).")
    assert "'grey toy b2 (grey)' was placed first (0.80) and not taken." in words


def test_the_preference_hears_what_its_summary_names_and_misses(ranked):
    assert feedback("preference", ranked, case(2)).endswith(
        "the summary names colour blue (in 4 events), and misses nothing."
    )
    assert feedback("profiling.describe", ranked, case(2)).endswith(
        "the profile names nothing; it misses colour blue (in 4 events)."
    )


def test_the_fusion_hears_how_the_item_was_described(ranked):
    words = feedback("fusion", ranked, case(2))
    assert "It was described as: 'blue toy z2 (blue)." in words
    assert "the description names colour blue (in 4 events), and misses nothing." in words


def test_a_verdict_hears_whether_it_was_right(ranked):
    target, rival = ("blue toy z2 (blue).", "grey toy b2 (grey).")
    said = feedback("scoring.judge", ranked, case(2), inputs={"target_item": target})
    assert "This call was about an item that the user took: 'Yes.' is right, P(Yes) was 0.10." in said
    said = feedback("scoring.judge", ranked, case(2), inputs={"target_item": rival})
    assert "an item that the user did not take: 'No.' is right, P(Yes) was 0.80." in said
    assert "the reasoning names nothing; it misses colour blue" in said


def test_a_call_about_no_candidate_is_about_none(ranked):
    assert candidate_of({"profile": "x"}, ranked) is None
    assert candidate_of({"target_item": "an item of another shop"}, ranked) is None
    assert candidate_of({"target_item": "", "target_picture": None}, ranked) is None


# What GEPA is given


def test_the_metric_is_a_number_and_with_a_predictors_name_a_number_and_words():
    trial = Trial(metric=metric_named("auc")[1])
    with dspy.context(trace=[]):
        made = Ranked(program(lm=pupil()), trial)(case=case(2))
    gold = dspy.Example(case=case(2)).with_inputs("case")
    assert trial.dspy_metric(gold, made) == trial.dspy_metric(gold, made, []) == made.score == 0.0
    told = trial.dspy_metric(gold, made, [], "program.preference.summarize", [(None, {}, None)])
    assert told.score == 0.0
    assert "the summary names colour blue" in told.feedback


def test_a_program_that_failed_says_how():
    trial = Trial(metric=metric_named("auc")[1])
    made = Ranked(program(lm=pupil({"SummarizePreference": ValueError("ill")})), trial)(case=case(2))
    told = trial.dspy_metric(dspy.Example(case=case(2)), made, [], "program.scoring.judge", [])
    assert told.score == 0.0
    assert "The program failed" in told.feedback
    assert "ill" in told.feedback


def test_the_trace_shows_the_target_and_its_rival_in_an_order_that_threads_do_not_change():
    shown = []
    for _ in range(3):
        with dspy.context(trace=[]):
            Ranked(program(lm=pupil()), Trial(metric=metric_named("auc")[1]))(case=case(2))
            shown.append([sorted(map(str, inputs.values())) for _, inputs, _ in dspy.settings.trace])
            judged = [inputs["target_item"] for _, inputs, _ in dspy.settings.trace if "target_item" in inputs]
        assert {text.split()[0] for text in judged} == {"blue", "grey"}
    assert shown[0] == shown[1] == shown[2]


# The metric


def test_the_smooth_metric_is_half_at_chance_and_rises_with_the_margin():
    assert pairwise(scores(0.3, 0.3, 0.3), ["1"]) == pytest.approx(0.5)
    rising = [pairwise(scores(0.5, p), ["1"]) for p in (0.1, 0.4, 0.6, 0.9, 1.0)]
    assert rising == sorted(rising)
    assert rising[3] == pytest.approx(0.9)
    assert 0.0 < rising[0] < rising[-1] < 1.0


def test_what_was_not_scored_or_missed_counts_as_improbable():
    assert pairwise(scores(None, 0.5), ["0"]) == pairwise(scores(0.0, 0.5), ["0"])
    assert pairwise(scores(0.5), ["elsewhere"]) < 0.01
    assert math.isnan(pairwise(scores(0.5), ["0"]))


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(InputError, match="take 'auc' for others"):
        pairwise(scores(1.5, 0.1), ["0"])


def test_metrics_are_known_by_name():
    target = ["1"]
    assert metric_named("ndcg@1")[1](scores(0.1, 0.9), target) == 1.0
    assert metric_named("mrr@10")[1](scores(0.9, 0.1), target) == 0.5
    assert metric_named(lambda scores, targets: 0.5)[1](scores(0.9, 0.1), target) == 0.5
    with pytest.raises(InputError, match="metric 'ndcg@0' is not known"):
        metric_named("ndcg@0")
