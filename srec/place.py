"""Where a path that somebody gave points."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from srec.errors import InputError

MOST_SHOWN = 200


def place(given: str | Path) -> Path:
    """A path with `~` spelled out.

    Raises:
        InputError: no such user has a home, it holds a NUL, or the system cannot say whether anything is there: a name
            is too long, links lead in a circle, a folder on the way may not be entered.
    """
    if "\0" in str(given):
        raise InputError(f"path {str(given)!r} holds a NUL; give one without")
    try:
        path = Path(given).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            os.stat(path)  # noqa: PTH116  Path.exists says of links in a circle that nothing is there
    except RuntimeError as error:
        raise InputError(f"path {str(given)!r} begins with a user who has no home here; write it in full") from error
    except OSError as error:
        raise InputError(f"path {str(given)[:MOST_SHOWN]!r} cannot be used ({error.strerror}); name another") from error
    return path
