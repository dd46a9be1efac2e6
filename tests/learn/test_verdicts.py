"""Verdicts have real labels, the program's own prompts, and negatives as they were asked for."""

from dataclasses import replace

import pytest

import srec
from srec.data.folder import Dataset
from srec.errors import InputError, LeakageError
from srec.evaluation.rankers import BASELINES
from srec.learn.distill import distill
from srec.learn.rows import read_rows
from srec.learn.verdicts import _Choice, verdict_rows
from srec.testing import oracle, scripted
from srec.types import Item, Score

ANSWERS = {
    "FuseItem": {"description": "A film.", "contradictions": []},
    "SummarizePreference": {"summary": "Likes films.", "stable": [], "rising": [], "fading": []},
    "ProfileUser": {"profile": "a viewer.", "traits": []},
    "ReasonAboutUser": {"reasoning": "Films."},
}


def rows_of(folder, file="verdicts.jsonl"):
    return list(read_rows(folder / file))


def by_case(rows):
    cases = {}
    for row in rows:
        cases.setdefault(row.case_id, []).append(row)
    return cases


def test_targets_are_liked_and_all_others_are_not(training, program, shop, tmp_path):
    report = verdict_rows(program(), training, lm=oracle(shop), out=tmp_path, negatives="all")
    found = by_case(rows_of(tmp_path))
    assert list(found) == [case.case_id for case in training]
    for case in training:
        rows = found[case.case_id]
        assert [row.item_id for row in rows] == [item.item_id for item in case.candidates]
        assert [row.answer for row in rows] == [
            "Yes." if item.item_id in case.target_ids else "No." for item in case.candidates
        ]
        assert all(row.label == (row.answer == "Yes.") for row in rows)
        assert {(row.stage, row.teacher, row.user_id, row.at) for row in rows} == {
            ("scoring.judge", "labels", case.user_id, case.at)
        }
    assert (report.liked, report.not_liked) == (len(training), 10 * len(training))


@pytest.mark.parametrize("scoring", [{}, {"reasoning": "none", "view": "both"}], ids=str)
def test_the_prompt_is_the_judge_s_own_and_the_judge_is_not_asked(training, program, counting, tmp_path, scoring):
    lm = counting()
    distill(program(**scoring), training, lm=lm, out=tmp_path / "asked", keep=None)
    asked = {
        (row.case_id, row.item_id): (row.question, row.images)
        for row in rows_of(tmp_path / "asked", "rows.jsonl")
        if row.stage == "scoring.judge"
    }
    silent = counting()
    report = verdict_rows(program(**scoring), training, lm=silent, out=tmp_path, negatives="1:2")
    rows = rows_of(tmp_path)
    assert len(rows) == report.rows == 3 * len(training)
    for row in rows:
        assert asked[row.case_id, row.item_id] == (row.question, row.images)
        assert all((tmp_path / name).exists() for name in row.images)
    assert report.images == len({name for row in rows for name in row.images})
    assert not any(
        "respond with" in request.system or "responding" in request.system for request in silent.engine.requests
    )


def test_the_paper_s_words_stand_in_a_row_without_reasoning(training, program, shop, tmp_path):
    verdict_rows(program(reasoning="none"), training, lm=oracle(shop), out=tmp_path)
    row = rows_of(tmp_path)[0]
    assert row.question[0]["content"].startswith("Based on the user's historical multimodal interaction sequence")
    assert f"The user_{row.user_id} is " in row.question[1]["content"]


def test_the_seed_decides_the_negatives_of_each_case_alone(training, program, shop, tmp_path):
    def drawn(seed, cases=training, **options):
        folder = tmp_path / f"{seed}"
        verdict_rows(program(), cases, lm=oracle(shop), out=folder, seed=seed, negatives="1:3", **options)
        return {(row.case_id, row.item_id) for row in rows_of(folder) if not row.label}

    first = drawn(1)
    assert drawn(1, workers=1) == first
    assert drawn(2) != first
    alone = drawn(1, cases=[training[2]])
    assert alone == {pair for pair in first if pair[0] == training[2].case_id}


