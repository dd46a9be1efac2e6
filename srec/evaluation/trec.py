"""Runs as TREC files, `case_id Q0 item_id rank score name`: ours for other tools, those of other systems for our table.

White space and `%` in ids are written as `%20`, `%25` and so on. What was not scored is left out of the file, and what
a file leaves out is read as not scored.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from srec.data.candidate_file import from_trec, replace_file, to_trec
from srec.errors import CandidateError
from srec.place import place
from srec.text import clean
from srec.types import Case, Ranking, Score

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

FIELDS = 6
LOOKED_AT = 1000  # cases
GIVEN_AWAY = 10.0  # targets; that none of them is missed by chance has a probability of e^-10
FEW = 0.1  # of the candidates
BY_CHANCE, BY_PLACE = 20, 5  # holes in a file of other candidates: scores that failed


def write_run(path: str | Path, rankings: Iterable[tuple[str, Sequence[Score]]], *, name: str) -> None:
    """Write (case id, scores) as a run file; it takes the place of an older one once the last case is written.

    Scores are written so that they read back as the same numbers; equal scores stand in the order of the item ids.
    """
    replace_file(path, chain.from_iterable(_lines(case_id, scores, name=name) for case_id, scores in rankings))


def _lines(case_id: str, scores: Sequence[Score], *, name: str) -> Iterator[str]:
    start, end = f"{to_trec(case_id)} Q0", to_trec(name)
    for rank, score in enumerate(Ranking.of("", scores).scores, start=1):
        if score.value is not None:
            yield f"{start} {to_trec(score.item_id)} {rank} {score.value!r} {end}\n"


@dataclass(slots=True, kw_only=True)
class _Rows:
    """What a run file says of one case: item codes and their scores."""

    items: array[int] = field(default_factory=lambda: array("l"))
    scores: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """A ranker that says what a run file says; items that are no candidates are passed over."""

    name: str
    path: Path
    item_ids: Sequence[str] = field(repr=False)
    rows: Mapping[str, _Rows] = field(repr=False)

    def __call__(self, case: Case) -> list[Score]:
        """The file's score of each candidate, None for those that it leaves out."""
        rows = self.rows.get(case.case_id)
        if rows is None:
            why = "case is not in the run file"
            return [Score(item_id=item.item_id, value=None, error=why) for item in case.candidates]
        said = self.said(case.case_id)
        return [_score(item.item_id, said.get(item.item_id)) for item in case.candidates]

    def said(self, case_id: str) -> dict[str, float]:
        """The scores of a case by item id; none where it is not in the file."""
        rows = self.rows.get(case_id, _Rows())
        return {self.item_ids[code]: value for code, value in zip(rows.items, rows.scores, strict=True)}


