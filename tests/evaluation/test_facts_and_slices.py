"""What is known of cases, and metrics on parts of them."""

import warnings
from dataclasses import replace

import pytest

from srec.data.cases import cases
from srec.data.folder import Dataset
from srec.errors import InputError
from srec.evaluation.facts import facts_of
from srec.evaluation.run import evaluate
from srec.evaluation.slices import SLICINGS, CaseFacts, named_slicings
from srec.types import Image, Item, Score

DAY_S = 86_400
PICTURE = Image(data=b"picture", width=1, height=1)
ITEMS = [Item(item_id=f"i{n}", image=PICTURE if n < 3 else None) for n in range(8)]


def shop(*rows):
    return Dataset.of("shop", ITEMS, [(user, item, at, 5.0) for user, item, at in rows])


def facts(data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(facts_of(cases(data, **options)))


def fact(**changes):
    given = {"case_id": "u@9", "user_id": "u", "at": 9, "fold": "f", "target_ids": ("i",), "tied": False}
    given |= {"history": 20, "gap_s": 100, "events": 9.0, "head": False, "with_image": 1.0}
    return CaseFacts(**given | changes)


LOG = [
    ("u", "i0", 10), ("u", "i1", 20), ("u", "i2", 80),
    ("v", "i0", 10), ("v", "i1", 11), ("v", "i0", 12), ("v", "i7", DAY_S),
    ("w", "i0", 10), ("w", "i3", 30), ("w", "i1", 30),
    ("x", "i3", 5), ("x", "i4", 6), ("x", "i0", 7),
]  # fmt: skip


def test_facts_by_hand():
    u, v, w, x = facts(shop(*LOG))
    assert (u.case_id, u.target_ids, u.history, u.gap_s, u.with_image) == ("u@80", ("i2",), 2, 60, 1.0)
    assert (v.target_ids, v.history, v.gap_s, v.with_image) == (("i7",), 3, DAY_S - 12, 0.0)
    assert (w.target_ids, w.tied, w.history, w.gap_s) == (("i3",), True, 1, 20)
    assert [case.events for case in (u, v, w, x)] == [0, 0, 1, 4]  # i3: of x; i0: of u, twice of v, of w
    assert [case.head for case in (u, v, w, x)] == [False, False, False, True]


def test_under_global_time_the_gap_reaches_to_the_target_and_not_to_the_cut_off():
    u, v = facts(shop(*LOG), protocol="global-time", cutoffs=[40])
    assert (u.at, u.gap_s) == (40, 60)
    assert (v.at, v.gap_s) == (40, DAY_S - 12)


def test_the_facts_of_several_targets_are_their_middle():
    asked = facts(shop(*LOG), task="like:4.0", protocol="global-time", cutoffs=[20])
    u = next(case for case in asked if case.user_id == "u")
    assert u.target_ids == ("i1", "i2")
    assert u.gap_s == 10
    assert u.with_image == 1.0
    assert u.events == (1 + 0) / 2


@pytest.mark.parametrize(
    ("by", "changes", "name"),
    [
        ("item", {"events": 0}, "target without training events"),
        ("item", {"events": 4}, "target with fewer than 5"),
        ("item", {"events": 5}, "target in the tail"),
        ("item", {"head": True}, "target in the head"),
        ("history", {"history": 10}, "history of at most 10"),
        ("history", {"history": 50}, "history of at most 50"),
        ("history", {"history": 51}, "history of more than 50"),
        ("image", {}, "target with image"),
        ("image", {"with_image": 0.0}, "target without image"),
        ("image", {"with_image": 0.5}, "some targets with image"),
        ("tie", {"tied": True}, "target tied in time"),
        ("tie", {}, "target not tied"),
        ("gap", {"gap_s": 60}, "gap of at most a minute"),
        ("gap", {"gap_s": DAY_S}, "gap of at most a day"),
        ("gap", {"gap_s": DAY_S + 1}, "gap of more than a day"),
    ],
)
def test_cases_fall_into_slices(by, changes, name):
    assert SLICINGS[by](fact(**changes)) == name


def target_first(case):
    return [Score(item_id=item.item_id, value=float(item.item_id in case.target_ids)) for item in case.candidates]


def report(**rankers):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return evaluate(cases(shop(*LOG)), {"right": target_first, "popularity": "popularity", **rankers})


def test_slices_share_out_all_cases_and_have_the_metrics_of_theirs():
    found = report().slices(["tie", "image"], metric="ndcg@5")
    assert [(one.by, one.name, one.n) for one in found.slices] == [
        ("tie", "target not tied", 3),
        ("tie", "target tied in time", 1),
        ("image", "target with image", 2),
        ("image", "target without image", 2),
    ]
    assert all(one.rankers["right"].value == 1.0 for one in found.slices)
    assert "NDCG@5 on slices" in str(found)


def test_a_ranker_of_any_name_is_a_column_as_it_is():
    named = replace(report(), rankers={"[/nope]": report().rankers["right"]})
    assert "[/nope]" in str(named.slices(["tie"]))


def test_the_mean_of_the_slices_by_their_size_is_the_metric_of_all():
    whole = report()
    for by in SLICINGS:
        parts = whole.slices([by], metric="auc").slices
        if parts:
            mean = sum(one.n * one.rankers["popularity"].value for one in parts) / whole.n
            assert mean == pytest.approx(whole.rankers["popularity"].metrics["auc"].value)


def test_slices_of_your_own_leave_out_what_they_do_not_name():
    found = report().slices({"letter": lambda case: case.user_id if case.user_id < "w" else ""})
    assert [(one.name, one.n) for one in found.slices] == [("u", 1), ("v", 1)]


def test_a_slicing_that_tells_nothing_apart_has_no_slice():
    found = report().slices({"all": lambda _: "everybody"})
    assert (found.slices, found.alike) == ((), ("all",))
    assert "All cases are alike by all." in str(found)


def test_unknown_slicings_and_metrics_are_named():
    with pytest.raises(InputError, match="slicing 'mood' is not known; give item, history"):
        named_slicings(["mood"])
    with pytest.raises(InputError, match="metric 'pooled_auc' has no value per case; give one of ndcg@5"):
        report().slices(metric="pooled_auc")
