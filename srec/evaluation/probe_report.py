"""What probes did to the metric and to the scores, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from srec.evaluation.paired import Difference, shown_p
from srec.evaluation.report import jsonable
from srec.evaluation.tables import cell, head, number, plain, table

if TYPE_CHECKING:
    from srec.evaluation.metrics import Interval

PLAIN = "plain"  # nothing is changed


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRow:
    """One probe: `what` it changes, the metric's `value` under it, and its `difference` from the plain run, paired.

    `score_change` is the mean absolute change of a single score, `tau` Kendall's rank correlation of the scores with
    those of the plain run, both a mean over cases (`srec.evaluation.shift.Shift`). Where the probe is about one
    candidate, `subject_score` and `subject_rank` are the paired differences of that one's score and rank; a rank counts
    from 1, so less is better. `unscored` counts candidates, `reasons` why, each with one of `examples`.
    """

    what: str
    value: Interval
    difference: Difference
    score_change: Interval
    tau: Interval
    subject_score: Difference | None
    subject_rank: Difference | None
    unscored: int
    reasons: Mapping[str, int]
    examples: Mapping[str, str]
    lm_calls: int
    cache_hits: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProbeReport:
    """Probes of one program on the same `n` cases of `users` users; `plain` is the metric with nothing changed.

    `chance` is what a random ranking gets on average. `not_applicable` says why of each probe that was asked for and
    not run. Prints as text, also at the prompt; a rich console shows the same table in its own width.
    """

    data: str
    n: int
    users: int
    protocol: str
    task: str
    candidates: str
    model: str
    metric: str
    seed: int
    cases_seed: int
    chance: float
    plain: Interval
    plain_unscored: int
    probes: Mapping[str, ProbeRow]
    not_applicable: Mapping[str, str]
    seconds: float

    @property
    def unscored(self) -> int:
        """Candidates without a score, in the plain run and under all probes."""
        return self.plain_unscored + sum(row.unscored for row in self.probes.values())

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values; what is no number is None."""
        return {one.name: jsonable(getattr(self, one.name)) for one in fields(self)}

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def notes(self) -> list[str]:
        """What must be known to read the numbers."""
        return list(_notes(self))

    def __rich__(self) -> Group:
        return Group(_title(self), _table(self), *(Text(f"- {note}") for note in self.notes()))

    def __str__(self) -> str:
        return plain(self)

    def __repr__(self) -> str:
        return str(self)


def _title(report: ProbeReport) -> Text:
    users = "" if report.users == report.n else f" of {report.users:,} users"
    asked = f"Probes on {report.data}: {report.task}, {report.protocol}, candidates {report.candidates}"
    return Text(f"{asked}, n = {report.n:,} cases{users}" + (f", {report.model}" if report.model else ""))


def _table(report: ProbeReport) -> Table:
    metric = head(report.metric)
    shown = table("probe", metric, f"change of {metric}", "p (Holm)", "change of a score", "tau", "unscored")
    shown.add_row(PLAIN, cell(report.plain), "", "", "", "", f"{report.plain_unscored:,}")
    for name, row in report.probes.items():
        values = cell(row.value), _signed(row.difference), shown_p(row.difference.p_holm)
        shown.add_row(Text(name), *values, cell(row.score_change), cell(row.tau), f"{row.unscored:,}")
    shown.add_row("chance", number(report.chance), "", "", "", "", "")
    return shown


def _signed(gain: Difference) -> Text:
    """A difference with its sign, and below it its interval."""
    sign = "+" if number(gain.value) != number(0.0) and gain.value > 0 else ""
    return Text(f"{sign}{number(gain.value)}\n[{number(gain.low)} {number(gain.high)}]")


def _notes(report: ProbeReport) -> Iterator[str]:
    yield (
        "Mean over cases [95 % bootstrap interval over users]. Changes are paired, probe less plain; p is that of "
        "Fisher's randomization test, corrected for the number of probes."
    )
    yield (
        "Change of a score: mean absolute change of a candidate's score. tau: Kendall's rank correlation of the scores "
        "with the plain ones; cases whose scores are all equal are left out."
    )
    for name, row in report.probes.items():
        yield f"{name}: {row.what}." + _of_subject(row)
        if row.unscored:
            told = "; ".join(f"{count:,} x {row.examples[kind]}" for kind, count in row.reasons.items())
            yield f"{name}: {row.unscored:,} candidates were not scored: {told}"
    for name, why in report.not_applicable.items():
        yield f"{name} does not apply: {why}."


def _of_subject(row: ProbeRow) -> str:
    """What became of the one candidate that a probe is about."""
    found = ((row.subject_score, "score"), (row.subject_rank, "rank (1 is best)"))
    told = [
        f"{what} {_signed(gain).plain.replace(chr(10), ' ')}, p {shown_p(gain.p)}, n = {gain.n:,}"
        for gain, what in found
        if gain is not None
    ]
    return f" Its {'; its '.join(told)}." if told else ""