def check_run(run: RunFile, asked: Iterable[tuple[str, Sequence[str], Collection[str]]]) -> None:
    """Raise CandidateError for a file that was written for other candidates; `asked` are case, candidates and targets.

    Where a file scores each target and not each other candidate, being in the file gives the targets away: negatives
    that were drawn anew are missing. A list that is cut at its best misses some targets, and has others near its end.
    So a file is refused where targets at random would be missed `GIVEN_AWAY` times or more, and no more than one in
    `BY_CHANCE` of those is; or fewer than one for `BY_PLACE` targets in the lower half of its lists. Little is given
    away where it leaves out fewer than `FEW` of all candidates, and a good list cut late misses no target either.
    """
    seen = [
        _gaps(said, item_ids, targets)
        for case_id, item_ids, targets in islice(asked, LOOKED_AT)
        if item_ids and (said := run.said(case_id))
    ]
    missed, expected = sum(gaps.missed for gaps in seen), sum(gaps.at_random for gaps in seen)
    late = sum(gaps.late for gaps in seen)
    if sum(gaps.left_out for gaps in seen) < FEW * sum(gaps.candidates for gaps in seen):
        return
    if expected >= GIVEN_AWAY and (missed * BY_CHANCE <= expected or (late >= GIVEN_AWAY and missed * BY_PLACE < late)):
        raise CandidateError(
            f"run file {run.path} scores {'every target' if not missed else 'nearly every target'} and leaves out "
            "other candidates: it was written for other candidates, and its figures would be too high; evaluate it on "
            "its own by --candidates file:PATH, or write scores of these"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gaps:
    """Targets of a case that a file misses, that it would at random, and that it has in the lower half of its list.

    `left_out` are those of the `candidates` that the file does not score. Where they are fewer than half a list holds,
    `late` counts for less.
    """

    candidates: int
    left_out: int
    missed: int
    at_random: float
    late: float


def _gaps(said: Mapping[str, float], item_ids: Sequence[str], targets: Collection[str]) -> _Gaps:
    scores = [said[item_id] for item_id in item_ids if item_id in said]
    left_out, half = len(item_ids) - len(scores), len(scores) / 2
    found = [said[target] for target in targets if target in said]
    late = sum(sum(score > value for score in scores) + scores.count(value) / 2 > half for value in found)
    return _Gaps(
        candidates=len(item_ids),
        left_out=left_out,
        missed=len(targets) - len(found),
        at_random=len(targets) * left_out / len(item_ids),
        late=late * min(1.0, left_out / half) if half else 0.0,
    )


def read_run(path: str | Path, *, name: str | None = None) -> RunFile:
    """The run file of any system as a ranker, under the name in its last column, cleaned, if no other is given.

    Only the scores count, not the ranks. Raises CandidateError, with the line, for what is no run file.
    """
    path = place(path)
    codes: dict[str, int] = {}
    cases: dict[str, _Rows] = {}
    tag = ""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not (words := line.split()):
                    continue
                case_id, item_id, value, tag = _parsed(words, path, number)
                if (rows := cases.get(case_id)) is None:
                    rows = cases[case_id] = _Rows()
                rows.items.append(codes.setdefault(item_id, len(codes)))
                rows.scores.append(value)
    except OSError as error:
        raise CandidateError(f"cannot read run file {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise CandidateError(f"run file {path} is not UTF-8 text ({error.reason}); write it again as UTF-8") from error
    if not cases:
        raise CandidateError(f"run file {path} is empty; write at least one case into it")
    item_ids = tuple(codes)
    _refuse_repeats(cases, item_ids, path=path)
    return RunFile(name=name or clean(tag) or path.stem, path=path, item_ids=item_ids, rows=cases)


def _parsed(words: Sequence[str], path: Path, number: int) -> tuple[str, str, float, str]:
    """Case id, item id, score and name of one line, the `number`-th of the file."""
    if len(words) != FIELDS:
        raise CandidateError(
            f"{path} line {number}: {len(words)} words, not 'case_id Q0 item_id rank score name'; correct the line"
        )
    case_id, _, item_id, _, score, name = words
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CandidateError(
            f"{path} line {number}: score {score!r} is no finite number; correct it or leave the line out"
        )
    return _name(case_id, path, number), _name(item_id, path, number), value, _name(name, path, number)


def _name(word: str, path: Path, number: int) -> str:
    try:
        return from_trec(word)
    except UnicodeDecodeError:
        raise CandidateError(
            f"{path} line {number}: {word!r} holds an escape that is no UTF-8; write '%' itself as '%25'"
        ) from None


def _refuse_repeats(cases: Mapping[str, _Rows], item_ids: Sequence[str], *, path: Path) -> None:
    for case_id, rows in cases.items():
        seen: set[int] = set()
        for code in rows.items:
            if code in seen:
                raise CandidateError(
                    f"run file {path}: case {case_id!r} has item {item_ids[code]!r} twice; leave one line out"
                )
            seen.add(code)


def _score(item_id: str, value: float | None) -> Score:
    return Score(item_id=item_id, value=value, error="" if value is not None else "item is not in the run file")
