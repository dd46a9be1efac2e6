"""The same evaluation under several seeds."""

import json
import math
import statistics

import pytest

from srec.data.cases import cases
from srec.data.toyshop import toyshop
from srec.errors import InputError
from srec.evaluation.seeds import evaluate_seeds

pytestmark = pytest.mark.filterwarnings("ignore::srec.data.cases.LeakWarning")


@pytest.fixture(scope="module")
def data():
    return toyshop(items=30, users=10, seed=0).data


def over(data, seeds, **options):
    return evaluate_seeds(
        lambda seed: cases(data, candidates="uniform:5", seed=seed), ["random", "popularity"], seeds=seeds, **options
    )


@pytest.fixture(scope="module")
def three(data):
    return over(data, [4, 5, 6])


def test_each_seed_draws_its_own_cases(three):
    assert [report.cases_seed for report in three.reports.values()] == [4, 5, 6]
    assert [report.seed for report in three.reports.values()] == [4, 5, 6]
    ids = [{i for row in report.rankers["random"].cases for i in row.item_ids} for report in three.reports.values()]
    assert ids[0] != ids[1] or ids[1] != ids[2]


def test_spreads_by_hand(three):
    values = [report.rankers["popularity"].metrics["auc"].value for report in three.reports.values()]
    found = three.spreads["popularity"]["auc"]
    assert found.mean == pytest.approx(sum(values) / 3)
    assert found.deviation == pytest.approx(statistics.stdev(values))
    assert (found.low, found.high, found.n) == (min(values), max(values), 3)


def test_one_seed_has_no_deviation(data):
    assert math.isnan(over(data, [0]).spreads["random"]["auc"].deviation)


def test_no_seed_is_refused(data):
    with pytest.raises(InputError, match="no seed is given"):
        over(data, [])


def test_it_is_shown_and_is_json(three):
    assert "over the seeds 4, 5, 6" in str(three)
    plain = json.loads(json.dumps(three.to_dict(per_case=False), allow_nan=False))
    assert plain["seeds"] == [4, 5, 6]
    assert set(plain["reports"]) == {"4", "5", "6"}
    assert plain["spreads"]["random"]["auc"]["n"] == 3


def test_the_runs_of_each_seed_lie_apart(data, tmp_path):
    over(data, range(2), runs_folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-0", "seed-1"]
