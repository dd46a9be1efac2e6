"""The oracle answers from the truth, reaches the ceiling, and never guesses."""

from dataclasses import replace

import dspy
import pytest

import srec
from srec.data.toy import FORMS
from srec.evaluation.stages import fused, taste
from srec.evaluation.stages.ceilings import oracle as ceiling
from srec.evaluation.stages.witness import Witness
from srec.stages.calls import about
from srec.testing import check_ranker, oracle
from srec.types import Image


@pytest.mark.parametrize(
    "scoring",
    [
        {},
        {"view": "both"},
        {"reasoning": "candidate"},
        {"reasoning": "none"},
        {"reasoning": "none", "view": "image"},
    ],
    ids=str,
)
def test_the_program_with_the_oracle_reaches_the_ceiling(shop, cases, program, scoring):
    rankers = {"oracle": program(**scoring), "ceiling": ceiling(shop.truth)}
    report = srec.evaluate(cases, rankers, lm=oracle(shop), seed=0)
    reached, best = (report.rankers[name].metrics for name in rankers)
    assert report.rankers["oracle"].unscored == report.rankers["oracle"].failures == 0
    assert best["auc"].value > 0.8
    for metric in ("auc", "ndcg@10", "mrr@10"):
        assert reached[metric].value == pytest.approx(best[metric].value, abs=1e-6)


def test_open_questions_and_a_written_description_reach_it_too(shop, cases):
    rankers = {"oracle": srec.MLLMSRec(lm=oracle(shop)), "ceiling": ceiling(shop.truth)}
    report = srec.evaluate(cases, rankers, seed=0)
    assert report.rankers["oracle"].failures == 0
    assert report.rankers["oracle"].metrics["auc"].value == pytest.approx(
        report.rankers["ceiling"].metrics["auc"].value, abs=1e-6
    )


def test_it_ranks_within_each_case_as_the_truth_does(shop, cases, program):
    teacher = program()
    teacher.set_lm(oracle(shop))
    for case in cases:
        said = [score.value for score in teacher(case).scores]
        known = shop.truth.probability(case)
        assert sorted(range(len(said)), key=said.__getitem__) == sorted(range(len(said)), key=known.__getitem__)
        assert [value > 0.5 for value in said] == [chance > 1 / len(said) for chance in known]
    check_ranker(lambda case: teacher(case).scores, cases[0])


def test_descriptions_summaries_and_profiles_are_true(shop, cases, program):
    teacher = program()
    teacher.set_lm(oracle(shop))
    witness = Witness(teacher)
    for case in cases:
        witness(case)
    descriptions = {item_id: teacher.fusion(item) for item_id, item in shop.data.items.items()}
    for name, figure in fused.measure(shop.truth.toys, descriptions).items():
        assert figure.value == (0.0 if name in {"invented", "noise_leaked"} else 1.0), name
    made, shoppers = witness.made, shop.truth.shoppers
    for name, figure in (taste.current(made, shoppers) | taste.profile(made, shoppers)).items():
        assert figure.value == 1.0, name


def test_it_is_named_as_what_it_is(shop):
    assert oracle(shop).model == "oracle:toyshop:60x10@3/contradictions=0.1,wordings=seen"


def test_the_summary_says_nothing_of_what_came_after_its_window(shop, program):
    teacher = program()
    teacher.set_lm(oracle(shop))
    history = shop.data.history("user00001")
    with about(history=history):
        first = teacher.preference(history)[0]
    with about(history=replace(history, events=history.events[:10])):
        alone = teacher.preference(replace(history, events=history.events[:10]))[0]
    assert first == alone
    favourite = shop.truth.taste_at("user00001", first.until)
    assert favourite["colour"] in first.text
    assert favourite["pattern"] in first.text
    assert set(shop.truth.preferred("user00001")["material"]) <= set(first.stable)


def test_a_stage_that_does_not_say_of_whom_is_refused(shop):
    preference = srec.TemporalPreference(lm=oracle(shop))
    with pytest.raises(Exception, match="not told of whom"):
        preference(shop.data.history("user00001"))


