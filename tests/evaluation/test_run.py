"""Whole evaluations, on a small world in memory and on real data."""

import json
import threading
import time
import warnings
from pathlib import Path

import dspy
import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, nDCG

from srec.data.cases import cases
from srec.data.folder import Dataset, load
from srec.data.toyshop import toyshop
from srec.errors import AnswerError, CandidateError, InputError, LeakageError, ModelError
from srec.evaluation.rankers import BASELINES, Popularity, RecentPopularity
from srec.evaluation.run import evaluate
from srec.evaluation.trec import read_run
from srec.lm.usage import record
from srec.recommender import MLLMSRec
from srec.stages.kept import keep
from srec.testing import scripted
from srec.types import Item, ItemDescription, PreferenceSummary, Ranking, Score, UserProfile

MOVIELENS = Path(__file__).parents[3] / "shared" / "data" / "movielens-posters"


def world(*, users=12, items=30, events=6, seed=0):
    rng = np.random.default_rng(seed)
    catalogue = [Item(item_id=f"i{n:02}", title=f"thing {n % 5}") for n in range(items)]
    rows = [
        (f"u{user:02}", f"i{item:02}", 1000 * step + user, float(rng.integers(1, 6)))
        for user in range(users)
        for step, item in enumerate(rng.choice(items, size=events, replace=False))
    ]
    return Dataset.of("world", catalogue, rows)


