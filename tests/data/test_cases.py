import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from srec.data.cases import LeakWarning, cases
from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.folder import Dataset
from srec.data.report import IntakeReport
from srec.errors import CandidateError, InputError
from srec.types import Item

REPO = Path(__file__).resolve().parents[2]
SHARED = REPO.parent / "shared" / "data"
START = 1_000_000_000

pytestmark = pytest.mark.filterwarnings("ignore::srec.data.cases.LeakWarning")


unhurried = settings(deadline=None)  # a busy machine is no failure


def world(*rows, items="abcdefgh"):
    """A dataset from rows of user, item, seconds after START and, if wanted, a rating."""
    events = [(row[0], row[1], START + row[2], row[3] if len(row) > 3 else None) for row in rows]
    return Dataset.of("world", [Item(item_id=item) for item in items], events)


def only(case_set):
    assert len(case_set) == 1
    return case_set[0]


def ids(case):
    return "".join(item.item_id for item in case.candidates)


logs = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "w", "x@1"]),
        st.sampled_from("abcdefgh"),
        st.integers(0, 9),
        st.sampled_from([1.0, 3.5, 4.0, 5.0, None]),
    ),
    min_size=2,
    max_size=40,
)
asked = st.fixed_dictionaries(
    {
        "task": st.sampled_from(["next", "like:4.0"]),
        "protocol": st.sampled_from(["leave-last-out", "global-time"]),
        "users": st.sampled_from([None, 1, 2]),
        "seed": st.integers(0, 3),
    }
)


def possible(rows, **options):
    """The cases of a random log, where it has any."""
    data = world(*rows, items="abcdefghij")
    try:
        return data, cases(data, **options)
    except InputError:
        assume(False)


@unhurried
@given(logs, asked)
def test_no_history_reaches_its_case_and_no_event_before_it_is_lost(rows, options):
    data, case_set = possible(rows, **options)
    for case in case_set:
        assert case.history == data.history(case.user_id).before(case.at)
        assert case.history.until < case.at


@unhurried
@given(logs, asked)
def test_no_target_was_seen_before_and_each_is_an_event_from_the_case_on(rows, options):
    data, case_set = possible(rows, **options)
    for case in case_set:
        later = [event for event in data.history(case.user_id).events if event.at >= case.at]
        assert set(case.target_ids) <= {event.item.item_id for event in later}
        assert not set(case.target_ids) & {event.item.item_id for event in case.history.events}


@unhurried
@given(logs, asked)
def test_no_train_fold_holds_an_event_of_a_case_s_user_at_or_after_the_case(rows, options):
    _, case_set = possible(rows, **options)
    for fold in case_set.folds:
        for case in case_set.of(fold):
            assert (fold.train.at[fold.train.rows_of(case.user_id)] < case.at).all()


@unhurried
@given(logs, asked)
def test_a_train_fold_lacks_the_last_event_of_every_user_or_all_from_the_cut_off_on(rows, options):
    data, case_set = possible(rows, **options)
    for fold in case_set.folds:
        train = set(fold.train.rows())
        if options["protocol"] == "global-time":
            cutoff = int(fold.name.removeprefix("before "))
            assert train == {row for row in data.interactions.rows() if row[2] < cutoff}
        else:
            for user_id in data.users:
                assert list(data.interactions.rows())[data.interactions.rows_of(user_id).stop - 1] not in train


@unhurried
@given(logs, asked)
def test_full_candidates_are_the_catalogue_less_what_was_seen(rows, options):
    data, case_set = possible(rows, **options)
    for case in case_set:
        seen = {event.item.item_id for event in case.history.events}
        assert [item.item_id for item in case.candidates] == sorted(set(data.items) - seen)
        assert set(case.target_ids) <= set(ids(case))


@unhurried
@given(logs, asked, st.sampled_from(["uniform", "popularity"]))
def test_sampled_negatives_are_n_items_the_user_never_touched(rows, options, kind):
    data, case_set = possible(rows, **options, candidates=f"{kind}:1")
    for case in case_set:
        negatives = set(ids(case)) - set(case.target_ids)
        assert len(negatives) == 1
        assert not negatives & {event.item.item_id for event in data.history(case.user_id).events}
        assert list(ids(case)) == sorted(ids(case))


