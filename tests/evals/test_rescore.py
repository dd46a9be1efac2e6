"""Run files scored by other libraries: what is settled, and that they say what our report says."""

import ir_measures
import numpy as np
import pytest

import srec
from evals import rescore


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    cases = srec.cases(srec.toyshop(items=30, users=40, seed=2).data, candidates="uniform:8", seed=2)
    return folder, srec.evaluate(cases, ["random", "popularity"], runs_folder=folder, seed=2)


def test_a_case_is_settled_if_no_target_shares_its_score():
    scores = {"a": 1.0, "b": 0.5, "c": 0.5}
    assert rescore.is_settled(scores, {"a": 1})
    assert not rescore.is_settled(scores, {"b": 1})
    assert not rescore.is_settled(scores, {"a": 1, "c": 1})
    assert not rescore.is_settled(scores, {"left out": 1})


def test_ties_are_put_in_every_order_and_nothing_else_moves():
    rng = np.random.default_rng(0)
    seen = {
        tuple(sorted(made, key=made.get))
        for _ in range(50)
        if (made := rescore.distinct({"a": 2.0, "b": 1.0, "c": 1.0}, rng))
    }
    assert seen == {("b", "c", "a"), ("c", "b", "a")}


@pytest.mark.filterwarnings("ignore")  # numba, of ranx' own types
@pytest.mark.parametrize("tool", [rescore.by_ir_measures, rescore.by_ranx])
def test_other_libraries_say_of_our_run_files_what_the_report_says(report, tool):
    folder, found = report
    qrels = list(ir_measures.read_trec_qrels(str(folder / "qrels.txt")))
    run = rescore.read(folder / "random.run")
    said = rescore.said(tool, qrels, run, orders=1, seed=0)
    for metric in rescore.METRICS:
        ours = {case.case_id: case.metrics[metric] for case in found.rankers["random"].cases}
        assert {case: pytest.approx(value) for case, value in said[metric].items()} == ours
    targets = rescore.by_case(qrels)
    popular = rescore.read(folder / "popularity.run")
    settled = [case for case, scores in popular.items() if rescore.is_settled(scores, targets[case])]
    assert 0 < len(settled) < len(popular)
    said = rescore.said(tool, qrels, popular, orders=1, seed=0)
    for case in found.rankers["popularity"].cases:
        if case.case_id in settled:
            assert said["mrr@10"][case.case_id] == pytest.approx(case.metrics["mrr@10"])