def asked(data=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cases(data or world(), **{"candidates": "uniform:9", **options})


def by_title(case):
    return [Score(item_id=item.item_id, value=float(item.title[-1])) for item in case.candidates]


def half_sure(case):
    return [Score(item_id=item.item_id, value=0.5) for item in case.candidates]


def same(report):
    return {name: (row.metrics, row.unscored) for name, row in report.rankers.items()}


def test_names_callables_and_baselines_stand_in_one_table():
    report = evaluate(asked(), ["random", "popularity", by_title, RecentPopularity(days=1)])
    assert list(report.rankers) == ["random", "popularity", "by_title", "RecentPopularity"]
    assert report.n == report.users == 12
    assert all(interval.n == 12 for interval in report.rankers["by_title"].metrics.values())


@pytest.mark.parametrize("name", ["", " ", "half \ud800", 7])
def test_a_name_that_no_file_can_hold_is_refused_before_anybody_ranks(name, tmp_path):
    chosen = cases(world(), candidates="uniform:5")
    with pytest.raises(InputError, match="a ranker is named"):
        evaluate(chosen, {name: "popularity"}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mapping_gives_rankers_names_of_their_own():
    report = evaluate(asked(), {"short": RecentPopularity(days=1), "long": "recent-popularity", "mine": by_title})
    assert list(report.rankers) == ["short", "long", "mine"]
    assert list(evaluate(asked(), "popularity").rankers) == ["popularity"]
    assert list(evaluate(asked(), by_title).rankers) == ["by_title"]


@pytest.mark.parametrize(
    ("rankers", "message"),
    [
        (["populrity"], "'populrity' is not known; give 'random', 'popularity'"),
        ([], "no ranker is given"),
        ([by_title, by_title], "two rankers are named 'by_title'"),
        ([7], "7 is no ranker"),
    ],
)
def test_a_ranker_that_is_none_is_refused_before_any_work(rankers, message):
    with pytest.raises(InputError, match=message):
        evaluate(asked(), rankers)


def test_ranks_below_one_are_refused():
    with pytest.raises(InputError, match=r"ks is \(0, 5\)"):
        evaluate(asked(), "random", ks=(0, 5))


def test_the_same_seed_gives_the_same_report_and_another_a_different_one():
    first, again = (evaluate(asked(), list(BASELINES), seed=1) for _ in range(2))
    assert same(first) == same(again)
    other = evaluate(asked(), list(BASELINES), seed=2)
    assert other.rankers["random"].metrics["auc"].value != first.rankers["random"].metrics["auc"].value
    assert other.rankers["markov"].metrics["auc"].value == first.rankers["markov"].metrics["auc"].value


def test_a_case_on_which_a_ranker_fails_is_counted_with_its_reason_and_kept():
    def fails_once(case):
        if case.user_id == "u03":
            raise AnswerError("no verdict: the model said 'maybe'")
        return by_title(case)

    row = evaluate(asked(), {"mine": fails_once}).rankers["mine"]
    assert (row.unscored, row.unscored_cases) == (10, 1)
    assert row.metrics["ndcg@10"].n == 12
    assert row.reasons == {"AnswerError": 10}
    assert row.examples == {"AnswerError": "AnswerError: no verdict: the model said 'maybe'"}


def test_candidates_without_a_value_are_counted_by_their_reason():
    def half(case):
        return [
            Score(item_id=item.item_id, value=None, error=f"timeout: after {place} s") if place % 2 else score
            for place, (item, score) in enumerate(zip(case.candidates, by_title(case), strict=True))
        ]

    report = evaluate(asked(), {"half": half})
    row = report.rankers["half"]
    assert (row.unscored, row.unscored_cases) == (60, 12)
    assert row.reasons == {"timeout": 60}
    assert "half: 60 candidates in 12 cases were not scored: 60 x timeout: after 1 s" in report.notes()


def test_a_ranker_that_scores_nothing_gets_what_chance_gets():
    def silent(case):
        return [Score(item_id=item.item_id, value=None) for item in case.candidates]

    report = evaluate(asked(), {"silent": silent})
    for metric, interval in report.rankers["silent"].metrics.items():
        assert interval.value == pytest.approx(report.chance[metric]), metric
    assert report.chance["recall@5"] == 0.5
    assert report.chance["auc"] == report.chance["pooled_auc"] == 0.5


def test_a_bug_in_a_ranker_is_raised():
    def buggy(case):
        return {}["missing"]

    with pytest.raises(KeyError, match="missing"):
        evaluate(asked(), {"buggy": buggy})


@pytest.mark.parametrize(
    ("ranker", "message"),
    [
        (lambda case: by_title(case)[1:], "gave 9 scores .* do not fit its 10 candidates"),
        (lambda case: by_title(case)[::-1], "in the order of the candidates"),
        (lambda case: [0.5] * len(case.candidates), "not a list of srec.Score"),
        (lambda case: Ranking.of(case.user_id, by_title(case)), "gave Ranking for case"),
    ],
)
def test_scores_that_do_not_fit_the_candidates_are_refused(ranker, message):
    with pytest.raises(InputError, match=message):
        evaluate(asked(), {"mine": ranker})


def test_what_rankers_ask_of_an_lm_is_counted_for_each_and_from_all_threads():
    threads = set()
    together = threading.Barrier(4, timeout=30)

    def program(case):
        together.wait()
        threads.add(threading.get_ident())
        record(lm_calls=2, cache_hits=1, prompt_tokens=30, output_tokens=4, unseen_images=5)
        return by_title(case)

    report = evaluate(asked(), {"popularity": "popularity", "program": program}, workers=4)
    row = report.rankers["program"]
    assert len(threads) == 4
    assert (row.lm_calls, row.cache_hits, row.prompt_tokens, row.output_tokens) == (24, 12, 360, 48)
    assert report.rankers["popularity"].lm_calls == 0
    assert "program: the model could not see 60 images; it was given their text only." in report.notes()


def test_seconds_in_which_several_threads_rank_count_once():
    together = threading.Barrier(4, timeout=30)

    def slow(case):
        together.wait()
        time.sleep(0.5)
        return by_title(case)

    report = evaluate(asked(), {"slow": slow, "quick": by_title}, workers=4)
    assert 1.4 < report.rankers["slow"].seconds < 5.0  # 12 cases, 4 at a time; one after the other it would be 6
    assert report.rankers["quick"].seconds < report.rankers["slow"].seconds < report.seconds


def test_a_baseline_is_fitted_on_what_each_fold_lets_it_see():
    seen = []

    class Spy:
        def fit(self, train, *, items, seed):
            seen.append((int(train.at.max()), seed))
            return Popularity().fit(train, items=items, seed=seed)

    case_set = asked(protocol="global-time", cutoffs=(2000, 4000))
    report = evaluate(case_set, {"spy": Spy()}, seed=5)
    assert [at < cutoff and seed == 5 for (at, seed), cutoff in zip(seen, (2000, 4000), strict=True)] == [True, True]
    assert (report.n, report.users) == (24, 12)


def test_run_files_enter_the_table_again_with_the_same_metrics(tmp_path):
    case_set = asked()
    first = evaluate(case_set, ["random", "popularity"], runs_folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["popularity.run", "qrels.txt", "random.run"]
    again = evaluate(case_set, [f"run:{tmp_path / 'random.run'}", read_run(tmp_path / "popularity.run")])
    assert same(again) == same(first)
    assert first.rankers["random"].calibration is again.rankers["random"].calibration is None


def test_a_run_of_other_candidates_is_refused_before_anybody_ranks_alone_and_in_a_blend(tmp_path):
    many = world(users=40)
    evaluate(asked(many, candidates="uniform:5", seed=0), ["random"], runs_folder=tmp_path)
    run, other = f"run:{tmp_path / 'random.run'}", asked(many, candidates="uniform:5", seed=1)
    for ranker in (run, f"blend:popularity+{run}"):
        called = []
        with pytest.raises(CandidateError, match="written for other candidates"):
            evaluate(other, {"spy": called.append, "theirs": ranker})
        assert not called


def test_scores_of_a_run_file_are_held_to_be_no_probabilities(tmp_path):
    case_set = asked()
    first = evaluate(case_set, {"mine": rank_by_place}, runs_folder=tmp_path)
    assert first.rankers["mine"].calibration is not None
    assert evaluate(case_set, f"run:{tmp_path / 'mine.run'}").rankers["mine"].calibration is None


def rank_by_place(case):
    return [Score(item_id=item.item_id, value=1 / (1 + place)) for place, item in enumerate(case.candidates)]


def test_a_run_file_whose_tag_is_taken_goes_by_its_path(tmp_path):
    case_set = asked()
    evaluate(case_set, "popularity", runs_folder=tmp_path)
    entry = f"run:{tmp_path / 'popularity.run'}"
    assert list(evaluate(case_set, [entry]).rankers) == ["popularity"]
    report = evaluate(case_set, ["popularity", entry])
    assert list(report.rankers) == ["popularity", entry]
    assert report.compare("popularity", entry).p == 1.0


def test_ir_measures_says_the_same_of_the_files_written(tmp_path):
    report = evaluate(asked(candidates="full"), ["random"], runs_folder=tmp_path)
    qrels = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels.txt")))
    run = list(ir_measures.read_trec_run(str(tmp_path / "random.run")))
    theirs = ir_measures.calc_aggregate([nDCG @ 10, R @ 5, RR @ 20], qrels, run)
    ours = report.rankers["random"].metrics
    assert theirs[nDCG @ 10] == pytest.approx(ours["ndcg@10"].value)
    assert theirs[R @ 5] == pytest.approx(ours["recall@5"].value)
    assert theirs[RR @ 20] == pytest.approx(ours["mrr@20"].value)


def test_several_targets_are_measured_under_the_task_like():
    report = evaluate(asked(task="like:2.0", protocol="global-time", cutoffs=(3000,)), ["random", by_title])
    assert 0 < report.rankers["random"].metrics["recall@5"].value < 1
    assert report.task == "like:2.0"


def test_the_report_as_json_has_what_others_read():
    report = evaluate(asked(), ["popularity"], seed=3)
    plain = json.loads(report.to_json())
    assert {name: plain[name] for name in ("n", "protocol", "task", "candidates", "model", "seed")} == {
        "n": 12,
        "protocol": "leave-last-out",
        "task": "next",
        "candidates": "uniform:9",
        "model": "",
        "seed": 3,
    }
    row = plain["rankers"]["popularity"]
    assert {"metrics", "unscored", "lm_calls", "cache_hits", "prompt_tokens", "output_tokens", "seconds"} <= set(row)
    for metric in ("ndcg@10", "recall@10", "mrr@10", "auc", "pooled_auc"):
        assert row["metrics"][metric]["low"] <= row["metrics"][metric]["value"] <= row["metrics"][metric]["high"]


@pytest.fixture(scope="module")
def movielens():
    if not MOVIELENS.is_dir():
        pytest.skip(f"needs the dataset folder {MOVIELENS}")
    return load(MOVIELENS)


def test_on_real_data_the_baselines_stand_in_the_order_that_is_known_for_them(movielens):
    report = evaluate(asked(movielens, candidates="uniform:20"), list(BASELINES))
    auc = {name: row.metrics["auc"] for name, row in report.rankers.items()}
    assert report.n == 456
    assert auc["random"].low < 0.5 < auc["random"].high
    assert auc["random"].high < auc["popularity"].low
    assert auc["popularity"].high < auc["item-knn"].low
    assert auc["item-knn"].value < auc["markov"].value
    assert auc["recent-popularity"].value > auc["popularity"].value
    assert all(row.unscored == 0 for row in report.rankers.values())


SCRIPT = {
    "AnswerVisualQuestion": {"answer": "red"},
    "FuseItem": {"description": "a toy", "contradictions": []},
    "SummarizePreference": {"summary": "toys", "stable": [], "rising": [], "fading": []},
    "ProfileUser": {"profile": "a collector", "traits": []},
    "ReasonAboutUser": {"reasoning": "toys fit"},
    "JudgeItem": 0.7,
}


def few():
    return cases(toyshop(items=30, users=6, seed=0).data, candidates="uniform:3", users=2)


def test_failed_descriptions_are_counted_in_the_report():
    broken = MLLMSRec(lm=scripted({**SCRIPT, "FuseItem": ModelError("down")}))
    report = evaluate(few(), {"program": broken}).rankers["program"]
    assert report.unscored == 0
    assert report.failures > 0


def test_an_open_store_of_the_caller_is_used(tmp_path):
    with keep(tmp_path / "mine") as store:
        evaluate(few(), {"program": MLLMSRec(lm=scripted(SCRIPT))})
        assert len(store) > 0


def test_two_rankers_are_compared_case_by_case():
    report = evaluate(asked(), ["random", "popularity"])
    found = report.compare("popularity", "random", "auc")
    metrics = {name: row.metrics["auc"].value for name, row in report.rankers.items()}
    assert found.value == pytest.approx(metrics["popularity"] - metrics["random"])
    assert found.n == 12
    assert found == report.compare("popularity", "random", "auc")
    assert report.compare("random", "random").p == 1.0
    assert [(one.a, one.b) for one in report.comparisons("auc").pairs] == [("random", "popularity")]
    assert report.comparisons("auc", pairs=iter([("popularity", "random")])).pairs == (found,)
    with pytest.raises(InputError, match="ranker 'ease' is not in this report"):
        report.comparisons("auc", pairs=[("popularity", "ease")])


@pytest.mark.parametrize(
    ("asked_for", "message"),
    [
        (("random", "nobody", "auc"), "ranker 'nobody' is not in this report; it has random"),
        (("random", "random", "pooled_auc"), "metric 'pooled_auc' has no value per case"),
        (("random", "random", "ndcg@7"), "metric 'ndcg@7' has no value per case; give one of ndcg@5"),
    ],
)
def test_what_was_not_measured_cannot_be_compared(asked_for, message):
    with pytest.raises(InputError, match=message):
        evaluate(asked(), "random").compare(*asked_for)


def test_every_case_keeps_its_ranks_scores_and_candidates():
    case_set = asked()
    report = evaluate(case_set, {"mine": by_title})
    assert [case.case_id for case in report.cases] == [case.case_id for case in case_set]
    case = case_set[3]
    row = report.ranked("mine", case.case_id)
    assert row.ranking.scores == Ranking.of(case.user_id, by_title(case)).scores
    assert row.candidates == len(row.item_ids) == 10
    target = next(float(item.title[-1]) for item in case.candidates if item.item_id in case.target_ids)
    values = [float(item.title[-1]) for item in case.candidates]
    above, same = sum(value > target for value in values), values.count(target)
    assert row.ranks == (above + (same + 1) / 2,)
    with pytest.raises(InputError, match="case 'nobody@1' is not in this report"):
        report.ranked("mine", "nobody@1")


def test_of_many_candidates_the_first_are_kept():
    report = evaluate(asked(world(items=300), candidates="full"), {"mine": by_title})
    for row in report.rankers["mine"].cases:
        assert row.candidates > 200
        assert len(row.item_ids) == len(row.values) == 20
        assert 1 <= row.ranks[0] <= row.candidates


def test_a_target_that_was_no_candidate_has_no_rank():
    items = [f"i{n:02}" for n in range(30)]
    case_set = asked(candidates="retriever:5", retriever=lambda history, n: items[:n])
    report = evaluate(case_set, "popularity")
    ranks = [row.ranks[0] for row in report.rankers["popularity"].cases]
    missed = [bool(np.isnan(rank)) for rank in ranks]
    assert any(missed)
    assert report.retrieved.value == pytest.approx(1 - np.mean(missed))
    assert f"It found {report.retrieved.value:.3f}".replace("0.", ".") in " ".join(report.notes())
    assert evaluate(asked(), "popularity").retrieved is None


def test_the_report_as_plain_values_has_everything_and_is_json():
    report = evaluate(asked(), {"mine": by_title, "sure": half_sure, "random": "random"})
    plain = json.loads(report.to_json())
    assert plain == report.to_dict()
    row = plain["rankers"]["sure"]
    assert [case["case_id"] for case in plain["cases"]] == [case["case_id"] for case in row["cases"]]
    assert set(row["cases"][0]) == {"case_id", "metrics", "ranks", "candidates", "item_ids", "scores"}
    assert [one["k"] for one in row["beyond"]] == [5, 10, 20]
    assert len(row["calibration"]["bins"]) == 10
    assert plain["rankers"]["mine"]["calibration"] is None  # titles go beyond 1
    assert plain["rankers"]["random"]["calibration"] is None  # a baseline says nothing of probabilities
    assert len(plain["comparisons"]) == 3
    assert {one["by"] for one in plain["slices"]["slices"]} <= {"item", "history", "image", "tie", "gap"}
    short = report.to_dict(per_case=False)
    assert "cases" not in short
    assert "cases" not in short["rankers"]["mine"]


def test_beyond_accuracy_is_measured_on_training_events():
    report = evaluate(asked(candidates="full"), ["random", "popularity"])
    popular, chance = (report.rankers[name].beyond[0] for name in ("popularity", "random"))
    assert popular.popularity.value > chance.popularity.value
    assert popular.coverage < chance.coverage
    assert popular.gini > chance.gini
    assert popular.n == 12


def test_on_real_data_popularity_recommends_little_of_the_catalogue(movielens):
    report = evaluate(asked(movielens, candidates="full", users=100), ["random", "popularity", "item-knn"])
    coverage = {name: row.beyond[1].coverage for name, row in report.rankers.items()}
    assert coverage["popularity"] < 0.1 < coverage["item-knn"] < coverage["random"] + 0.2
    assert report.compare("item-knn", "random", "auc").p < 0.001


def test_what_a_report_cannot_be_asked_is_refused_in_words():
    chosen = cases(world(), candidates="uniform:5", users=1)
    with pytest.raises(InputError, match="seed=-1 is below 0"):
        evaluate(chosen, ["random"], seed=-1)
    report = evaluate(chosen, ["random", "popularity"])
    with pytest.raises(InputError, match="seed=-1 is below 0"):
        report.compare("random", "popularity", seed=-1)
    for ask in (lambda: report.compare("random", "popularity", flips=0), lambda: report.comparisons(flips=-1)):
        with pytest.raises(InputError, match="tests nothing"):
            ask()
    assert report.slices("item").to_dict() == report.slices(["item"]).to_dict()


# What must not become a number


def test_a_leak_ends_the_evaluation():
    def leaky(case):
        raise LeakageError(f"case {case.case_id} was seen before")

    with pytest.raises(LeakageError, match="was seen before"):
        evaluate(asked(), {"random": "random", "leaky": leaky})


def test_a_program_that_reads_the_future_ends_the_evaluation():
    def late(history, descriptions):
        return [PreferenceSummary(user_id=history.user_id, text="likes all", until=history.until + 10**9, events=1)]

    with pytest.raises(LeakageError, match=r"the summary of user .* history.before"):
        evaluate(few(), MLLMSRec(preference=late, lm=scripted(SCRIPT)))


def test_a_program_with_a_broken_stage_ends_the_evaluation():
    with pytest.raises(InputError, match=r"the fusion stage returned str; return an srec\.ItemDescription"):
        evaluate(few(), MLLMSRec(fusion=lambda item: item.title, lm=scripted(SCRIPT)))


@pytest.mark.parametrize(
    "rankers",
    [["random", "program"], {"mine": MLLMSRec()}, "blend:item-knn+program", MLLMSRec(scoring=lambda *_: [])],
)
def test_a_program_without_an_lm_is_refused_before_anybody_ranks(rankers, tmp_path):
    with dspy.context(lm=None), pytest.raises(InputError, match=r"has no LM to ask; pass lm=srec\.connect\(\.\.\.\)"):
        evaluate(few(), rankers, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ranker", ["program", "random"])
def test_a_name_is_not_taken_for_an_lm(ranker):
    with pytest.raises(InputError, match=r"lm='local:' names an LM and is none; pass lm=srec\.connect\('local:'\)"):
        evaluate(asked(), ranker, lm="local:")


def test_a_program_whose_lm_is_a_name_is_refused_before_anybody_ranks():
    with pytest.raises(InputError, match=r"pass lm=srec\.connect\('local:'\)"):
        evaluate(few(), MLLMSRec(lm="local:"))
    with pytest.raises(InputError, match=r"lm=7 is no LM; pass what srec\.connect\(\.\.\.\) returns"):
        evaluate(few(), MLLMSRec(lm=7))


def test_a_program_of_ones_own_stages_needs_no_lm():
    program = MLLMSRec(
        fusion=lambda item: ItemDescription(item_id=item.item_id, text=item.title),
        preference=lambda history, _: [
            PreferenceSummary(user_id=history.user_id, text="S", until=history.until, events=len(history))
        ],
        profiling=lambda summaries: UserProfile(user_id=summaries[-1].user_id, text="P", until=summaries[-1].until),
        scoring=lambda profile, summary, candidates, _: [Score(item_id=one.item_id, value=0.5) for one in candidates],
    )
    with dspy.context(lm=None):
        assert evaluate(few(), program).rankers["program"].unscored == 0


def test_a_list_of_cases_is_refused_with_what_to_give():
    with pytest.raises(InputError, match=r"cases are given as list; give what srec\.cases returned, whose users="):
        evaluate(asked()[:2], "random")
