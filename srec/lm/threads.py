"""How torch's threads wait, which has to be said before torch is loaded."""

from __future__ import annotations

import os
import sys


def wait_calmly() -> None:
    """Let OpenMP threads sleep while they wait; does nothing where torch is loaded already, or the user has chosen.

    Threads that spin make two of them ten times slower than one on a busy machine.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault("GOMP_SPINCOUNT", "0")
