"""Probes of a program that asks an LM: what is kept, what is told, and what is refused."""

import json
import math
import warnings

import dspy
import pytest

import srec
from srec.data.cases import LeakWarning
from srec.errors import InputError
from srec.evaluation.named import named
from srec.evaluation.rankers import BASELINES
from srec.stages.calls import current_work
from srec.testing import scripted
from srec.types import Score

pytestmark = pytest.mark.filterwarnings("ignore::srec.lm.adapters.BlindModelWarning")
SETTINGS = {"workers": 2, "progress": False}
PROBES = ["shuffled-order", "half-window", "no-reasoning", "injection", "no-profile"]
ANSWERS = {
    "AnswerVisualQuestion": {"answer": "not visible"},
    "FuseItem": {"description": "A toy.", "contradictions": []},
    "SummarizePreference": lambda _: {
        "summary": f"This is {current_work().history.user_id}.",  # else the store has one reasoning for all users
        "stable": [],
        "rising": [],
        "fading": [],
    },
    "ProfileUser": {"profile": "A customer.", "traits": []},
}


@pytest.fixture(scope="module")
def world():
    return srec.toyshop(items=24, users=4, seed=1)


@pytest.fixture(scope="module")
def asked(world):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        return srec.cases(world.data, candidates="uniform:8", users=4)


def model(world):
    """An LM whose reasoning names what the user likes for good, and that judges by the words of the reasoning alone."""

    def reasoned(prompt):
        lasting = world.truth.preferred(current_work().history.user_id)
        return {"reasoning": " ".join([*lasting["material"], *lasting["price"]])}

    def judged(prompt):
        words = prompt.partition("### Reasoning\n")[2].partition("\n\n###")[0].split()
        toy = world.truth.toys[current_work().item_id]
        return 0.1 + 0.4 * sum(value in words for value in (toy.material, toy.price))

    return scripted(ANSWERS | {"ReasonAboutUser": reasoned, "JudgeItem": judged}, sees_images=False)


def program():
    return srec.MLLMSRec(preference=srec.TemporalPreference(window=6, step=3), workers=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def lm(world):
    return model(world)


@pytest.fixture(scope="module")
def report(asked, lm, store):
    return srec.probe(asked, program(), lm=lm, probes=["blank-image", *PROBES], store=store, **SETTINGS)


def test_without_its_reasoning_a_judge_who_goes_by_it_is_at_chance(report, lm):
    silent = report.probes["no-reasoning"]
    assert silent.value.value == report.chance == 0.5 < report.plain.value
    assert math.isnan(silent.tau.value), "all scores are equal"
    assert silent.score_change.value > 0
    judged = [prompt for prompt in lm.engine.prompts if "### Target item" in prompt]
    assert {"### Reasoning" in prompt for prompt in judged} == {True, False}, "the question itself stays"


def test_what_the_judge_does_not_read_changes_nothing(report):
    for name in ("shuffled-order", "half-window", "injection", "no-profile"):
        row = report.probes[name]
        assert (row.difference.value, row.score_change.value) == (0.0, 0.0), name
        assert row.tau.value == pytest.approx(1.0)
        assert row.difference.n == report.n == 4


def test_an_ablation_in_the_table_is_what_its_probe_found(asked, report, lm, store):
    names = ["program", "popularity", "ablated:no-reasoning", "ablated:injection"]
    before = len(lm.engine.prompts)
    rankers = named(names, cases=asked, program=program())
    table = srec.evaluate(asked, rankers, lm=lm, store=store, **SETTINGS)
    assert list(table.rankers) == names
    assert table.rankers["program"].metrics["auc"] == report.plain
    for name in ("no-reasoning", "injection"):
        assert table.rankers[f"ablated:{name}"].metrics["auc"] == report.probes[name].value
    assert len(lm.engine.prompts) == before, "all is in the store"


def test_an_ablation_knows_the_cases_that_it_is_asked_about(world, asked):
    (first,) = named(["ablated:other-text"], cases=asked, program=program()).values()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        others = srec.cases(world.data, candidates="uniform:8", users=4, seed=1)
    ((name, second),) = named([first], cases=others).items()
    assert name == "ablated:other-text"
    assert second.scene.others.keys() >= {item.item_id for case in others for item in case.candidates}
    assert second.scene.seed == 1


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("ablated:blank-image", "would change nothing: the program looks at no picture"),
        ("ablated:mood", "names no probe; give ablated: and one of blank-image"),
        ("blend:program+ablated:no-text", "ranker 'ablated:no-text' is not known"),
    ],
)
def test_an_ablation_that_is_none_is_refused_before_anybody_is_asked(asked, lm, name, why):
    before = len(lm.engine.prompts)
    with pytest.raises(InputError, match=why):
        srec.evaluate(asked, [name], lm=lm, **SETTINGS)
    assert len(lm.engine.prompts) == before


