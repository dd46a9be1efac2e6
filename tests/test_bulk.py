"""Bulk work with real threads, real processes and real kills."""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass

import dspy
import pytest
from control_c import hear_control_c
from dspy.utils.exceptions import AdapterParseError, LMServerError

from srec import bulk
from srec.digest import digest
from srec.errors import AnswerError, InputError, LeakageError, StageError, StoreError
from srec.progress import waiting
from srec.store import Store
from srec.types import Item, ItemDescription

processes = multiprocessing.get_context("fork")


def double(number):
    return 2 * number


def values(outcomes):
    return [outcome.value for outcome in outcomes]


# without a store


def test_outcomes_come_in_the_order_of_the_inputs_although_the_work_does_not():
    draw = random.Random(0)
    naps = [draw.uniform(0, 0.01) for _ in range(60)]

    def nap(number):
        time.sleep(naps[number])
        return number

    assert values(bulk.run(nap, range(60), workers=8)) == list(range(60))


def test_all_workers_work_at_once():
    together = threading.Barrier(6, timeout=5)

    assert values(bulk.run(lambda _: together.wait() >= 0, range(12), workers=6)) == [True] * 12


def test_nothing_is_computed_before_it_is_asked_for():
    seen = []
    outcomes = bulk.run(seen.append, range(5))
    assert seen == []
    next(outcomes)
    assert seen


HELD = weakref.WeakSet()


class Thing:
    """An input that knows whether it is still held."""

    def __init__(self):
        HELD.add(self)


def test_an_endless_input_is_taken_in_a_few_at_a_time_and_nothing_is_kept():
    most = 0
    outcomes = bulk.run(lambda thing: None, (Thing() for _ in itertools.count()), workers=3)
    for outcome in itertools.islice(outcomes, 500):
        del outcome
        most = max(most, len(HELD))
    outcomes.close()
    del outcomes
    gc.collect()

    assert most <= 4 * 3 + 3 + 1
    assert len(HELD) == 0


def test_no_input_gives_no_outcome():
    assert bulk.run(double, []).finish() == bulk.Summary()


def test_threads_see_the_context_of_the_caller():
    with dspy.context(marker="the caller's"):
        outcomes = bulk.run(lambda _: dspy.settings.marker, range(4), workers=2)

    assert values(outcomes) == ["the caller's"] * 4


def test_what_one_input_sets_in_its_context_is_not_seen_by_the_next():
    def set_and_report(number):
        before = dspy.settings.get("marker", "unset")
        scope = dspy.context(marker=number)
        scope.__enter__()
        return before

    with dspy.context(marker="unset"):
        assert values(bulk.run(set_and_report, range(5), workers=1)) == ["unset"] * 5


@pytest.mark.parametrize("workers", [0, -1])
def test_no_workers_are_refused(workers):
    with pytest.raises(InputError, match="workers is"):
        bulk.run(double, [1], workers=workers)


# with a store


def test_what_is_in_the_store_is_not_computed_again(tmp_path):
    calls = []

    def describe(item):
        calls.append(item.item_id)
        return ItemDescription(item_id=item.item_id, text=f"described {item.title}")

    items = [Item(item_id=str(i), title=f"mug {i}") for i in range(20)]
    options = {"key": lambda item: digest("stage 1", item), "store": tmp_path, "returns": ItemDescription, "workers": 4}
    first = bulk.run(describe, items, **options)
    again = bulk.run(describe, items, **options)

    assert values(first) == values(again) == [describe(item) for item in items]
    assert len(calls) == 20 + 20  # 20 by the run and 20 by the line above
    assert (first.summary.done, first.summary.cached) == (20, 0)
    assert (again.summary.done, again.summary.cached, again.summary.rate) == (20, 20, 0.0)


def test_own_encoding_is_used_both_ways(tmp_path):
    options = {"key": str, "store": tmp_path, "encode": lambda n: f"<{n}>", "decode": lambda text: int(text[1:-1])}

    assert values(bulk.run(double, [1, 2], **options)) == values(bulk.run(double, [1, 2], **options)) == [2, 4]
    with Store(tmp_path) as store:
        assert store.get("1") == "<2>"


