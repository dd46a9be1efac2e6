"""Better prompts within a budget of LM calls: any of DSPy's optimizers, against a ranking metric, kept if it helps.

best = srec.optimize(program, train, dev, optimizer="gepa", lm=lm, calls=500, out="programs/mine")
print(best)
program = srec.load_program("programs/mine")
"""

from __future__ import annotations

import io
import logging
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dspy

from srec import progress as progress_bar
from srec.artifact import (
    PROMPTS,
    Prompt,
    predictors_of,
    prompts_of,
    save_program,
    with_prompts,
)
from srec.card import card_text, write_text
from srec.digest import digest
from srec.errors import InputError, LeakageError, StageError
from srec.evaluation.metrics import Interval, auc, bootstrap, ndcg_at
from srec.learn.budget import Allowance, BudgetSpent, Meter
from srec.learn.objective import Metric, metric_named
from srec.learn.optimizers import Bench, Optimizer, optimizer_of, slim
from srec.learn.trial import PREFIX, Frozen, Ranked, Trial
from srec.lm.connect import identity, sees
from srec.parallel import parallel
from srec.place import place
from srec.stages.kept import FAILURES, lm_of
from srec.store import Store
from srec.text import clean
from srec.types import Case, Item, Score

CALLS = "calls"  # the folder of kept answers in that of a program
REJECTED = "rejected.md"
MARGIN = 1.1  # a changed prompt may ask a little more than the one before: a contradiction to verify, a window
ROLLOUTS = 8  # cases ranked for each that the budget could pay anew; many are answered from the store
HASH_DIGITS = 16
REASON_CHARS = 300
BESIDE: Mapping[str, Metric] = {"ndcg@10": partial(ndcg_at, 10), "auc": auc}
"""What is told beside the metric that decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimized:
    """What an optimization reached.

    `before` and `after` are means over the development cases by name of the metric, the one that decides first, with
    their intervals; `difference` is paired, of the one that decides. `after` and `difference` are those of the
    candidate, also where it was not kept (`kept`), and `program` is then the one that was given. `calls` are the LM
    calls of all runs that it took; `ended` says why the optimizer stopped; `changed` are the predictors whose prompts
    are new.
    """

    program: Any = field(repr=False)
    kept: bool
    metric: str
    before: Mapping[str, Interval]
    after: Mapping[str, Interval]
    difference: Interval
    calls: int
    budget: int
    ended: str
    changed: tuple[str, ...]
    failed: int
    folder: Path | None

    def to_object(self) -> dict[str, Any]:
        """All but the program, ready for JSON."""
        return {
            "kept": self.kept,
            "metric": self.metric,
            "before": {name: _row(one) for name, one in self.before.items()},
            "after": {name: _row(one) for name, one in self.after.items()},
            "difference": _row(self.difference),
            "calls": self.calls,
            "budget": self.budget,
            "ended": self.ended,
            "changed": list(self.changed),
            "failed": self.failed,
        }

    def __str__(self) -> str:
        rows = [f"{name:<12} {_shown(self.before[name])}   {_shown(self.after[name])}" for name in self.before]
        n = self.difference.n
        verdict = "kept" if self.kept and self.changed else "nothing changed" if not self.changed else "not kept: worse"
        return "\n".join(
            [
                f"{'dev':<12} {'before':<20}   {'after':<20}   ({n} cases, 95 % intervals)",
                *rows,
                f"{'difference':<12} {_shown(self.difference)} of {self.metric}: {verdict}",
                f"prompts changed: {', '.join(self.changed) or 'none'}",
                f"{self.calls} of {self.budget} LM calls; {self.ended}; {self.failed} development cases failed",
            ]
        )


def optimize(
    program: Any,
    train: Iterable[Case],
    dev: Iterable[Case],
    *,
    calls: int,
    optimizer: Any = "gepa",
    metric: str | Metric = "ndcg@10",
    lm: Any = None,
    stages: str | Sequence[str] = "joint",
    reflection_lm: Any = None,
    out: str | Path | None = None,
    about: Mapping[str, Any] | None = None,
    seed: int = 0,
    workers: int = 4,
    progress: bool | None = None,
) -> Optimized:
    """Optimize a program's prompts on `train`, measure on `dev`, and keep the result if it is not worse there.

    The development cases are measured before and after, and no optimizer sees them: one that needs cases to choose by
    gets every second training case for it. Use cases of training users for both, and neither for a final test.

    Args:
        program: An `MLLMSRec`, or a module of yours from a case to a `Recommendation`; it stays as it is.
        train: Cases to learn from.
        dev: Cases of other users, to decide by.
        calls: The most LM calls that may be made, those of the measurements and of `reflection_lm` included. What DSPy
            or an earlier, killed run has asked already is not asked again.
        optimizer: "gepa", "bootstrap", "instructions", the same from `srec.learn.optimizers` with options, an optimizer
            object of DSPy's, or a function that makes one for a metric.
        metric: "ndcg@K", "recall@K", "mrr@K", "auc", "pairwise" (smooth), or a function of scores and target ids to a
            number in [0, 1].
        lm: The LM that the program asks; None for those that its stages have.
        stages: "joint" for all prompts at once, or names of stages: they are optimized one after the other, each with
            its share of the budget, and all other prompts stay.
        reflection_lm: The LM that writes instructions; None for `lm`.
        out: The folder of the program to write. It also keeps the answers, in `calls/`, which may be deleted; a killed
            optimization goes on from there when the same call is made again.
        about: What else the card is to tell, such as the name of the data.
        seed: For optimizer and intervals.
        workers: Cases at once.
        progress: Whether to show a bar of calls; by default on a terminal only.

    Raises:
        InputError: the cases, stages, metric or optimizer cannot be used, `about` has what a card cannot hold, or the
            budget is too small to measure by.
        LeakageError: a user is in both `train` and `dev`.
    """
    learned, held = list(train), list(dev)
    _check(learned, held, calls=calls)
    card_text(about or {})  # what it cannot hold is said before anybody is asked
    name, measured = metric_named(metric)
    way, parts = optimizer_of(optimizer), _parts(program, stages)
    lms = {key: lm if lm is not None else lm_of(one) for key, one in predictors_of(program).items()}
    writer = reflection_lm if reflection_lm is not None else lm if lm is not None else next(iter(lms.values()))
    if way.options.get("images") and not sees(writer):
        raise InputError(f"{identity(writer)} is to see the pictures and cannot; give a reflection_lm that sees")
    config = {
        "optimizer": {"name": way.name, **way.options},
        "metric": name,
        "stages": list(parts) if stages != "joint" else "joint",
        "seed": seed,
        "model": sorted({identity(one) for one in lms.values()}),
        "reflection_model": identity(writer),
        "data": {"digest": digest([digest(case) for case in (*learned, *held)])},
    }
    plain = {key: [p.instructions, [str(dict(demo)) for demo in p.demos]] for key, p in prompts_of(program).items()}
    run = digest(str(config), plain, len(learned))
    folder = None if out is None else place(out)
    with _place_to_work(folder) as store, store.claim(f"optimize:{run}", wait=False) as alone:
        if not alone:
            raise InputError(
                f"another process is at this optimization in {folder}; wait for it, or name another folder"
            )
        with progress_bar.bar("optimize", total=calls, show=progress) as tick, _quiet():
            work = _Work(
                program=program,
                lms=lms,
                writer=writer,
                metric=measured,
                meter=Meter(store, name=run, tell=lambda spent: tick(finished=spent)),
                store=store,
                seed=seed,
                workers=workers,
            )
            result = _run(work, learned, held, way=way, parts=parts, metric=name, calls=calls, folder=folder)
    if folder is not None:
        _write(result, folder, config=config, about=about or {}, train=learned, dev=held)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What every phase of one optimization needs."""

    program: Any
    lms: Mapping[str, Any]
    writer: Any
    metric: Metric
    meter: Meter
    store: Store
    seed: int
    workers: int

    def student(self, prompts: Mapping[str, Prompt], allowance: Allowance, *, trainable: Iterable[str]) -> dspy.Module:
        """The program with `prompts`, spending from `allowance`; what is not trainable is out of DSPy's sight."""
        copied: dspy.Module = with_prompts(self.program, prompts)
        predictors = predictors_of(copied)
        for name, predictor in predictors.items():
            predictor.lm = allowance.lm(self.lms[name], asked_for=_stage(name))
        _freeze(copied, set(trainable), self.store)
        return copied


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Development cases ranked by one set of prompts: the metrics of each case, by name."""

    columns: Mapping[str, list[float]]
    failed: int


def _run(
    work: _Work,
    train: list[Case],
    dev: list[Case],
    *,
    way: Optimizer,
    parts: Mapping[str, tuple[str, ...]],
    metric: str,
    calls: int,
    folder: Path | None,
) -> Optimized:
    start = prompts_of(work.program)
    everything = tuple(start)
    with Allowance(work.meter, limit=calls) as allowance:
        trial = Trial(metric=work.metric)
        try:
            before = _measure(work, start, dev, allowance, trial, metric=metric, trainable=everything)
        except BudgetSpent:
            raise InputError(
                f"calls={calls} do not suffice to measure the {len(dev)} development cases once; give more calls, or "
                "fewer development cases or candidates"
            ) from None
        reserve = _reserve(allowance, work.program, parts)
    first = _cost(work)
    if first + reserve >= calls:
        raise InputError(
            f"calls={calls} leave none to optimize {', '.join(parts)} with: measuring the {len(dev)} development cases "
            f"took {first} and may take {reserve} again; give more calls, fewer cases or candidates, or one stage"
        )
    best, ended, cost = start, list[str](), max(1, reserve // len(dev))
    for number, (part, names) in enumerate(parts.items(), start=1):
        used = tuple(name for name in names if name in trial.asked)
        if not used:
            ended.append(f"{part}: none of its prompts was asked")
            continue
        limit = calls - reserve if number == len(parts) else first + (calls - reserve - first) * number // len(parts)
        best, how = _improve(work, best, train, way=way, trainable=used, limit=limit, cost=cost)
        ended.append(how if len(parts) == 1 else f"{part}: {how}")
    changed = tuple(name for name in start if best[name] != start[name])
    with Allowance(work.meter, limit=calls) as allowance:
        try:
            trainable = tuple(name for names in parts.values() for name in names)
            again = Trial(metric=work.metric)
            after = (
                _measure(work, best, dev, allowance, again, metric=metric, trainable=trainable) if changed else before
            )
        except BudgetSpent:
            ended.append("no call was left to measure the result, so it is not kept")
            best, changed, after = start, (), before
    if not changed and 0 < (left := calls - work.meter.spent) <= reserve:
        ended.append(f"the other {left:,} calls were held back to measure a change, of which there was none")
    users = [case.user_id for case in dev]
    paired = [b - a for a, b in zip(before.columns[metric], after.columns[metric], strict=True)]
    difference = bootstrap(paired, groups=users, seed=work.seed)
    kept = difference.value >= 0.0
    if folder is not None:
        (folder / REJECTED).unlink(missing_ok=True)
    if not kept and folder is not None:
        write_text(folder / REJECTED, _rejected(with_prompts(work.program, best), dev + train, folder))
    return Optimized(
        program=with_prompts(work.program, best if kept else start),
        kept=kept,
        metric=metric,
        before=_intervals(before, users, seed=work.seed),
        after=_intervals(after, users, seed=work.seed),
        difference=difference,
        calls=work.meter.spent,
        budget=calls,
        ended="; ".join(ended),
        changed=changed,
        failed=after.failed,
        folder=folder,
    )


def _improve(
    work: _Work,
    start: dict[str, Prompt],
    train: list[Case],
    *,
    way: Optimizer,
    trainable: tuple[str, ...],
    limit: int,
    cost: int,
) -> tuple[dict[str, Prompt], str]:
    """Better prompts of some predictors, and why the optimizer ended; `cost` is about what one case takes in calls."""
    trial = Trial(metric=work.metric, only_right=way.only_right)
    learn, choose = (train[::2], train[1::2]) if way.divides and len(train) > 1 else (train, train)
    with Allowance(work.meter, limit=limit) as allowance:
        student = Ranked(work.student(start, allowance, trainable=trainable), trial)
        trial.start_with(student.program)
        bench = Bench(
            trial=trial,
            lm=allowance.lm(next(iter(work.lms.values())), asked_for="optimizer"),
            reflection_lm=allowance.lm(work.writer, asked_for="optimizer"),
            meter=partial(allowance.lm, asked_for="optimizer"),
            rollouts=ROLLOUTS * math.ceil(limit / cost),
            seed=work.seed,
            workers=work.workers,
        )
        examples, others = ([dspy.Example(case=case).with_inputs("case") for case in part] for part in (learn, choose))
        found: Mapping[str, Prompt] | None
        try:
            with dspy.context(lm=bench.lm, adapter=dspy.JSONAdapter()), _without_bars():
                made = way.compile(student, examples, others, bench)
            found, ended = _prompts_in(made), "the optimizer finished"
        except BudgetSpent:
            found, ended = trial.best(choose), "the budget was spent"
        except StageError:
            raise
        except FAILURES as error:
            found, ended = (
                trial.best(choose),
                clean(f"stopped by {type(error).__name__}: {error}", max_chars=REASON_CHARS),
            )
        finally:
            allowance.is_closed = True
            trial.close()
    new = {
        name: Prompt(instructions=one.instructions, demos=slim(one.demos))
        for name, one in (found or {}).items()
        if name in trainable
    }
    return {**start, **new}, ended


def _prompts_in(made: dspy.Module) -> dict[str, Prompt]:
    """The prompts of a program that an optimizer returned, which holds ours as `program`."""
    return {name.removeprefix(PREFIX): one for name, one in prompts_of(made).items()}


def _measure(
    work: _Work,
    prompts: Mapping[str, Prompt],
    dev: Sequence[Case],
    allowance: Allowance,
    trial: Trial,
    *,
    metric: str,
    trainable: Iterable[str],
) -> _Measured:
    """The development cases ranked; a case on which the program fails has no scores and counts 0."""
    ranked = Ranked(work.student(prompts, allowance, trainable=trainable), trial)
    made = parallel(lambda case: ranked(case=case), dev, workers=work.workers)
    columns: dict[str, list[float]] = {metric: [one.score for one in made]}
    for name, beside in BESIDE.items():
        if name != metric:
            columns[name] = [beside(_scores(one, case), case.target_ids) for one, case in zip(made, dev, strict=True)]
    return _Measured(columns=columns, failed=sum(one.recommendation is None for one in made))


def _scores(made: Any, case: Case) -> Sequence[Score]:
    if made.recommendation is not None:
        return tuple(made.recommendation.scores)
    return [Score(item_id=item.item_id, value=None, error=made.error) for item in case.candidates]


def _intervals(measured: _Measured, users: Sequence[str], *, seed: int) -> dict[str, Interval]:
    return {name: bootstrap(column, groups=users, seed=seed) for name, column in measured.columns.items()}


# What is optimized, and what it costs to measure


def _parts(program: dspy.Module, stages: str | Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The predictors to optimize, by stage, in the order asked for; all together under `joint`."""
    names = tuple(predictors_of(program))
    if stages == "joint":
        return {"joint": names}
    asked = [stages] if isinstance(stages, str) else list(stages)
    known = list(dict.fromkeys(map(_stage, names)))
    parts = {stage: tuple(name for name in names if _stage(name) == stage) for stage in asked}
    unknown = [stage for stage, found in parts.items() if not found]
    if unknown or not asked or len(parts) < len(asked):
        raise InputError(
            f"stages={stages!r} cannot be optimized one by one; give 'joint', or each at most once: {', '.join(known)}"
        )
    return parts


