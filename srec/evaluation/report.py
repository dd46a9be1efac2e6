"""The table at the end: metrics with intervals, what chance gets, what failed, what it cost."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from srec.evaluation.metrics import Interval

SHOWN_K = 10
WIDTH = 100  # columns of the plain text, wherever it is printed
LM_HEADS = ("LM calls", "from store", "tokens in", "tokens out")
HEADS = {"ndcg": "NDCG", "recall": "Recall", "mrr": "MRR", "auc": "AUC", "pooled_auc": "pooled AUC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerReport:
    """What one ranker reached and what it took.

    `metrics_untied` leaves out the cases whose target is tied in time; it is empty where none is, or all are.
    `unscored` counts candidates, `unscored_cases` the cases they are in, `reasons` why, each with an example in
    `examples`. `failures` counts what failed on the way (a description, a score), each time anew. `seconds` is the wall
    time in which the ranker was fitted or asked, not that of building cases.
    """

    metrics: Mapping[str, Interval]
    metrics_untied: Mapping[str, Interval]
    unscored: int
    unscored_cases: int
    reasons: Mapping[str, int]
    examples: Mapping[str, str]
    lm_calls: int
    cache_hits: int
    prompt_tokens: int
    output_tokens: int
    truncated: int
    unseen_images: int
    failures: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report:
    """Rankers on the same `n` cases of `users` users.

    `chance` is what a random ranking of the same candidates gets on average. `tied` counts cases whose target shares
    its second with another event, `skipped` users without a case, `intake` what was read of the dataset.
    Prints as text, also at the prompt; a rich console shows the same tables in its own width.
    """

    data: str
    n: int
    users: int
    protocol: str
    task: str
    candidates: str
    model: str
    seed: int
    cases_seed: int
    ks: tuple[int, ...]
    rankers: Mapping[str, RankerReport]
    chance: Mapping[str, float]
    tied: int
    skipped: Mapping[str, int]
    intake: Mapping[str, int]
    seconds: float

    @property
    def shown_k(self) -> int:
        """The rank that the table cuts at: 10 if it was measured, or the last that was."""
        return SHOWN_K if SHOWN_K in self.ks else self.ks[-1]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; what is no number is None."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def notes(self) -> list[str]:
        """What must be known to read the numbers."""
        return list(_notes(self))

    def __rich__(self) -> Group:
        notes = (Text(f"- {note}") for note in self.notes())
        return Group(_title(self), _metrics_table(self), _costs_table(self), *notes)

    def __str__(self) -> str:
        file = io.StringIO()
        Console(file=file, width=WIDTH, color_system=None, force_terminal=False).print(self)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())

    def __repr__(self) -> str:
        return str(self)


def _metrics_table(report: Report) -> Table:
    k = report.shown_k
    shown = [f"ndcg@{k}", f"recall@{k}", f"mrr@{k}", "auc", "pooled_auc"]
    table = _table("ranker", *map(_head, shown))
    for name, row in report.rankers.items():
        table.add_row(Text(name), *(_cell(row.metrics[metric]) for metric in shown))
    table.add_row("chance", *(_number(report.chance[metric]) for metric in shown))
    return table


def _costs_table(report: Report) -> Table:
    """Seconds and what had no score; LM columns where any ranker asked one, or found its answers in the store."""
    asks_lm = any(row.lm_calls or row.cache_hits for row in report.rankers.values())
    table = _table("ranker", "unscored", "seconds", *(LM_HEADS if asks_lm else ()))
    for name, row in report.rankers.items():
        counts = (row.lm_calls, row.cache_hits, row.prompt_tokens, row.output_tokens) if asks_lm else ()
        table.add_row(Text(name), f"{row.unscored:,}", f"{row.seconds:,.1f}", *(f"{count:,}" for count in counts))
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column(first)
    for head in others:
        table.add_column(head, justify="right")
    return table


def _title(report: Report) -> Text:
    users = "" if report.users == report.n else f" of {report.users:,} users"
    asked = f"{report.data}: {report.task}, {report.protocol}, candidates {report.candidates}"
    return Text(f"{asked}, n = {report.n:,} cases{users}" + (f", {report.model}" if report.model else ""))


def _head(metric: str) -> str:
    name, at, k = metric.partition("@")
    return HEADS[name] + at + k


def _cell(interval: Interval) -> Text:
    return Text(f"{_number(interval.value)}\n[{_number(interval.low)} {_number(interval.high)}]")


def _number(value: float) -> str:
    """Three decimals without the leading zero; a dash for what is no number."""
    return "-" if math.isnan(value) else f"{value:.3f}".removeprefix("0")


def _notes(report: Report) -> Iterator[str]:
    yield (
        "Mean over cases [95 % bootstrap interval over users]. Equal scores are averaged over all their orders; "
        "what was not scored ranks last as one tie."
    )
    yield from _notes_on_protocol(report)
    yield from _notes_on_rankers(report.rankers)
    if report.skipped:
        each = ", once for each cut-off" if report.protocol == "global-time" else ""
        yield f"Users without a case{each}: {_listed(report.skipped)}."


def _notes_on_protocol(report: Report) -> Iterator[str]:
    if report.protocol == "leave-last-out":
        yield "Leave-last-out: rankers may be fitted on events of other users that are later than the case."
    kind = report.candidates.partition(":")[0]
    if kind in ("uniform", "popularity"):
        yield (
            "Sampled candidates: the order of two rankers here need not be their order on the full catalogue "
            "(Krichene & Rendle 2020); print it beside candidates 'full', not instead."
        )
    if kind == "retriever":
        yield "A target that the retriever missed is in the metrics as ranked behind everything."
    if report.tied:
        yield f"{report.tied:,} of {report.n:,} cases have a target that is tied in time" + _untied(report)


def _untied(report: Report) -> str:
    """How the rankers do on the other cases, by the table's first metric."""
    metric = f"ndcg@{report.shown_k}"
    rows = [(name, row.metrics_untied) for name, row in report.rankers.items() if row.metrics_untied]
    others = [f"{name} {_number(metrics[metric].value)}" for name, metrics in rows]
    return f"; {_head(metric)} on the others: {', '.join(others)}." if others else "."


def _notes_on_rankers(rankers: Mapping[str, RankerReport]) -> Iterator[str]:
    for name, row in rankers.items():
        if row.unscored:
            yield f"{name}: {row.unscored:,} candidates in {row.unscored_cases:,} cases were not scored: {_told(row)}"
        if row.unseen_images:
            yield f"{name}: the model could not see {row.unseen_images:,} images; it was given their text only."
        if row.failures:
            yield (
                f"{name}: {row.failures:,} results failed; an item whose fusion failed is shown by title and "
                "attributes. Run `srec describe` on the same store to see the reasons."
            )
        if row.truncated:
            yield f"{name}: {row.truncated:,} answers were cut off at the token limit."


def _told(row: RankerReport) -> str:
    return "; ".join(f"{count:,} x {row.examples[kind]}" for kind, count in row.reasons.items())


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.items())


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, Mapping):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