@unhurried
@given(logs, asked)
def test_len_index_and_iteration_agree_and_case_ids_are_unique(rows, options):
    _, case_set = possible(rows, **options)
    listed = list(case_set)
    assert listed == [case_set[index] for index in range(len(case_set))] == list(case_set)
    assert case_set[-1] == listed[-1]
    assert len({case.case_id for case in listed}) == len(listed)
    assert case_set.tied == sum(case.tied for case in listed)
    assert [spec.case_id for fold in case_set.folds for spec in fold.specs] == [case.case_id for case in listed]


@unhurried
@given(logs, asked, st.permutations("abcdefghij"))
def test_a_part_of_the_users_and_another_order_of_the_catalogue_give_the_same_cases(rows, options, order):
    _, some = possible(rows, **options, candidates="uniform:1")
    shuffled = world(*reversed(rows), items=order)
    everyone = {case.case_id: case for case in cases(shuffled, **options | {"users": None}, candidates="uniform:1")}
    for case in some:
        assert case == everyone[case.case_id]


def test_leave_last_out_asks_for_the_last_event_by_time_and_then_item_id():
    case = only(cases(world(("u", "c", 1), ("u", "b", 5), ("u", "a", 5))))
    assert case.target_ids == ("b",)
    assert case.at == START + 5
    assert [event.item.item_id for event in case.history.events] == ["c"]
    assert ids(case) == "abdefgh"
    assert case.tied


def test_an_event_in_another_second_is_not_tied():
    assert not only(cases(world(("u", "c", 1), ("u", "b", 4), ("u", "a", 5)))).tied


def test_one_tied_target_among_others_makes_the_case_tied():
    data = world(("u", "a", 1, 5), ("u", "b", 6, 5), ("u", "c", 6, 1), ("u", "d", 7, 5))
    options = {"task": "like:4.0", "protocol": "global-time"}
    assert only(cases(data, **options, cutoffs=[START + 5])).tied
    assert not only(cases(data, **options, cutoffs=[START + 7])).tied


def test_train_lacks_the_whole_last_second_also_of_users_without_a_case():
    data = world(("u", "a", 1), ("u", "b", 5), ("u", "c", 5), ("v", "d", 2), ("w", "e", 3), ("w", "f", 3))
    (fold,) = cases(data).folds
    assert [row[:2] for row in fold.train.rows()] == [("u", "a")]


def test_train_lacks_every_user_s_last_event_when_few_users_are_asked_for():
    data = world(*[(user, item, at) for user in "uvwx" for at, item in enumerate("abc")])
    (few,), (every,) = cases(data, users=1).folds, cases(data).folds
    assert list(few.train.rows()) == list(every.train.rows())
    assert len(few.train) == 8
    assert (len(few), len(every)) == (1, 4)


def test_users_without_a_case_are_counted_by_reason():
    data = world(
        ("one", "a", 1),
        ("second", "a", 1), ("second", "b", 1),
        ("again", "a", 1), ("again", "a", 2),
        ("fine", "a", 1), ("fine", "b", 2),
    )  # fmt: skip
    case_set = cases(data)
    assert [case.user_id for case in case_set] == ["fine"]
    assert case_set.skipped == {"one event": 1, "no event before": 1, "target seen before": 1}


def test_like_asks_for_what_is_liked_in_the_last_fifth_of_the_events():
    ratings = [5, 5, 5, 5, 5, 5, 5, 5, 4, 3]
    case = only(
        cases(world(*[("u", "abcdefghij"[i], i, ratings[i]) for i in range(10)], items="abcdefghijk"), task="like:4")
    )
    assert (case.at, case.target_ids) == (START + 8, ("i",))
    assert ids(case) == "ijk"


def test_like_of_less_than_five_events_asks_for_the_last_one():
    case = only(cases(world(("u", "a", 1, 5), ("u", "b", 2, 5), ("u", "c", 3, 4)), task="like:4.0"))
    assert (case.at, case.target_ids) == (START + 3, ("c",))


def test_like_takes_in_what_shares_the_first_second_of_the_period():
    case = only(cases(world(("u", "a", 1, 5), ("u", "b", 2, 5), ("u", "c", 2, 5)), task="like:4.0"))
    assert case.target_ids == ("b", "c")
    assert [event.item.item_id for event in case.history.events] == ["a"]


def test_like_train_lacks_the_whole_period():
    data = world(*[("u", "abcdefghij"[i], i, 5) for i in range(10)], items="abcdefghijk")
    assert len(cases(data, task="like:4.0").folds[0].train) == 8


def test_a_rating_that_floats_cannot_hold_still_reaches_its_own_threshold():
    assert only(cases(world(("u", "a", 1, 1), ("u", "b", 2, 4.1)), task="like:4.1")).target_ids == ("b",)


