"""Probes on the toy shop, whose truth is known: what is used must cost when it goes, what is not must change nothing."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from toy_reader import reader

import srec
from srec.data.cases import LeakWarning
from srec.errors import InputError
from srec.evaluation.changes import with_items
from srec.evaluation.metrics import auc
from srec.evaluation.probes import GROUPS, INSTRUCTION, PROBES, Probe, chosen
from srec.evaluation.scene import Scene
from srec.evaluation.stages.ceilings import oracle
from srec.testing import scripted

USERS, FEW = 240, 20
IMAGE, TEXT = ("blank-image", "noise-image", "other-image", "no-image"), ("no-text", "other-text")
ORDER = ("shuffled-order", "static-summary")
COSTLY = (*IMAGE, *TEXT, "hallucination", "no-profile")
WINDOWS = ("half-window", "double-window", "half-step")


@pytest.fixture(scope="module")
def world():
    return srec.toyshop(items=100, users=USERS + 10, seed=5)


@pytest.fixture(scope="module")
def asked(world):
    """Cases whose target is what the truth expects most: no gift, and no whim."""
    every = cases_of(world, candidates="uniform:20", users=USERS)
    return every.without({case.user_id for case in every if lost(world, case)})


@pytest.fixture(scope="module")
def moved(world, asked):
    """Of these, the cases whose target nobody expects who does not know which of the user's tastes is the present."""
    return asked.without({case.user_id for case in asked if not lost(world, case, without="order")})


def lost(world, case, *, without=None):
    """Whether the truth, or what is left of it, has another candidate before the target."""
    return auc(oracle(world.truth, without=without)(case), case.target_ids) < 1