def test_an_input_that_comes_again_while_it_is_computed_is_computed_once(tmp_path):
    calls = []

    def slow(number):
        calls.append(number)
        time.sleep(0.02)
        return number

    outcomes = bulk.run(slow, [1, 1, 2, 1, 2, 2, 1, 3] * 5, key=str, store=tmp_path, returns=int, workers=8)

    assert values(outcomes) == [1, 1, 2, 1, 2, 2, 1, 3] * 5
    assert sorted(calls) == [1, 2, 3]
    assert outcomes.summary.cached == 37


def test_a_store_without_a_key_or_a_type_is_refused(tmp_path):
    with pytest.raises(InputError, match="needs key="):
        bulk.run(double, [1], store=tmp_path, returns=int)
    with pytest.raises(InputError, match="needs returns="):
        bulk.run(double, [1], store=tmp_path, key=str)


def test_a_result_of_another_type_ends_the_run_with_its_key(tmp_path):
    bulk.run(str, ["one"], key=str, store=tmp_path, returns=str).finish()

    with pytest.raises(StoreError, match="the result under 'one' is not of the type of this stage"):
        bulk.run(len, ["one"], key=str, store=tmp_path, returns=int).finish()


# failures


def fail(kind):
    match kind:
        case "answer":
            raise AnswerError("item '7': no JSON in the answer\nof the <|im_start|>LM")
        case "server":
            raise LMServerError("500", model="openai/x")
        case "parse":
            raise AdapterParseError("ChatAdapter", dspy.Signature("a -> b"), "gibberish")
    return kind


def test_errors_of_srec_and_of_lms_are_outcomes_with_their_reasons():
    run = bulk.run(fail, ["answer", "fine", "server", "parse", "answer"], workers=2)
    outcomes = list(run)

    assert [outcome.value for outcome in outcomes] == [None, "fine", None, None, None]
    assert outcomes[0].error == "AnswerError: item '7': no JSON in the answer of the LM"
    assert outcomes[1].error == ""
    assert outcomes[2].error == "LMServerError: [openai/x] 500"
    assert outcomes[3].error.startswith("AdapterParseError: Adapter ChatAdapter failed to parse")
    assert (run.summary.done, run.summary.failed) == (1, 4)
    assert run.summary.reasons == {"AnswerError": 2, "LMServerError": 1, "AdapterParseError": 1}
    assert "1 done, 4 failed, 0 from the store" in str(run.summary)
    assert "2 x AnswerError, the first: AnswerError: item '7'" in str(run.summary)


def test_only_what_failed_is_computed_by_the_next_run(tmp_path):
    calls = []
    broken = {3, 7}

    def stage(number):
        calls.append(number)
        if number in broken:
            raise AnswerError(f"no answer for {number}")
        return number

    options = {"key": str, "store": tmp_path, "returns": int, "workers": 3}
    first = bulk.run(stage, range(10), **options).finish()
    with Store(tmp_path) as store:
        assert store.get("failed:7") == "AnswerError: no answer for 7"
    calls.clear()
    broken.remove(7)
    second = bulk.run(stage, range(10), **options).finish()

    assert (first.done, first.failed) == (8, 2)
    assert (second.done, second.cached, second.failed) == (9, 8, 1)
    assert sorted(calls) == [3, 7]
    with Store(tmp_path) as store:
        assert "failed:7" not in list(store.keys())


def test_failures_can_be_left_as_they_are(tmp_path):
    options = {"key": str, "store": tmp_path, "returns": str}
    bulk.run(fail, ["answer", "fine"], **options).finish()
    run = bulk.run(str, ["answer", "fine"], retry_failed=False, **options)

    assert [(outcome.error[:11], outcome.value, outcome.cached) for outcome in run] == [
        ("AnswerError", None, True),
        ("", "fine", True),
    ]
    assert run.summary.rate == 0


