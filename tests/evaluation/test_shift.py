import math

import numpy as np
import pytest

from srec.evaluation.shift import Shift, values_of
from srec.types import Score

NAN = math.nan


def shift(before, after, **about):
    return Shift.of(np.array(before, dtype=float), np.array(after, dtype=float), **about)


def test_the_change_is_the_mean_distance_and_tau_counts_pairs():
    found = shift([0.1, 0.2, 0.3], [0.1, 0.4, 0.2])
    assert found.change == pytest.approx(0.1)
    assert found.tau == pytest.approx(1 / 3)  # two pairs of three keep their order


def test_the_same_scores_are_no_change_and_the_reverse_is_minus_one():
    assert (shift([1, 2, 3], [1, 2, 3]).change, shift([1, 2, 3], [1, 2, 3]).tau) == (0.0, 1.0)
    assert shift([1, 2, 3], [3, 2, 1]).tau == pytest.approx(-1.0)


def test_equal_scores_have_no_order():
    assert math.isnan(shift([1, 2], [5, 5]).tau)
    assert shift([1, 2], [5, 5]).change == pytest.approx(3.5)


def test_what_was_not_scored_both_times_is_left_out():
    found = shift([1, NAN, 2, 3], [2, 9, NAN, 5])
    assert found.change == pytest.approx(1.5)
    assert found.tau == pytest.approx(1.0)
    assert math.isnan(shift([NAN], [1]).change)
    assert math.isnan(shift([], []).change)


def test_the_rank_of_one_candidate_counts_ties_by_their_mean_and_what_was_not_scored_last():
    found = shift([0.9, 0.5, 0.5, NAN], [0.1, 0.5, 0.9, 0.2], subject=2)
    assert found.scores == (0.5, 0.9)
    assert found.ranks == (2.5, 1.0)
    assert shift([0.9, 0.5, 0.5, NAN], [0.1, 0.5, 0.9, 0.2], subject=3).ranks == (4.0, 3.0)
    assert all(map(math.isnan, shift([1, 2], [1, 2]).ranks))


def test_scores_become_numbers():
    scores = [Score(item_id="a", value=0.5), Score(item_id="b", value=None)]
    assert values_of(scores)[0] == 0.5
    assert math.isnan(values_of(scores)[1])