def test_another_picture_than_the_item_s_is_refused(shop, cases):
    fusion = srec.ItemFusion(questions=srec.toy_questions(), write="composed", lm=oracle(shop))
    items = [shop.data.items[item_id] for item_id in ("toy00001", "toy00002")]
    with pytest.raises(Exception, match="shows another item than 'toy00001'"):
        fusion(replace(items[0], image=items[1].image))
    blank = Image(data=b"no picture of the shop", width=1, height=1)
    with pytest.raises(Exception, match="shows another item"):
        fusion(replace(items[0], image=blank))


def test_items_users_and_questions_of_another_world_are_refused(shop, cases, program):
    teacher = program()
    teacher.set_lm(oracle(shop))
    case = cases[0]
    with pytest.raises(Exception, match="not of the oracle's toy shop"):
        teacher(replace(case, user_id="somebody", history=replace(case.history, user_id="somebody")))
    with pytest.raises(Exception, match="not of its toy shop"):
        srec.ItemFusion(lm=oracle(shop))(srec.Item(item_id="a film", title="Heat"))
    asked = srec.Question("smell", "What does it smell of?", choices=["soap", "hay"])
    with pytest.raises(Exception, match="does not know the question"):
        srec.ItemFusion(questions=[asked], lm=oracle(shop))(shop.data.items["toy00001"])
    with dspy.context(lm=oracle(shop)), pytest.raises(Exception, match="begins with"):
        dspy.Predict("question -> answer")(question="?")


@pytest.mark.parametrize("reasoning", ["user", "candidate", "none"])
def test_facts_alone_are_enough_to_know_an_item_by(shop, cases, program, reasoning):
    asked = [question for question in srec.toy_questions() if question.aspect != "brand"]
    teacher = program(reasoning=reasoning)
    teacher.fusion = srec.ItemFusion(questions=asked, write="facts", doubt=1.0)
    teacher.set_lm(oracle(shop))
    made = teacher(cases[0])
    assert all(score.value is not None for score in made.scores)
    assert all(item.title not in made.descriptions[item.item_id].text for item in cases[0].candidates)


@pytest.mark.parametrize("reasoning", ["user", "none"])
def test_wishes_that_name_the_facts_of_an_item_do_not_stand_for_it(shop, cases, reasoning):
    case, (one, other) = cases[0], cases[0].candidates[:2]
    wants = srec.PreferenceSummary(
        user_id=case.user_id,
        text=f"Wanted: {', '.join(shop.truth.toys[one.item_id].facts.values())}.",
        until=case.history.until,
        events=1,
    )
    who = srec.UserProfile(user_id=case.user_id, text="somebody", until=case.history.until)
    shown = {one.item_id: srec.ItemDescription(item_id=one.item_id, text=other.title)}
    scoring = srec.CoTScoring(reasoning=reasoning, lm=oracle(shop))
    with about(history=case.history, candidates=case.candidates, at=case.at):
        (score,) = scoring(who, wants, [one], shown)
    assert score.value is None
    assert f"shows another item than '{one.item_id}'" in score.error


def test_events_that_the_user_did_not_have_are_refused(shop, cases, program):
    teacher = program()
    teacher.set_lm(oracle(shop))
    other = shop.data.history("user00002")
    with about(history=shop.data.history("user00001")), pytest.raises(Exception, match="0 times in user 'user00001'"):
        teacher.preference(other)


def test_a_verdict_on_a_picture_is_the_truth(shop):
    fusion = srec.ItemFusion(questions=srec.toy_questions(), write="composed", doubt=0.5, lm=oracle(shop))
    wrong = next(toy for toy in shop.truth.toys.values() if toy.contradicts)
    assert fusion(shop.data.items[wrong.item_id]).contradictions == tuple(
        fused.contradiction(wrong, aspect) for aspect in FORMS if aspect in wrong.contradictions
    )
