"""Differences between rankers: by hand, and beside scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from srec.evaluation.paired import Difference, compared, corrected, difference


def one_pair(first, second, *, users=None, **options):
    names = users if users is not None else [f"u{place}" for place in range(len(first))]
    one, other = ("a", np.array(first, dtype=float)), ("b", np.array(second, dtype=float))
    return difference(one, other, metric="auc", users=names, **options)


def noisy(n=60, *, gain=0.05, seed=0):
    rng = np.random.default_rng(seed)
    second = rng.random(n)
    return second + rng.normal(gain, 0.2, size=n), second


def test_the_difference_is_the_mean_gain_with_its_counts():
    found = one_pair([0.5, 1.0, 0.0, 0.3], [0.25, 1.0, 0.5, 0.0])
    assert (found.a, found.b, found.n) == ("a", "b", 4)
    assert found.value == pytest.approx((0.25 + 0 - 0.5 + 0.3) / 4)
    assert (found.better, found.same, found.worse) == (2, 1, 1)
    assert found.low <= found.value <= found.high


def test_the_other_way_round_only_the_sign_changes():
    first, second = noisy()
    there, back = one_pair(first, second), one_pair(second, first)
    assert back.value == pytest.approx(-there.value)
    assert (back.better, back.worse, back.p) == (there.worse, there.better, there.p)


def test_of_five_gains_alike_two_of_the_32_signs_are_as_far_from_nought():
    found = one_pair([0.3] * 5, [0.1] * 5)
    assert found.p == pytest.approx(2 / 32, abs=0.01)


@pytest.mark.parametrize("gain", [0.0, 0.05, 0.1])
def test_p_is_that_of_scipy(gain):
    first, second = noisy(gain=gain)
    theirs = stats.permutation_test(
        (first, second),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
        random_state=np.random.default_rng(1),
    )
    assert one_pair(first, second).p == pytest.approx(theirs.pvalue, abs=0.02)


def test_the_interval_is_that_of_scipy_s_paired_bootstrap():
    first, second = noisy(n=200)
    theirs = stats.bootstrap(
        (first, second),
        lambda one, other, axis: np.mean(one - other, axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=5000,
        random_state=np.random.default_rng(1),
    ).confidence_interval
    found = one_pair(first, second)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_cases_of_one_user_count_once():
    first, second = noisy(n=8, gain=0.3)
    alone = one_pair(first, second)
    thrice = one_pair(np.tile(first, 3), np.tile(second, 3), users=[f"u{place}" for place in range(8)] * 3)
    as_others = one_pair(np.tile(first, 3), np.tile(second, 3))
    assert thrice.p == pytest.approx(alone.p, abs=0.02)
    assert thrice.n == 24
    assert as_others.p < alone.p / 2


def test_rankers_that_agree_everywhere_do_not_differ():
    found = one_pair([0.1, 0.7], [0.1, 0.7])
    assert (found.value, found.p, found.same) == (0, 1.0, 2)


def test_a_case_without_a_value_of_both_is_left_out():
    found = one_pair([0.5, math.nan, 0.5], [0.25, 0.5, math.nan])
    assert (found.n, found.value) == (1, 0.25)
    nothing = one_pair([math.nan], [0.5])
    assert nothing.n == 0
    assert math.isnan(nothing.p)
    assert math.isnan(nothing.value)


def test_the_same_seed_gives_the_same_p():
    first, second = noisy()
    assert one_pair(first, second, seed=3) == one_pair(first, second, seed=3)


def pair(p):
    return Difference(
        a="a", b="b", metric="auc", value=0, low=0, high=0, p=p, p_holm=p, better=0, same=0, worse=0, n=1
    )  # fmt: skip


def test_holm_s_correction_by_hand():
    # 0.01 * 4, 0.02 * 3, then 0.03 * 2 and 0.04 * 1, which may not fall below 0.06
    found = [one.p_holm for one in corrected([pair(0.03), pair(0.01), pair(0.04), pair(0.02)])]
    assert found == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert [one.p_holm for one in corrected([pair(0.9), pair(0.8)])] == [1.0, 1.0]
    some = [one.p_holm for one in corrected([pair(0.04), pair(math.nan), pair(0.001), pair(0.03)])]
    assert some == pytest.approx([0.06, math.nan, 0.003, 0.06], nan_ok=True)


def test_all_pairs_are_compared_in_order_and_shown():
    first, second = noisy(gain=0.3)
    found = compared({"x": first, "y": second, "[z]": second}, metric="ndcg@10", users=[f"u{n}" for n in range(60)])
    assert [(one.a, one.b) for one in found.pairs] == [("x", "y"), ("x", "[z]"), ("y", "[z]")]
    assert found.pairs[0].p_holm == pytest.approx(3 * found.pairs[0].p)
    assert "Paired differences of NDCG@10" in str(found)
    assert "y - [z]" in str(found)


def test_only_planned_pairs_are_corrected_for():
    first, second = noisy(gain=0.3)
    users = [f"u{n}" for n in range(60)]
    (found,) = compared({"x": first, "y": second}, [("y", "x")], metric="auc", users=users).pairs
    assert (found.a, found.b, found.value) == ("y", "x", pytest.approx((second - first).mean()))
    assert found.p_holm == found.p
    assert compared({"x": first}, [], metric="auc", users=users).pairs == ()