def test_nothing_liked_and_no_rating_are_skipped_and_counted():
    data = world(("u", "a", 1, 5), ("u", "b", 2, 3), ("v", "a", 1, 5), ("v", "b", 2), ("w", "a", 1), ("w", "b", 2, 5))
    case_set = cases(data, task="like:4.0")
    assert [case.user_id for case in case_set] == ["w"]
    assert case_set.skipped == {"nothing liked after": 2}


def test_global_time_asks_each_user_active_before_and_after_the_cut_off():
    data = world(
        ("u", "a", 1), ("u", "b", 6), ("u", "c", 6), ("u", "d", 7), ("v", "a", 1), ("w", "a", 9), ("w", "b", 9)
    )
    case_set = cases(data, protocol="global-time", cutoffs=[START + 5])
    case = only(case_set)
    assert (case.case_id, case.target_ids, case.tied) == (f"u@{START + 5}", ("b", "c"), True)
    assert case_set.skipped == {"one event": 1, "no event before": 1}
    assert [row[:2] for row in case_set.folds[0].train.rows()] == [("u", "a"), ("v", "a")]


def test_an_event_at_the_cut_off_itself_is_asked_for():
    case = only(cases(world(("u", "a", 1), ("u", "b", 5)), protocol="global-time", cutoffs=[START + 5]))
    assert (case.target_ids, len(case.history)) == (("b",), 1)


def test_global_time_like_asks_for_all_that_is_liked_after_the_cut_off():
    data = world(("u", "a", 1, 5), ("u", "a", 6, 5), ("u", "d", 6, 4), ("u", "c", 7, 3.5), ("u", "b", 9, 5))
    case = only(cases(data, task="like:4.0", protocol="global-time", cutoffs=[START + 5]))
    assert case.target_ids == ("b", "d")


def test_cut_offs_are_pooled_in_order_and_each_has_its_own_train():
    data = world(*[(user, item, at) for user in "uv" for at, item in enumerate("abcdef")])
    case_set = cases(data, protocol="global-time", cutoffs=[START + 4, START + 2, START + 4])
    assert [case.case_id for case in case_set] == [f"{user}@{START + at}" for at in (2, 4) for user in "uv"]
    assert [len(fold.train) for fold in case_set.folds] == [4, 8]


def test_what_lies_between_two_cut_offs_is_asked_for_once():
    """Nobody is asked the same question twice, however long nothing is done."""
    data = world(("u", "a", 1, 5), ("u", "b", 3, 5), ("u", "c", 9, 5), ("v", "a", 1, 5), ("v", "d", 9, 5))
    for task in ("next", "like:4.0"):
        case_set = cases(data, task=task, protocol="global-time", cutoffs=[START + 2, START + 5])
        asked = [(case.user_id, case.at - START, case.target_ids) for case in case_set]
        assert asked == [("u", 2, ("b",)), ("u", 5, ("c",)), ("v", 5, ("d",))]
        assert case_set.skipped == {"no event before the next cut-off": 1}


def test_rated_candidates_are_what_was_rated_in_the_time_asked_about():
    told = [
        ("a", 1, 5),
        ("b", 2, 5),
        ("c", 6, 4),
        ("d", 7, 2),
        ("a", 7, 1),
        ("e", 8, None),
        ("f", 8, 3.5),
        ("g", 20, 1),
    ]
    data = world(
        *[("u", *row) for row in told], ("v", "a", 1, 5), ("v", "b", 6, 5), ("w", "a", 1, 5), ("w", "b", 30, 5)
    )
    case_set = cases(data, task="like:4.0", protocol="global-time", cutoffs=[START + 5, START + 15], candidates="rated")
    case = only(case_set)
    assert (case.user_id, ids(case), case.target_ids) == ("u", "cdf", ("c",))
    assert case_set.skipped["all that was rated is liked"] == 2
    assert case_set.candidates == "rated"


def test_rated_candidates_of_leave_last_out_reach_to_the_end_and_come_back_from_a_file(tmp_path):
    ratings = [5, 5, 5, 5, 5, 5, 5, 5, 4, 3]
    likes_all = [("v", "a", 1, 5), ("v", "b", 2, 5)]
    data = world(*[("u", "abcdefghij"[i], i, ratings[i]) for i in range(10)], *likes_all, items="abcdefghijk")
    case_set = cases(data, task="like:4", candidates="rated")
    assert ids(only(case_set)) == "ij"
    case_set.write(tmp_path / "c.jsonl")
    again = cases(data, task="like:4", candidates=f"file:{tmp_path / 'c.jsonl'}")
    assert (only(again), again.skipped) == (case_set[0], case_set.skipped)


