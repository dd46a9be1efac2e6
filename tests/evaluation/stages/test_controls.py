from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pillow

from srec.evaluation.stages.ceilings import ceilings, toy_cases
from srec.evaluation.stages.controls import blank, shuffled, strangers, with_items, without_text, worlds


@pytest.fixture(scope="module")
def case(shop):
    return toy_cases(shop.data, seed=0)[0]


def test_a_blank_picture_is_one_grey_that_does_not_normalize_to_zero(shop):
    greys = {blank(item).image.data for item in shop.data.items.values()}
    assert 4 <= len(greys) <= 8
    for data in greys:
        pixels = np.asarray(Pillow.open(BytesIO(data)), dtype=np.float64)
        assert np.ptp(pixels) == 0
        assert abs(pixels.mean() / 127.5 - 1) > 0.1


def test_an_item_without_a_picture_stays_without(shop):
    item = replace(shop.data.items["toy00000"], image=None)
    assert blank(item) == item


def test_every_item_gets_the_picture_of_another_and_each_is_taken_once():
    ids = [f"i{n}" for n in range(50)]
    pairs = strangers(ids, seed=1)
    assert all(own != other for own, other in pairs.items())
    assert sorted(pairs.values()) == sorted(ids)
    assert pairs == strangers(ids, seed=1) != strangers(ids, seed=2)


def test_the_truth_of_a_world_is_that_of_what_is_shown(shop):
    made = worlds(shop, seed=0)
    looks = {item.image.digest: shop.truth.toys[item.item_id].look for item in shop.data.items.values()}
    for item in made["other_image"].items():
        assert made["other_image"].truth[item.item_id].look == looks[item.image.digest]
    assert all(not toy.says and not toy.contradictions for toy in made["no_text"].truth.values())
    assert all(item.title == "" and not item.attributes and item.image for item in made["no_text"].items())


def test_shuffling_keeps_items_times_and_candidates_and_loses_the_order(case):
    mixed = shuffled(case, seed=0)
    ids = [event.item.item_id for event in case.history.events]
    assert [event.at for event in mixed.history.events] == [event.at for event in case.history.events]
    assert sorted(event.item.item_id for event in mixed.history.events) == sorted(ids)
    assert [event.item.item_id for event in mixed.history.events] != ids
    assert mixed.candidates == case.candidates
    assert mixed == shuffled(case, seed=0) != shuffled(case, seed=1)


def test_a_control_changes_history_and_candidates_alike(case):
    changed = with_items(case, change=without_text)
    assert {item.title for item in changed.candidates} == {event.item.title for event in changed.history.events} == {""}
    assert changed.target_ids == case.target_ids


def test_each_ceiling_without_something_is_below_the_whole_and_above_chance():
    found = ceilings(items=60, users=10, seed=0, count=300, progress=False)
    assert found["all"].n >= 300
    for name in ("no_image", "no_order", "no_profile"):
        assert 0.5 == found[name].chance < found[name].value < found["all"].value == found[name].ceiling