def _stage(name: str) -> str:
    """`scoring` of `scoring.judge`."""
    return name.partition(".")[0]


def _freeze(program: Any, trainable: set[str], store: Store) -> None:
    """Hide from DSPy what is not to be optimized; results of whole stages that stay are kept."""
    busy = {_stage(name) for name in trainable}
    for name, predictor in predictors_of(program).items():
        stage, _, rest = name.partition(".")
        if stage not in busy and isinstance(getattr(program, stage, None), dspy.Module):
            setattr(program, stage, Frozen(getattr(program, stage), store if rest else None))
        elif stage in busy and name not in trainable and "." not in rest and "[" not in rest:
            setattr(getattr(program, stage), rest, Frozen(predictor))


def _reserve(allowance: Allowance, program: dspy.Module, parts: Mapping[str, tuple[str, ...]]) -> int:
    """Calls to keep for measuring the result: what the optimized stages asked, and those that build on them."""
    order = list(dict.fromkeys(map(_stage, predictors_of(program))))
    first = min(order.index(_stage(name)) for names in parts.values() for name in names)
    asked = sum(len(allowance.asked[stage]) for stage in order[first:])
    return math.ceil(asked * MARGIN)


def _cost(work: _Work) -> int:
    """Calls spent once the cases were first measured; of a run that goes on, those of its first time."""
    known = work.store.get(work.meter.measured)
    if known is None:
        known = str(work.meter.spent)
        work.store.put(work.meter.measured, known)
    return int(known)


