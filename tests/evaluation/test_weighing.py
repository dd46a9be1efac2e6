"""Scores of several rankers on one scale, and the weights under which the targets are most probable."""

import numpy as np
import pytest
from scipy import optimize, special

from srec.evaluation.weighing import best_weights, scaled, weigh, z_scores


def test_scores_are_brought_to_one_scale_within_the_case():
    found = z_scores([np.array([1.0, 2.0, 3.0]), np.array([100.0, 300.0, 200.0])])
    assert found.mean(axis=0) == pytest.approx([0, 0])
    assert found.std(axis=0) == pytest.approx([1, 1])
    assert found[:, 0] == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)])


def test_what_was_not_scored_gets_the_least_and_what_tells_nothing_apart_gets_nought():
    found = z_scores([np.array(one) for one in ([1.0, np.nan, 3.0], [0.1, 0.1, 0.1], [np.nan] * 3)])
    assert found[0, 0] == found[1, 0] < found[2, 0]
    assert not found[:, 1:].any()


def drawn(truth, *, count=4000, seed=0):
    """Choices among ten, made as a conditional logit with the weights `truth` makes them."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        features = rng.normal(size=(10, len(truth)))
        chosen = rng.choice(10, p=special.softmax(features @ truth))
        yield features, np.arange(10) == chosen


def test_weights_are_those_that_the_choices_were_made_with():
    assert weigh(list(drawn(np.array([1.0, 0.5, 0.0]))), pull=0.0).weights == pytest.approx([1.0, 0.5, 0.0], abs=0.06)


def test_no_weight_is_negative():
    assert weigh(list(drawn(np.array([1.0, -0.8]), count=500))).weights[1] == 0.0


def test_weights_are_those_of_another_optimizer():
    seen = list(drawn(np.array([0.7, 0.3]), count=200))

    def loss(weights):
        chances = [special.log_softmax(x @ weights)[wanted][0] for x, wanted in seen]
        return -np.mean(chances) + 1e-3 * weights @ weights

    theirs = optimize.minimize(loss, [0.1, 0.1], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}).x
    assert weigh(seen).weights == pytest.approx(theirs, abs=1e-3)


def test_of_several_targets_each_stands_against_those_that_are_none():
    features = np.array([[1.0], [1.0], [0.0], [0.0]])
    both = weigh([(features, np.array([True, True, False, False]))], pull=0.1).weights
    one = weigh([(features[1:], np.array([True, False, False]))], pull=0.1).weights
    assert both == pytest.approx(one, abs=1e-5)


def test_log_ranks_fall_with_the_rank_and_those_alike_share_theirs():
    found = scaled(z_scores([np.array([0.3, 9.0, 9.0, -2.0]), np.array([0.1, 0.1, 0.1, 0.1])]), "log-rank")
    plain = -np.log([3.0, 1.5, 1.5, 4.0])
    assert found[:, 0] == pytest.approx((plain - plain.mean()) / plain.std())
    assert not found[:, 1].any()


@pytest.mark.parametrize("scale", ["z-score", "log-rank"])
def test_the_scale_is_the_one_that_the_choices_were_made_on(scale):
    truth, rng = np.array([1.2, 0.4]), np.random.default_rng(0)
    seen = []
    for _ in range(400):
        features = z_scores(list(rng.normal(size=(2, 50))))
        chosen = rng.choice(50, p=special.softmax(scaled(features, scale) @ truth))
        seen.append((features, np.arange(50) == chosen))
    found = best_weights(seen)
    assert found.scale == scale
    assert found.weights == pytest.approx(truth, abs=0.15)


def test_two_candidates_lie_alike_on_both_scales_so_they_are_z_scores():
    rng = np.random.default_rng(0)
    for _ in range(40):
        pairs = [z_scores(list(rng.normal(size=(3, 2)))) for _ in range(20)]
        seen = [(features, np.arange(2) == rng.integers(2)) for features in pairs]
        assert best_weights(seen).scale == "z-score"
