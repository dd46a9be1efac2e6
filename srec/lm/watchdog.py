"""Run a program, and end it with all its children when it is told to, or when the process that asked for it is gone.

    python -I watchdog.py PARENT_PID PROGRAM [ARGUMENT …]

A process of its own, because whoever dies by `kill -9` can clean up nothing. `PR_SET_PDEATHSIG` would be shorter, but
it fires when the *thread* that started the program ends, does not reach the program's own children (vLLM's engine is
one), and can only be set between fork and exec, which is not safe where other threads run. A pipe whose end means that
the parent is gone stays open in every process that the parent forks. So this asks who its parent is: that is another
one as soon as the first is gone. It leads the process group that the program and its children are in, and ends it
whole, itself included. It imports nothing of srec, so it starts at once under any folder and environment.

vLLM's processes talk by sockets in a folder and leave them there. So it gets a folder of its own, which goes with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SOCKETS = "VLLM_RPC_BASE_PATH"
LONGEST = 48  # bytes of a folder; "/srec-vllm-12345678/" and a UUID come behind it, and a socket's name may have 104
POLL_S = 0.2
PATIENCE_S = 10.0
"""How long the program may take to end by itself."""


def watch(parent: int, command: list[str]) -> None:
    """Run `command` for as long as `parent` lives, then kill this process's group."""
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    if os.getpgrp() != os.getpid():  # else the group of whoever started this would be killed
        os.setsid()
    sockets = folder_of_sockets()
    environment = {SOCKETS: sockets, **os.environ}
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)  # noqa: S603 (this is what it is for)
    while program.poll() is None and not asked_to_stop and os.getppid() == parent:
        time.sleep(POLL_S)
    if program.returncode is not None:
        sys.stderr.write(f"srec: the program ended by itself with exit code {program.returncode}\n")
        sys.stderr.flush()
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while program.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    shutil.rmtree(sockets, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def folder_of_sockets() -> str:
    """A new folder where temporary files go, or in /tmp where that is too deep for a socket."""
    usual = tempfile.gettempdir()
    fits = len(os.fsencode(usual)) <= LONGEST
    return tempfile.mkdtemp(prefix="srec-vllm-", dir=usual if fits else "/tmp")  # noqa: S108 (it is made for this user alone)


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2:])
