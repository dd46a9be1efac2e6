"""What was asked of language models, counted: calls, tokens, results taken from the store, images not seen, failures.

Counting follows the context, so it reaches worker threads that run in a copy of it. `at_stage` says which stage of a
program the counts inside its block belong to, and how many results it made, for what one of them costs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class Fresh:
    """What `units` results of a stage took, of which nothing came from a store: the base of unit costs.

    `alone_s` is as in `StageUsage`.
    """

    units: int = 0
    lm_calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    alone_s: float = 0.0


@dataclass(slots=True)
class Block:
    """What an `at_stage` block makes: `units` results (descriptions, one user's summaries, a profile, scores)."""

    units: int = 0


@dataclass(slots=True)
class StageUsage:
    """Counts of one stage. `seconds` are those that its callers waited, added up where several waited at once.

    `alone_s` are those of them in which nobody else waited, as when all items are described before anybody ranks.
    `fresh` has those of blocks that said how many results they make, and took none of their answers from a store.
    """

    lm_calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    truncated: int = 0
    unseen_images: int = 0
    failures: int = 0
    seconds: float = 0.0
    alone_s: float = 0.0
    fresh: Fresh = field(default_factory=Fresh)


@dataclass(slots=True)
class Usage:
    """Counts within one `count_usage()` block; safe to add to from many threads.

    `stages` has those counts by stage that were made inside an `at_stage` block, in the order of their first.
    """

    lm_calls: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    truncated: int = 0
    unseen_images: int = 0
    failures: int = 0
    stages: dict[str, StageUsage] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, *, stage: str = "", **counts: int) -> None:
        """Add to the counts that are named, and to those of the stage, if one is."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)
            if stage:
                _add(self.stages.setdefault(stage, StageUsage()), counts)

    def spend(self, stage: str, took: Mapping[str, float], fresh: Mapping[str, float]) -> None:
        """Add to the seconds of a stage, and to what its fresh results took."""
        with self._lock:
            known = self.stages.setdefault(stage, StageUsage())
            _add(known, took)
            _add(known.fresh, fresh)


_open: ContextVar[tuple[Usage, ...]] = ContextVar("srec_usage", default=())
_stage: ContextVar[str] = ContextVar("srec_stage", default="")


@contextmanager
def count_usage() -> Iterator[Usage]:
    """Count LM calls, tokens, results from the store, cut answers and failures inside the block.

    Blocks nest, and an outer one counts what an inner one does.
    """
    usage = Usage()
    token = _open.set((*_open.get(), usage))
    try:
        yield usage
    finally:
        _open.reset(token)


@contextmanager
def at_stage(name: str, *, units: int = 0, alone: bool = False) -> Iterator[Block]:
    """Count what happens inside the block, and its seconds, for the stage of this name too.

    `units` is how many results the block makes; one that learns it on the way sets it on what `with` gives it. `alone`
    says that it is the only block that is open meanwhile. What a block inside it is named for is counted there alone.
    """
    token, began, outer, block = _stage.set(name), time.perf_counter(), _open.get(), Block(units)
    try:
        with count_usage() as inside:
            yield block
    finally:
        _stage.reset(token)
        within = sum(usage.seconds for stage, usage in inside.stages.items() if stage != name)
        seconds = max(0.0, time.perf_counter() - began - within)
        took = {"seconds": seconds, "alone_s": seconds if alone else 0.0}
        fresh = _fresh(block, inside.stages.get(name, StageUsage()), took)
        for usage in outer:
            usage.spend(name, took, fresh)


def record(**counts: int) -> None:
    """Add to the named counts of every open block."""
    for usage in _open.get():
        usage.add(stage=_stage.get(), **counts)


def _fresh(block: Block, own: StageUsage, took: Mapping[str, float]) -> dict[str, float]:
    """What a block adds to the fresh results: nothing, if it had answers from a store. What failed was paid for too."""
    if not block.units or own.cache_hits:
        return {}
    counts = ("lm_calls", "prompt_tokens", "output_tokens")
    return {"units": block.units, **took} | {name: getattr(own, name) for name in counts}


def _add(counted: StageUsage | Fresh, counts: Mapping[str, float]) -> None:
    for name, count in counts.items():
        setattr(counted, name, getattr(counted, name) + count)
