"""One case as a ranker left it: where the targets came, and what stands in front."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srec.types import Ranking, Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from srec.evaluation.metrics import Labelled

WHOLE = 200  # candidates up to which all scores of a case are kept
FIRST = 20  # that are kept of more


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """Metrics of one case by name, and its candidates, best first, equal scores by item id.

    All candidates are kept where there are at most 200, else the first 20. `values` float64[kept] is NaN where there
    is no score. `ranks` has one entry for each target, in the order of their ids: the mean over all orders of what is
    tied, counted from 1; NaN for a target that was no candidate.
    """

    case_id: str
    metrics: Mapping[str, float]
    ranks: tuple[float, ...]
    item_ids: tuple[str, ...] = field(repr=False)
    values: NDArray[np.float64] = field(repr=False)
    candidates: int

    @property
    def ranking(self) -> Ranking:
        """The kept candidates with their scores."""
        pairs = zip(self.item_ids, self.values.tolist(), strict=True)
        scores = tuple(Score(item_id=i, value=None if math.isnan(value) else value) for i, value in pairs)
        return Ranking(user_id=self.case_id.rpartition("@")[0], scores=scores)

    def to_dict(self) -> dict[str, Any]:
        """The case as plain values; what is no number is None."""
        return {
            "case_id": self.case_id,
            "metrics": {name: _number(value) for name, value in self.metrics.items()},
            "ranks": [_number(rank) for rank in self.ranks],
            "candidates": self.candidates,
            "item_ids": list(self.item_ids),
            "scores": [_number(value) for value in self.values.tolist()],
        }


def ranked(
    case_id: str,
    item_ids: Sequence[str],
    labelled: Labelled,
    *,
    target_ids: Sequence[str],
    metrics: Mapping[str, float],
) -> Ranked:
    """A ranked case from its labelled scores; `item_ids` [candidates] are in the order of the item ids."""
    values = labelled.values
    count = len(values)
    order = np.argsort(-values, kind="stable")[: count if count <= WHOLE else FIRST]
    rank = {item_ids[place]: _rank(values, place) for place in np.flatnonzero(labelled.wanted).tolist()}
    kept = values[order]
    return Ranked(
        case_id=case_id,
        metrics=metrics,
        ranks=tuple(rank.get(target_id, math.nan) for target_id in target_ids),
        item_ids=tuple(item_ids[place] for place in order.tolist()),
        values=np.where(np.isinf(kept), math.nan, kept),
        candidates=count,
    )


def _rank(values: NDArray[np.float64], place: int) -> float:
    """Mean rank of one candidate over all orders of those that tie with it."""
    above, same = int((values > values[place]).sum()), int((values == values[place]).sum())
    return above + (same + 1) / 2


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
