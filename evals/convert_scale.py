"""What converting a large dump takes: seconds and the most memory of a process of its own, on a generated dump.

The dump has the shape of Amazon Reviews 2023 or of MovieLens: users and items drawn from long tails, ids as long as the
real ones, one row in a thousand broken and one in a thousand a repeat. The child process only converts; its peak memory
is what the kernel says of it (VmHWM; what `getrusage` says begins with the memory of the parent).

    python evals/convert_scale.py [--kind amazon-2023] [--interactions 10000000] [--min-events 5] [--json OUT]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 200_000
FIRST_MS, SPAN_MS = 1_300_000_000_000, 390_000_000_000
TAIL = 1.5  # the higher, the longer the tails
TEXT = "It came on time and does what it should. " * 4
PEAK = """
import re
from pathlib import Path
import srec.data.convert
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
"""
CONVERT = f"""{PEAK}
import json, resource, sys, time
from srec.data.convert import convert
began = time.perf_counter()
made = convert(sys.argv[1], sys.argv[2], sys.argv[3], min_events=int(sys.argv[4]), progress=False)
used = resource.getrusage(resource.RUSAGE_SELF)
seconds, cpu_s = time.perf_counter() - began, used.ru_utime + used.ru_stime
took = {{"seconds": seconds, "cpu_s": cpu_s, "peak_mib": peak()}}
print(json.dumps({{**took, "told": str(made), **made.to_object()}}))
"""
PLAIN = f"{PEAK}print(peak())"

Rows = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


def main() -> None:
    given = _options()
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        told = measure(
            given.kind, Path(scratch), interactions=given.interactions, min_events=given.min_events, seed=given.seed
        )
    print(told.pop("told"))
    print(
        f"\n{told['interactions']:,} interactions, {told['dump_mib']:,.0f} MiB: {told['seconds']:.0f} s, "
        f"{told['cpu_s']:.0f} s of a processor, at most "
        f"{told['peak_mib']:,.0f} MiB of memory ({told['imports_mib']:,.0f} of them for the imports), "
        f"{told['interactions'] / told['seconds']:,.0f} rows/s"
    )
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n")


def measure(kind: str, scratch: Path, *, interactions: int, min_events: int, seed: int) -> dict[str, Any]:
    """Generate a dump, convert it in a process of its own, and say what that took."""
    source = scratch / "dump"
    source.mkdir()
    # In a process of its own as well: on Linux a new process begins with the peak of the one that starts it.
    generate = [sys.executable, __file__, "--kind", kind, "--interactions", str(interactions), "--seed", str(seed)]
    subprocess.run([*generate, "--only-generate", str(source)], check=True)
    child = [sys.executable, "-c", CONVERT, kind, str(source), str(scratch / "out"), str(min_events)]
    done = subprocess.run(child, capture_output=True, text=True, check=True)
    plain = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=True)
    return {
        **json.loads(done.stdout),
        "interactions": interactions,
        "min_events": min_events,
        "seed": seed,
        "dump_mib": sum(path.stat().st_size for path in source.iterdir()) / 2**20,
        "imports_mib": float(plain.stdout),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
    }


def drawn(interactions: int, *, users: int, items: int, seed: int) -> Rows:
    """Users, items, milliseconds and ratings, block by block; one row in a thousand repeats the one before."""
    rng = np.random.default_rng(seed)
    for start in range(0, interactions, BLOCK):
        count = min(BLOCK, interactions - start)
        user = (users * rng.random(count) ** TAIL).astype(np.int64)
        item = (items * rng.random(count) ** TAIL).astype(np.int64)
        at = FIRST_MS + (SPAN_MS * rng.random(count)).astype(np.int64)
        rating = rng.integers(1, 6, count)
        again = np.flatnonzero(rng.random(count - 1) < 0.001) + 1 if count > 1 else np.empty(0, np.int64)  # noqa: PLR2004
        for column in (user, item, at, rating):
            column[again] = column[again - 1]
        yield user, item, at, rating


def amazon_2023(source: Path, interactions: int, seed: int) -> None:
    """`Toys.jsonl` and `meta_Toys.jsonl` with the fields that the published files have."""
    users, items = max(5, interactions // 9), max(5, interactions // 50)
    with (source / "meta_Toys.jsonl").open("w") as file:
        for n in range(items):
            url = f"https://m.media-amazon.com/images/I/{n}"
            sizes = {"thumb": f"{url}._US40_.jpg", "large": f"{url}._AC_.jpg", "variant": "MAIN", "hi_res": None}
            meta = {
                "main_category": "Toys & Games",
                "title": f"Toy number {n} for everyone from 3 years on",
                "average_rating": 4.5,
                "rating_number": 12,
                "features": ["Soft", "Washable"],
                "description": [TEXT],
                "price": 9.99,
                "images": [sizes],
                "videos": [],
                "store": f"Maker {n % 500}",
                "categories": ["Toys & Games", "Puzzles"],
                "details": {"Item Weight": "2 ounces"},
                "parent_asin": _asin(n),
                "bought_together": None,
            }
            file.write(json.dumps(meta) + "\n")
    with (source / "Toys.jsonl").open("w") as file:
        row = (
            '{{"rating": {3}.0, "title": "Good", "text": "' + TEXT + '", "images": [], "asin": "{1}", '
            '"parent_asin": "{1}", "user_id": "{0}", "timestamp": {2}, "helpful_vote": 0, "verified_purchase": true}}\n'
        )
        _write(file.write, row, drawn(interactions, users=users, items=items, seed=seed), user=_user, item=_asin)


def movielens(source: Path, interactions: int, seed: int) -> None:
    """`ratings.csv` and `movies.csv` as MovieLens has had them since 2015."""
    users, items = max(5, interactions // 160), max(5, interactions // 365)
    with (source / "movies.csv").open("w") as file:
        file.write("movieId,title,genres\n")
        file.writelines(f'{n},"Film {n}, The (1999)",Comedy|Drama\n' for n in range(items))
    with (source / "ratings.csv").open("w") as file:
        file.write("userId,movieId,rating,timestamp\n")
        blocks = drawn(interactions, users=users, items=items, seed=seed)
        rows = ((user, item, at // 1000, rating) for user, item, at, rating in blocks)
        _write(file.write, "{0},{1},{3}.0,{2}\n", rows, user=str, item=str)


def _write(
    write: Callable[[str], Any], row: str, blocks: Rows, *, user: Callable[[int], str], item: Callable[[int], str]
) -> None:
    number = 0
    for users, items, times, ratings in blocks:
        lines = []
        for u, i, at, rating in zip(users.tolist(), items.tolist(), times.tolist(), ratings.tolist(), strict=True):
            number += 1
            lines.append(row.format(user(u), item(i), "soon" if number % 1000 == 0 else at, rating))
        write("".join(lines))


def _asin(n: int) -> str:
    return f"B{n:09d}"


def _user(n: int) -> str:
    return f"AE{n * 2654435761 % 2**64:026d}"


GENERATORS = {"amazon-2023": amazon_2023, "movielens": movielens}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=sorted(GENERATORS), default="amazon-2023")
    parser.add_argument("--interactions", type=int, default=10_000_000)
    parser.add_argument("--min-events", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="where the dump is written for as long as this takes")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only-generate", type=Path, help=argparse.SUPPRESS)  # what a new process does
    given = parser.parse_args()
    if given.only_generate:
        GENERATORS[given.kind](given.only_generate, given.interactions, given.seed)
        raise SystemExit
    return given


if __name__ == "__main__":
    main()
