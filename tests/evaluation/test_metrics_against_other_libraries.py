"""Our metrics against ir-measures, ranx and scipy on random rankings.

Other libraries break ties by some order of their own; ours is the mean over all orders. So a ranking with ties is
given to them once per order, each written as scores without ties, and the mean of what they say must be ours.
"""

import itertools
import math

import ir_measures
import numpy as np
import pytest
import ranx
from ir_measures import RR, R, nDCG
from scipy.stats import mannwhitneyu

from srec.evaluation.metrics import auc, mrr_at, ndcg_at, pooled_auc, recall_at
from srec.types import Score

RANKINGS = 1000
KS = (1, 3, 5, 10, 20)
OURS = {"ndcg": ndcg_at, "recall": recall_at, "mrr": mrr_at}
THEIRS = {"ndcg": nDCG, "recall": R, "mrr": RR}


def random_rankings(*, seed, max_items, make_values):
    """`{case: ({item: value}, targets)}`; a value None is an item that was not scored."""
    rng = np.random.default_rng(seed)
    cases = {}
    for case in range(RANKINGS):
        count = int(rng.integers(2, max_items + 1))
        targets = rng.choice(count, size=int(rng.integers(1, min(5, count) + 1)), replace=False)
        cases[f"case{case}"] = (dict(enumerate(make_values(rng, count))), [int(target) for target in targets])
    return cases


def distinct(rng, count):
    return [float(value) for value in rng.permutation(count)]


def tied(rng, count):
    return [None if value == 0 else float(value) for value in rng.integers(0, 3, size=count)]


def ours(values, targets):
    scores = [Score(item_id=str(item), value=value) for item, value in values.items()]
    return scores, [str(target) for target in targets]


def orders(values):
    """Every order of the items in which a higher value comes first and None last."""
    levels = sorted(set(values.values()), key=lambda v: -math.inf if v is None else v, reverse=True)
    groups = [[item for item, value in values.items() if value == level] for level in levels]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [item for part in parts for item in part]


def without_ties(order):
    return {str(item): float(len(order) - place) for place, item in enumerate(order)}


def said_by_ir_measures(qrels, run):
    asked = {THEIRS[name] @ k: (name, k) for name in THEIRS for k in KS}
    said = {key: {} for key in asked.values()}
    for found in ir_measures.iter_calc(list(asked), qrels, run):
        said[asked[found.measure]][found.query_id] = found.value
    return said


def test_without_ties_every_metric_equals_ir_measures_on_1000_rankings():
    cases = random_rankings(seed=0, max_items=60, make_values=distinct)
    qrels = {case: {str(target): 1 for target in targets} for case, (_, targets) in cases.items()}
    run = {case: {str(item): value for item, value in values.items()} for case, (values, _) in cases.items()}
    for (name, k), said in said_by_ir_measures(qrels, run).items():
        assert len(said) == RANKINGS
        for case, value in said.items():
            assert OURS[name](k, *ours(*cases[case])) == pytest.approx(value), (name, k, case)


@pytest.mark.filterwarnings("ignore:unsafe cast")  # numba on ranx' own types
def test_without_ties_every_metric_equals_ranx_on_1000_rankings():
    cases = random_rankings(seed=1, max_items=60, make_values=distinct)
    qrels = ranx.Qrels({case: {str(target): 1 for target in targets} for case, (_, targets) in cases.items()})
    run = ranx.Run({case: {str(item): v for item, v in values.items()} for case, (values, _) in cases.items()})
    asked = {f"{name}@{k}": (name, k) for name in OURS for k in KS}
    said = ranx.evaluate(qrels, run, list(asked), return_mean=False)
    for metric, (name, k) in asked.items():
        mine = [OURS[name](k, *ours(*cases[case])) for case in run.keys()]  # noqa: SIM118 - a ranx.Run does not iterate
        np.testing.assert_allclose(mine, said[metric], rtol=1e-6, err_msg=metric)


def test_with_ties_every_metric_is_the_mean_of_ir_measures_over_all_orders_of_1000_rankings():
    cases = random_rankings(seed=2, max_items=6, make_values=tied)
    qrels, run = {}, {}
    for case, (values, targets) in cases.items():
        for number, order in enumerate(orders(values)):
            run[f"{case}/{number}"] = without_ties(order)
            qrels[f"{case}/{number}"] = {str(target): 1 for target in targets}
    assert len(run) > 5 * RANKINGS
    for (name, k), said in said_by_ir_measures(qrels, run).items():
        values_of = {case: [] for case in cases}
        for query, value in said.items():
            values_of[query.split("/")[0]].append(value)
        for case, values in values_of.items():
            assert OURS[name](k, *ours(*cases[case])) == pytest.approx(np.mean(values)), (name, k, case)


def by_scipy(values, wanted):
    """U of the targets over all pairs; scipy gives tied pairs 1/2. What was not scored is below everything."""
    numbers = np.array([-1.0 if value is None else value for value in values])
    wanted = np.array(wanted)
    return mannwhitneyu(numbers[wanted], numbers[~wanted]).statistic / (wanted.sum() * (~wanted).sum())


@pytest.mark.parametrize("make_values", [distinct, tied])
def test_auc_of_a_case_and_pooled_equals_scipy_on_1000_rankings(make_values):
    cases = random_rankings(seed=3, max_items=30, make_values=make_values)
    cases = {case: (values, targets) for case, (values, targets) in cases.items() if len(targets) < len(values)}
    wanted = {case: [item in targets for item in values] for case, (values, targets) in cases.items()}
    for case, (values, targets) in cases.items():
        assert auc(*ours(values, targets)) == pytest.approx(by_scipy(values.values(), wanted[case])), case
    pooled_values = [value for values, _ in cases.values() for value in values.values()]
    pooled_wanted = [hit for hits in wanted.values() for hit in hits]
    assert pooled_auc([ours(*case) for case in cases.values()]) == pytest.approx(by_scipy(pooled_values, pooled_wanted))