# Around it


def _check(train: Sequence[Case], dev: Sequence[Case], *, calls: int) -> None:
    if calls < 1:
        raise InputError(f"calls={calls}; give the number of LM calls that may be spent")
    if not train or not dev:
        raise InputError(f"there are {len(train)} training and {len(dev)} development cases; give at least one of each")
    both = sorted({case.user_id for case in train} & {case.user_id for case in dev})
    if both:
        raise LeakageError(
            f"{len(both)} users are in train and dev, user {both[0]!r} first; give each user's cases to one of them"
        )
    for case in (*train, *dev):
        if all(item.item_id in case.target_ids for item in case.candidates):
            raise InputError(
                f"case {case.case_id} has no candidate but its targets, so no ranking is better; leave it out"
            )


@contextmanager
def _place_to_work(folder: Path | None) -> Iterator[Store]:
    """The store of answers: in the folder of the program, or for this run alone."""
    with ExitStack() as stack:
        if folder is None:
            place = Path(stack.enter_context(TemporaryDirectory(prefix="srec-optimize-")))
        else:
            place = folder / CALLS
            try:
                place.mkdir(parents=True, exist_ok=True)
                write_text(place / ".gitignore", "*\n")
            except OSError as error:
                raise InputError(f"{folder} cannot be written ({error.strerror}); name another folder") from error
        yield stack.enter_context(Store(place))


