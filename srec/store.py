"""Results on disk: text by key, written whole or not at all, whatever happens to the process that writes.

A store is a folder with one SQLite database and one file of locks. Any number of threads and processes may use it at
once. Values live in the database's rows, so a value is there exactly when its transaction is, and reading a store can
neither run code nor open a file that the store names.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import diskcache

from srec.claims import claims_of
from srec.errors import StoreError
from srec.place import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATABASE = "cache.db"
TIMEOUT_S = 60  # how long a write waits for those of other processes
OPENING = "the opening of the store"  # claimed while a database is set up; keys are claimed with a prefix

SETTINGS = {
    "eviction_policy": "none",  # a result leaves only when it is dropped
    "cull_limit": 0,
    "size_limit": 2**62,
    "statistics": 0,
    "tag_index": 0,
    "sqlite_journal_mode": "wal",
    "sqlite_synchronous": 1,  # a killed process loses nothing; a power cut may lose the last results, never the store
    "sqlite_mmap_size": 0,  # a mapped file that cannot be read kills the process instead of raising
}

FULL = "free space on its disk and run again: what was finished is kept"
CLOSED = "make the folder writable, or name another"
DAMAGED = f"its {DATABASE} is damaged; move the folder away and run again"
ADVICE = (  # part of the reason in lower case -> what to do
    ("is full", FULL),
    ("no space left", FULL),
    ("locked", f"another process has been writing to it for {TIMEOUT_S} s; run again when it has ended"),
    ("readonly", CLOSED),
    ("read-only", CLOSED),
    ("permission denied", CLOSED),
    ("too many open files", "use fewer workers, or raise the limit of open files (ulimit -n)"),
    ("unable to open", "make the folder writable, or use fewer workers (each holds two open files)"),
    ("file exists", "a file is in its place; name a folder"),
    ("not a directory", "a file is in its place; name a folder"),
    ("not a database", DAMAGED),
    ("malformed", DAMAGED),
    ("disk i/o", "check its disk, and the limit on the size of files"),
)
OTHER_ADVICE = "check the folder and its disk"


class Store:
    """Results in `folder`, which is made if it is missing.

    Use it from any thread and after a fork. Every method raises `StoreError` where the folder cannot be read or
    written. `with Store(folder) as store:` closes it at the end; results are on disk as soon as `put` returns.

    >>> from tempfile import mkdtemp
    >>> with Store(mkdtemp()) as store:
    ...     store.compute("a key", lambda: "a slow answer"), store.compute("a key", lambda: "another")
    (('a slow answer', False), ('a slow answer', True))
    """

    def __init__(self, folder: str | Path) -> None:
        # diskcache expands variables; doing so first keeps both files in one folder
        self.folder = place(os.path.expandvars(folder)).resolve()
        with self._explained("open"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._claims = claims_of(self.folder)
            with self._claims.hold(OPENING):
                self._cache = _open_cache(self.folder)

    def get(self, key: str) -> str | None:
        """The value of `key`; None where there is none."""
        with self._explained("read from"):
            value: str | None = self._cache.get(key)
            return value

    def put(self, key: str, value: str) -> None:
        """Keep `value` under `key`, in the place of what was there."""
        with self._explained("write to"):
            self._cache.set(key, value)

    def drop(self, key: str) -> None:
        """Forget `key`, if it is there."""
        with self._explained("write to"):
            self._cache.delete(key)

    def keys(self) -> Iterator[str]:
        """All keys in their order, those under which `srec.bulk` keeps failures included."""
        with self._explained("read from"):
            yield from self._cache.iterkeys()

    def __len__(self) -> int:
        with self._explained("read from"):
            return len(self._cache)

    def __bool__(self) -> bool:
        return True  # an empty store is one all the same

    @contextmanager
    def claim(self, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold `key` alone among all threads and processes for the length of a `with` block; yields whether it is held.

        Waits until the key is free, and logs a warning every half minute. With `wait=False` it yields False at once
        where the key is taken. The kernel frees the claims of a process that dies. A thread that claims what it holds
        gets a `StoreError`.
        """
        with self._claims.hold(f"key {key!r}", wait=wait) as held:
            yield held

    def compute(self, key: str, make: Callable[[], str]) -> tuple[str, bool]:
        """The value of `key`, made and kept if it is missing, and whether it was there.

        Of all who ask at once one makes it, the others wait for it. Where `make` raises nothing is kept, and the next
        one tries.
        """
        if (kept := self.get(key)) is not None:
            return kept, True
        with self.claim(key):
            if (kept := self.get(key)) is not None:
                return kept, True
            value = make()
            self.put(key, value)
            return value, False

    def close(self) -> None:
        """Close this thread's connection; another thread's closes when that thread ends."""
        with self._explained("close"):
            self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        """Turn what SQLite, diskcache and the system raise into a `StoreError` that says what to do."""
        try:
            yield
        except (sqlite3.Error, diskcache.Timeout, OSError, UnicodeError) as error:
            self._forget_connection()
            reason = _reason(error)
            advice = next((advice for sign, advice in ADVICE if sign in reason.lower()), OTHER_ADVICE)
            raise StoreError(f"cannot {verb} store {self.folder}: {reason}; {advice}") from error

    def _forget_connection(self) -> None:
        """Drop this thread's connection, so that the next call starts afresh, whatever state the failure left it in."""
        if hasattr(self, "_cache"):  # else the error is from opening it
            self._cache.close()