def test_an_input_without_a_key_is_a_failure_and_stops_nothing(tmp_path):
    outcomes = list(bulk.run(double, [1, {2}, 3], key=digest, store=tmp_path, returns=int))

    assert [outcome.value for outcome in outcomes] == [2, None, 6]
    assert "cannot be made of a set" in outcomes[1].error


def test_a_bug_is_raised_once_the_work_in_progress_is_stored(tmp_path):
    begun = threading.Barrier(4, timeout=5)

    def stage(number):
        begun.wait()
        if number == 2:
            raise KeyError("a bug")
        time.sleep(0.2)
        return number

    with pytest.raises(KeyError, match="a bug") as raised:
        bulk.run(stage, range(100), key=str, store=tmp_path, returns=int, workers=4).finish()
    assert raised.traceback[-1].name == "stage"
    with Store(tmp_path) as store:
        assert sorted(store.keys()) == ["0", "1", "3"]


def test_an_error_of_the_inputs_is_raised_once_the_work_in_progress_is_stored(tmp_path):
    begun = threading.Barrier(3, timeout=5)

    def inputs():
        yield from range(2)
        begun.wait()
        raise OSError("the file of inputs is gone")

    def slow(number):
        begun.wait()
        time.sleep(0.1)
        return number

    with pytest.raises(OSError, match="the file of inputs is gone"):
        bulk.run(slow, inputs(), key=str, store=tmp_path, returns=int, workers=8).finish()
    with Store(tmp_path) as store:
        assert sorted(store.keys()) == ["0", "1"]


def test_a_store_that_cannot_be_written_ends_the_run(tmp_path):
    calls = []
    with Store(tmp_path) as store:
        store._cache._sql("CREATE TRIGGER Broken BEFORE INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'disk is full'); END")

    with pytest.raises(StoreError, match="free space on its disk"):
        bulk.run(lambda n: calls.append(n) or n, range(1000), key=str, store=tmp_path, returns=int, workers=2).finish()
    assert len(calls) < 10


@pytest.mark.parametrize("error", [LeakageError, StageError])
@pytest.mark.parametrize("kept", [True, False])
def test_a_leak_or_a_broken_stage_ends_the_run_and_is_not_kept_as_a_failure(error, kept, tmp_path):
    def stage(number):
        raise error(f"broken at {number}")

    options = {"key": str, "store": tmp_path, "returns": int} if kept else {}
    with pytest.raises(error, match="broken at 0"):
        bulk.run(stage, range(100), workers=1, **options).finish()
    with Store(tmp_path) as store:
        assert list(store.keys()) == []


def test_leaving_a_loop_early_keeps_what_is_in_progress(tmp_path):
    def slow(number):
        time.sleep(0.5)
        return number

    for outcome in bulk.run(slow, range(1000), key=str, store=tmp_path, returns=int, workers=4):
        assert outcome.value == 0
        break
    with Store(tmp_path) as store:
        assert 4 <= len(store) <= 8


# progress


def test_no_bar_is_shown_where_there_is_no_terminal(capfd):
    bulk.run(double, range(3)).finish()

    assert capfd.readouterr() == ("", "")


