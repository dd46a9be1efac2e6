"""Baselines, by hand on small logs."""

from dataclasses import replace

import numpy as np
import pytest

from srec.data.interactions import Interactions
from srec.errors import InputError
from srec.evaluation.rankers import BASELINES, DAY_S, ContentKnn, ItemKnn, Markov, Popularity, Random, RecentPopularity
from srec.types import Case, Event, History, Item

ITEMS = {
    item.item_id: item
    for item in (
        Item(item_id="a", title="Red silk scarf", attributes={"kind": "clothing"}),
        Item(item_id="b", title="Blue silk scarf", attributes={"kind": "clothing"}),
        Item(item_id="c", title="Steel hammer", attributes={"kind": "tool"}),
        Item(item_id="d", title="Steel saw", attributes={"kind": "tool"}),
        Item(item_id="e"),
    )
}


def log(*rows):
    return Interactions.of([(user, item, at, None) for user, item, at in rows], item_ids=tuple(ITEMS))


def case(candidates, *, history="", at=1_000_000_000, user_id="me", target_ids=None):
    events = tuple(Event(item=ITEMS[item], at=step) for step, item in enumerate(history))
    return Case(
        user_id=user_id,
        at=at,
        history=History(user_id=user_id, events=events),
        candidates=tuple(ITEMS[item] for item in candidates),
        target_ids=target_ids or (candidates[0],),
    )


def values(baseline, train, asked, *, seed=0):
    scores = baseline.fit(train, items=ITEMS, seed=seed)(asked)
    assert [score.item_id for score in scores] == [item.item_id for item in asked.candidates]
    return [score.value for score in scores]


TRAIN = log(
    ("u", "a", 10), ("u", "b", 20), ("u", "c", 30), ("v", "a", 10), ("v", "c", 20), ("w", "a", 10), ("w", "d", 20)
)  # fmt: skip


def test_random_depends_on_the_seed_and_the_case_and_on_nothing_else():
    once = values(Random(), TRAIN, case("abcd"))
    assert values(Random(), log(), case("abcd", history="ab")) == once
    assert values(Random(), TRAIN, case("abcd"), seed=1) != once
    assert values(Random(), TRAIN, case("abcd", user_id="you")) != once
    assert len(set(once)) == 4


def test_popularity_counts_training_events():
    assert values(Popularity(), TRAIN, case("abcde")) == [3, 1, 2, 1, 0]


def test_recent_popularity_counts_the_days_before_the_case_and_nothing_from_it_on():
    day = [n * DAY_S for n in range(10)]
    train = log(("u", "a", day[1]), ("v", "a", day[4]), ("u", "b", day[4]), ("u", "c", day[5]), ("v", "d", day[6]))
    assert values(RecentPopularity(days=2), train, case("abcd", at=day[5])) == [1, 1, 0, 0]


def test_markov_adds_the_chains_of_the_last_items():
    # after a: b 1, c 1/2 (u) and 1 (v), d 1 (w), in all 3.5; after b: c 1
    after_a = np.array([0, 1, 1.5, 1]) / 3.5
    assert values(Markov(), TRAIN, case("abcd", history="a")) == pytest.approx(list(after_a))
    both = after_a / 2 + np.array([0, 0, 1, 0])
    assert values(Markov(), TRAIN, case("abcd", history="ab")) == pytest.approx(list(both))
    assert values(Markov(window=1), TRAIN, case("abcd", history="a")) == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])


def test_item_knn_is_the_decayed_cosine_over_users():
    users_of = {"a": {"u", "v", "w"}, "b": {"u"}, "c": {"u", "v"}, "d": {"w"}, "e": set()}

    def cosine(one, other):
        return len(users_of[one] & users_of[other]) / np.sqrt(max(1, len(users_of[one]) * len(users_of[other])))

    expected = [cosine(item, "c") + 0.6 * cosine(item, "b") for item in "abcde"]
    assert values(ItemKnn(), TRAIN, case("abcde", history="bc")) == pytest.approx(expected)


def test_an_item_used_twice_by_a_user_is_one_user_of_it():
    twice = log(("u", "a", 1), ("u", "a", 2), ("u", "b", 3), ("v", "a", 1))
    assert values(ItemKnn(), twice, case("b", history="a")) == pytest.approx([1 / np.sqrt(2)])


def test_content_knn_finds_what_reads_alike():
    scarf, hammer, saw, nothing = values(ContentKnn(), log(), case("bcde", history="a"))
    assert scarf > 0
    assert hammer == saw == nothing == 0
    assert values(ContentKnn(), log(), case("a", history="a")) == pytest.approx([1.0])
    later_tool = values(ContentKnn(), log(), case("bd", history="ac"))
    later_scarf = values(ContentKnn(), log(), case("bd", history="ca"))
    assert later_tool[1] > later_scarf[1]
    assert later_tool[0] < later_scarf[0]


@pytest.mark.parametrize("name", BASELINES)
def test_no_baseline_looks_at_the_targets(name):
    asked = case("abcd", history="ac")
    assert values(BASELINES[name], TRAIN, asked) == values(BASELINES[name], TRAIN, replace(asked, target_ids=("d",)))


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("train", [TRAIN, log()], ids=["some", "none"])
def test_every_baseline_scores_without_a_history_or_training_events(name, train):
    assert all(np.isfinite(values(BASELINES[name], train, case("abcde"))))


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "random"])
def test_an_item_that_the_training_events_do_not_know_is_named(name):
    stranger = replace(case("ab"), candidates=(ITEMS["a"], Item(item_id="elsewhere")))
    with pytest.raises(InputError, match="item 'elsewhere' is not in the catalogue"):
        values(BASELINES[name], TRAIN, stranger)
