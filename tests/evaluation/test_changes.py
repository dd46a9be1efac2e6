from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Pillow

import srec
from srec.evaluation.changes import (
    blank,
    grey_for_none,
    noisy,
    shuffled,
    strangers,
    with_candidates,
    with_items,
    with_picture_of,
    with_text_of,
    without_text,
)
from srec.evaluation.stages.ceilings import toy_cases


@pytest.fixture(scope="module")
def case(shop):
    return toy_cases(shop.data, seed=0)[0]


def pixels(item):
    return np.asarray(Pillow.open(BytesIO(item.image.data)), dtype=np.float64)


def test_a_blank_picture_is_one_grey_that_does_not_normalize_to_zero(shop):
    greys = {blank(item).image.data: blank(item) for item in shop.data.items.values()}
    assert 4 <= len(greys) <= 8
    for item in greys.values():
        assert np.ptp(pixels(item)) == 0
        assert abs(pixels(item).mean() / 127.5 - 1) > 0.1


def test_a_picture_of_noise_is_one_of_a_few_and_shows_nothing(shop):
    noises = {noisy(item).image.data: noisy(item) for item in shop.data.items.values()}
    assert 4 <= len(noises) <= 8
    for item in noises.values():
        halves = np.split(pixels(item), 2)
        assert pixels(item).std() > 20
        assert abs(halves[0].mean() - halves[1].mean()) < 5


def test_a_grey_picture_stands_in_where_there_is_none_and_nowhere_else(shop):
    item = shop.data.items["toy00000"]
    bare = replace(item, image=None)
    assert grey_for_none(item) is item
    assert grey_for_none(bare) == blank(item)


def test_an_item_without_a_picture_stays_without(shop):
    item = replace(shop.data.items["toy00000"], image=None)
    assert blank(item) == noisy(item) == item


def test_picture_and_text_are_taken_from_another_item(shop):
    one, other = shop.data.items["toy00000"], shop.data.items["toy00001"]
    mixed = with_picture_of(one, other)
    assert (mixed.item_id, mixed.title, mixed.image) == (one.item_id, one.title, other.image)
    assert with_text_of(other, one) == replace(mixed, item_id=other.item_id)


def test_every_item_gets_another_and_each_is_taken_once():
    ids = [f"i{n}" for n in range(50)]
    pairs = strangers(ids, seed=1)
    assert all(own != other for own, other in pairs.items())
    assert sorted(pairs.values()) == sorted(ids)
    assert pairs == strangers(ids, seed=1) != strangers(ids, seed=2)


def test_shuffling_keeps_items_times_and_candidates_and_loses_the_order(case):
    mixed = shuffled(case, seed=0, read=whole)
    ids = [event.item.item_id for event in case.history.events]
    assert [event.at for event in mixed.history.events] == [event.at for event in case.history.events]
    assert sorted(event.item.item_id for event in mixed.history.events) == sorted(ids)
    assert [event.item.item_id for event in mixed.history.events] != ids
    assert mixed.candidates == case.candidates
    assert mixed == shuffled(case, seed=0, read=whole) != shuffled(case, seed=1, read=whole)


def test_what_a_program_does_not_read_stays_where_it_is(case):
    program = srec.MLLMSRec(recent=6, preference=srec.TemporalPreference(window=2, step=2))
    mixed = shuffled(case, seed=0, read=program.read)
    count = len(program.read(case.history))
    assert len(case.history) > count >= 6
    assert mixed.history.events[:-count] == case.history.events[:-count]
    assert mixed.history.events[-count:] != case.history.events[-count:]
    assert sorted(map(told, program.read(mixed.history).events)) == sorted(map(told, program.read(case.history).events))


def whole(history):
    return history


def told(event):
    return event.item.item_id


def test_history_and_candidates_are_changed_alike(case):
    changed = with_items(case, change=without_text)
    assert {item.title for item in changed.candidates} == {event.item.title for event in changed.history.events} == {""}
    assert changed.target_ids == case.target_ids


def test_single_candidates_are_changed_in_their_place(case):
    chosen = case.candidates[1].item_id
    changed = with_candidates(case, {chosen: without_text})
    assert [item.item_id for item in changed.candidates] == [item.item_id for item in case.candidates]
    assert [item.item_id for item in changed.candidates if not item.title] == [chosen]
    assert changed.history == case.history