def test_the_default_cut_offs_leave_70_80_and_90_percent_of_the_events_before_them():
    data = world(*[(user, item, at) for user in "uv" for at, item in enumerate("abcdefghij")], items="abcdefghij")
    assert [len(fold.train) for fold in cases(data, protocol="global-time").folds] == [14, 16, 18]


def test_equal_default_cut_offs_count_once():
    data = world(("u", "a", 1), *[("u", item, 2) for item in "bcdefgh"])
    assert len(cases(data, protocol="global-time").folds) == 1


def test_more_users_only_add_to_fewer_and_another_seed_takes_others():
    data = world(*[(f"u{user}", item, at) for user in range(40) for at, item in enumerate("abc")])
    drawn = {n: {case.user_id for case in cases(data, users=n)} for n in (5, 20, 99)}
    assert drawn[5] < drawn[20] < drawn[99]
    assert [len(users) for users in drawn.values()] == [5, 20, 40]
    assert {case.user_id for case in cases(data, users=5, seed=1)} != drawn[5]
    taken = [case.user_id for case in cases(data, users=20)]
    assert taken == sorted(taken)


def test_leave_last_out_warns_of_the_share_of_events_from_the_future():
    data = world(("u", "a", 1), ("u", "b", 2), ("v", "a", 7), ("v", "b", 8))
    with pytest.warns(LeakWarning, match=r"25\.0% are later than the case") as told:
        cases(data)
    assert told[0].filename == __file__


def test_leave_last_out_is_silent_where_no_event_is_from_the_future():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cases(world(("u", "a", 1), ("u", "b", 2)))


