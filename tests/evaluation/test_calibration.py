"""Reliability bins, calibration error and Brier score, by hand."""

import numpy as np
import pytest

from srec.evaluation.calibration import Reliability, shown
from srec.evaluation.metrics import Labelled
from srec.evaluation.tables import plain


def case(*pairs):
    values, wanted = zip(*pairs, strict=True)
    return Labelled(values=np.array(values, dtype=float), wanted=np.array(wanted, dtype=bool), missed=0)


def calibration(*cases, bins=10, **options):
    reliability = Reliability(bins=bins)
    for place, one in enumerate(cases):
        reliability.count(f"u{place}", one)
    return reliability.report(**options)


def test_bins_errors_and_base_rate_by_hand():
    found = calibration(case((0.9, 1), (0.95, 0), (0.2, 0)), case((0.25, 1), (0.05, 0)), bins=5)
    assert [(one.n, one.low, one.high) for one in found.bins] == [
        (1, 0, 0.2), (2, 0.2, 0.4), (0, 0.4, 0.6), (0, 0.6, 0.8), (2, 0.8, 1)
    ]  # fmt: skip
    assert found.bins[1].score == pytest.approx(0.225)
    assert found.bins[1].share == 0.5
    assert np.isnan(found.bins[2].score)
    assert found.ece.value == pytest.approx(1 / 5 * 0.05 + 2 / 5 * (0.5 - 0.225) + 2 / 5 * (0.925 - 0.5))
    assert found.brier.value == pytest.approx((0.1**2 + 0.95**2 + 0.2**2 + 0.75**2 + 0.05**2) / 5)
    assert found.base_rate == 0.4
    assert found.brier_of_base_rate == pytest.approx(0.24)
    assert found.n == found.brier.n == 5


def test_a_score_of_one_is_in_the_last_bin():
    assert calibration(case((1.0, 1), (0.0, 0))).bins[-1].n == 1


def drawn(truth, *, users=300, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(users):
        values = rng.random(20)
        yield case(*zip(values, rng.random(20) < truth(values), strict=True))


def test_scores_that_are_the_probabilities_have_no_error_to_speak_of():
    honest = calibration(*drawn(lambda p: p))
    assert honest.ece.value < 0.02
    assert honest.brier.value == pytest.approx(1 / 6, abs=0.01)  # the mean of p (1 - p)
    assert honest.brier.value < honest.brier_of_base_rate


def test_scores_that_are_too_high_have_the_error_that_they_have():
    boastful = calibration(*drawn(lambda p: p / 2))
    assert boastful.ece.low < 0.25 < boastful.ece.high
    assert boastful.brier.low < boastful.brier.value < boastful.brier.high


def test_intervals_are_over_users_and_from_the_seed():
    cases = list(drawn(lambda p: p, users=30))
    assert calibration(*cases, seed=1) == calibration(*cases, seed=1)
    alone = Reliability()
    for one in cases:
        alone.count("the only user", one)
    found = alone.report()
    assert found.brier.low == found.brier.high == found.brier.value


def test_scores_that_are_no_probabilities_have_no_calibration():
    assert calibration(case((0.5, 1), (1.5, 0))) is None
    assert calibration(case((0.5, 1)), case((-0.1, 0))) is None
    assert calibration() is None


def test_what_was_not_scored_is_left_out():
    found = calibration(case((0.5, 1), (-np.inf, 0)))
    assert found.n == 1
    assert calibration(case((-np.inf, 1))) is None


def test_the_table_shows_the_bins_that_hold_scores():
    text = plain(shown("[mine]", calibration(case((0.9, 1), (0.15, 0)))))
    assert "Calibration of [mine]: ECE" in text
    assert "0.9 to 1.0" in text
    assert "0.4 to 0.5" not in text
