from srec.parallel import parallel
from srec.stages.calls import Work, about, current_work, is_noting, note, noting
from srec.types import History


def test_work_is_what_the_block_says_and_the_rest_stays():
    history = History(user_id="7")
    assert current_work() == Work()
    with about(history=history, at=5):
        with about(item_id="3"):
            assert current_work() == Work(history=history, at=5, item_id="3")
        assert current_work().item_id == ""
    assert current_work() == Work()


def test_notes_reach_every_open_block_from_worker_threads_too():
    note("nobody listens")
    with noting() as outer:
        note("a")
        with noting() as inner:
            parallel(note, ["b", "c", "d"], workers=3)
        assert is_noting()
    assert not is_noting()
    assert sorted(inner) == ["b", "c", "d"]
    assert sorted(outer) == ["a", "b", "c", "d"]
