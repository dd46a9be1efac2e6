"""From what was handed in to what is asked: baselines fitted, programs reduced to their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from srec.evaluation.rankers import Baseline, Ranker
from srec.recommender import MLLMSRec

if TYPE_CHECKING:
    from srec.data.interactions import Interactions
    from srec.types import Item


def fitted(ranker: Ranker | Baseline, train: Interactions, *, items: Mapping[str, Item], seed: int) -> Ranker:
    """The ranker to ask: a baseline once fitted, the scores of a program's recommendations, or `ranker` itself."""
    if isinstance(ranker, Baseline):
        return ranker.fit(train, items=items, seed=seed)
    if isinstance(ranker, MLLMSRec):
        return lambda case: ranker(case).scores
    return ranker


def members(ranker: Ranker | Baseline) -> Sequence[Ranker | Baseline]:
    """The rankers that a ranker is made of, its own `rankers`; itself where it has none."""
    inner = getattr(ranker, "rankers", None)
    return tuple(inner.values()) if isinstance(inner, Mapping) else (ranker,)


def programs(ranker: Ranker | Baseline) -> list[MLLMSRec]:
    """The programs among the members, whose results are worth keeping."""
    return [member for member in members(ranker) if isinstance(member, MLLMSRec)]


def concurrent(ranker: Ranker | Baseline) -> bool:
    """Whether several threads help: a baseline computes, all others may wait for somebody."""
    return not all(isinstance(member, Baseline) for member in members(ranker))
