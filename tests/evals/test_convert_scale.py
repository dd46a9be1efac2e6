"""The measurement of large conversions, on a small one."""

import pytest

from evals import convert_scale


@pytest.mark.parametrize("kind", convert_scale.GENERATORS)
def test_rows_time_and_memory_are_told_of_a_process_of_its_own(kind, tmp_path):
    told = convert_scale.measure(kind, tmp_path, interactions=5000, min_events=3, seed=1)
    rows = told["rows"]["interactions"]
    assert rows["read"] == 5000
    assert sum(times for what, times in rows.items() if what.startswith("rejected")) == 5
    assert rows["left out: the same was there before"] >= 1
    assert rows["kept"] > 1000
    assert 0 < told["seconds"] < 60
    assert told["imports_mib"] - 20 < told["peak_mib"] < 400


def test_a_seed_makes_the_same_dump(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        convert_scale.GENERATORS["movielens"](tmp_path / name, 1000, 7)
    assert (tmp_path / "a" / "ratings.csv").read_bytes() == (tmp_path / "b" / "ratings.csv").read_bytes()
