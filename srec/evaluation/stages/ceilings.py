"""The best that any ranker can do in a toy shop: with everything known, and without one thing."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial

from srec.data.cases import CaseSet, LeakWarning, cases
from srec.data.catalogue import Catalogue, OpenedItem
from srec.data.folder import Dataset
from srec.data.report import IntakeReport
from srec.data.toyshop import toyshop
from srec.data.truth import Missing, Truth
from srec.evaluation.rankers import scored
from srec.evaluation.run import evaluate
from srec.evaluation.stages.figure import Figure
from srec.types import Case, Item, Score

MISSING: tuple[Missing, ...] = ("image", "order", "profile")
CASES = 2_000
SPARE = 1.05  # users generated for a case wanted: a few have none
NEGATIVES = 20


def ceilings(
    *, items: int, users: int, seed: int, count: int = CASES, progress: bool | None = None
) -> dict[str, Figure]:
    """AUC of the truth itself over at least `count` cases: `all`, `no_image`, `no_order`, `no_profile`.

    The shop is that of the seed with as many shoppers as it takes. Who lacks something can at best reach `all`.
    """
    shop = toyshop(items=items, users=max(users, round(count * SPARE)), seed=seed)
    chosen = toy_cases(_without_pictures(shop.data), seed=seed)
    rankers = {"all": oracle(shop.truth), **{f"no_{what}": oracle(shop.truth, without=what) for what in MISSING}}
    report = evaluate(chosen, rankers, seed=seed, workers=1, progress=progress)
    aucs = {name: report.rankers[name].metrics["auc"] for name in rankers}
    best = {name: 1.0 if name == "all" else aucs["all"].value for name in rankers}
    return {name: Figure.of(auc, chance=report.chance["auc"], ceiling=best[name]) for name, auc in aucs.items()}


def oracle(truth: Truth, *, without: Missing | None = None) -> partial[Sequence[Score]]:
    """The ranker that knows the probability of every candidate, or what is left of it without something."""
    return partial(_known, truth, without)


def toy_cases(data: Dataset, *, seed: int) -> CaseSet:
    """One case a user: the last toy among `NEGATIVES` that the user never bought, or half of a small shop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)  # nothing is fitted
        return cases(data, candidates=f"uniform:{min(NEGATIVES, len(data.items) // 2)}", seed=seed)


def _known(truth: Truth, without: Missing | None, case: Case) -> Sequence[Score]:
    return scored(case, truth.probability(case, without))


def _without_pictures(data: Dataset) -> Dataset:
    """The same log over items that are ids alone, so that no picture is drawn."""
    ids = tuple(data.items)
    items = Catalogue(ids, open_item=lambda n: OpenedItem(item=Item(item_id=ids[n])), report=IntakeReport())
    return Dataset(name=data.name, items=items, interactions=data.interactions)
