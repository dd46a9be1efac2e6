import math

import pytest
from scipy.stats import binomtest

from srec.evaluation.stages.figure import by_strangers, mean, share, wilson


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (3, 7), (7, 7), (291, 300), (500, 500)])
def test_the_interval_of_a_share_is_wilsons_as_scipy_computes_it(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high))


def test_the_interval_holds_the_value_at_both_ends_of_the_scale():
    assert wilson(0.0, 9)[0] == 0.0
    assert wilson(1.0, 9)[1] == 1.0


def test_answers_about_one_item_count_as_one_observation():
    once = share([True, False] * 10, of=range(20), chance=0.5)
    thrice = share([True, False] * 30, of=[row % 20 for row in range(60)], chance=0.5)
    assert (thrice.value, thrice.n) == (once.value, once.n) == (0.5, 20)
    assert (thrice.low, thrice.high) == (once.low, once.high)


def test_a_share_of_nothing_is_no_number():
    nothing = share([], of=[], chance=0.5)
    assert nothing.n == 0
    assert all(math.isnan(number) for number in (nothing.value, nothing.low, nothing.high))
    assert mean([], of=[], chance=0.5, ceiling=1.0).n == 0


def test_a_mean_draws_users_with_all_of_their_values():
    figure = mean([1, 1, 3, 3], of=["a", "a", "b", "b"], chance=0.0, ceiling=1.0)
    assert (figure.value, figure.low, figure.high, figure.n) == (2.0, 1.0, 3.0, 2)


def test_the_chance_of_who_names_everything_is_one_and_of_who_names_one_thing_is_its_share():
    truths = ["red", "red", "blue", "green"]
    hits = lambda said, truth: [truth in said]  # noqa: E731
    assert by_strangers(hits, [{"red", "blue", "green"}] * 4, truths) == 1.0
    assert by_strangers(hits, [{"red"}] * 4, truths) == 0.5
    assert math.isnan(by_strangers(hits, [{"red"}], ["red"]))
