"""What a program would cost elsewhere, held against what it did cost here."""

from dataclasses import replace

import pytest

import srec
from srec.errors import InputError
from srec.evaluation.costs import projected, unit_costs
from srec.evaluation.tables import plain
from srec.lm.usage import Fresh, StageUsage, at_stage, count_usage, record
from srec.testing import oracle


@pytest.fixture(scope="module")
def shop():
    return srec.toyshop(items=24, users=30, seed=5)


@pytest.fixture(scope="module")
def asked(shop):
    return srec.cases(shop.data, users=6, candidates="uniform:4", seed=5)


@pytest.fixture(scope="module")
def program():
    return srec.MLLMSRec(preference=srec.TemporalPreference(window=8, step=8), workers=1)


@pytest.fixture(scope="module")
def report(asked, program, shop):
    return srec.evaluate(asked, {"program": program, "popularity": "popularity"}, lm=oracle(shop), workers=1)


def test_a_projection_to_what_was_measured_is_what_it_took(asked, report):
    row = report.rankers["program"]
    items = row.stages["fusion"].fresh.units
    found = report.projected("program", items=items, users=6)
    assert found.candidates == 5
    assert found.total.lm_calls == pytest.approx(row.lm_calls)
    assert found.total.prompt_tokens == pytest.approx(row.prompt_tokens)
    assert found.total.output_tokens == pytest.approx(row.output_tokens)
    assert 0 < found.total.seconds <= row.seconds * 1.01


def test_what_is_reasoned_once_a_user_does_not_grow_with_the_candidates(shop, program, report):
    row = report.rankers["program"]
    assert row.stages["reasoning"].fresh.units == row.stages["reasoning"].lm_calls == 6
    assert row.stages["scoring"].fresh.units == row.stages["scoring"].lm_calls == 30
    wider = srec.cases(shop.data, users=6, candidates="uniform:8", seed=5)
    more = srec.evaluate(wider, {"program": program}, lm=oracle(shop), workers=1).rankers["program"]
    found = report.projected("program", items=more.stages["fusion"].fresh.units, users=6, candidates=9)
    assert found.total.lm_calls == pytest.approx(more.lm_calls)
    assert found.total.output_tokens == pytest.approx(more.output_tokens, rel=0.01)


def test_seconds_of_users_at_once_are_divided_by_them_whatever_the_stage(report):
    stages = {
        "fusion": StageUsage(seconds=30, fresh=Fresh(units=60, seconds=30)),
        "scoring": StageUsage(seconds=10, fresh=Fresh(units=30, seconds=10)),
    }
    row = replace(report.rankers["program"], seconds=10.0, stages=stages)
    assert unit_costs(row)["fusion"].cost.seconds == pytest.approx(30 / 60 / 4)
    found = projected("program", row, items=60, users=6, candidates=5)
    assert found.total.seconds == pytest.approx(10)


def test_items_that_are_described_before_anybody_ranks_are_waited_for_alone(shop, report):
    fused = report.rankers["program"].stages["fusion"]
    assert 0 < fused.alone_s == fused.fresh.alone_s == fused.fresh.seconds <= fused.seconds
    own = srec.MLLMSRec(fusion=lambda item: srec.ItemDescription(item_id=item.item_id, text=item.title), workers=1)
    few = srec.cases(shop.data, users=2, candidates="uniform:4", seed=5)
    among_users = srec.evaluate(few, {"own": own}, lm=oracle(shop), workers=2).rankers["own"].stages["fusion"]
    assert among_users.alone_s == 0 < among_users.fresh.seconds == among_users.seconds


def test_items_and_users_cost_apart(report):
    once = report.projected("program", items=10, users=0)
    assert once.total == once.stages["fusion"]
    assert once.total.lm_calls > 0
    more = report.projected("program", items=20, users=0)
    assert more.total.lm_calls == pytest.approx(2 * once.total.lm_calls)
    wide = report.projected("program", items=0, users=10, candidates=100)
    narrow = report.projected("program", items=0, users=10, candidates=50)
    assert wide.stages["scoring"].lm_calls == pytest.approx(2 * narrow.stages["scoring"].lm_calls)
    assert wide.stages["profiling"] == narrow.stages["profiling"]


