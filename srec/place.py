"""Where a path that somebody gave points."""

from __future__ import annotations

from pathlib import Path

from srec.errors import InputError


def place(given: str | Path) -> Path:
    """A path with `~` spelled out.

    Raises:
        InputError: no such user has a home, or it holds a NUL, which no path can.
    """
    if "\0" in str(given):
        raise InputError(f"path {str(given)!r} holds a NUL; give one without")
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise InputError(f"path {str(given)!r} begins with a user who has no home here; write it in full") from error
