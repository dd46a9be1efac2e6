"""Each text is encoded once, in the store or in the process, whatever happens on the way."""

import numpy as np
import pytest

import srec
from srec.data import embedding
from srec.data.embedding import Encoder
from srec.lm.checkpoint import Checkpoint
from srec.lm.sentence import Recipe

RECIPES = {
    name: Recipe(checkpoint=Checkpoint(name=name, folder=None, digest=name * 64), pooling="mean", max_tokens=None)
    for name in "ab"
}


class Counting:
    """An encoder that remembers what it was asked, and can die after some texts."""

    def __init__(self):
        self.asked, self.lives = [], 99

    def batches(self, texts):
        for place, text in enumerate(texts):
            if self.lives == 0:
                raise KeyboardInterrupt
            self.lives -= 1
            self.asked.append(text)
            yield [place], np.array([[len(text), 1 / 3]], dtype=np.float32)


@pytest.fixture
def counting(monkeypatch):
    encoder = Counting()
    monkeypatch.setattr(embedding, "_encoder", lambda recipe: encoder)
    monkeypatch.setattr(embedding, "obtain_encoder", RECIPES.__getitem__)
    embedding._memory.cache_clear()
    yield encoder
    embedding._memory.cache_clear()


def test_a_text_is_encoded_once_and_stands_wherever_it_was_asked_for(counting):
    first = Encoder(name="a")(["x", "yy", "x"])
    assert first.tolist() == [[1, np.float32(1 / 3)], [2, np.float32(1 / 3)], [1, np.float32(1 / 3)]]
    again = Encoder(name="a")(["yy", "zzz"])
    assert counting.asked == ["x", "yy", "zzz"]
    assert again[:, 0].tolist() == [2, 3]
    assert (again[0] == first[1]).all()


def test_an_open_store_keeps_vectors_for_later_processes(counting, tmp_path):
    with srec.keep(tmp_path / "store"):
        first = Encoder(name="a")(["x", "yy"])
    embedding._memory.cache_clear()
    with srec.keep(tmp_path / "store") as store:
        assert (Encoder(name="a")(["x", "yy"]) == first).all()
        assert counting.asked == ["x", "yy"]
        assert len(store) == 2
        Encoder(name="b")(["x"])
        assert counting.asked == ["x", "yy", "x"]


def test_what_was_encoded_before_a_kill_is_kept(counting, tmp_path):
    counting.lives = 2
    with pytest.raises(KeyboardInterrupt), srec.keep(tmp_path / "store"):
        Encoder(name="a")(["x", "yy", "zzz"])
    counting.lives = 9
    with srec.keep(tmp_path / "store"):
        Encoder(name="a")(["x", "yy", "zzz"])
    assert counting.asked == ["x", "yy", "zzz"]


def test_what_is_kept_needs_no_weights(counting, tmp_path, monkeypatch):
    with srec.keep(tmp_path / "store"):
        Encoder(name="a")(["x"])
        monkeypatch.setattr(embedding, "_encoder", lambda recipe: pytest.fail("loaded for nothing"))
        Encoder(name="a")(["x"])
