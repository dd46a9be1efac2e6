"""The rivals: no target in what they are fitted on, a score for every candidate, the same bytes for a seed."""

import importlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import srec
from srec.data.cases import LeakWarning
from srec.data.folder import write
from srec.data.toyshop import toyshop
from srec.evaluation.trec import read_run

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "evals" / "baselines"))

import rival  # noqa: E402 (from evals/baselines)

pytestmark = pytest.mark.filterwarnings("ignore::srec.data.cases.LeakWarning")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    made = toyshop(items=30, users=12, seed=7).data
    write(folder, made.items.values(), made.interactions.rows(), name="shop")
    return folder


@pytest.fixture(scope="module")
def cases(shop):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakWarning)
        return srec.cases(srec.load(shop), candidates="uniform:5")


@pytest.fixture(scope="module")
def candidates(cases, tmp_path_factory):
    path = tmp_path_factory.mktemp("candidates") / "uniform5.jsonl"
    cases.write(path)
    return path


class Counts:
    """Popularity to a power; it keeps what it was fitted on."""

    name, version, patience = "counts", "test 1", 2
    grid = ({"sign": -1}, {"sign": 1})

    def __init__(self):
        self.fitted_on, self.looks = [], []

    def trials(self, train, config, *, items, seed):
        self.fitted_on.append(train)
        counts = np.bincount(train.item, minlength=len(train.item_ids)).astype(np.float64)
        for power in (1, 2, 3, 4, 5):
            self.looks.append((config["sign"], power))
            values = config["sign"] * counts**power
            yield (
                {"sign": config["sign"], "power": power},
                lambda questions, values=values: np.tile(values, (len(questions), 1)),
            )


def test_nothing_from_the_case_on_is_trained_on(shop, cases, candidates, tmp_path):
    counts = Counts()
    rival.run(counts, shop, [candidates], [tmp_path / "counts.run"])
    searched_on, fitted_on = counts.fitted_on[0], counts.fitted_on[-1]
    assert len(searched_on) < len(fitted_on) < len(cases.data.interactions)
    targets = {case.user_id: case for case in cases}
    for user_id, item_id, at, _ in fitted_on.rows():
        if user_id in targets:
            assert at < targets[user_id].at
            assert item_id not in targets[user_id].target_ids


def test_the_search_trains_on_nothing_of_its_own_cases(shop, cases, candidates, tmp_path):
    counts = Counts()
    rival.run(counts, shop, [candidates], [tmp_path / "counts.run"])
    held_out = rival.validation(cases, cases.folds[0], candidates="full", users=None, seed=0)
    walls = {spec.user_id: spec.at for spec in held_out.folds[0].specs}
    assert walls
    assert all(at < walls[user_id] for user_id, _, at, _ in counts.fitted_on[0].rows() if user_id in walls)


def test_the_best_settings_on_validation_are_kept(shop, candidates, tmp_path):
    counts = Counts()
    told = rival.run(counts, shop, [candidates], [tmp_path / "counts.run"])[0]
    tried = told["folds"][0]["tried"]
    best = max(tried, key=lambda trial: trial["ndcg@10"])
    assert told["folds"][0]["config"] == best["config"]
    assert {trial["config"]["sign"] for trial in tried} == {-1, 1}
    assert json.loads((tmp_path / "counts.json").read_text("utf-8")) == json.loads(json.dumps(told))


def test_a_trial_ends_where_it_brings_nothing_better(shop, candidates, tmp_path):
    counts = Counts()
    rival.run(counts, shop, [candidates], [tmp_path / "counts.run"])
    searched = counts.looks[: counts.looks.index((1, 1))]
    assert searched == [(-1, 1), (-1, 2), (-1, 3)]  # a power changes no order: two looks in a row without gain


def test_given_settings_are_taken_without_a_search(shop, candidates, tmp_path):
    counts = Counts()
    told = rival.run(counts, shop, [candidates], [tmp_path / "counts.run"], config={"sign": -1, "power": 2})[0]
    assert told["folds"][0]["tried"] == []
    assert told["folds"][0]["config"] == {"sign": -1, "power": 2}
    searched = rival.run(Counts(), shop, [candidates], [tmp_path / "searched.run"])[0]
    reached = {json.dumps(one["config"]): one["ndcg@10"] for one in searched["folds"][0]["tried"]}
    assert told["folds"][0]["validation_ndcg@10"] == pytest.approx(reached['{"sign": -1, "power": 2}'], abs=1e-5)


