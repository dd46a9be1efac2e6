"""Paths that people give."""

from pathlib import Path

import pytest

from srec.errors import InputError
from srec.place import place


def test_home_is_spelled_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert place("~/runs/try") == Path("/home/ann/runs/try")
    assert place(Path("runs")) == Path("runs")


@pytest.mark.parametrize(("given", "words"), [("~nobody-of-this-name/x", "has no home here"), ("a\0b", "holds a NUL")])
def test_what_is_nowhere_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        place(given)