def test_the_prompts_are_those_of_the_probe(report, lm):
    judged = [prompt for prompt in lm.engine.prompts if "### Target item" in prompt]
    assert sum('respond with "Yes."' in prompt.rpartition("### Target item")[2] for prompt in judged) == report.n
    assert any("### Profile" not in prompt for prompt in judged)
    events = [
        prompt.rpartition("### Events\n")[2].count("\n") + 1 for prompt in lm.engine.prompts if "### Events" in prompt
    ]
    assert {3, 6} <= set(events)


def test_a_second_run_asks_nothing_and_says_the_same(report, asked, lm, store):
    calls = len(lm.engine.prompts)
    again = srec.probe(asked, program(), lm=lm, probes=["blank-image", *PROBES], store=store, **SETTINGS)
    assert len(lm.engine.prompts) == calls
    assert told(again) == told(report)


def test_a_probe_asks_only_what_the_plain_run_did_not(asked, world):
    lm = model(world)
    srec.probe(asked, program(), lm=lm, probes=["no-reasoning"], **SETTINGS)
    described = [prompt for prompt in lm.engine.prompts if prompt.startswith("Describe one catalogue item")]
    assert 0 < len(described) == len(set(described))


def test_the_object_has_every_number_and_every_reason(report):
    written = json.loads(report.to_json())
    assert "NaN" not in report.to_json()
    assert written["not_applicable"] == {"blank-image": "the program looks at no picture, or its model cannot see"}
    assert list(written["probes"]) == PROBES
    for row in written["probes"].values():
        assert {"value", "low", "high", "p", "p_holm", "n"} <= row["difference"].keys()
        assert {"value", "low", "high", "n"} == row["score_change"].keys() == row["tau"].keys()
    assert written["probes"]["no-profile"]["subject_rank"] is None
    assert written["probes"]["injection"]["subject_rank"]["n"] == 4
    assert (written["metric"], written["n"], written["seed"]) == ("auc", 4, 0)


def test_the_table_is_at_most_100_wide_and_says_what_each_probe_is(report):
    text = str(report)
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    for words in ("plain", *PROBES, "chance", "change of AUC", "p (Holm)", "tau", "blank-image does not apply: the"):
        assert words in flat
    assert "no-profile: the profile says nothing." in flat
    assert "its rank (1 is best) .000 [.000 .000], p 1.0000, n = 4." in flat


def test_another_metric_is_measured_at_its_rank(asked, lm, store):
    found = srec.probe(asked, program(), lm=lm, probes=["no-reasoning"], metric="mrr@3", store=store, **SETTINGS)
    assert found.probes["no-reasoning"].difference.metric == "mrr@3"
    assert "change of MRR@3" in str(found)


def test_what_fails_under_a_probe_is_counted_with_its_reason(asked):
    def fragile(case):
        if not case.candidates[0].title:
            raise InputError("no title: cannot say")
        return [Score(item_id=item.item_id, value=float(len(item.title))) for item in case.candidates]

    report = srec.probe(asked, fragile, probes=["no-text"], **SETTINGS)
    row = report.probes["no-text"]
    assert report.plain_unscored == 0
    assert row.unscored == report.unscored == 4 * 9
    assert math.isnan(row.score_change.value)
    assert row.value.value == 0.5
    assert "36 candidates were not scored: 36 x" in str(report)


@pytest.mark.parametrize("metric", ["pooled_auc", "ndcg", "ndcg@0", "loss"])
def test_a_metric_without_a_value_for_each_case_is_refused(asked, metric):
    with pytest.raises(InputError, match="no value per case"):
        srec.probe(asked, program(), metric=metric)


@pytest.mark.parametrize(("lm", "message"), [(None, "has no LM to ask"), ("local:", "names an LM and is none")])
def test_a_program_without_an_lm_is_refused_before_anybody_ranks(asked, lm, message):
    with dspy.context(lm=None), pytest.raises(InputError, match=message):
        srec.probe(asked, srec.MLLMSRec(), lm=lm, probes=["no-profile"])


def test_what_is_no_program_is_refused(asked):
    with pytest.raises(InputError, match="fit it"):
        srec.probe(asked, BASELINES["markov"])
    with pytest.raises(InputError, match="no program"):
        srec.probe(asked, "program")


def told(report):
    """All that must be the same on every run."""
    written = report.to_dict()
    for row in (written, *written["probes"].values()):
        for name in ("seconds", "lm_calls", "cache_hits"):
            row.pop(name, None)
    return written
