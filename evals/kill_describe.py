"""What `kill -9` costs: `srec describe` is killed at random moments, then run to the end, and its requests counted.

A chat server of this script answers, so that every request is counted. The items have no pictures, so that one request
is one item. Then the same on a fresh store with two processes at once.

    python evals/kill_describe.py [--items 300] [--kills 5] [--workers 8] [--seed 0] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from canned_server import CannedServer, serving
from rich.console import Console
from rich.table import Table

import srec
from srec.data.folder import write

SREC = (sys.executable, "-c", "from srec.cli import main; main()")
DELAY_S = 0.05
POLL_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one scenario left; `repeated` counts requests whose prompt came before, `allowed` is its bound."""

    scenario: str
    results: int
    failures: int
    requests: int
    repeated: int
    exit_codes: tuple[int, ...]
    wanted: int
    allowed: int
    killed_after: tuple[int, ...] = ()

    @property
    def kept_bounds(self) -> bool:
        """Whether every item has a result, nothing failed, and no more came again than may."""
        whole = self.results == self.wanted and self.failures == 0 and not any(self.exit_codes)
        return whole and self.repeated <= self.allowed


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--items", type=int, default=300)
    options.add_argument("--kills", type=int, default=5)
    options.add_argument("--workers", type=int, default=8)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path, help="also write the numbers to this file")
    given = options.parse_args()
    with TemporaryDirectory(prefix="srec-kill-") as aside:
        shop = Path(aside) / "shop"
        write_shop(shop, items=given.items)
        chance = random.Random(given.seed)  # noqa: S311  no secret
        moments = {
            after: chance.uniform(0, DELAY_S) for after in sorted(chance.sample(range(given.items), given.kills))
        }
        outcomes = [
            killed(shop, Path(aside) / "killed", moments, items=given.items, workers=given.workers),
            together(shop, Path(aside) / "together", items=given.items, workers=given.workers),
        ]
    Console(width=110).print(table(outcomes))
    if given.json:
        given.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=2) + "\n", "utf-8")
    sys.exit(0 if all(one.kept_bounds for one in outcomes) else 1)


def write_shop(folder: Path, *, items: int) -> None:
    """A toy shop whose items all read differently, without pictures."""
    data = srec.toyshop(items=items, users=2, seed=0).data
    toys = [replace(item, title=f"{item.title} {item.item_id}", image=None) for item in data.items.values()]
    write(folder, toys, [("someone", toys[0].item_id, 1, None), ("someone", toys[1].item_id, 2, None)])


def killed(shop: Path, store: Path, moments: dict[int, float], *, items: int, workers: int) -> Outcome:
    """Kill a run so many seconds after the server saw so many items, for each of these, then run to the end."""
    with serving(delay_s=DELAY_S) as server:
        for moment, later_s in moments.items():
            run = describe(shop, store, server, workers=workers)
            while len(server.prompts) < moment and run.poll() is None:
                time.sleep(POLL_S)
            time.sleep(later_s)
            if run.poll() is not None:
                sys.exit(f"the run to be killed after {moment} items had ended by itself, with code {run.returncode}")
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        codes = (describe(shop, store, server, workers=workers).wait(),)
        name, allowed = f"killed {len(moments)} times", workers * len(moments)
        return outcome(name, store, server, codes, wanted=items, allowed=allowed, killed_after=tuple(moments))


def together(shop: Path, store: Path, *, items: int, workers: int) -> Outcome:
    """Two runs at once on one store."""
    with serving(delay_s=DELAY_S) as server:
        runs = [describe(shop, store, server, workers=workers) for _ in range(2)]
        codes = tuple(run.wait() for run in runs)
        return outcome("two at once", store, server, codes, wanted=items, allowed=0)


def describe(shop: Path, store: Path, server: CannedServer, *, workers: int) -> subprocess.Popen[bytes]:
    """Start the command line in a process group of its own."""
    asked = ("describe", str(shop), "--model", server.model, "--store", str(store), "--workers", str(workers))
    return subprocess.Popen((*SREC, *asked), stdout=subprocess.DEVNULL, start_new_session=True)


def outcome(scenario: str, store: Path, server: CannedServer, codes: tuple[int, ...], **told: Any) -> Outcome:
    """Count what is in the store and what was asked for it."""
    with srec.Store(store) as kept:
        keys = list(kept.keys())
    failures = sum(key.startswith(srec.bulk.FAILED) for key in keys)
    return Outcome(
        scenario=scenario,
        results=len(keys) - failures,
        failures=failures,
        requests=server.total,
        repeated=server.repeated,
        exit_codes=codes,
        **told,
    )


def table(outcomes: list[Outcome]) -> Table:
    heads = ("scenario", "killed after items", "results", "failures", "requests", "repeated", "allowed")
    shown = Table(*heads)
    for one in outcomes:
        after = ", ".join(map(str, one.killed_after)) or "-"
        numbers = (one.failures, one.requests, one.repeated, one.allowed)
        shown.add_row(one.scenario, after, f"{one.results} of {one.wanted}", *map(str, numbers))
    return shown


if __name__ == "__main__":
    main()
