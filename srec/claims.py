"""Who works on what: names held alone among the threads and processes that share a folder."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING

from srec.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

LOCKS = "claims.lock"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.25  # between two looks at a claim that another process holds
SILENCE_S = 30.0  # how long a wait stays without a word in the log


class Claims:
    """The claims of this process in one folder: bytes of one file, locked as long as they are held.

    The kernel locks bytes for a process and frees them when it dies, but also when it closes any descriptor of the
    file. So a process opens the file once and never closes it, and a table keeps its threads apart.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._start()
        os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        """Hold nothing, as a process does after a fork: locks stay with the parent."""
        self._holders: dict[int, int] = {}  # byte -> thread
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold `name` in a `with` block; yields False where it is taken and `wait` is False."""
        byte = int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:7])
        held = self._take(byte, name, wait=wait)
        try:
            yield held
        finally:
            if held:
                self._release(byte)

    def _take(self, byte: int, name: str, *, wait: bool) -> bool:
        pause_s, since = FIRST_PAUSE_S, time.monotonic()
        silent_since = since
        with self._changed:
            while not self._try(byte, name):
                if not wait:
                    return False
                self._changed.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                if (now := time.monotonic()) - silent_since >= SILENCE_S:
                    silent_since = now
                    logger.warning(
                        "waiting since %.0f s for %s, which another thread or process holds in %s",
                        now - since,
                        name,
                        self._path,
                    )
        return True

    def _try(self, byte: int, name: str) -> bool:
        thread = threading.get_ident()
        if (holder := self._holders.get(byte)) is not None:
            if holder == thread:
                raise StoreError(f"{name} is claimed twice by one thread, which would wait for itself; claim it once")
            return False
        try:
            # never waiting in the kernel: it knows nothing of the table above, and its search for deadlocks takes all
            # threads of a process for one
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            raise StoreError(f"cannot lock {self._path}: {error.strerror}; use a file system with locks") from error
        self._holders[byte] = thread
        return True

    def _release(self, byte: int) -> None:
        with self._changed:
            if self._holders.pop(byte, None) is not None:  # else forked inside the block: the parent holds it
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, byte)
                self._changed.notify_all()


_known: dict[tuple[int, int], Claims] = {}  # (device, inode) of a file of locks -> its only descriptor here
_guard = threading.Lock()
os.register_at_fork(  # no child starts with the guard taken by a thread that it does not have
    before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release
)


def claims_of(folder: Path) -> Claims:
    """The claims of `folder`, shared by all stores that this process has opened there."""
    path = folder / LOCKS
    with _guard:
        if path.exists():  # looked at without opening: closing a second descriptor would free all claims
            status = path.stat()
            if known := _known.get((status.st_dev, status.st_ino)):
                return known
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        status = os.fstat(descriptor)
        return _known.setdefault((status.st_dev, status.st_ino), Claims(path, descriptor))
