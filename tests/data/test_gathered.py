import csv

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from srec.data.gathered import Gathered

events = st.tuples(
    st.sampled_from(["a", "b"]), st.integers(0, 2), st.integers(0, 2), st.sampled_from([None, 0.0, 3.5, 4.0])
)


@given(st.lists(events, max_size=30))
def test_of_the_same_all_but_the_first_are_repeats(rows):
    assert Gathered(rows).repeats().tolist() == [row in rows[:n] for n, row in enumerate(rows)]


def test_ratings_and_seconds_are_written_as_they_were_read(tmp_path):
    rows = [("u,1", 1, 4_102_444_799, 3.7), ("v", 0, 0, None), ("v", 1, 5, 1_234_567.0), ("v", 1, 6, -0.5)]
    gathered = Gathered(rows)
    kept = np.array([True, True, True, False])
    gathered.write(tmp_path / "log.csv", kept=kept, item_ids=["i", "j"], rated=True)
    with (tmp_path / "log.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["user_id", "item_id", "timestamp", "rating"],
            ["u,1", "j", "4102444799", "3.7"],
            ["v", "i", "0", ""],
            ["v", "j", "5", "1234567"],
        ]
