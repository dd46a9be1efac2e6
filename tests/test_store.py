"""The store on real disks, with real threads, real processes and real kills."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import random
import resource
import sqlite3
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srec import claims
from srec import store as store_module
from srec.errors import StoreError
from srec.store import Store, opened

processes = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs" / "one") as store:
        yield store


@contextlib.contextmanager
def child(target, *args):
    """A forked process that is killed at the end of the block, if it has not ended by itself."""
    process = processes.Process(target=target, args=args)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def ask(target, *args):
    """What `target` returns in a forked process."""
    hear, tell = processes.Pipe(duplex=False)
    with child(lambda: tell.send(target(*args))):
        assert hear.poll(20), "the child gave no answer"
        return hear.recv()


def free(folder, key):
    with Store(folder) as store, store.claim(key, wait=False) as held:
        return held


def contents(store):
    return {key: store.get(key) for key in list(store.keys())}


def fill(store, kept):
    """Put until there is an error, noting what was put."""
    for i in range(1000):
        store.put(str(i), "x" * 10_000)
        kept.append(str(i))


# values


@settings(max_examples=60, deadline=None)
@given(values=st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), max_size=5))
def test_any_text_comes_back_as_it_went_in(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("store")
    with Store(folder) as store:
        for key, value in values.items():
            store.put(key, value)
    with Store(folder) as again:
        assert contents(again) == values
        assert len(again) == len(values)


def test_a_large_text_keeps_its_line_ends_and_lives_in_the_database(store):
    value = "a\r\nb\n\x00c\r" * 200_000
    store.put("large", value)

    assert store.get("large") == value
    assert {path.name for path in store.folder.iterdir()} <= {"cache.db", "cache.db-wal", "cache.db-shm", "claims.lock"}


def test_a_key_that_is_not_there_has_no_value(store):
    assert store.get("nothing") is None
    store.drop("nothing")
    store.put("something", "")
    assert store.get("something") == ""


def test_a_dropped_key_is_gone_and_a_second_put_replaces_the_first(store):
    store.put("a", "1")
    store.put("b", "1")
    store.put("b", "2")
    store.drop("a")

    assert contents(store) == {"b": "2"}


def test_nothing_leaves_a_store_that_is_larger_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setitem(store_module.SETTINGS, "size_limit", 1)
    with Store(tmp_path) as store:
        for i in range(50):
            store.put(str(i), "x" * 10_000)

        assert all(store.get(str(i)) for i in range(50))


def test_two_threads_that_write_at_once_lose_nothing(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.put(str(i), str(i)), range(200)))
    assert len(store) == 200


def test_an_empty_store_is_one_all_the_same(store):
    assert store
    assert len(store) == 0


def test_text_that_has_no_bytes_is_refused_with_a_sentence(store):
    with pytest.raises(StoreError, match=r"cannot write to store .*surrogates not allowed"):
        store.put("key", "half a pair: \ud83d")
    store.put("key", "still usable")
    assert store.get("key") == "still usable"


def test_a_path_is_opened_and_closed_where_a_store_is_expected(tmp_path, store):
    with opened(store) as same:
        assert same is store
    with opened(str(tmp_path / "named")) as new:
        new.put("a", "1")
    with Store(tmp_path / "named") as again:
        assert again.get("a") == "1"


# kills


def put_forever(folder, told):
    with Store(folder) as store:
        for i in range(1_000_000):
            store.put(f"k{i}", f"{i}:" + str(i % 10) * random.choice([10, 100_000]))
            os.write(told, f"k{i}\n".encode())


def test_every_value_that_was_put_survives_a_kill_and_none_is_torn(tmp_path):
    draw = random.Random(0)
    for turn in range(4):
        folder = tmp_path / str(turn)
        hear, told = os.pipe()
        with child(put_forever, folder, told):
            os.close(told)
            os.read(hear, 1)
            time.sleep(draw.uniform(0.02, 0.2))
        with os.fdopen(hear) as acknowledged:
            kept = acknowledged.read().splitlines()
        kept = ["k" + kept[0].lstrip("k"), *kept[1:]]  # the first letter was read above
        with Store(folder) as store:
            assert store._cache._sql("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = contents(store)
        assert set(kept) <= set(found)
        for key, value in found.items():
            number, _, text = value.partition(":")
            assert "k" + number == key
            assert len(text) in (10, 100_000)
            assert set(text) == {str(int(number) % 10)}


# claims


def test_a_claim_keeps_out_another_thread_until_it_ends(store):
    order = []

    def wait_for_it():
        with store.claim("key"):
            order.append("second")

    with store.claim("key"):
        thread = threading.Thread(target=wait_for_it)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_claim_keeps_out_another_process_but_not_from_another_key(store):
    with store.claim("key") as held:
        assert held
        assert not ask(free, store.folder, "key")
        assert ask(free, store.folder, "another key")
    assert ask(free, store.folder, "key")


def test_a_second_store_on_the_folder_shares_the_claims_of_the_first(store):
    other = Store(store.folder)
    with store.claim("key"):
        with ThreadPoolExecutor(1) as thread:
            assert not thread.submit(free, store.folder, "key").result()
        other.close()
        del other
        assert not ask(free, store.folder, "key"), "closing one store must not free the claims of another"


def claim_and_sleep(folder, told):
    with Store(folder) as store, store.claim("key"):
        os.write(told, b"!")
        time.sleep(60)


def test_the_claim_of_a_killed_process_is_free_at_once(store):
    hear, told = os.pipe()
    with child(claim_and_sleep, store.folder, told) as holder:
        os.read(hear, 1)
        with store.claim("key", wait=False) as held:
            assert not held
        holder.kill()
        started = time.monotonic()
        with store.claim("key") as held:
            assert held
    assert time.monotonic() - started < 1


def test_a_fork_inside_a_claim_leaves_the_claim_to_the_parent(store):
    def look():
        with store.claim("key", wait=False) as held, store.claim("other") as other:
            return held, other

    with store.claim("key"):
        assert ask(look) == (False, True)
        assert not ask(free, store.folder, "key")


def test_a_fork_while_another_thread_holds_a_claim_can_claim_it_later(store):
    release = threading.Event()
    claimed = threading.Event()

    def hold():
        with store.claim("key"):
            claimed.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    claimed.wait()

    def claim_in_child():
        with store.claim("key") as held:
            assert held

    with child(claim_in_child) as process:
        time.sleep(0.05)
        assert process.is_alive(), "the parent holds the key"
        release.set()
        process.join(5)
        assert process.exitcode == 0
    thread.join()


def test_a_thread_that_claims_what_it_holds_is_told_so_instead_of_waiting_forever(store):
    with store.claim("key"), pytest.raises(StoreError, match="claimed twice by one thread"), store.claim("key"):
        pass


def test_waiting_costs_little_and_says_so_in_the_log(store, monkeypatch, caplog):
    monkeypatch.setattr(claims, "SILENCE_S", 0.2)
    hear, told = os.pipe()
    spent = []

    def wait_for_it():
        before = time.thread_time()
        with store.claim("key"):
            spent.append(time.thread_time() - before)

    with child(claim_and_sleep, store.folder, told) as holder:
        os.read(hear, 1)
        thread = threading.Thread(target=wait_for_it)
        thread.start()
        time.sleep(0.8)
        holder.kill()
        thread.join()
    assert spent[0] < 0.1
    assert "for key 'key', which another thread or process holds" in caplog.text


# compute


def test_a_value_is_made_once_however_many_threads_ask(store):
    made = []

    def make():
        made.append(1)
        time.sleep(0.05)
        return "value"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: store.compute("key", make), range(8)))
    assert len(made) == 1
    assert sorted(answers) == [("value", False)] + 7 * [("value", True)]


def compute_in_child(folder, log):
    def make():
        with log.open("a") as lines:
            lines.write("made\n")
        time.sleep(0.1)
        return "value"

    with Store(folder) as store:
        store.compute("key", make)


def test_a_value_is_made_once_however_many_processes_ask_and_open_the_new_store_at_once(tmp_path):
    log = tmp_path / "log"
    with contextlib.ExitStack() as running:
        asking = [running.enter_context(child(compute_in_child, tmp_path / "store", log)) for _ in range(6)]
        for process in asking:
            process.join(20)
        assert [process.exitcode for process in asking] == [0] * 6
    assert log.read_text() == "made\n"


def test_a_value_that_could_not_be_made_is_tried_again(store):
    with pytest.raises(ZeroDivisionError):
        store.compute("key", lambda: str(1 // 0))
    assert len(store) == 0
    assert store.compute("key", lambda: "value") == ("value", False)


# folders that cannot be used


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match=r"cannot open store .*/runs: .*; a file is in its place; name a folder"):
        Store(tmp_path / "runs")
    with pytest.raises(StoreError, match="a file is in its place"):
        Store(tmp_path / "runs" / "below")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(StoreError, match=r"cannot open store /proc/\d+: .*; "):
        Store("/proc/self")


def test_a_damaged_database_is_named(tmp_path):
    (tmp_path / "cache.db").write_bytes(b"this is no database, but it is long enough to look at" * 100)
    with pytest.raises(StoreError, match=r"not a database; its cache.db is damaged; move the folder away"):
        Store(tmp_path)


def test_a_database_that_breaks_while_in_use_is_named(store):
    for i in range(200):
        store.put(str(i), "x" * 1000)
    store._cache._sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    database = store.folder / "cache.db"
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(database.stat().st_size - 4096))
    with pytest.raises(StoreError, match=r"cache\.db is damaged"):
        contents(store)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_named_keeps_what_was_put_and_works_again_when_there_is_space(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(400_000))
    with Store(small_disk / "store") as store:
        kept = []
        with pytest.raises(StoreError, match=r"disk is full; free space on its disk and run again"):
            fill(store, kept)
        assert 5 < len(kept) < 100
        assert all(store.get(key) for key in kept)
        ballast.unlink()
        store.put("after", "y" * 10_000)
    with Store(small_disk / "store") as again:
        assert sorted(again.keys()) == sorted([*kept, "after"])


def fill_up_to_the_limit(folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
    kept = []
    with Store(folder) as store:
        try:
            fill(store, kept)
        except StoreError as error:
            return kept, str(error)
    return kept, "no error"


def test_a_limit_on_file_size_is_named_and_what_was_put_is_kept(tmp_path):
    kept, error = ask(fill_up_to_the_limit, tmp_path)

    assert "cannot write to store" in error
    assert "limit on the size of files" in error
    with Store(tmp_path) as store:
        assert sorted(store.keys()) == sorted(kept)
        assert kept


# folders that mean harm


class Harm:
    def __reduce__(self):
        return os._exit, (66,)


def forge(store, key, *, raw=1, mode=1, filename=None, value=None):
    """Write a row as an attacker would who hands you a folder."""
    store.close()
    with contextlib.closing(sqlite3.connect(store.folder / "cache.db")) as database, database:
        database.execute(
            "INSERT INTO Cache(key, raw, mode, filename, value) VALUES (?, ?, ?, ?, ?)",
            (key, raw, mode, filename, value),
        )


@pytest.mark.parametrize(("mode", "value"), [(4, pickle.dumps(Harm())), (1, b"bytes"), (1, 7), (2, None), (3, None)])
def test_a_record_that_is_not_plain_text_is_refused_and_runs_nothing(store, mode, value):
    secret = store.folder.parent / "secret"
    secret.write_text("secret")
    forge(store, "key", mode=mode, filename=None if value else "../secret", value=value)

    with pytest.raises(StoreError, match="no plain text"):
        store.get("key")
    store.drop("key")
    assert secret.exists()


def test_a_key_that_is_a_pickle_is_refused_and_runs_nothing(store):
    forge(store, pickle.dumps(Harm()), raw=0, value="text")

    with pytest.raises(StoreError, match="no plain text"):
        list(store.keys())


def set_in_database(store, setting, value):
    store.put("key", "value")
    store.close()
    with contextlib.closing(sqlite3.connect(store.folder / "cache.db")) as database, database:
        database.execute("INSERT INTO Settings VALUES (?, ?)", (setting, value))


@pytest.mark.parametrize("setting", ["_directory", "_disk", "close", "disk_other", "sqlite_x; DROP TABLE Cache; --"])
def test_settings_that_diskcache_would_obey_are_refused(store, setting):
    set_in_database(store, setting, "x")

    with pytest.raises(StoreError, match=r"is not of srec; use another folder"):
        Store(store.folder)