KEEPING: ContextVar[Store | None] = ContextVar("srec_store", default=None)
"""The store of the innermost `srec.keep`, which whoever has something to keep looks for."""


@contextmanager
def opened(store: Store | str | Path) -> Iterator[Store]:
    """`store` itself, or the store in the folder of that name, closed at the end."""
    if isinstance(store, Store):
        yield store
        return
    with Store(store) as own:
        yield own


class _TextDisk(diskcache.Disk):
    """What diskcache writes and reads: text in the row itself. A pickle or the name of a file is refused."""

    def __init__(self, directory: str, **_: Any) -> None:
        super().__init__(directory)

    def put(self, key: str) -> tuple[str, bool]:
        return key, True

    def get(self, key: object, raw: object) -> str:
        return self._text(key, plain=bool(raw))

    def store(self, value: str, read: object, key: object = None) -> tuple[int, int, None, str]:  # noqa: ARG002  diskcache's signature
        return 0, diskcache.core.MODE_RAW, None, value

    def fetch(self, mode: int, filename: object, value: object, read: object) -> str:  # noqa: ARG002  diskcache's signature
        return self._text(value, plain=mode == diskcache.core.MODE_RAW)

    def remove(self, file_path: object) -> None:
        """Nothing: no record of ours has a file, and one that names a file is not ours."""

    def _text(self, value: object, *, plain: bool) -> str:
        if plain and isinstance(value, str):
            return value
        raise StoreError(
            f"store {self._directory} holds a record that is not of srec: no plain text; use another folder"
        )


def _open_cache(folder: Path) -> Any:
    """The diskcache of `folder`, set up where it is new."""
    _refuse_foreign_settings(folder)
    return diskcache.Cache(str(folder), timeout=TIMEOUT_S, disk=_TextDisk, **SETTINGS)


def _refuse_foreign_settings(folder: Path) -> None:
    """Raise where the database has settings unknown to diskcache, which would set them as its own attributes."""
    if not (folder / DATABASE).exists():
        return
    with closing(sqlite3.connect(folder / DATABASE, timeout=TIMEOUT_S)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'Settings'").fetchall():
            return
        found = {key for (key,) in database.execute("SELECT key FROM Settings")}
    if not found <= diskcache.DEFAULT_SETTINGS.keys() | diskcache.core.METADATA.keys():
        raise StoreError(f"cannot open store {folder}: its {DATABASE} is not of srec; use another folder")


def _reason(error: BaseException) -> str:
    """What went wrong first: diskcache hides it under a timeout or under a rollback that fails as well."""
    first, cause = error, error.__context__
    while cause is not None:
        if isinstance(cause, sqlite3.Error):
            first = cause
        cause = cause.__context__
    return (first.strerror if isinstance(first, OSError) else str(first)) or type(first).__name__