@contextmanager
def _without_bars() -> Iterator[None]:
    """DSPy's own bars are for a terminal only; its optimizers cannot be told."""
    if sys.stderr.isatty():
        yield
        return
    with redirect_stderr(io.StringIO()):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """DSPy without its record of prompts, its prints and its reports of progress."""
    told = logging.getLogger("dspy")
    level = told.level
    told.setLevel(logging.CRITICAL)  # it logs whole cases for what is counted here as a failure
    try:
        with (
            redirect_stdout(io.StringIO()),
            dspy.context(disable_history=True, trace=None, warn_on_type_mismatch=False),
        ):
            yield
    finally:
        told.setLevel(level)


def _write(
    result: Optimized,
    folder: Path,
    *,
    config: Mapping[str, Any],
    about: Mapping[str, Any],
    train: Sequence[Case],
    dev: Sequence[Case],
) -> None:
    """The artifact, with a card that says what was done and how it went."""
    card = {
        **about,
        **{key: value for key, value in config.items() if not isinstance(value, Mapping)},
        **result.to_object(),
        "optimizer": config["optimizer"],
        "data": {**config["data"], "train_cases": len(train), "dev_cases": len(dev)},
        "split": {"train": _hashes(train), "dev": _hashes(dev)},
    }
    save_program(result.program, folder, card=card, items=_items([*train, *dev]))


def _rejected(program: Any, cases: Sequence[Case], folder: Path) -> str:
    """The prompts that were not kept, to read."""
    with TemporaryDirectory(prefix="srec-") as aside:
        made = save_program(program, Path(aside) / folder.name, card={}, items=_items(cases))
        return (made / PROMPTS).read_text("utf-8").replace("# Prompts of", "# Prompts not kept for", 1)


def _items(cases: Sequence[Case]) -> list[Item]:
    found = {
        item.item_id: item for case in cases for item in (*(e.item for e in case.history.events), *case.candidates)
    }
    return list(found.values())


def _hashes(cases: Sequence[Case]) -> list[str]:
    """Users by hash: enough to leave them out of a test, and no list of people in a program."""
    return sorted({user_hash(case.user_id) for case in cases})


def user_hash(user_id: str) -> str:
    """How a card names a user that a program learned from or was chosen by."""
    return digest("user", user_id)[:HASH_DIGITS]


def _row(one: Interval) -> dict[str, Any]:
    return {"value": one.value, "low": one.low, "high": one.high, "n": one.n}


def _shown(one: Interval) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
