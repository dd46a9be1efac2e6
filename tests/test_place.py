"""Paths that people give."""

from pathlib import Path

import pytest

from srec.errors import InputError
from srec.place import place


def test_home_is_spelled_out(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert place("~/runs/try") == Path("/home/ann/runs/try")
    assert place(Path("runs")) == Path("runs")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("~nobody-of-this-name/x", "has no home here"),
        ("a\0b", "holds a NUL"),
        ("a" * 5000, r"^path 'a{200}' cannot be used \(File name too long\); name another$"),
        ("loop/x", r"\(Too many levels of symbolic links\)"),
    ],
)
def test_what_is_nowhere_is_refused(given, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=words):
        place(given)
