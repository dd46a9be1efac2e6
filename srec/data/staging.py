"""A folder that is written whole or not at all, by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from srec.errors import DatasetError


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place once the block ends; nothing is left of it otherwise.

    DatasetError where another conversion is writing it.
    """
    if folder.is_dir() and any(folder.iterdir()):
        holds = "already holds a dataset" if any(folder.glob("items.*")) else "is not empty"
        raise DatasetError(f"{folder} {holds}; name an empty folder")
    target = folder.resolve()
    staged = target.with_name(f".{target.name}.converting")
    try:
        with _claimed(staged, folder):
            try:
                _clear(staged)  # of a conversion that was killed
                yield staged
                staged.replace(target)
            except BaseException:
                shutil.rmtree(staged, ignore_errors=True)
                raise
    except OSError as error:
        raise DatasetError(
            f"{error.filename or folder} cannot be read or written: {error.strerror}; make room or give the right to"
        ) from error


@contextmanager
def _claimed(staged: Path, folder: Path) -> Iterator[None]:
    """Make the folder `staged`, and keep other conversions out of it for as long as the block lasts."""
    staged.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(staged, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot lock a folder
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(
                    f"another conversion is writing {folder}; wait for it, or name another folder"
                ) from None
        yield
    finally:
        os.close(descriptor)  # which gives it free, as the end of the process does


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
