"""What a reader sees."""

import io
import json
import math

import pytest
from rich.console import Console

from srec.errors import InputError
from srec.evaluation.beyond import Beyond
from srec.evaluation.calibration import Reliability
from srec.evaluation.metrics import Interval, label
from srec.evaluation.report import RankerReport, Report
from srec.evaluation.tables import plain
from srec.lm.usage import StageUsage
from srec.types import Score


def row(value=0.25, **changes):
    interval = Interval(value=value, low=value - 0.05, high=value + 0.05, n=40)
    names = ("ndcg@5", "ndcg@10", "recall@10", "mrr@10", "auc", "pooled_auc")
    counts = {"unscored": 0, "unscored_cases": 0, "lm_calls": 0, "cache_hits": 0, "prompt_tokens": 0}
    counts |= {"output_tokens": 0, "truncated": 0, "unseen_images": 0, "failures": 0, "seconds": 1.25}
    metrics = dict.fromkeys(names, interval)
    return RankerReport(**{"metrics": metrics, "metrics_untied": {}, "reasons": {}, "examples": {}} | counts | changes)


def report(**changes):
    chance = dict.fromkeys(("ndcg@5", "ndcg@10", "recall@10", "mrr@10", "auc", "pooled_auc"), 0.5)
    given = {"data": "shop", "n": 40, "users": 40, "protocol": "global-time", "task": "next", "candidates": "full"}
    given |= {"model": "", "seed": 0, "cases_seed": 0, "ks": (5, 10), "rankers": {"mine": row()}, "chance": chance}
    return Report(**given | {"tied": 0, "skipped": {}, "intake": {}, "seconds": 2.0} | changes)


def test_the_text_shows_value_interval_chance_and_n():
    text = str(report())
    assert "n = 40 cases" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["mine", *[".250"] * 5] in lines
    assert ["[.200", ".300]"] * 5 in lines
    assert ["chance", *[".500"] * 5] in lines


def test_the_text_is_plain_and_at_most_100_wide():
    text = str(report(skipped={"one event": 3}, tied=4, protocol="leave-last-out", candidates="uniform:20"))
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_name_with_markup_is_shown_as_it_is():
    assert "[bold]x[/bold]" in str(report(rankers={"[bold]x[/bold]": row()}))


def test_lm_columns_show_where_any_ranker_asked_one():
    assert "LM calls" not in str(report())
    text = str(report(rankers={"popularity": row(), "program": row(lm_calls=1234, prompt_tokens=56789)}))
    assert "LM calls" in text
    assert "1,234" in text
    assert "56,789" in text


def test_a_rich_console_prints_the_same_tables():
    console = Console(width=100, file=io.StringIO())
    console.print(report())
    assert str(report()).split() == console.file.getvalue().split()
    assert repr(report()) == str(report())


def test_notes_say_what_must_be_known_of_the_protocol():
    assert any("later than the case" in note for note in report(protocol="leave-last-out").notes())
    assert not any("later than the case" in note for note in report().notes())
    assert any("Sampled candidates" in note for note in report(candidates="popularity:99").notes())
    assert any("retriever missed" in note for note in report(candidates="retriever:50").notes())
    skipped = {"one event": 3, "no event after": 2}
    last_out = report(skipped=skipped, protocol="leave-last-out")
    assert "Users without a case: one event 3, no event after 2." in last_out.notes()
    assert (
        "Users without a case, once for each cut-off: one event 3, no event after 2." in report(skipped=skipped).notes()
    )


def test_tied_cases_are_reported_apart():
    apart = {"ndcg@10": Interval(value=0.125, low=0.1, high=0.2, n=36)}
    notes = report(tied=4, rankers={"mine": row(metrics_untied=apart)}).notes()
    assert "4 of 40 cases have a target that is tied in time; NDCG@10 on the others: mine .125." in notes
    assert "40 of 40 cases have a target that is tied in time." in report(tied=40).notes()


def test_what_is_no_number_is_a_dash_in_text_and_null_in_json():
    metrics = {**row().metrics, "auc": Interval(value=math.nan, low=math.nan, high=math.nan, n=0)}
    shown = report(rankers={"mine": row(metrics=metrics)})
    assert "[- -]" in str(shown)
    auc = json.loads(shown.to_json())["rankers"]["mine"]["metrics"]["auc"]
    assert auc == {"value": None, "low": None, "high": None, "n": 0}


def test_without_probabilities_there_is_no_calibration_to_show():
    assert "No ranker here gives probabilities" in plain(report().calibration)


def test_parts_of_a_report_print_as_text_and_on_a_rich_console():
    told = Reliability()
    told.count("u", label([Score(item_id="a", value=0.9), Score(item_id="b", value=0.2)], ["a"]))
    exposure = Beyond(k=10, coverage=0.5, gini=0.25, popularity=Interval(value=3.0, low=2.0, high=4.0, n=40), n=40)
    shown = report(
        rankers={"mine": row(beyond=(exposure,), calibration=told.report(), stages={"fusion": StageUsage()})}
    )
    for part, said in ((shown.beyond, "coverage"), (shown.calibration, "mine"), (shown.costs, "mine, fusion")):
        console = Console(width=100, file=io.StringIO())
        console.print(part)
        assert said in str(part)
        assert str(part).split() == console.file.getvalue().split()
        assert repr(part) == str(part)


def test_without_its_cases_a_report_still_prints_and_is_json():
    assert json.loads(report().to_json())["comparisons"] == []
    with pytest.raises(InputError, match="made without its cases"):
        report().compare("mine", "mine")


def test_the_table_cuts_at_the_last_rank_where_ten_was_not_measured():
    assert report(ks=(1, 5)).shown_k == 5
    assert report(ks=(5, 10, 20)).shown_k == 10
