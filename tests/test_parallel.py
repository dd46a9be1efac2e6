"""Work on many inputs at once."""

import threading
import time
from contextvars import ContextVar

import pytest

from srec.parallel import parallel

SEEN: ContextVar[str] = ContextVar("seen", default="nothing")


def test_results_come_in_the_order_of_the_inputs():
    def slow_first(number):
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert parallel(slow_first, range(9), workers=3) == [number * number for number in range(9)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_no_more_work_at_once_than_workers(workers):
    now, most, lock = 0, 0, threading.Lock()

    def work(_):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    parallel(work, range(20), workers=workers)
    assert min(2, workers) <= most <= workers


def test_what_the_caller_set_is_seen_and_what_the_work_sets_is_not():
    def work(name):
        before = SEEN.get()
        SEEN.set(name)
        return before

    token = SEEN.set("the caller's")
    try:
        assert parallel(work, ["a", "b", "c", "d"], workers=2) == ["the caller's"] * 4
        assert SEEN.get() == "the caller's"
    finally:
        SEEN.reset(token)


def test_the_first_error_in_order_is_raised_after_the_others_have_ended():
    ended = []

    def work(number):
        if number in {1, 3}:
            raise ValueError(number)
        time.sleep(0.01)
        ended.append(number)

    with pytest.raises(ValueError, match="1"):
        parallel(work, range(6), workers=2)
    assert sorted(ended) == [0, 2, 4, 5]