def test_a_bar_that_is_asked_for_shows_rate_store_and_failures(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    bulk.run(fail, ["answer", "fine", "fine"], progress=True, label="describe").finish()

    shown = capfd.readouterr()
    assert shown.out == ""
    assert "describe" in shown.err
    assert "3/3" in shown.err
    assert "/s · 0 from the store · 1 failed" in shown.err


def test_a_sign_of_life_asks_for_its_news(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with waiting("rank 7 items", show=True, news=lambda: "3 [bold]calls"):
        pass

    shown = capfd.readouterr()
    assert shown.out == ""
    assert "rank 7 items" in shown.err
    assert "3 [bold]calls" in shown.err


# kills and company


@dataclass(frozen=True)
class Log:
    """Calls of a stage, one line each, written as they begin."""

    path: object

    def add(self, number):
        line = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(line, f"{number}\n".encode())
        os.close(line)

    def calls(self):
        return [int(line) for line in self.path.read_text().split()] if self.path.exists() else []


def map_slowly(folder, log, amount, *, workers=8, slowest_s=0.04):
    def stage(number):
        log.add(number)
        time.sleep(random.Random(number).uniform(0.2, 1) * slowest_s)
        return number * number

    run = bulk.run(stage, range(amount), key=lambda n: digest("square", n), store=folder, returns=int, workers=workers)
    assert values(run) == [n * n for n in range(amount)]
    return run.summary


@contextlib.contextmanager
def child(target, *args, **options):
    """A forked process that is killed at the end of the block, if it has not ended by itself."""
    process = processes.Process(target=target, args=args, kwargs=options)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def until(holds, *, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.005)


def test_five_kills_cost_no_finished_work(tmp_path):
    log, folder, workers = Log(tmp_path / "calls"), tmp_path / "store", 8
    draw = random.Random(0)
    finished_before = []  # (what was stored at a kill, how many calls there had been)
    for _ in range(5):
        begun = len(log.calls())
        with child(map_slowly, folder, log, 600, workers=workers) as process:
            until(lambda begun=begun: len(log.calls()) > begun)
            time.sleep(draw.uniform(0, 0.2))
            process.kill()
        with Store(folder) as store:
            finished_before.append((set(store.keys()), len(log.calls())))
    summary = map_slowly(folder, log, 600, workers=workers)

    calls = log.calls()
    assert summary.done == 600
    assert 0 < summary.cached < 600
    assert set(calls) == set(range(600))
    assert len(calls) <= 600 + 5 * workers
    for stored, position in finished_before:
        assert not stored & {digest("square", number) for number in calls[position:]}, (
            "a finished input was computed again"
        )


def test_two_processes_on_one_store_compute_every_input_once_and_share_the_work(tmp_path):
    logs, folder = [Log(tmp_path / "one"), Log(tmp_path / "other")], tmp_path / "store"
    with (
        child(map_slowly, folder, logs[0], 300, slowest_s=0.2) as one,
        child(map_slowly, folder, logs[1], 300, slowest_s=0.2) as other,
    ):
        one.join(20)
        other.join(20)
        assert (one.exitcode, other.exitcode) == (0, 0)

    assert sorted(logs[0].calls() + logs[1].calls()) == list(range(300))
    assert min(len(log.calls()) for log in logs) > 75


def test_the_work_of_a_killed_process_is_taken_over_by_the_other(tmp_path):
    stuck_log, log, folder = Log(tmp_path / "stuck"), Log(tmp_path / "other"), tmp_path / "store"
    with child(map_slowly, folder, stuck_log, 40, slowest_s=1000.0) as stuck:
        until(lambda: len(stuck_log.calls()) == 8)
        with child(map_slowly, folder, log, 40) as other:
            until(lambda: len(log.calls()) >= 24)
            assert not set(log.calls()) & set(stuck_log.calls()), "what is claimed elsewhere is put aside"
            assert other.is_alive()
            stuck.kill()
            other.join(10)
            assert other.exitcode == 0
    assert sorted(log.calls()) == list(range(40))


INTERRUPTED = """
import sys, time
from srec import bulk

def stage(number):
    if number < 20:
        return number
    print("begun", flush=True)
    time.sleep(60)

for outcome in bulk.run(stage, range(100), key=str, store=sys.argv[1], returns=int, workers=4):
    pass
"""


def test_ctrl_c_keeps_what_is_finished_and_ends_within_seconds(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, tmp_path],
        preexec_fn=hear_control_c,  # noqa: PLW1509 (no thread holds a lock here)
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(4):
        process.stdout.readline()
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert time.monotonic() - started < 5
    assert process.returncode in (1, -signal.SIGINT)
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    with Store(tmp_path) as store:
        assert sorted(store.keys(), key=int) == [str(number) for number in range(20)]
