"""What every rival does alike: read the cases, search on validation, fit, write a TREC run.

A rival is fitted on the training events of a fold and on nothing else, the same that srec's own rankers are fitted on.
Its settings are those with the best NDCG@10 over the whole catalogue on validation cases carved out of those training
events: under leave-last-out, each user's second last event. It is then fitted anew on all of them.

The run also holds the scores of the validation cases that `srec evaluate --ranker blend:...` weighs rankers on, made by
the rival as it was fitted without them; a table of the cases themselves passes over those lines.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import srec
from srec.data.candidate_file import HEADER
from srec.data.cases import CaseSet
from srec.data.interactions import Interactions
from srec.data.splits import Fold
from srec.evaluation.blend import Blend
from srec.evaluation.metrics import Labelled, Placement
from srec.evaluation.rankers import BASELINES
from srec.evaluation.trec import write_run
from srec.types import Item, Score

Config = Mapping[str, Any]
Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

K = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A case as item codes: `history` in the order of time, `candidates` in the order of their ids, and the targets."""

    case_id: str
    user: int
    history: Ints = field(repr=False)
    candidates: Ints = field(repr=False)
    targets: Ints


Answer = Callable[[Sequence[Question]], Floats]
"""Scores [questions, items], of the whole catalogue; reads neither candidates nor targets."""


class Rival(Protocol):
    """A system to stand beside srec's; `grid` holds the settings to try, `patience` how long a trial goes on."""

    name: str
    version: str
    grid: Sequence[Config]
    patience: int

    def trials(
        self, train: Interactions, config: Config, *, items: Mapping[str, Item], seed: int
    ) -> Iterator[tuple[Config, Answer]]:
        """Settings under `config` and what was fitted with them, such as after more and more epochs.

        The search goes on until `patience` trials in a row bring nothing better. Given the settings of one of them,
        the same trials come again.
        """
        ...


@dataclass(slots=True, kw_only=True)
class Found:
    """The best settings, their NDCG@10 on validation, the scores there, and all that was tried."""

    config: Config = field(default_factory=dict)
    ndcg: float = -1.0
    scores: Floats = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    tried: list[dict[str, Any]] = field(default_factory=list)


def main(rival: Rival, parser: argparse.ArgumentParser | None = None) -> None:
    """Run one rival from the command line."""
    given = options(parser)
    chosen = {"seed": given.seed, "config": given.config, "search_first": given.search_first}
    for written in run(rival, given.data, given.candidates, given.out, **chosen):
        print(json.dumps(written))