def cases_of(world, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        return srec.cases(world.data, **options)


@pytest.fixture(scope="module")
def few(world):
    return cases_of(world, candidates="uniform:20", users=FEW)


@pytest.fixture(scope="module")
def probed(world, asked):
    return probe(asked, reader(world), probes=[*COSTLY, *WINDOWS, "injection"])


@pytest.fixture(scope="module")
def probed_in_time(world, moved):
    return probe(moved, reader(world), probes=ORDER)


def probe(asked, program, **options):
    return srec.probe(asked, program, **{"workers": 1, "progress": False, **options})


@pytest.mark.parametrize("name", COSTLY)
def test_what_the_program_uses_costs_when_it_goes(probed, name):
    row = probed.probes[name]
    assert probed.chance == 0.5 < probed.plain.low
    assert row.difference.high < 0
    assert row.difference.value == pytest.approx(row.value.value - probed.plain.value)
    assert row.score_change.low > 0
    assert row.tau.high < 1


@pytest.mark.parametrize(("name", "missing"), [*((name, "image") for name in IMAGE), ("no-profile", "profile")])
def test_the_truth_loses_by_the_same(world, asked, probed, name, missing):
    losses = [lost(world, case, without=missing) for case in asked]
    assert probed.probes[name].difference.value < 0 < sum(losses)


def test_where_the_truth_needs_the_order_its_loss_costs(probed_in_time):
    assert probed_in_time.probes["shuffled-order"].difference.high < 0
    assert probed_in_time.probes["static-summary"].difference.value < 0


def test_other_windows_change_the_scores(probed):
    for name in WINDOWS:
        assert probed.probes[name].score_change.low > 0
        assert probed.probes[name].tau.high < 1


def test_window_and_step_vary_together_or_the_step_alone(world, few):
    found = Scene.of(few, reader(world, window=8, step=5), items=few.items, seed=0)
    sizes = {name: scaled(found, name) for name in ("half-window", "double-window", "half-step", "double-step")}
    assert sizes == {"half-window": (4, 2), "double-window": (16, 10), "half-step": (8, 2), "double-step": (8, 8)}


def scaled(scene, name):
    preference = PROBES[name].program(scene).preference
    return preference._preference.window, preference._preference.step


def test_an_instruction_in_a_title_moves_who_follows_it_and_nobody_else(world, few, probed):
    row = probed.probes["injection"]
    assert row.difference.value == row.score_change.value == row.subject_score.value == row.subject_rank.value == 0.0
    assert row.tau.value == pytest.approx(1.0)
    led = probe(few, reader(world, gullible=True), probes=["injection"]).probes["injection"]
    assert led.difference.high < 0
    assert led.subject_score.low > 50
    assert led.subject_rank.high < -5
    assert led.subject_rank.n == FEW
    assert led.difference.value >= -1 / 20, "one candidate of twenty passes the target, at most"


def test_what_the_program_does_not_use_changes_nothing(world, few):
    blind = probe(few, reader(world, blind=True), probes=IMAGE)
    for row in blind.probes.values():
        assert (row.difference.value, row.score_change.value) == (0.0, 0.0)
        assert row.difference.p == 1.0
        assert row.difference.same == FEW
    timeless = probe(few, reader(world, window=1000, step=1000), probes=["shuffled-order", "static-summary"])
    assert timeless.probes["shuffled-order"].score_change.value == 0.0
    assert "same windows" in timeless.not_applicable["static-summary"]


def test_a_probe_leaves_targets_and_candidates_and_picks_a_victim_that_is_none(world, few):
    scene = Scene.of(few, reader(world), items=few.items, seed=0)
    for case in list(few)[:5]:
        for one in PROBES.values():
            shown = one.shown(case, scene)
            assert (shown.target_ids, shown.at) == (case.target_ids, case.at)
            assert [item.item_id for item in shown.candidates] == [item.item_id for item in case.candidates]
        shown = PROBES["injection"].shown(case, scene)
        told = [item.item_id for item in shown.candidates if INSTRUCTION in item.title]
        assert told == [PROBES["injection"].subject(case, scene)]
        assert told[0] not in case.target_ids
        assert shown.history == case.history


# What does not apply


def scene(world, few, program=None):
    return Scene.of(list(few)[:4], program or reader(world), items=few.items, seed=0)


def why(world, few, name, program=None):
    return PROBES[name].why_not(scene(world, few, program))


def test_probes_of_stages_do_not_apply_to_other_rankers(world, few):
    report = probe(few, oracle(world.truth), probes=["no-profile", "static-summary", "blank-image"])
    assert set(report.not_applicable) == {"no-profile", "static-summary"}
    assert set(report.probes) == {"blank-image"}
    assert report.probes["blank-image"].score_change.value == 0.0
    assert "no-profile does not apply: it changes a stage" in str(report).replace("\n", " ")


def test_picture_probes_do_not_apply_to_who_sees_none(world, few):
    blind, seeing = (srec.MLLMSRec(lm=scripted({}, sees_images=sees)) for sees in (False, True))
    assert "cannot see" in why(world, few, "blank-image", blind)
    assert why(world, few, "blank-image", seeing) == ""
    reads = [question for question in srec.toy_questions() if question.of == "text"]
    texts = srec.MLLMSRec(fusion=srec.ItemFusion(questions=reads), lm=scripted({}))
    assert "looks at no picture" in why(world, few, "other-image", texts)
    texts.scoring.view = "both"
    assert why(world, few, "other-image", texts) == ""


def test_what_items_lack_cannot_be_taken(world, few):
    bare = [with_items(case, lambda item: srec.Item(item_id=item.item_id)) for case in few]
    found = Scene.of(bare[:4], reader(world), items=few.items, seed=0)
    assert "have a picture" in PROBES["other-image"].why_not(found)
    assert "have a text" in PROBES["no-text"].why_not(found)


def test_cases_of_one_event_and_of_targets_only_are_too_small(world, few):
    short = [
        replace(
            case,
            history=srec.History(user_id=case.user_id, events=case.history.events[-1:]),
            candidates=tuple(item for item in case.candidates if item.item_id in case.target_ids),
        )
        for case in list(few)[:4]
    ]
    found = Scene.of(short, reader(world), items=few.items, seed=0)
    assert "one event" in PROBES["shuffled-order"].why_not(found)
    assert "no target" in PROBES["injection"].why_not(found)
    assert "same windows" in PROBES["half-window"].why_not(found)


def test_no_title_reaches_a_judge_of_pictures_alone(world, few):
    asks = {"scoring": srec.CoTScoring(view="image")}
    assert "pictures of candidates alone" in why(world, few, "injection", srec.MLLMSRec(**asks, lm=scripted({})))
    blind = srec.MLLMSRec(**asks, lm=scripted({}, sees_images=False))
    assert why(world, few, "injection", blind) == ""  # it is told the text instead


def test_reasoning_that_is_off_or_unknown_cannot_be_silenced(world, few):
    terse = srec.MLLMSRec(scoring=srec.CoTScoring(reasoning="none"), lm=scripted({}))
    assert "does not reason" in why(world, few, "no-reasoning", terse)
    assert "not known" in why(world, few, "no-reasoning")


# Names


def test_probes_are_chosen_by_name_and_by_group_each_once():
    assert [one.name for one in chosen(None)] == list(PROBES)
    assert [one.name for one in chosen(["no-text", "fig6"])][:3] == ["no-text", "blank-image", "other-image"]
    assert sum(one.name == "no-text" for one in chosen(["no-text", "fig6"])) == 1
    assert set(GROUPS["fig6"]) <= PROBES.keys()


@pytest.mark.parametrize("names", [["nosuch"], [], "no-text"])
def test_unknown_probes_are_refused_by_a_sentence_that_lists_them(names):
    with pytest.raises(InputError, match=r"blank-image, .*fig6"):
        chosen(names)


@pytest.mark.parametrize("given", [{}, {"item": lambda item, _: item, "case": lambda case, _: case}])
def test_a_probe_changes_one_thing(given):
    with pytest.raises(InputError, match="give one of item, case and program"):
        Probe(name="odd", what="something", **given)


def test_a_probe_of_ones_own_is_run_beside_the_others(world, few):
    loud = Probe(name="loud", what="titles in capitals", item=lambda item, _: replace(item, title=item.title.upper()))
    row = probe(few, reader(world), probes=[loud]).probes["loud"]
    assert row.difference.value == 0.0
    assert row.what == "titles in capitals"
    assert not math.isnan(row.tau.value)
    assert np.isclose(row.tau.value, 1.0)
