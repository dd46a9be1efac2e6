"""The whole measurement, on a small shop, by a model that knows the truth and by one that guesses what it sees."""

import json

import pytest

from srec.errors import ModelError
from srec.evaluation.stages.run import run

SIZE = {"items": 60, "users": 12, "seed": 3, "ceiling_cases": 40, "workers": 4, "progress": False}
SECTIONS = ("vqa", "fusion", "preference", "profile", "scores", "ceilings")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def engine(shop, connoisseur):
    return connoisseur(shop)


@pytest.fixture(scope="module")
def known(engine, asking, store):
    return run(asking(engine), store=store, **SIZE)


@pytest.fixture(scope="module")
def guessed(shop, asking, guesser):
    return run(asking(guesser(shop)), **SIZE)


def test_who_knows_the_truth_sees_tells_and_finds_everything(known):
    assert [figure.value for figure in known.vqa.values()] == [1.0, 1.0, 1.0]
    assert [figure.value for figure in known.vqa_open.values()] == [1.0, 1.0, 1.0]
    assert [figure.value for figure in known.vqa_held_out.values()] == [1.0, 1.0, 1.0]
    assert 0 < known.vqa_held_out["colour"].n < known.vqa["colour"].n == known.n == 60
    assert known.fusion["text_only"].value == known.fusion["shared"].value == 1.0
    assert known.fusion["image_only"].value > 0.97
    assert known.fusion["contradiction_recall"].value == 1.0
    assert not known.failed


def test_who_reads_the_events_is_better_than_chance_and_below_the_ceiling(known):
    for figure in (known.preference["current_colour"], known.profile["lasting_material"]):
        assert figure.chance < figure.low
    auc = known.scores["auc"]
    assert auc.chance == 0.5 < auc.low
    assert auc.value < auc.ceiling < 1.0


def test_controls_take_away_what_they_say(known):
    blank, other, silent = (known.controls[name] for name in ("blank_image", "other_image", "no_text"))
    assert all(blank[aspect].low < blank[aspect].chance < blank[aspect].high for aspect in known.vqa)
    assert all(other[aspect].value == 1.0 for aspect in known.vqa), "answers follow the picture that is shown"
    assert all(other[f"own_{aspect}"].low < other[aspect].chance for aspect in known.vqa)
    assert blank["text_only"].value == other["text_only"].value == 1.0
    assert silent["text_only"].value == 0.0
    assert silent["image_only"].value == 1.0
    assert blank["auc"].ceiling < silent["auc"].ceiling == known.scores["auc"].ceiling
    assert known.controls["shuffled_order"]["auc"].ceiling < known.scores["auc"].ceiling


def test_who_guesses_what_it_sees_is_at_chance(guessed):
    for figure in (*guessed.vqa.values(), guessed.fusion["image_only"], guessed.controls["other_image"]["colour"]):
        assert figure.low < figure.chance < figure.high
    assert guessed.fusion["contradiction_precision"].value < 0.5
    assert guessed.fusion["invented"].value > 0.2


def test_the_object_has_every_figure_with_its_interval_chance_and_n(known):
    written = json.loads(known.to_json())
    assert written["n"] == 60
    figures = [figure for section in SECTIONS for figure in written[section].values()]
    figures += [figure for control in written["controls"].values() for figure in control.values()]
    assert all({"value", "low", "high", "chance", "n"} <= figure.keys() for figure in figures)
    assert {"colour", "pattern", "category"} == written["vqa"].keys()
    assert {"all", "no_image", "no_order", "no_profile"} == written["ceilings"].keys()
    assert {"blank_image", "other_image", "no_text", "shuffled_order"} == written["controls"].keys()
    assert "NaN" not in known.to_json()
    assert all(f["low"] <= f["value"] <= f["high"] for f in figures if f["value"] is not None)


def test_a_second_run_asks_nothing_and_says_the_same(known, engine, asking, store):
    calls = engine.calls
    again = run(asking(engine), store=store, **SIZE)
    assert engine.calls == calls
    assert again.to_json() == known.to_json()


def test_the_table_names_every_section_and_each_chance(known):
    table = str(known)
    for words in ("vqa held out", "contradiction recall", "control: other image", "no profile", "chance", "ceiling"):
        assert words in table
    assert max(map(len, table.splitlines())) <= 100


def test_failed_calls_count_as_wrong_and_are_told(shop, asking, connoisseur):
    class Broken(connoisseur):
        def complete(self, request):
            raise ModelError("no answer today")

    report = run(asking(Broken(shop)), **SIZE | {"items": 12, "users": 3, "ceiling_cases": 6})
    assert [figure.value for figure in report.vqa.values()] == [0.0, 0.0, 0.0]
    assert report.fusion["text_only"].value == 0.0
    assert report.failed["closed questions, plain"] == 36
    assert report.failed["descriptions, plain"] == 12
    assert report.failed["candidates, program"] > 0
    assert report.scores["auc"].value == 0.5
    assert "no answer today" in str(report)