def options(parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """The options of the command line; a script may bring a parser with more of them."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("data", type=Path, help="dataset folder")
    parser.add_argument("--candidates", type=Path, nargs="+", required=True, help="of srec evaluate --write-candidates")
    parser.add_argument("--out", type=Path, nargs="+", required=True, help="a run for each file of candidates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=json.loads, help="settings as JSON, in the place of a search")
    parser.add_argument("--search-first", action="store_true", help="search at the first cut-off in time alone")
    given = parser.parse_args()
    if len(given.out) != len(given.candidates):
        parser.error(f"{len(given.candidates)} files of candidates and {len(given.out)} runs; give a run for each file")
    return given


def run(
    rival: Rival,
    data: Path,
    candidates: Sequence[Path],
    out: Sequence[Path],
    *,
    seed: int = 0,
    config: Config | None = None,
    search_first: bool = False,
) -> list[dict[str, Any]]:
    """Write a run for each file of candidates, and beside it, as `.json`, what the search found and took.

    The files must be of one task and protocol, so that the rival is fitted once. With `search_first` the settings
    found at the first cut-off in time are taken at the later ones, which is cheaper and looks at nothing that is later.
    """
    started = time.perf_counter()
    dataset = srec.load(data)
    asked = [read(dataset, path) for path in candidates]
    if len({(cases.task, cases.protocol) for cases in asked}) > 1:
        raise SystemExit("the files of candidates differ in task or protocol; give them to calls of their own")
    facts: list[dict[str, Any]] = []
    lines: list[list[tuple[str, list[Score]]]] = [[] for _ in asked]
    for place, fold in enumerate(asked[0].folds):
        answer, found = searched(rival, asked[0], fold, seed=seed, config=config)
        reached = {"config": dict(found.config), "validation_ndcg@10": found.ndcg, "tried": found.tried}
        facts.append({"fold": fold.name} | reached)
        config = found.config if search_first else config
        for cases, written in zip(asked, lines, strict=True):
            written.extend(scored(answer(list(questions(cases, cases.folds[place]))), cases, cases.folds[place]))
        for written, more in zip(lines, validated(rival, asked, fold, found, seed=seed), strict=True):
            written.extend(more)
    name = f"{rival.name} ({rival.version})"
    seconds = round(time.perf_counter() - started, 1)
    told = []
    for path, cases, written in zip(out, asked, lines, strict=True):
        write_run(path, dict(written[::-1]).items(), name=name)  # of a case written twice, the first counts
        told.append({"name": name, "n": len(cases), "candidates": cases.candidates, "seconds": seconds, "folds": facts})
        path.with_suffix(".json").write_text(json.dumps(told[-1], indent=1) + "\n", encoding="utf-8")
    return told


def read(dataset: srec.Dataset, path: Path) -> CaseSet:
    """The cases of a file of candidates, with the task, protocol and seed that its first line names."""
    with path.open(encoding="utf-8") as file:
        header = HEADER.validate_json(file.readline())
    return srec.cases(
        dataset,
        task=header.task,
        protocol=header.protocol,
        candidates=f"file:{path}",
        users=header.users,
        seed=header.seed,
    )


def questions(cases: CaseSet, fold: Fold) -> Iterator[Question]:
    """The cases of a fold as codes, without opening an item."""
    log, choose = cases.pool.log, cases.choosers[fold.name]
    for spec in fold.specs:
        yield Question(
            case_id=spec.case_id,
            user=int(log.user[spec.start]),
            history=log.item[spec.start : spec.wall].astype(np.int64),
            candidates=choose(spec).astype(np.int64),
            targets=np.array(spec.targets, dtype=np.int64),
        )


def searched(rival: Rival, cases: CaseSet, fold: Fold, *, seed: int, config: Config | None) -> tuple[Answer, Found]:
    """The rival with its best settings, fitted on all training events of the fold; given a `config`, with that."""
    held_out = validation(cases, fold, candidates="full", users=None, seed=seed)
    found = search(rival, held_out, seed=seed) if config is None else taken(rival, held_out, config, seed=seed)
    return fitted(rival, fold.train, found.config, items=cases.items, seed=seed), found


def search(rival: Rival, held_out: CaseSet, *, seed: int) -> Found:
    """Try all of the grid on the validation cases; of several cut-offs in time, on those of the last."""
    fold = held_out.folds[-1]
    asked = list(questions(held_out, fold))
    best = Found()
    for config in rival.grid:
        started, last, leading = time.perf_counter(), 0, -1.0
        for number, (settings, answer) in enumerate(
            rival.trials(fold.train, config, items=held_out.items, seed=seed), start=1
        ):
            scores = answer(asked)
            reached = ndcg(scores, asked)
            seconds = round(time.perf_counter() - started, 1)
            best.tried.append({"config": dict(settings), "ndcg@10": round(reached, 5), "seconds": seconds})
            print(f"{rival.name} {json.dumps(dict(settings))}: {reached:.4f} after {seconds} s", flush=True)
            if reached > best.ndcg:
                best.config, best.ndcg, best.scores = settings, reached, scores
            if reached > leading:
                last, leading = number, reached
            if number - last >= rival.patience:
                break
    return best


def taken(rival: Rival, held_out: CaseSet, config: Config, *, seed: int) -> Found:
    """Given settings, with what they reach on the validation cases; none were tried."""
    fold = held_out.folds[-1]
    asked = list(questions(held_out, fold))
    scores = fitted(rival, fold.train, config, items=held_out.items, seed=seed)(asked)
    return Found(config=config, ndcg=ndcg(scores, asked), scores=scores)


def ndcg(scores: Floats, asked: Sequence[Question]) -> float:
    """Mean NDCG@10 of the questions' candidates by their scores [questions, items]."""
    values = []
    for row, question in zip(scores, asked, strict=True):
        wanted = np.isin(question.candidates, question.targets)
        case = Labelled(values=row[question.candidates].astype(np.float64), wanted=wanted, missed=0)
        values.append(Placement.of_labelled(case).ndcg_at(K))
    return float(np.mean(values))


def fitted(rival: Rival, train: Interactions, config: Config, *, items: Mapping[str, Item], seed: int) -> Answer:
    """The rival with these settings, which are those of one of its trials."""
    for settings, answer in rival.trials(train, config, items=items, seed=seed):
        if dict(settings) == dict(config):
            return answer
    raise SystemExit(f"{rival.name} has no trial with the settings {json.dumps(dict(config))}; name all of them")


def validation(cases: CaseSet, fold: Fold, *, candidates: str, users: int | None, seed: int) -> CaseSet:
    """Cases made from the training events of a fold alone, as srec's blend makes its own."""
    blend = Blend(rankers=BASELINES, task=cases.task, protocol=cases.protocol, candidates=candidates, users=users)
    return blend.validation(fold.train, items=cases.items, seed=seed)


def validated(
    rival: Rival, asked: Sequence[CaseSet], fold: Fold, found: Found, *, seed: int
) -> Iterator[list[tuple[str, list[Score]]]]:
    """For each file of candidates the scores of a blend's validation cases, all from a rival fitted without them."""
    whole = validation(asked[0], fold, candidates="full", users=None, seed=seed)
    row = {spec.case_id: place for place, spec in enumerate(whole.folds[-1].specs)}
    answers: list[Answer] = [
        fitted(rival, part.train, found.config, items=whole.items, seed=seed) for part in whole.folds[:-1]
    ]
    answers.append(lambda questions: found.scores[[row[question.case_id] for question in questions]])
    for cases in asked:
        like = Blend.like(cases, BASELINES)
        held_out = validation(cases, fold, candidates=like.candidates, users=like.users, seed=seed)
        yield [
            line
            for answer, part in zip(answers, held_out.folds, strict=True)
            for line in scored(answer(list(questions(held_out, part))), held_out, part)
        ]


def scored(scores: Floats, cases: CaseSet, fold: Fold) -> Iterator[tuple[str, list[Score]]]:
    """Scores [questions, items] as those of the candidates, by case id."""
    item_ids = cases.pool.log.item_ids
    for row, question in zip(scores, questions(cases, fold), strict=True):
        pairs = zip(question.candidates.tolist(), row[question.candidates].tolist(), strict=True)
        yield question.case_id, [Score(item_id=item_ids[code], value=value) for code, value in pairs]


def decayed(questions: Sequence[Question], count: int, *, decay: float) -> NDArray[np.float32]:
    """Each history as weights [questions, items]: the last event counts 1, the one before it `decay`, and so on."""
    weights = np.zeros((len(questions), count), dtype=np.float32)
    for row, question in zip(weights, questions, strict=True):
        np.add.at(row, question.history[::-1], (decay ** np.arange(len(question.history))).astype(np.float32))
    return weights
