"""Coverage, evenness and popularity, by hand."""

import math

import numpy as np
import pytest

from srec.evaluation.beyond import Exposure, gini, inclusion


def exposed(*cases, k=2, items=5):
    exposure = Exposure(k=k, items=items)
    popularity = np.array([50.0, 40.0, 30.0, 20.0, 10.0])[:items]
    for place, (codes, values) in enumerate(cases):
        exposure.count(f"u{place}", np.array(codes), np.array(values, dtype=float), popularity=popularity)
    return exposure.report(seed=0)


def test_what_ties_across_the_cut_shares_the_places_left():
    assert inclusion(np.array([3.0, 2, 2, 2, 1]), k=3).tolist() == pytest.approx([1, 2 / 3, 2 / 3, 2 / 3, 0])
    assert inclusion(np.array([-np.inf, 1.0, -np.inf]), k=2).tolist() == [0.5, 1.0, 0.5]
    assert inclusion(np.array([1.0]), k=5).tolist() == [1.0]
    assert inclusion(np.array([]), k=5).tolist() == []


def test_coverage_counts_an_item_once_however_often_it_is_recommended():
    found = exposed(([0, 1, 2], [3, 2, 1]), ([0, 1, 2], [3, 2, 1]), ([0, 2, 3], [3, 2, 1]))
    assert found.coverage == pytest.approx(3 / 5)
    assert found.n == 3


def test_coverage_under_ties_is_what_it_is_on_average_over_their_orders():
    # one place for items 1 and 2 in each of two cases: an item is left out of both with probability 1/4
    tied = ([0, 1, 2], [1, 0, 0])
    assert exposed(tied, tied).coverage == pytest.approx((1 + 0.75 + 0.75) / 5)
    rng = np.random.default_rng(0)
    covered = [len({0, *rng.integers(1, 3, size=2).tolist()}) / 5 for _ in range(4000)]
    assert np.mean(covered) == pytest.approx(exposed(tied, tied).coverage, abs=0.01)


def test_popularity_is_the_mean_of_what_is_recommended():
    found = exposed(([0, 1, 2], [3, 2, 1]), ([2, 3, 4], [1, 0, 0]))
    assert found.popularity.value == pytest.approx(((50 + 40) / 2 + (30 + 20 / 2 + 10 / 2) / 2) / 2)


def test_gini_by_its_definition():
    rng = np.random.default_rng(0)
    shares = rng.random(30)
    by_pairs = np.abs(shares[:, None] - shares[None]).mean() / 2 / shares.mean()
    assert gini(shares) == pytest.approx(by_pairs)
    assert math.isnan(gini([0, 0]))


def test_gini_counts_what_is_never_recommended():
    assert exposed(([0, 1, 2], [3, 2, 1])).gini == pytest.approx(gini([1, 1, 0, 0, 0]))
