import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from srec.data.kcore import core


def by_hand(pairs: list[tuple[int, int]], least: int) -> list[bool]:
    """One user or item after the other, the smallest first."""
    inside = set(range(len(pairs)))
    while True:
        for side in (0, 1):
            for code in sorted({pairs[n][side] for n in inside}):
                own = {n for n in inside if pairs[n][side] == code}
                if len(own) < least:
                    inside -= own
                    break
            else:
                continue
            break
        else:
            return [n in inside for n in range(len(pairs))]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40), st.integers(1, 4))
def test_the_core_is_that_of_dropping_one_after_the_other(pairs, least):
    user, item = (np.array([pair[side] for pair in pairs], np.int32) for side in (0, 1))
    inside, rounds = core(user, item, least=least)
    assert inside.tolist() == by_hand(pairs, least)
    assert sum(one.interactions_dropped for one in rounds) == len(pairs) - inside.sum()
    assert sum(one.users_dropped for one in rounds) == len(set(user)) - len(set(user[inside]))
    assert sum(one.items_dropped for one in rounds) == len(set(item)) - len(set(item[inside]))
    if rounds:
        last = rounds[-1]
        assert (last.users, last.items) == (len(set(user[inside])), len(set(item[inside])))
        assert last.interactions == inside.sum()