def test_hard_negatives_are_a_ranker_s_best(training, program, shop, tmp_path):
    def backwards(case):
        return [Score(item_id=item.item_id, value=float(n)) for n, item in enumerate(case.candidates)]

    verdict_rows(program(), training, lm=oracle(shop), out=tmp_path, negatives="1:2", sampling=backwards)
    for case in training:
        others = [item.item_id for item in case.candidates if item.item_id not in case.target_ids]
        rows = by_case(rows_of(tmp_path))[case.case_id]
        assert {row.item_id for row in rows if not row.label} == set(others[-2:])


def test_a_baseline_is_fitted_on_the_training_events(training, program, shop, tmp_path):
    knn = BASELINES["content-knn"]
    verdict_rows(program(), training, lm=oracle(shop), out=tmp_path, negatives="1:1", sampling=knn)
    rank = knn.fit(training.folds[0].train, items=training.items, seed=0)
    for case in training:
        others = {score.item_id: score.value for score in rank(case) if score.item_id not in case.target_ids}
        (negative,) = (row.item_id for row in by_case(rows_of(tmp_path))[case.case_id] if not row.label)
        assert others[negative] == max(others.values())
    with pytest.raises(InputError, match="needs training events"):
        verdict_rows(program(), list(training), lm=oracle(shop), out=tmp_path, sampling=knn)


def films(count=40):
    """A world of ratings, in which film 30 has half of the training events and user `u` rated 3 to 6 at the end."""
    items = [Item(item_id=f"{n:02}", title=f"film {n:02}") for n in range(count)]
    log = [("u", f"{n:02}", 100 + n, float(5 if n % 2 else 1)) for n in range(20)]
    for n in range(30):
        log += [(f"v{n:02}", "30", 10, 4.0), (f"v{n:02}", f"{20 + n % 10}", 50, 4.0), (f"v{n:02}", "39", 90, 4.0)]
    return Dataset.of("films", items, log)


@pytest.mark.filterwarnings("ignore::srec.data.cases.LeakWarning")
def test_popular_items_are_drawn_more_often():
    cases = srec.cases(films(), candidates="full")
    case = next(case for case in cases if case.user_id == "u")
    times = 0
    for seed in range(40):
        choice = _Choice.of("1:1", "popularity", "interaction", cases=cases, seed=seed)
        (asked,) = choice.made([case])
        times += "30" in {item.item_id for item in asked.candidates}
    assert 12 <= times <= 36  # about half of the training events, against one item in twenty


@pytest.mark.filterwarnings("ignore::srec.data.cases.LeakWarning")
def test_ratings_decide_what_is_liked(tmp_path):
    cases = srec.cases(films(), task="like:4.0", candidates="uniform:10", users=None)
    report = verdict_rows(
        srec.MLLMSRec(), cases, lm=scripted(ANSWERS), out=tmp_path, label="rating:4.0", negatives="all"
    )
    rows = by_case(rows_of(tmp_path))
    (asked,) = (rows[case_id] for case_id in rows if case_id.startswith("u@"))
    assert [(row.item_id, row.label) for row in asked] == [("16", False), ("17", True), ("18", False), ("19", True)]
    assert report.cases == len(cases)
    with pytest.raises(InputError, match="needs the ratings"):
        verdict_rows(srec.MLLMSRec(), list(cases), lm=scripted(ANSWERS), out=tmp_path, label="rating:4.0")


def test_a_case_without_anything_liked_is_counted(training, program, shop, tmp_path):
    case = training[0]
    others = tuple(item for item in case.candidates if item.item_id not in case.target_ids)
    report = verdict_rows(program(), [replace(case, candidates=others)], lm=oracle(shop), out=tmp_path)
    assert (report.cases, report.unlabelled, report.rows) == (1, 1, 0)