def test_settings_of_the_first_cut_off_are_taken_at_the_later_ones(shop, tmp_path):
    path = tmp_path / "cut.jsonl"
    srec.cases(srec.load(shop), protocol="global-time", candidates="uniform:5").write(path)
    each = rival.run(Counts(), shop, [path], [tmp_path / "each.run"])[0]["folds"]
    first = rival.run(Counts(), shop, [path], [tmp_path / "first.run"], search_first=True)[0]["folds"]
    assert len(first) > 1
    assert all(fold["tried"] for fold in each)
    assert first[0] == each[0]
    assert [fold["tried"] for fold in first[1:]] == [[] for _ in first[1:]]
    assert {json.dumps(fold["config"]) for fold in first} == {json.dumps(each[0]["config"])}


def test_settings_that_no_trial_has_are_refused(shop, candidates, tmp_path):
    with pytest.raises(SystemExit, match="counts has no trial with the settings"):
        rival.run(Counts(), shop, [candidates], [tmp_path / "counts.run"], config={"sign": 1, "power": 9})


def test_a_blend_can_weigh_the_run(shop, cases, candidates, tmp_path):
    rival.run(Counts(), shop, [candidates], [tmp_path / "counts.run"])
    report = srec.evaluate(cases, {"both": f"blend:content-knn+run:{tmp_path / 'counts.run'}"}, progress=False)
    assert report.rankers["both"].unscored == 0
    weights = report.rankers["both"].weights
    assert weights


def test_windows_predict_every_event_but_the_first_once():
    sequences = module_of("sequences")
    train = toyshop(items=30, users=6, seed=7).data.interactions
    windows = sequences.windowed(train, length=3)
    predicted = [items[1:] for _, items in windows.groupby("user_id", sort=True)["item_id"].agg(list).items()]
    histories = np.split(train.item, np.flatnonzero(np.diff(train.user)) + 1)
    assert sorted(item for part in predicted for item in part) == sorted(
        item for history in histories for item in history[1:].tolist()
    )
    assert max(map(len, predicted)) <= 3


def test_a_window_is_as_long_as_nine_of_ten_histories():
    sequences = module_of("sequences")
    train = toyshop(items=30, users=20, seed=7).data.interactions
    lengths = np.unique(train.user, return_counts=True)[1]
    length = sequences.reach(train)
    assert np.mean(lengths <= length) >= 0.9 or length == sequences.LONGEST
    assert np.mean(lengths <= length - 1) < 0.9


SMALL = {
    "als": ("factors", {"factors": 4, "regularization": 0.1, "alpha": 1.0}),
    "bpr": ("factors", {"factors": 4, "learning_rate": 0.05, "regularization": 0.01}),
    "ease": ("ease", {"regularization": 50.0}),
    "sasrec-ce": ("sequences", {"dropout_rate": 0.2, "lr": 1e-3}),
    "sasrec-bce": ("sequences", {"dropout_rate": 0.2, "lr": 1e-3}),
    "sasrec-gbce": ("sequences", {"dropout_rate": 0.2, "lr": 1e-3}),
    "gru4rec": ("sequences", {"dropout_rate": 0.2, "lr": 1e-3}),
    "minilm-knn": ("embeddings", {"view": "title", "centred": True}),
    "efficientnet-knn": ("embeddings", {"view": "picture", "centred": True}),
}


def module_of(name):
    """A script of evals/baselines as a module; skips where its library is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"see evals/baselines/README.md: {error}")


def small(name):
    """A rival with one setting to search."""
    module, config = SMALL[name]
    if module == "ease":
        return Once(module_of(module).Ease(), config)
    made = module_of(module).MODELS[name]
    try:
        return Once(made if module == "sequences" else made(), config)
    except importlib.metadata.PackageNotFoundError as error:
        pytest.skip(f"see evals/baselines/README.md: package {error} is not installed")


class Once:
    """A rival with a grid of one and little patience."""

    def __init__(self, inner, config):
        self.name, self.version, self.grid, self.patience = inner.name, inner.version, (config,), 1
        self.trials = inner.trials


@pytest.mark.parametrize("name", SMALL)
def test_a_rival_scores_every_candidate_and_says_the_same_for_a_seed(name, shop, cases, candidates, tmp_path):
    paths = [tmp_path / "first.run", tmp_path / "again.run"]
    for path in paths:
        rival.run(small(name), shop, [candidates], [path], seed=3)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    ranker = read_run(paths[0])
    assert ranker.name.startswith(name)
    for case in cases:
        scores = ranker(case)
        assert all(score.value is not None for score in scores)
    assert any(len({score.value for score in ranker(case)}) > 1 for case in cases)
