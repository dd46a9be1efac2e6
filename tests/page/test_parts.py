"""Choosing users, wording values, placing marks, tastes over time, and differences of prompts."""

import math
from itertools import pairwise

import pytest

from srec.errors import InputError
from srec.evaluation.run_folder import Made
from srec.page import plots
from srec.page.choice import chosen
from srec.page.looks import looks_of
from srec.page.people import tastes
from srec.page.prompts import difference
from srec.page.stored import stored
from srec.page.wording import count, day, number, seconds, told_apart, visible
from srec.types import PreferenceSummary, UserProfile


def report_of(values, *, users=None):
    owners = users or [f"u{n}" for n in range(len(values))]
    cases = [{"user_id": owner} for owner in owners]
    return {"cases": cases, "rankers": {"mine": {"cases": [{"metrics": {"ndcg@10": value}} for value in values]}}}


def choose(values, *, users, choice, seed=0, owners=None):
    report = report_of(values, users=owners)
    return chosen(report, by="mine", metric="ndcg@10", users=users, choice=choice, seed=seed)


def test_the_worst_and_the_best_served_come_first():
    assert choose([0.5, 0.1, 0.9, None], users=2, choice="worst") == [3, 1]
    assert choose([0.5, 0.1, 0.9, None], users=2, choice="best") == [2, 0]


def test_random_users_follow_the_seed_and_more_only_adds():
    values = [0.5] * 30
    few, many = choose(values, users=5, choice="random"), choose(values, users=12, choice="random")
    assert many[:5] == few
    assert choose(values, users=5, choice="random", seed=1) != few
    assert sorted(choose(values, users=99, choice="random")) == list(range(30))


def test_a_user_brings_all_cases():
    assert choose([0.9, 0.2, 0.5], users=1, choice="worst", owners=["a", "b", "b"]) == [1, 2]


def test_users_can_be_named():
    owners = ["a", "b", "b", "c"]
    assert choose([0.9, 0.2, 0.5, 0.1], users=["c", "b", "c"], choice="best", owners=owners) == [3, 1, 2]
    with pytest.raises(InputError, match="'eve' has no case"):
        choose([0.9, 0.2, 0.5, 0.1], users=["eve"], choice="best", owners=owners)
    with pytest.raises(InputError, match="list of ids"):
        choose([0.9, 0.2, 0.5, 0.1], users="a", choice="best", owners=owners)


def test_a_negative_number_of_users_is_refused():
    with pytest.raises(InputError, match="users=-1"):
        choose([0.5], users=-1, choice="worst")


def test_what_hides_or_turns_other_characters_is_spelled_out():
    assert visible("a\u202eb\u2066c\x00d\ud800") == "a⟨U+202E⟩b⟨U+2066⟩c⟨U+0000⟩d⟨U+D800⟩"
    family = "\N{MAN}\u200d\N{WOMAN} \u06a9\u200c\u0627"
    assert visible(family) == family
    assert visible("ok\U000e0069\U000e0067\u3164") == "ok⟨U+E0069⟩⟨U+E0067⟩⟨U+3164⟩"
    assert len(visible("x" * 10_000)) == 4000


def test_numbers_read_like_those_of_the_table():
    assert (number(0.25), number(None), number(math.nan)) == (".250", "–", "–")
    assert (count(1234), count(3.5), count(None)) == ("1,234", "3.5", "–")
    assert [seconds(value) for value in (0, 0.001, 0.25, 12.34, 3456.7)] == ["0.00", "<0.01", "0.25", "12.3", "3,457"]
    assert (day(0), day(10**18)) == ("1970-01-01", str(10**18))


def test_two_are_told_apart_where_the_corrected_p_is_small():
    assert [told_apart(p) for p in (0.0001, 0.049, 0.05, 1.0, None)] == ["yes", "yes", "no", "no", "–"]


def interval(value, low, high):
    return {"value": value, "low": low, "high": high, "n": 40}


def test_a_forest_places_values_between_the_ends_of_their_intervals():
    rows = {"a": interval(0.2, 0.1, 0.3), "nothing": interval(None, None, None), "b": interval(0.35, 0.3, 0.4)}
    plot = plots.forest("NDCG@10", rows, chance=0.2, looks=looks_of(["a", "other", "b"]))
    first, second = plot.marks
    assert first.low < first.x < first.high <= second.x < second.high == plot.right
    assert plot.chance == first.x
    assert (first.look.colour, second.look.colour) == (0, 2)
    assert "a: .200 [.100 .300], n = 40" in plot.told