def test_candidates_that_look_alike_are_one_row_and_a_target_wins(training, tmp_path):
    case = training[0]
    twins = tuple(Item(item_id=item_id, title="Twin") for item_id in ("a", "b", "c"))
    twin_case = replace(case, candidates=twins, target_ids=("b",))
    verdict_rows(
        srec.MLLMSRec(fusion=srec.ItemFusion(questions=())),
        [twin_case],
        lm=scripted(ANSWERS),
        out=tmp_path,
        negatives="all",
    )
    assert [(row.item_id, row.answer) for row in rows_of(tmp_path)] == [("b", "Yes.")]


def test_cases_of_held_out_users_and_items_are_refused(shop, cases, program, counting, tmp_path):
    lm = counting()
    with pytest.raises(LeakageError, match=shop.held_out_users[0]):
        verdict_rows(program(), cases, lm=lm, out=tmp_path, users=shop.training_users)
    with pytest.raises(LeakageError, match="none of the training items"):
        verdict_rows(program(), cases, lm=lm, out=tmp_path, items=shop.training_items)
    assert lm.engine.requests == []


def test_cases_of_training_users_and_items_are_welcome(shop, training, program, tmp_path):
    allowed = {"users": shop.training_users, "items": shop.training_items}
    report = verdict_rows(program(), training, lm=oracle(shop), out=tmp_path, **allowed)
    assert report.cases == len(training)


def test_verdicts_share_folder_and_work_with_a_distillation(training, program, counting, tmp_path):
    lm = counting()
    distill(program(), training, lm=lm, out=tmp_path, keep=None)
    asked = len(lm.engine.requests)
    verdict_rows(program(), training, lm=lm, out=tmp_path)
    assert len(lm.engine.requests) == asked + len(training)  # the reasoning; it is kept with its judge
    assert rows_of(tmp_path, "rows.jsonl")
    before = (tmp_path / "verdicts.jsonl").read_bytes()
    verdict_rows(program(), training, lm=lm, out=tmp_path)
    assert (tmp_path / "verdicts.jsonl").read_bytes() == before


def test_verdicts_after_reasoning_that_saw_the_answer_are_marked(training, program, shop, tmp_path):
    verdict_rows(program(), training, lm=oracle(shop), out=tmp_path, show_answer=True)
    rows = rows_of(tmp_path)
    assert rows
    assert all(row.saw_answer for row in rows)
    assert not any("You know what" in str(message) for row in rows for message in row.messages)


def test_failures_are_counted(training, program, counting, tmp_path):
    lost = training[0].user_id
    first = training[0].history.events[0].item.title
    lm = counting(fails=lambda _, request: "Summarize how" in request.system and first in str(request.messages))
    report = verdict_rows(program(), training, lm=lm, out=tmp_path)
    assert report.failed >= 1
    assert report.reasons == {"LMServerError": report.failed}
    assert lost not in {row.user_id for row in rows_of(tmp_path)}
    assert "failed" in str(report)


def test_a_baseline_may_go_by_its_name(training, program, shop, tmp_path):
    for file, sampling in (("named.jsonl", "content-knn"), ("given.jsonl", BASELINES["content-knn"])):
        verdict_rows(program(), training, lm=oracle(shop), out=tmp_path, negatives="1:2", sampling=sampling, file=file)
    assert rows_of(tmp_path, "named.jsonl") == rows_of(tmp_path, "given.jsonl")


@pytest.mark.parametrize("option", [{"negatives": "2:1"}, {"sampling": "hardest"}, {"label": "stars"}], ids=str)
def test_options_that_mean_nothing_are_refused(training, program, shop, tmp_path, option):
    with pytest.raises(InputError, match=str(*option.values())):
        verdict_rows(program(), training, lm=oracle(shop), out=tmp_path, **option)


def test_a_program_without_a_judge_is_refused(training, shop, tmp_path):
    with pytest.raises(InputError, match=r"scoring\.judge"):
        verdict_rows(srec.MLLMSRec(scoring=lambda *_: []), training, lm=oracle(shop), out=tmp_path)
