import dataclasses
import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srec.errors import CandidateError, InputError, LeakageError
from srec.types import Case, Event, History, Image, Item, Ranking, Score, windows

ITEM = Item(item_id="a")


def days(n: int) -> History:
    return History(user_id="7", events=tuple(Event(item=Item(item_id=f"{i:03}"), at=i) for i in range(n)))


def test_a_picture_is_named_by_its_bytes_and_travels_as_they_are():
    image = Image(data=b"abc", width=1, height=1, media_type="image/png")
    assert image.digest == hashlib.sha256(b"abc").hexdigest()
    assert image.data_uri == "data:image/png;base64,YWJj"
    assert "abc" not in repr(image)


def test_nouns_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ITEM.title = "new"


@pytest.mark.parametrize("events", [[(2, "a"), (1, "b")], [(1, "b"), (1, "a")]])
def test_a_history_out_of_order_is_refused(events):
    with pytest.raises(InputError, match="history of user '7' is not ordered by"):
        History(user_id="7", events=tuple(Event(item=Item(item_id=i), at=at) for at, i in events))


def test_the_cut_is_strict():
    assert days(5).before(3) == days(3)
    assert days(5).before(0).until is None
    assert days(5).until == 4


@given(n=st.integers(0, 60), size=st.integers(1, 15), data=st.data())
def test_windows_cover_every_event_and_only_the_last_is_short(n, size, data):
    step = data.draw(st.integers(1, size))
    cut = list(windows(days(n), size=size, step=step))
    assert {event.at for window in cut for event in window.events} == set(range(n))
    assert all(len(window.events) == size for window in cut[:-1])
    assert [window.start for window in cut] == [step * i for i in range(len(cut))]
    assert all(window.until == window.stop - 1 for window in cut)


@given(n=st.integers(0, 60), size=st.integers(1, 15), data=st.data())
def test_one_more_event_changes_or_adds_one_window(n, size, data):
    step = data.draw(st.integers(1, size))
    before = list(windows(days(n), size=size, step=step))
    after = list(windows(days(n + 1), size=size, step=step))
    assert len([window for window in after if window not in before]) == 1


@pytest.mark.parametrize(("size", "step"), [(2, 3), (2, 0), (0, 0), (-1, -1)])
def test_windows_that_skip_events_are_refused(size, step):
    with pytest.raises(InputError, match=f"size={size} and step={step}"):
        list(windows(days(5), size=size, step=step))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_refused(value):
    with pytest.raises(InputError, match="give a finite number, or None"):
        Score(item_id="a", value=value)


@given(st.lists(st.none() | st.floats(-1, 1).map(lambda x: round(x, 1)), max_size=12), st.randoms())
def test_a_ranking_is_best_first_with_the_unscored_last_whatever_the_order_given(values, rng: random.Random):
    scores = [Score(item_id=f"{n:02}", value=value) for n, value in enumerate(values)]
    shuffled = rng.sample(scores, len(scores))
    ranking = Ranking.of("7", shuffled)
    assert ranking == Ranking.of("7", scores)
    ranked = [score.value for score in ranking.scores]
    known = [value for value in ranked if value is not None]
    assert ranked == sorted(known, reverse=True) + [None] * (len(ranked) - len(known))
    assert ranking.top(3) == ranking.scores[:3]


def test_equal_scores_are_ordered_by_item_id():
    scores = [Score(item_id=i, value=0.5) for i in "cab"]
    assert [score.item_id for score in Ranking.of("7", scores).scores] == ["a", "b", "c"]


def case(**changes) -> Case:
    values = {"user_id": "7", "at": 10, "history": days(3), "candidates": (ITEM,), "target_ids": ("a",)}
    return Case(**{**values, **changes})


def test_a_case_is_named_by_user_and_second():
    assert case().case_id == "7@10"


@pytest.mark.parametrize("at", [2, 1])
def test_a_case_whose_history_reaches_its_time_is_leakage(at):
    with pytest.raises(LeakageError, match=rf"history reaches 2, target is at {at}; cut with history.before\({at}\)"):
        case(at=at)


@pytest.mark.parametrize(
    ("changes", "reason"), [({"target_ids": ()}, "7@10: no target"), ({"candidates": (ITEM, ITEM)}, "appears twice")]
)
def test_a_case_that_cannot_be_evaluated_is_refused(changes, reason):
    with pytest.raises(CandidateError, match=reason):
        case(**changes)
