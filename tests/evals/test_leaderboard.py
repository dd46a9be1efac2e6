"""The leaderboard says what the files of results say."""

import importlib
import json
from pathlib import Path

import pytest

EVALS = Path(__file__).parents[2] / "evals"
RESULTS = sorted((EVALS / "results").glob("*.json"))
TOLD = [path for path in RESULTS if {"rankers", "taught_cases"} & json.loads(path.read_text("utf-8")).keys()]


@pytest.fixture(scope="module")
def leaderboard():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EVALS)
        return importlib.import_module("leaderboard")


def test_there_are_results():
    assert len(TOLD) > 8


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.stem)
def test_every_table_is_that_of_its_file(leaderboard, path):
    written = leaderboard.written(json.loads(path.read_text("utf-8")), name=path.stem)
    assert written.strip() in (EVALS / "LEADERBOARD.md").read_text("utf-8")


def test_what_is_no_table_is_refused_by_name(leaderboard):
    with pytest.raises(SystemExit, match="probes: not what srec evaluate writes"):
        leaderboard.written({"probes": {}, "metric": "auc"}, name="probes")


def test_a_setting_at_the_end_of_what_was_tried_is_marked(leaderboard):
    tried = [{"config": {"factors": size, "view": view}} for size in (16, 32, 64) for view in ("all", "title")]
    for best, ends in ((16, {"factors"}), (32, set()), (64, {"factors"})):
        fold = {"config": {"factors": best, "view": "all"}, "tried": tried}
        assert leaderboard.at_the_end(fold) == ends
    assert leaderboard.at_the_end({"config": {"factors": 16}, "tried": []}) == set()
    plain = [{"config": {"decay": decay}} for decay in (1.0, 0.8)]
    assert leaderboard.at_the_end({"config": {"decay": 1.0}, "tried": plain}) == set()
    assert leaderboard.at_the_end({"config": {"decay": 0.8}, "tried": plain}) == {"decay"}
