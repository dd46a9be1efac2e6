import numpy as np
import pytest

import srec
from srec.data.part import part
from srec.errors import InputError


@pytest.fixture(scope="module")
def shop():
    return srec.toyshop(items=40, users=10, seed=1)


def test_a_part_has_the_events_of_its_users_with_its_items(shop):
    users, items = set(shop.training_users), set(shop.training_items)
    kept = part(shop.data, users=users, items=items)
    assert list(kept.interactions.rows()) == [
        row for row in shop.data.interactions.rows() if row[0] in users and row[1] in items
    ]
    assert tuple(kept.items) == shop.training_items
    assert set(kept.users) == users
    assert kept.items["toy00001"] is not None
    assert kept.items[shop.training_items[-1]] == shop.data.items[shop.training_items[-1]]


def test_what_is_left_out_is_no_candidate(shop):
    kept = part(shop.data, users=shop.held_out_users)
    assert set(kept.users) == set(shop.held_out_users)
    assert tuple(kept.items) == tuple(shop.data.items)
    seen = part(shop.data, items=shop.training_items)
    with pytest.warns(UserWarning, match="later than the case"):
        cases = srec.cases(seen, candidates="full")
    for case in cases:
        assert {item.item_id for item in case.candidates} <= set(shop.training_items)


def test_all_is_the_dataset_again(shop):
    kept = part(shop.data)
    assert list(kept.interactions.rows()) == list(shop.data.interactions.rows())
    assert np.array_equal(kept.interactions.item, shop.data.interactions.item)


def test_ids_that_are_not_there_are_refused(shop):
    with pytest.raises(InputError, match="no user"):
        part(shop.data, users=["nobody"])
    with pytest.raises(InputError, match="no item"):
        part(shop.data, items=["nothing"])


def test_training_and_held_out_share_nothing_and_leave_nothing(shop):
    assert sorted((*shop.training_users, *shop.held_out_users)) == sorted(shop.truth.shoppers)
    assert sorted((*shop.training_items, *shop.truth.held_out_items)) == sorted(shop.truth.toys)
