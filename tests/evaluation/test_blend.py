"""Rankers blended, with weights that are fitted on validation cases alone."""

import re
import warnings

import numpy as np
import pytest

from srec.data.cases import cases
from srec.data.folder import Dataset
from srec.errors import InputError, ModelError
from srec.evaluation.blend import Blend, Blended, BlendWarning
from srec.evaluation.rankers import BASELINES, Popularity
from srec.evaluation.run import evaluate
from srec.evaluation.shift import values_of
from srec.evaluation.weighing import scaled, z_scores
from srec.testing import check_ranker
from srec.types import Item, Score


def world(*, users=30, items=40, events=8, seed=0):
    rng = np.random.default_rng(seed)
    worth = 1.0 / np.arange(1, items + 1)
    rows = [
        (f"u{user:02}", f"i{item:02}", 1000 * step + user, 4.0)
        for user in range(users)
        for step, item in enumerate(rng.choice(items, size=events, replace=False, p=worth / worth.sum()))
    ]
    return Dataset.of("world", [Item(item_id=f"i{n:02}", title=f"thing {n % 5}") for n in range(items)], rows)


def asked(data=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cases(data or world(), **{"candidates": "uniform:9", **options})


def scores(*values):
    return [Score(item_id=f"i{place}", value=value, error="" if value else "no") for place, value in enumerate(values)]


def say(function):
    return lambda case: [Score(item_id=item.item_id, value=function(case, item)) for item in case.candidates]


def wrong_of(case, item):
    return -float(item.item_id in case.target_ids)


right = say(lambda case, item: float(item.item_id in case.target_ids))
wrong = say(wrong_of)
by_name = say(lambda case, item: float(item.item_id[1:]))


def test_the_ranker_that_knows_gets_the_weight():
    blend = Blend(rankers={"right": right, "wrong": wrong, "name": by_name})
    weights = blend.fit(world().interactions, items=world().items, seed=0).weights
    assert weights["right"] > 5 * max(weights["name"], weights["wrong"])
    assert weights["wrong"] == 0.0


def test_validation_cases_know_nothing_of_the_cases_that_are_evaluated():
    for options in ({}, {"protocol": "global-time", "cutoffs": [6000]}):
        case_set = asked(**options)
        held_out = {(case.user_id, case.at) for case in case_set}
        train = case_set.folds[0].train
        blend = Blend.like(case_set, {"a": right, "b": by_name})
        seen = dict(held_out)
        validation = list(blend.validation(train, items=case_set.items, seed=0))
        assert validation
        for case in validation:
            assert case.at < seen[case.user_id]
            assert all(event.at < case.at for event in case.history.events)
        second_last = {u: at for (u, _, at, _) in train.rows()}
        if not options:
            assert all(case.at == second_last[case.user_id] for case in validation)


def test_members_are_fitted_on_what_lies_before_the_validation_cases_and_then_on_all():
    seen = []

    class Spy:
        def fit(self, train, *, items, seed):
            seen.append(len(train))
            return Popularity().fit(train, items=items, seed=seed)

    case_set = asked()
    evaluate(case_set, {"blend": Blend(rankers={"spy": Spy(), "name": by_name}, candidates="uniform:9")})
    assert seen == [30 * 6, 30 * 7]


def test_a_blend_by_name_stands_in_the_table_with_its_weights():
    report = evaluate(asked(), ["popularity", "blend:popularity+random"])
    row = report.rankers["blend:popularity+random"]
    (weights,) = row.weights
    assert set(weights) == {"popularity", "random"}
    assert weights["popularity"] > weights["random"]
    assert row.calibration is None
    assert report.rankers["popularity"].weights == ()
    wanted = (
        "weights fitted on 30 validation cases with candidates uniform:9, scores as (z-score|log-rank)s: popularity"
    )
    assert any(re.search(wanted, note) for note in report.notes())


def test_a_blend_that_nobody_helps_says_so():
    case_set = asked()
    blend = Blend(rankers={"wrong": wrong, "so, too": say(lambda case, item: 2 * wrong_of(case, item))})
    with pytest.warns(BlendWarning, match="no ranker of wrong, so, too helps on the 30 validation cases"):
        found = blend.fit(case_set.folds[0].train, items=case_set.items, seed=0)
    assert max(found.weights.values()) < 1e-3


def test_a_blend_keeps_the_contract_of_rankers_and_is_the_same_again():
    case_set = asked()
    blend = Blend(rankers={name: BASELINES[name] for name in ("markov", "item-knn")})
    first, again = (blend.fit(case_set.folds[0].train, items=case_set.items, seed=0) for _ in range(2))
    check_ranker(first, case_set[0])
    assert first.weights == again.weights


@pytest.mark.parametrize("scale", ["z-score", "log-rank"])
def test_the_blended_score_is_the_weighted_sum_and_missing_only_where_all_are(scale):
    said = scores(None, 1.0, 3.0, 2.0), scores(None, None, 1.0, 7.0)
    weights = {"a": 2.0, "b": 0.5}
    rankers = {"a": lambda _: said[0], "b": lambda _: said[1]}
    blended = Blended(rankers=rankers, weights=weights, scale=scale)
    found = blended(asked()[0])
    expected = scaled(z_scores([*map(values_of, said)]), scale) @ np.array([2.0, 0.5])
    assert [score.value for score in found[1:]] == pytest.approx(expected[1:].tolist())
    assert found[0].value is None
    assert found[0].error == "no"


def test_scores_enter_as_they_made_the_targets_of_the_validation_cases_most_probable():
    """A huge score of one candidate leaves the others together as z-scores, and tells nothing as a log-rank."""
    skewed = say(lambda case, item: float(item.item_id in case.target_ids) + 1e6 * (item.item_id == "i39"))
    blend = Blend(rankers={"skewed": skewed, "name": by_name}, candidates="full")
    fitted = blend.fit(world().interactions, items=world().items, seed=0)
    assert fitted.scale == "log-rank"
    assert fitted.basis == "30 validation cases with candidates full, scores as log-ranks"
    case = asked(candidates="full")[0]
    features = scaled(z_scores([values_of(skewed(case)), values_of(by_name(case))]), "log-rank")
    expected = features @ np.array([fitted.weights["skewed"], fitted.weights["name"]])
    assert [score.value for score in fitted(case)] == pytest.approx(expected.tolist())


def test_a_ranker_that_fails_on_a_case_leaves_it_to_the_others():
    def fails(case):
        raise ModelError("down")

    half = say(lambda case, item: float(item.item_id in case.target_ids))
    blend = Blend(rankers={"half": lambda case: half(case) if case.user_id < "u20" else fails(case), "name": by_name})
    with pytest.warns(BlendWarning, match="on 20 of 30 validation cases, .* half 20, name 30"):
        assert blend.fit(world().interactions, items=world().items, seed=0).weights["half"] > 0


def test_a_run_of_part_of_the_validation_cases_is_weighed_by_those_alone():
    """A ranker that scored a part of the cases gets the weight that it has where it scored all, not less."""
    data = world(users=60)
    known = say(lambda case, item: float(item.item_id in case.target_ids) + int(item.item_id[1:]) % 3)
    other = say(lambda case, item: -float(item.item_id[1:]))
    some = {"known": lambda case: known(case) if case.user_id < "u40" else unscored(case), "other": other}
    with pytest.warns(BlendWarning):
        part = Blend(rankers=some).fit(data.interactions, items=data.items, seed=0).weights
    whole = Blend(rankers={"known": known, "other": other}).fit(data.interactions, items=data.items, seed=0).weights
    assert part["known"] == pytest.approx(whole["known"], rel=0.2)
    assert part["other"] == pytest.approx(whole["other"], rel=0.5)


def unscored(case):
    return [Score(item_id=item.item_id, value=None, error="no") for item in case.candidates]


def test_a_run_of_few_of_the_validation_cases_is_refused():
    few = {"few": lambda case: right(case) if case.user_id < "u10" else unscored(case), "name": by_name}
    with pytest.raises(InputError, match="ranker 'few' scored 10 of the 30 validation cases, too few to weigh it by"):
        Blend(rankers=few).fit(world().interactions, items=world().items, seed=0)


def test_a_ranker_that_tells_nothing_apart_is_named():
    blend = Blend(rankers={"name": by_name, "flat": say(lambda case, item: 1.0)})
    with pytest.raises(InputError, match="ranker 'flat' tells no candidates apart in any of the 30 validation cases"):
        blend.fit(world().interactions, items=world().items, seed=0)


def test_a_ranker_that_says_nothing_of_the_validation_cases_is_named(tmp_path):
    case_set = asked()
    evaluate(case_set, "random", runs_folder=tmp_path)
    with pytest.raises(InputError, match="ranker 'random' scored 0 of the 30 validation cases"):
        evaluate(case_set, f"blend:run:{tmp_path / 'random.run'}+popularity")


def test_one_ranker_alone_is_no_blend():
    with pytest.raises(InputError, match="a blend of popularity needs two different rankers"):
        evaluate(asked(), "blend:popularity+popularity")


def test_a_name_in_a_blend_means_the_baseline():
    case_set = asked()
    by_name = Blend.like(case_set, {"popularity": "popularity", "markov": "markov"})
    named = evaluate(case_set, {"blend": by_name}).rankers["blend"].metrics
    assert named == evaluate(case_set, "blend:popularity+markov").rankers["blend:popularity+markov"].metrics
    with pytest.raises(InputError, match=r"'best' of a blend is 'marcov'; give a ranker, or its name to Blend\.like"):
        Blend.like(case_set, {"popularity": "popularity", "best": "marcov"})


@pytest.mark.parametrize("rule", ["full", "uniform:5", "popularity:5", "retriever:item-knn:8", "retriever:8", "own:5"])
def test_weights_are_fitted_on_candidates_like_those_that_are_evaluated(rule, tmp_path):
    def first(history, count):
        return [f"i{n:02}" for n in range(count)]

    if rule == "own:5":
        asked(candidates="uniform:5").write(path := tmp_path / "candidates.jsonl")
        path.write_text(path.read_text().replace('"uniform:5"', '"own:5"'))
        case_set = asked(candidates=f"file:{path}")
    else:
        case_set = asked(candidates=rule, retriever=first if rule == "retriever:8" else None)
    blend = Blend.like(case_set, {"popularity": "popularity", "markov": "markov"})
    assert blend.candidates == ("uniform:20" if rule in {"retriever:8", "own:5"} else case_set.candidates)
    (told,) = evaluate(case_set, {"blend": blend}).rankers["blend"].weighed_on
    assert f"validation cases with candidates {blend.candidates}, scores as " in told


def test_a_validation_case_without_its_target_is_not_asked_and_weighs_nothing():
    asked_for = []

    def spy(case):
        asked_for.append(case)
        return right(case)

    blend = Blend(rankers={"spy": spy, "name": by_name}, candidates="retriever:item-knn:8")
    fitted = blend.fit(world().interactions, items=world().items, seed=0)
    everyone = list(blend.validation(world().interactions, items=world().items, seed=0))
    found = [case for case in everyone if set(case.target_ids) & {item.item_id for item in case.candidates}]
    assert 0 < len(asked_for) == len(found) < len(everyone)
    assert fitted.basis.startswith(f"{len(found)} validation cases")
    assert fitted.weights["spy"] > 5 * fitted.weights["name"]


def test_weights_are_fitted_on_drawn_items_where_a_retriever_finds_no_target():
    unlike = Dataset.of("unlike", [Item(item_id=f"i{n:02}") for n in range(30)], world_of_strangers())
    blend = Blend(rankers={"right": right, "name": by_name}, candidates="retriever:item-knn:3")
    with pytest.warns(BlendWarning, match=r"no validation case .* retriever:item-knn:3, so .* with uniform:20"):
        fitted = blend.fit(unlike.interactions, items=unlike.items, seed=0)
    assert fitted.basis == f"3 validation cases with candidates uniform:20, scores as {fitted.scale}s"
    assert fitted.weights["right"] > 5 * fitted.weights["name"]


def world_of_strangers():
    """Nobody took what anybody else took, so that neighbours are never found."""
    return [(f"u{user}", f"i{3 * user + step:02}", 100 * step + user, 4.0) for user in range(3) for step in range(3)]


def test_the_intake_report_of_the_data_is_left_alone():
    data = world()
    tied = data.report.tied_events_share = 0.25
    evaluate(asked(data), "blend:popularity+random")
    assert data.report.tied_events_share == tied