def test_global_time_has_nothing_to_warn_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cases(world(("u", "a", 1), ("u", "b", 2)), protocol="global-time")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"task": "like"}, "task 'like' is not known; give 'next', or 'like:4.0'"),
        ({"task": "like:nan"}, "task 'like:nan' is not known"),
        ({"task": "like:1e9"}, "task 'like:1e9' is not known"),
        ({"candidates": "rated"}, "candidates 'rated' need a task that tells them apart; give task='like:4.0'"),
        ({"protocol": "random"}, "protocol 'random' is not known; give 'leave-last-out' or 'global-time'"),
        ({"candidates": "uniform"}, "candidates 'uniform' are not known; give 'full', 'uniform:20'"),
        ({"users": 0}, "users=0 leaves no user"),
        ({"cutoffs": [START + 1]}, "cut-offs mean nothing under leave-last-out"),
        ({"protocol": "global-time", "cutoffs": [5]}, "cut-off 5 has no event before it"),
        ({"protocol": "global-time", "cutoffs": [START + 3]}, "or none after it"),
        ({"protocol": "global-time", "cutoffs": []}, "no cut-off was given"),
        ({"candidates": "retriever:5"}, "candidates 'retriever:5' need a retriever"),
        ({"retriever": lambda history, n: []}, "a retriever was passed, but candidates are 'full'"),
        ({"task": "like:4"}, "'world' has no ratings"),
        ({"candidates": "uniform:7"}, f"case u@{START + 2}: 7 negatives asked for, 6 are left"),
        ({"candidates": "popularity:1"}, "of 8 items 1 can be drawn"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        cases(world(("u", "a", 1), ("u", "b", 2)), **options)


def test_a_log_without_a_single_case_says_why():
    with pytest.raises(InputError, match=r"has no case for 'next' under leave-last-out \(one event: 2\)"):
        cases(world(("u", "a", 1), ("v", "b", 2)))


def test_a_log_without_interactions_says_so():
    with pytest.raises(InputError, match="has no interactions"):
        cases(world())


def test_too_few_negatives_are_told_before_the_first_case_is_built():
    data = world(*[("u", item, at) for at, item in enumerate("abcdefg")], ("v", "a", 1), ("v", "b", 2))
    with pytest.raises(CandidateError, match=r"case u@.*: 2 negatives asked for, 1 are left"):
        cases(data, candidates="uniform:2")


def test_a_slice_is_a_list_of_cases():
    case_set = cases(world(*((user, item, at) for user in "uvw" for at, item in enumerate("abc"))))
    listed = list(case_set)
    assert case_set[:2] == listed[:2]
    assert case_set[-1:] == listed[-1:]
    assert case_set[::-2] == listed[::-2]
    assert case_set[5:] == []


def test_an_index_outside_is_an_index_error():
    case_set = cases(world(("u", "a", 1), ("u", "b", 2)))
    for index in (1, -2):
        with pytest.raises(IndexError):
            case_set[index]


def test_a_retriever_s_first_unseen_items_are_the_candidates_and_a_missed_target_stays_a_target():
    asked_for = []

    def retriever(history, n):
        asked_for.append((history.until, n))
        return list("hgac")[:n]

    data = world(("u", "a", 1), ("u", "g", 2), ("u", "b", 3))
    case = only(cases(data, candidates="retriever:2", retriever=retriever))
    assert asked_for == [(START + 2, 4)]
    assert (ids(case), case.target_ids) == ("ch", ("b",))


@pytest.mark.parametrize(("found", "sentence"), [(["zzz"], "returned 'zzz'"), (["c", "c"], "returned an item twice")])
def test_what_a_retriever_must_not_return_is_refused(found, sentence):
    case_set = cases(world(("u", "a", 1), ("u", "b", 3)), candidates="retriever:2", retriever=lambda history, n: found)
    with pytest.raises(CandidateError, match=f"case u@.*{sentence}"):
        list(case_set)


def test_a_case_opens_the_items_of_its_history_and_its_candidates_only():
    log = world(("u", "a", 1), ("u", "b", 5), ("u", "c", 6), ("v", "d", 1), ("v", "e", 9)).interactions
    opened = set()

    def open_item(position):
        opened.add(log.item_ids[position])
        return OpenedItem(item=Item(item_id=log.item_ids[position]))

    data = Dataset(
        name="counted", items=Catalogue(log.item_ids, open_item=open_item, report=IntakeReport()), interactions=log
    )
    case_set = cases(data, protocol="global-time", cutoffs=[START + 5], candidates="uniform:1")
    assert opened == set()
    case = case_set[0]
    assert opened == {"a", *ids(case)}
    assert len(opened) == 3


WRITE = """
import sys, warnings
warnings.simplefilter("ignore")
from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.cases import cases
from srec.data.folder import Dataset
from srec.types import Item
rows = [(f"u{user}", f"i{(user * 7 + at * at) % 50}", 10**9 + at, None) for user in range(30) for at in range(9)]
data = Dataset.of("world", [Item(item_id=f"i{number}") for number in range(50)], rows)
for kind in ("uniform:5", "popularity:5"):
    cases(data, candidates=kind, users=20, seed=3).write(sys.argv[1] + kind[:3])
"""


def test_two_processes_with_other_hash_seeds_write_the_same_bytes(tmp_path):
    for hash_seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPO)}
        subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / hash_seed)], env=env, check=True)
    for kind in ("uni", "pop"):
        assert (tmp_path / f"1{kind}").read_bytes() == (tmp_path / f"2{kind}").read_bytes()
        assert len((tmp_path / f"1{kind}").read_text().splitlines()) == 21


@pytest.fixture(scope="module")
def movielens():
    """The real log, with items that have no image."""
    folder = SHARED / "movielens-posters"
    if not folder.is_dir():
        pytest.skip(f"the data folder {folder} is not here")
    table = np.genfromtxt(folder / "interactions.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    item_ids = sorted({str(item) for item in table["item_id"]})
    rows = [(str(r["user_id"]), str(r["item_id"]), int(r["timestamp"]), float(r["rating"])) for r in table]
    return Dataset.of("movielens-posters", [Item(item_id=item_id) for item_id in item_ids], rows)


def test_all_real_users_have_a_case_and_all_are_built_in_three_seconds(movielens):
    begin = time.process_time()  # not the wall: the machine may be busy with something else
    case_set = cases(movielens, candidates="uniform:20")
    sizes = Counter(len(case.candidates) for case in case_set)
    assert time.process_time() - begin < 3
    assert sizes == {21: 456}
    assert case_set.tied == 65


@pytest.mark.parametrize("protocol", ["leave-last-out", "global-time"])
@pytest.mark.parametrize("task", ["next", "like:4.0"])
def test_real_cases_do_not_leak(movielens, task, protocol):
    case_set = cases(movielens, task=task, protocol=protocol, candidates="popularity:99")
    for fold in case_set.folds:
        for case in case_set.of(fold):
            own = fold.train.rows_of(case.user_id)
            assert case.history.until < case.at
            assert (fold.train.at[own] < case.at).all()
            assert own.stop - own.start == len(case.history)
