"""The same evaluation under several seeds: how much of a figure is the draw.

A seed draws the negatives, the users where not all take part, and the ranker `random`. The spread over seeds is no
interval over users: it says nothing of other users, and a table shows both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from srec.errors import InputError
from srec.evaluation.report import Report
from srec.evaluation.run import evaluate
from srec.evaluation.tables import head, number, plain, table

if TYPE_CHECKING:
    from srec.data.cases import CaseSet
    from srec.evaluation.named import Rankers


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A metric over `n` seeds: mean, standard deviation (NaN of one seed), least and most."""

    mean: float
    deviation: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SeedReport:
    """One report for each seed; `print` shows each, and below them mean and standard deviation of every metric."""

    reports: Mapping[int, Report]

    @property
    def spreads(self) -> dict[str, dict[str, Spread]]:
        """By ranker and metric."""
        first = next(iter(self.reports.values()))
        return {
            ranker: {
                metric: _spread([report.rankers[ranker].metrics[metric].value for report in self.reports.values()])
                for metric in row.metrics
            }
            for ranker, row in first.rankers.items()
        }

    def __rich__(self) -> Group:
        return Group(*self.reports.values(), self.table)

    @property
    def table(self) -> Table:
        """Mean and standard deviation over the seeds, for the metrics that a report shows."""
        first = next(iter(self.reports.values()))
        metrics = [f"ndcg@{first.shown_k}", f"recall@{first.shown_k}", f"mrr@{first.shown_k}", "auc", "pooled_auc"]
        title = f"Mean and standard deviation over the seeds {', '.join(map(str, self.reports))}"
        shown = table("ranker", *map(head, metrics), title=title)
        for ranker, spreads in self.spreads.items():
            cells = (f"{number(spreads[metric].mean)} ± {number(spreads[metric].deviation)}" for metric in metrics)
            shown.add_row(Text(ranker), *cells)
        return shown

    def __str__(self) -> str:
        return plain(self)

    def __repr__(self) -> str:
        return str(self)

    def to_dict(self, *, per_case: bool = True) -> dict[str, Any]:
        """Spreads by ranker and metric, and every report, as plain values."""
        spreads = {
            ranker: {metric: _plain(spread) for metric, spread in row.items()} for ranker, row in self.spreads.items()
        }
        reports = {str(seed): report.to_dict(per_case=per_case) for seed, report in self.reports.items()}
        return {"seeds": list(self.reports), "spreads": spreads, "reports": reports}


def evaluate_seeds(
    make_cases: Callable[[int], CaseSet], rankers: Rankers, *, seeds: Iterable[int], **options: Any
) -> SeedReport:
    """`evaluate` once for each seed, on the cases that `make_cases` makes of it; `options` are those of `evaluate`.

    With a `runs_folder` or `out`, what each of several seeds gives lies there in a folder `seed-N` of its own.

    >>> evaluate_seeds(lambda seed: cases(data, seed=seed), ["markov"], seeds=range(3))  # doctest: +SKIP
    """
    wanted = list(dict.fromkeys(seeds))
    if not wanted:
        raise InputError("no seed is given; give at least one")
    folders = {name: options.pop(name) for name in ("runs_folder", "out") if options.get(name) is not None}
    reports = {}
    for seed in wanted:
        own: dict[str, Any] = {
            name: place if len(wanted) == 1 else Path(place) / f"seed-{seed}" for name, place in folders.items()
        }
        reports[seed] = evaluate(make_cases(seed), rankers, seed=seed, **options, **own)
    return SeedReport(reports=reports)


def _spread(values: list[float]) -> Spread:
    deviation = stdev(values) if len(values) > 1 else math.nan
    return Spread(mean=fmean(values), deviation=deviation, low=min(values), high=max(values), n=len(values))


def _plain(spread: Spread) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in asdict(spread).items()
    }