def test_calibrated_scores_lie_on_the_diagonal():
    bins = [{"low": at, "high": at + 0.1, "score": at, "share": at, "n": n} for at, n in ((0.0, 9), (0.5, 1))]
    plot = plots.reliability("mine", {"bins": [*bins, {**bins[0], "n": 0}]}, look=looks_of(["mine"])["mine"])
    start, middle = plot.marks
    assert (start.x, start.y) == (plot.left, plot.bottom)
    assert (middle.x, middle.y) == ((plot.left + plot.right) / 2, (plot.top + plot.bottom) / 2)
    assert start.size > middle.size


def costly(value, seconds):
    return {"metrics": {"ndcg@10": interval(value, value - 0.1, value + 0.1)}, "seconds": seconds}


def test_no_two_systems_look_the_same():
    looks = looks_of(f"r{n}" for n in range(80)).values()
    assert len({(look.colour, look.shape, look.hollow) for look in looks}) == 80
    assert all(a.colour != b.colour and a.shape != b.shape for a, b in pairwise(looks))


def test_long_names_are_told_apart_by_their_ends_or_else_by_a_number():
    names = [
        "blend:markov+item-knn",
        "blend:markov+item-als",
        "markov",
        *(f"a-long-beginning-{n}-and-a-long-end" for n in "xyz"),
    ]
    labels = [look.label for look in looks_of(names).values()]
    assert labels[:4] == ["blend:ma…item-knn", "blend:ma…item-als", "markov", "a-long-b…long-end"]
    assert labels[4:] == ["a-long-beginni… 2", "a-long-beginni… 3"]
    assert looks_of([*names, "a-long-beginni… 2"])[names[4]].label == "a-long-beginni… 3"


def test_labels_beside_the_costs_keep_apart_and_inside():
    rankers = {f"r{n}": costly(0.3 + n / 1000, 10.0**n) for n in range(-20, 4)}
    plot = plots.costs("ndcg@10", rankers, n=10, chance=0.2, looks=looks_of(rankers))
    ys = sorted(mark.label_y for mark in plot.marks)
    assert min(b - a for a, b in pairwise(ys)) >= 14.9
    assert plot.top <= ys[0]
    assert ys[-1] <= plot.bottom
    xs = [mark.x for mark in plot.marks]
    assert all(plot.left <= x <= plot.right for x in xs)
    assert plots.costs("ndcg@10", {"run": costly(0.3, 0.0)}, n=10, chance=None, looks=looks_of(["run"])) is None


def spent(hits, calls, *, fresh=0, stages=()):
    return {"cache_hits": hits, "lm_calls": calls, "fresh": {"units": fresh}, "stages": dict(stages)}


def test_who_took_most_results_of_a_stage_from_the_store_is_known():
    rankers = {
        "plain": spent(0, 0),
        "own": spent(332, 320, stages={"fusion": spent(332, 200, fresh=40), "scoring": spent(0, 120, fresh=120)}),
        "described before": spent(372, 120, stages={"fusion": spent(372, 0), "scoring": spent(0, 120, fresh=120)}),
        "few anew": spent(422, 230, stages={"fusion": spent(332, 200, fresh=40), "scoring": spent(90, 30, fresh=30)}),
        "without stages": spent(9, 1),
    }
    found = stored(rankers)
    assert {name: dict(one.stages) for name, one in found.items()} == {
        "described before": {"fusion": 372},
        "few anew": {"scoring": 90},
        "without stages": {},
    }
    assert (found["few anew"].results, found["few anew"].lm_calls) == (422, 230)


def test_tastes_are_rows_over_the_summaries_and_the_last_ones_come_first():
    def summary(n, **moves):
        return PreferenceSummary(user_id="u", text="", until=n, events=n, **moves)

    profile = UserProfile(user_id="u", text="", until=2)
    summaries = (summary(1, rising=("Red",), stable=("tin",)), summary(2, stable=("red",), rising=("blue",)))
    rows = tastes(Made(read=2, summaries=summaries, profile=profile, reason="", ranked=()))
    assert [(row.name, row.moves) for row in rows] == [
        ("blue", ("", "rising")),
        ("red", ("rising", "stable")),
        ("tin", ("stable", "")),
    ]


def test_a_difference_keeps_all_lines_of_both():
    lines = difference("Judge the item.\n\nBe brief.", "Judge the item.\n\nBe strict.\nBe brief.")
    assert [(line.kind, line.text) for line in lines] == [
        ("same", "Judge the item."),
        ("same", ""),
        ("new", "Be strict."),
        ("same", "Be brief."),
    ]
