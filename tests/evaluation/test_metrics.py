"""What a metric is worth by hand, and how intervals behave."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from srec.errors import InputError
from srec.evaluation import metrics
from srec.evaluation.metrics import (
    Placement,
    PooledScores,
    auc,
    bootstrap,
    label,
    mrr_at,
    ndcg_at,
    pooled_auc,
    recall_at,
)
from srec.types import Score


def scores(*values):
    return [Score(item_id=f"i{place}", value=value) for place, value in enumerate(values)]


def test_a_single_target_at_rank_three_by_hand():
    ranking = scores(0.9, 0.8, 0.7, 0.6)
    assert recall_at(3, ranking, ["i2"]) == 1.0
    assert recall_at(2, ranking, ["i2"]) == 0.0
    assert ndcg_at(3, ranking, ["i2"]) == pytest.approx(1 / math.log2(4))
    assert ndcg_at(2, ranking, ["i2"]) == 0.0
    assert mrr_at(3, ranking, ["i2"]) == pytest.approx(1 / 3)
    assert auc(ranking, ["i2"]) == pytest.approx(1 / 3)


def test_two_targets_by_hand():
    ranking = scores(0.9, 0.8, 0.7, 0.6)
    targets = ["i0", "i3"]
    assert recall_at(1, ranking, targets) == 0.5
    assert ndcg_at(10, ranking, targets) == pytest.approx((1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3)))
    assert ndcg_at(1, ranking, targets) == 1.0
    assert mrr_at(10, ranking, targets) == 1.0
    assert auc(ranking, targets) == 0.5


def test_all_tied_is_worth_the_mean_over_all_places():
    ranking = scores(0.5, 0.5, 0.5, 0.5)
    assert recall_at(1, ranking, ["i3"]) == 0.25
    assert mrr_at(10, ranking, ["i3"]) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert auc(ranking, ["i3"]) == 0.5


def test_the_unscored_are_one_tied_group_behind_all_others():
    ranking = scores(-5.0, None, None)
    assert recall_at(2, ranking, ["i1"]) == 0.5
    assert mrr_at(3, ranking, ["i1"]) == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert auc(ranking, ["i1"]) == 0.25
    assert auc(ranking, ["i0"]) == 1.0


def test_a_target_that_is_no_candidate_was_missed():
    ranking = scores(0.9, 0.8)
    assert recall_at(2, ranking, ["i0", "elsewhere"]) == 0.5
    assert auc(ranking, ["i0", "elsewhere"]) == 0.5
    assert ndcg_at(2, ranking, ["elsewhere"]) == mrr_at(2, ranking, ["elsewhere"]) == auc(ranking, ["elsewhere"]) == 0.0
    assert pooled_auc([(ranking, ["i0"]), (ranking, ["elsewhere"])]) == pytest.approx(0.5 * 2.5 / 3)


def test_auc_without_a_candidate_to_beat_is_no_number():
    assert math.isnan(auc(scores(0.9), ["i0"]))
    assert auc([], ["i0"]) == 0.0
    assert auc(scores(0.9), ["i0", "missed"]) == 0.5
    assert math.isnan(pooled_auc([(scores(0.9), ["i0"])]))


def test_a_rank_behind_all_candidates_costs_nothing_and_changes_nothing():
    ranking = scores(0.3, 0.8, 0.8, None)
    for measure in (ndcg_at, recall_at, mrr_at):
        assert measure(10**15, ranking, ["i0", "i2", "elsewhere"]) == measure(5, ranking, ["i0", "i2", "elsewhere"])


def test_a_metric_needs_a_target_and_one_score_per_item():
    with pytest.raises(InputError, match="at least one target"):
        ndcg_at(5, scores(1.0), [])
    with pytest.raises(InputError, match="scored twice"):
        ndcg_at(5, [*scores(1.0), *scores(2.0)], ["i0"])
    with pytest.raises(InputError, match="at least one case"):
        pooled_auc([])


def by_enumeration(measure, values, wanted):
    """Mean of `measure(order)` over all orders of the items that `values` allows; `order` holds wanted or not."""
    groups = [
        [w for v, w in zip(values, wanted, strict=True) if v == value] for value in sorted(set(values), reverse=True)
    ]
    orders = itertools.product(*(itertools.permutations(group) for group in groups))
    return float(np.mean([measure([hit for group in order for hit in group]) for order in orders]))


def plain_recall(k):
    return lambda order: sum(order[:k]) / sum(order)


def plain_ndcg(k):
    def measure(order):
        def gain(hits):
            return sum(hit / math.log2(rank + 1) for rank, hit in enumerate(hits[:k], start=1))

        return gain(order) / gain(sorted(order, reverse=True))

    return measure


def plain_mrr(k):
    return lambda order: next((1 / rank for rank, hit in enumerate(order[:k], start=1) if hit), 0.0)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6).filter(
        lambda x: any(w for _, w in x)
    ),
    st.integers(1, 7),
)
def test_ties_are_worth_the_mean_over_every_order(rows, k):
    values, wanted = zip(*rows, strict=True)
    ranking = scores(*map(float, values))
    targets = [score.item_id for score, hit in zip(ranking, wanted, strict=True) if hit]
    assert recall_at(k, ranking, targets) == pytest.approx(by_enumeration(plain_recall(k), values, wanted))
    assert ndcg_at(k, ranking, targets) == pytest.approx(by_enumeration(plain_ndcg(k), values, wanted))
    assert mrr_at(k, ranking, targets) == pytest.approx(by_enumeration(plain_mrr(k), values, wanted))


def random_cases(rng, *, cases, levels=6):
    out = []
    for _ in range(cases):
        count = int(rng.integers(3, 12))
        ranking = scores(*(None if rng.random() < 0.1 else float(v) for v in rng.integers(0, levels, count)))
        out.append((ranking, [f"i{i}" for i in rng.choice(count, size=int(rng.integers(1, 3)), replace=False)]))
    return out


def plain_pooled(cases):
    rows = [label(ranking, targets) for ranking, targets in cases]
    values, wanted = np.concatenate([r.values for r in rows]), np.concatenate([r.wanted for r in rows])
    _, values = np.unique(values, return_inverse=True)  # mannwhitneyu does not take -inf
    return mannwhitneyu(values[wanted], values[~wanted]).statistic / (wanted.sum() * (~wanted).sum())


def test_pooled_auc_is_the_mann_whitney_statistic_of_all_scores():
    rng = np.random.default_rng(0)
    for _ in range(50):
        cases = random_cases(rng, cases=8)
        assert pooled_auc(cases) == pytest.approx(plain_pooled(cases))


def test_the_pooled_interval_is_that_of_pooling_the_drawn_users_again(monkeypatch):
    cases = random_cases(np.random.default_rng(1), cases=9)
    users = ["a", "b", "c", "a", "d", "e", "f", "f", "g"]
    rows = [(user, label(*case)) for user, case in zip(users, cases, strict=True)]
    names = list(dict.fromkeys(users))
    draws = np.random.default_rng(7).integers(len(names), size=(200, len(names)))
    again = [
        plain_pooled([c for i in draw for u, c in zip(users, cases, strict=True) if u == names[i]]) for draw in draws
    ]
    interval = PooledScores.of(rows).interval(seed=7, resamples=200)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(again, [0.025, 0.975])))
    monkeypatch.setattr(metrics, "CHUNK_CELLS", 50)
    assert PooledScores.of(rows).interval(seed=7, resamples=200) == interval


def test_a_bootstrap_interval_is_near_the_normal_one_and_repeats():
    values = np.random.default_rng(2).normal(size=400)
    interval = bootstrap(values, seed=3)
    half = 1.96 * values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.n == 400
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)
    assert bootstrap(values, seed=3) == interval != bootstrap(values, seed=4)


def test_cases_of_one_user_are_drawn_together():
    values = np.repeat([0.0, 1.0] * 20, 10)
    alone = bootstrap(values)
    together = bootstrap(values, groups=[row // 10 for row in range(400)])
    assert together.value == alone.value == 0.5
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_case_without_a_value_is_left_out_of_the_mean_and_of_n():
    interval = bootstrap([math.nan, 1.0, 0.0])
    assert (interval.value, interval.n) == (0.5, 2)
    nothing = bootstrap([math.nan])
    assert math.isnan(nothing.value)
    assert nothing.n == 0


def test_chance_is_what_random_rankings_get_on_average():
    rng = np.random.default_rng(5)
    placement = Placement.of(scores(*map(float, range(12))), ["i3", "i7", "elsewhere"])
    tries = [Placement.of(scores(*rng.random(12)), ["i3", "i7", "elsewhere"]) for _ in range(4000)]
    chance = metrics.measure(placement.at_random(), ks=(1, 5))
    for name, value in chance.items():
        mean = np.mean([metrics.measure(one, ks=(1, 5))[name] for one in tries])
        assert value == pytest.approx(mean, abs=0.015), name
