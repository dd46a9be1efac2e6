"""A dataset in numbers, by hand and of data whose numbers are known."""

import math
from pathlib import Path

import pytest

from srec.data.folder import load
from srec.data.interactions import Interactions
from srec.data.statistics import Statistics
from srec.errors import DatasetError

MOVIELENS = Path(__file__).parents[3] / "shared" / "data" / "movielens-posters"


def of(*rows, items="abcd"):
    return Statistics.of(Interactions.of(rows, item_ids=tuple(items)))


def test_counts_and_shares_by_hand():
    found = of(
        ("u", "a", 0, 4.0), ("u", "b", 60, 2.0), ("u", "a", 121, None), ("v", "a", 86_400, None), ("v", "c", 86_400, None)
    )  # fmt: skip
    assert (found.users, found.items, found.items_with_events, found.interactions) == (2, 4, 3, 5)
    assert found.density == 4 / 8
    assert (found.mean_per_user, found.median_per_user, found.longest) == (2.5, 2.5, 3)
    assert found.mean_per_item == 5 / 3
    assert found.tied == 2 / 5
    assert found.within_a_minute == 2 / 3
    assert found.repeated == 1 / 5
    assert (found.rated, found.mean_rating) == (2 / 5, 3.0)
    assert (found.first, found.last) == (0, 86_400)
    assert "2 users, 4 items (3 with events); 5 interactions from 1970-01-01 to 1970-01-02" in str(found)


def test_a_log_without_events_has_no_shares():
    found = of()
    assert (found.users, found.interactions, found.longest) == (0, 0, 0)
    assert math.isnan(found.tied)
    assert math.isnan(found.mean_rating)


def folder(path, toml):
    (path / "items.csv").write_text("item_id,title\na,A\nb,B\n")
    (path / "interactions.csv").write_text("user_id,item_id,timestamp\nu,a,1\nu,b,2\nv,nosuch,3\n")
    (path / "dataset.toml").write_text(toml)
    return path


def test_a_folder_that_has_what_it_says_is_loaded(tmp_path):
    assert len(load(folder(tmp_path, "[expected]\nusers = 1\nitems = 2\ninteractions = 2\n")).users) == 1


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[expected]\nusers = 2\n", "expects 2 users, 1 can be used; look for rows that were rejected"),
        ("[expected]\nitems = 3\n", "expects 3 items, 2 can be used"),
        ("[expected]\ninteractions = 3\n", "expects 3 interactions, 2 can be used"),
        ("[expected]\nclicks = 3\n", "and under .expected. users, items, interactions"),
    ],
)
def test_a_folder_that_has_not_what_it_says_is_an_error(tmp_path, toml, said):
    with pytest.raises(DatasetError, match=said):
        load(folder(tmp_path, toml))


def test_on_real_data_the_counts_are_those_that_are_known():
    if not MOVIELENS.is_dir():
        pytest.skip(f"needs the dataset folder {MOVIELENS}")
    found = Statistics.of(load(MOVIELENS).interactions)
    assert (found.users, found.items, found.interactions) == (456, 3625, 69411)
    assert found.tied == pytest.approx(0.24, abs=0.01)
