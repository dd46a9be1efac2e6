"""Whose results came from the store, so that their seconds are not what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FUSION = "fusion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a system took from the store, how often it asked an LM, and what it took by stage, of those that mostly did.

    There are no `stages` where none were counted.
    """

    results: int
    lm_calls: int
    stages: Mapping[str, int]


def stored(rankers: Mapping[str, Any]) -> dict[str, Stored]:
    """The systems that have most results of a stage, or of the whole without stages, from the store."""
    found = {}
    for name, row in rankers.items():
        stages = {stage: spent["cache_hits"] for stage, spent in row["stages"].items() if _is_stored(stage, spent)}
        if stages or (not row["stages"] and _mostly(row)):
            found[name] = Stored(results=row["cache_hits"], lm_calls=row["lm_calls"], stages=stages)
    return found


def _is_stored(stage: str, spent: Mapping[str, Any]) -> bool:
    """Each user reads descriptions that the run itself may have made; it made all if any of them counts as fresh."""
    return _mostly(spent) and not (stage == FUSION and _fresh_units(spent))


def _mostly(spent: Mapping[str, Any]) -> bool:
    return bool(spent["cache_hits"] > spent["lm_calls"])


def _fresh_units(spent: Mapping[str, Any]) -> Any:
    fresh = spent.get("fresh")
    return fresh.get("units") if isinstance(fresh, Mapping) else None
