"""What is known of a case before anybody ranks it: the grounds on which cases are told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from srec.data.candidates import popularity_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from srec.data.candidates import Spec
    from srec.data.cases import CaseSet
    from srec.data.splits import Fold

HEAD_SHARE = 0.2  # of the items that have training events


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """One case as numbers.

    `gap_s` are the seconds from the user's last event before the case to the first event with a target. `events` and
    `head` speak of the training events of the fold: how many the median target has, and whether that is as many as the
    items of the head have, the most popular fifth. `with_image` is the share of targets with a picture in [0, 1].
    """

    case_id: str
    user_id: str
    at: int
    fold: str
    target_ids: tuple[str, ...]
    tied: bool
    history: int
    gap_s: int
    events: float
    head: bool
    with_image: float


def facts_of(cases: CaseSet) -> Iterator[CaseFacts]:
    """The facts of each case, in the order of the cases."""
    for fold in cases.folds:
        counts = popularity_weights(fold.train)
        least = _head_from(counts)
        for spec in fold.specs:
            yield _facts(cases, fold, spec, counts=counts, least=least)


def _facts(cases: CaseSet, fold: Fold, spec: Spec, *, counts: NDArray[np.float64], least: float) -> CaseFacts:
    log = cases.pool.log
    targets = np.array(spec.targets)
    after = slice(spec.wall, spec.stop)
    wanted = log.at[after][np.isin(log.item[after], targets)]
    events = float(np.median(counts[targets]))
    target_ids = cases.pool.ids(spec.targets)
    pictures = [cases.items[item_id].image is not None for item_id in target_ids]
    return CaseFacts(
        case_id=spec.case_id,
        user_id=spec.user_id,
        at=spec.at,
        fold=fold.name,
        target_ids=target_ids,
        tied=spec.tied,
        history=spec.wall - spec.start,
        gap_s=int(wanted.min() - log.at[spec.wall - 1]),
        events=events,
        head=events >= least,
        with_image=sum(pictures) / len(pictures),
    )


def _head_from(counts: NDArray[np.float64]) -> float:
    """How many events the last item of the head has; infinite where no item has any."""
    some = np.sort(counts[counts > 0])[::-1]
    return float(some[int(np.ceil(HEAD_SHARE * len(some))) - 1]) if len(some) else np.inf
