"""Work on many inputs at once, in threads that stay."""

import os
import threading
import time
from contextvars import ContextVar

import pytest

from srec.parallel import MOST_HELPERS, parallel

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
    assert most == workers


def test_calls_may_nest_deeper_than_there_are_threads():
    def count(depth):
        return 1 if depth == 0 else sum(parallel(count, [depth - 1] * 2, workers=2))

    assert count(10) == 2**10 > MOST_HELPERS


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


def test_nothing_more_is_begun_after_an_interruption():
    begun = []

    def work(number):
        begun.append(number)
        time.sleep(0.01)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return number

    with pytest.raises(KeyboardInterrupt):
        parallel(work, range(1000), workers=3)
    assert len(begun) < 10


def test_threads_are_used_again():
    def thread(_):
        time.sleep(0.005)
        return threading.get_ident()

    before = threading.active_count()
    for _ in range(20):
        assert len(set(parallel(thread, range(4), workers=4))) > 1
    assert threading.active_count() <= before + 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_process_after_a_fork_has_threads_of_its_own():
    parallel(lambda _: time.sleep(0.01), range(8), workers=4)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        barrier = threading.Barrier(3)
        try:
            parallel(lambda _: barrier.wait(timeout=5), range(3), workers=3)
            os.write(writing, b"together")
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"together"
    os.close(reading)