def test_a_price_is_of_a_million_tokens(report):
    found = report.projected("program", items=1000, users=1000, price=(2.0, 10.0))
    tokens = found.total.prompt_tokens * 2 + found.total.output_tokens * 10
    assert found.money == pytest.approx(tokens / 1e6)
    assert "money" in str(found)
    assert report.projected("program", items=1, users=1).money is None


def test_a_store_that_has_everything_tells_no_cost(asked, program, shop, tmp_path):
    for _ in range(2):
        again = srec.evaluate(asked, program, lm=oracle(shop), store=tmp_path, workers=1)
    assert again.rankers["program"].lm_calls == 0
    with pytest.raises(InputError, match=r"had a part of all fusion, .*scoring from the store.*new store"):
        again.projected("program", items=1, users=1)


def test_users_from_a_store_do_not_make_the_others_cheap(asked, program, shop, tmp_path, report):
    few = srec.cases(shop.data, users=3, candidates="uniform:4", seed=5)
    known = {case.user_id for case in few}
    assert known < {case.user_id for case in asked}
    srec.evaluate(few, program, lm=oracle(shop), store=tmp_path, workers=1)
    rest = srec.evaluate(asked, program, lm=oracle(shop), store=tmp_path, workers=1).rankers["program"]
    assert rest.stages["profiling"].fresh.units == 3
    assert rest.stages["profiling"].fresh.lm_calls == 3
    assert rest.stages["scoring"].fresh.units == 15
    assert report.rankers["program"].stages["profiling"].fresh.units == 6


def test_what_cannot_be_projected_is_told(report):
    with pytest.raises(InputError, match="'popularity' has no stages"):
        report.projected("popularity", items=1, users=1)
    with pytest.raises(InputError, match="from 0 on"):
        report.projected("program", items=-1, users=1)
    with pytest.raises(InputError, match="'nobody' is not in this report"):
        report.projected("nobody", items=1, users=1)


def test_a_block_that_took_from_a_store_counts_for_no_unit_cost():
    with count_usage() as usage:
        with at_stage("scoring", units=2):
            record(lm_calls=2, prompt_tokens=10)
        with at_stage("scoring", units=2):
            record(lm_calls=1, cache_hits=1)
        with at_stage("scoring") as block:
            record(lm_calls=1)
            block.units = 1
    fresh = usage.stages["scoring"].fresh
    assert (fresh.units, fresh.lm_calls, fresh.prompt_tokens) == (3, 3, 10)
    assert usage.lm_calls == usage.stages["scoring"].lm_calls == 4


def test_the_table_of_costs_has_every_stage_and_a_recommendation(report):
    text = plain(report.costs)
    for name in ("fusion", "preference", "profiling", "scoring", "a recommendation"):
        assert f"program, {name}" in text
    assert "popularity" not in text


def test_what_a_blend_asks_to_be_fitted_is_no_cost_of_a_recommendation(asked, program, shop, report):
    blend = srec.Blend.like(asked, {"program": program, "popularity": "popularity"}, users=5)
    blended = srec.evaluate(asked, {"blend": blend}, lm=oracle(shop), workers=1)
    row, alone = blended.rankers["blend"], report.rankers["program"]
    assert 5 * 5 < row.fitting.lm_calls < row.lm_calls
    assert row.fitting.seconds > 0
    assert alone.fitting.lm_calls == alone.fitting.seconds == 0
    text = plain(blended.costs)
    assert f"{row.fitting.lm_calls:,}" in next(line for line in text.splitlines() if "of these to fit it" in line)
    each = next(line for line in text.splitlines() if "blend, a recommendation" in line)
    assert f"{(row.lm_calls - row.fitting.lm_calls) / 6:,.1f}" in each
    assert "to fit it" not in plain(report.costs)


def test_without_a_program_there_are_no_costs_of_stages(asked):
    assert "No ranker here has stages" in plain(srec.evaluate(asked, ["popularity"]).costs)
