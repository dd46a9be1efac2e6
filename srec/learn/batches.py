"""Which rows are computed together: trees of rows that begin alike, batches of like length, steps of a training.

A plan is made once, from lengths and a seed, for all epochs, so that a training goes on after a kill where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from srec.learn.reading import Example, shared_length

POOL_BATCHES = 32  # sorting by length within so many batches' worth of rows keeps the order nearly random


@dataclass(frozen=True, slots=True)
class Tree:
    """Rows (by number) whose first `shared` positions stand once, each row's own part being a branch."""

    shared: int
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What is computed in one forward pass.

    The loss of a batch is the sum over its rows of `row_share` times their weight, and over its lists of `list_share`
    times theirs: shares are such that the step's gradient is that of the weighted mean over all of its rows.
    """

    trees: tuple[Tree, ...]
    row_share: float = 1.0
    list_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The batches of a whole training in order; `epoch_ends` are the numbers of the steps after which an epoch ends."""

    batches: tuple[Batch, ...]
    accumulate: int
    epoch_ends: tuple[int, ...]

    @property
    def steps(self) -> int:
        """How many optimizer steps."""
        return self.epoch_ends[-1]


def length(tree: Tree, examples: Sequence[Example]) -> int:
    """How many positions a tree has."""
    return tree.shared + sum(len(examples[i]) - tree.shared for i in tree.members)


def groups(examples: Sequence[Example]) -> list[tuple[int, ...]]:
    """Numbers of the rows that share a case and a stage; rows without a case stand alone."""
    found: dict[object, list[int]] = {}
    for number, example in enumerate(examples):
        found.setdefault(example.group or number, []).append(number)
    return [tuple(members) for members in found.values()]


def has_list(members: Sequence[int], examples: Sequence[Example]) -> bool:
    """Whether rows are one user's candidates of which some, and not all, are liked."""
    return {True, False} <= {examples[i].liked for i in members}


def trees(members: Sequence[int], examples: Sequence[Example], *, pack: bool, most_positions: int) -> list[Tree]:
    """Rows of one group as trees of at most `most_positions`, or each alone if `pack` is not set or saves little.

    A branch does not see the others, but its scores with them are computed and thrown away; this pays where what is
    shared is longer than a branch.
    """
    alone = [Tree(examples[i].asked - 1, (i,)) for i in members]
    if not pack or len(members) == 1:
        return alone
    shared = shared_length([examples[i] for i in members])
    if shared < max(len(examples[i]) for i in members) - shared:
        return alone
    made: list[Tree] = []
    for i in members:
        wider = Tree(shared, (*made[-1].members, i)) if made else None
        if wider is not None and length(wider, examples) <= most_positions:
            made[-1] = wider
        else:
            made.append(Tree(shared, (i,)))
    return made


def plan(
    examples: Sequence[Example],
    *,
    epochs: int,
    batch_rows: int,
    batch_positions: int,
    accumulate: int,
    ranking: float,
    pack: bool,
    seed: int,
    processes: int = 1,
) -> Plan:
    """All batches of a training; with `ranking`, rows of one group stay in one batch, however many they are."""
    units = [
        tuple(trees(part, examples, pack=pack, most_positions=batch_positions))
        for group in groups(examples)
        for part in ([group] if ranking and has_list(group, examples) else _parts(group, batch_rows))
    ]
    drawn: list[tuple[Tree, ...]] = []
    epoch_ends: list[int] = []
    per_step = accumulate * processes
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, epoch])
        drawn += _epoch(units, examples, rng, rows=batch_rows, positions=batch_positions)
        drawn += drawn[: -len(drawn) % processes]  # so that every process has a batch in every round
        epoch_ends.append(-(-len(drawn) // per_step))
    steps = [drawn[start : start + per_step] for start in range(0, len(drawn), per_step)]
    shared_out = [_shared_out(step, examples, ranking=ranking) for step in steps]
    return Plan(
        batches=tuple(batch for step in shared_out for batch in step),
        accumulate=accumulate,
        epoch_ends=tuple(epoch_ends),
    )


def lists(batch: Sequence[Tree], examples: Sequence[Example]) -> list[tuple[int, ...]]:
    """Numbers, within the batch, of the rows of each user's candidates that have something to rank."""
    rows = [i for tree in batch for i in tree.members]
    found: dict[tuple[str, ...], list[int]] = {}
    for place, i in enumerate(rows):
        if examples[i].group and examples[i].liked is not None:
            found.setdefault(examples[i].group, []).append(place)
    return [tuple(places) for places in found.values() if has_list([rows[place] for place in places], examples)]


def list_weight(rows: Sequence[int], examples: Sequence[Example]) -> float:
    """A list counts as its rows do on average."""
    return float(np.mean([examples[i].weight for i in rows]))


def _shared_out(step: Sequence[tuple[Tree, ...]], examples: Sequence[Example], *, ranking: float) -> Iterator[Batch]:
    """The batches of one step. The trainer takes the mean over them, so each has their number as a factor."""
    row_total = sum(examples[i].weight for batch in step for tree in batch for i in tree.members)
    list_total = 0.0
    for batch in step if ranking else ():
        rows = [i for tree in batch for i in tree.members]
        list_total += sum(list_weight([rows[p] for p in places], examples) for places in lists(batch, examples))
    for batch in step:
        yield Batch(batch, len(step) / row_total, ranking * len(step) / list_total if list_total else 0.0)


def _epoch(
    units: Sequence[tuple[Tree, ...]],
    examples: Sequence[Example],
    rng: np.random.Generator,
    *,
    rows: int,
    positions: int,
) -> list[tuple[Tree, ...]]:
    """All units once, in batches of like length, drawn anew."""
    longest = [max(length(tree, examples) for tree in unit) for unit in units]
    size = [sum(len(tree.members) for tree in unit) for unit in units]
    pool = max(1, POOL_BATCHES * rows // max(1, round(float(np.mean(size)))))
    order = rng.permutation(len(units)).tolist()
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        ascending = sorted(order[start : start + pool], key=lambda i: (longest[i], i))
        batch: list[int] = []
        for i in ascending:
            height = sum(len(units[j]) for j in [*batch, i])
            if batch and (height * longest[i] > positions or sum(size[j] for j in [*batch, i]) > rows):
                batches.append(batch)
                batch = []
            batch.append(i)
        batches.append(batch)
    return [tuple(tree for i in batches[j] for tree in units[i]) for j in rng.permutation(len(batches)).tolist()]


def _parts(group: Sequence[int], most: int) -> list[tuple[int, ...]]:
    return [tuple(group[start : start + most]) for start in range(0, len(group), most)]
