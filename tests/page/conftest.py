"""Runs to make pages of: a small one of srec's own stages, and one of 200 users."""

import pytest
from hostile_texts import HOSTILE, cases_of, functions, hostile_shop, optimized

import srec


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "run"
    cases = cases_of(hostile_shop(items=16, users=8, seed=3), users=3, candidates="uniform:5")
    program, lm = optimized()
    rankers = {"popularity": "popularity", HOSTILE[0]: "markov", "program": program}
    srec.evaluate(cases, rankers, lm=lm, out=folder, workers=2)
    return folder


@pytest.fixture(scope="session")
def large_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "run"
    cases = cases_of(hostile_shop(items=60, users=215, seed=3), users=200, candidates="uniform:20")
    srec.evaluate(cases, {"popularity": "popularity", "item-knn": "item-knn", "program": functions()}, out=folder)
    return folder
