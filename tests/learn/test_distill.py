"""A teacher's calls become rows: each once, as sent and answered, whatever fails or is killed on the way."""

import base64
import hashlib
import os
import random
import signal
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import dspy
import pytest

import srec
from srec.errors import InputError, LeakageError, StoreError
from srec.learn.distill import distill
from srec.learn.rows import read_rows
from srec.stages.calls import noting
from srec.testing import oracle, scripted

STAGES = ("fusion.answer_question", "preference.summarize", "profiling.describe", "scoring.reason", "scoring.judge")


def rows_of(folder):
    return list(read_rows(folder / "rows.jsonl"))


def bytes_of(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "store" not in path.parts
    }


def some(cases, count=2):
    return [cases[n] for n in range(count)]


# What a row is


def test_every_call_is_a_row_by_the_name_of_its_predictor(training, program, counting, tmp_path):
    lm = counting()
    report = distill(program(), training, lm=lm, out=tmp_path, keep=None)
    rows = rows_of(tmp_path)
    assert len(rows) == report.rows == len(lm.engine.requests)
    assert {row.stage for row in rows} == set(STAGES) == set(report.stages)
    assert Counter(row.stage for row in rows) == report.stages
    assert report.cases == report.cases_kept == len(training)
    assert report.stages["scoring.judge"] == sum(len(case.candidates) for case in training)
    assert all(row.teacher.startswith("oracle:toyshop") and not row.saw_answer for row in rows)


@pytest.mark.parametrize(
    "scoring", [{"view": "both"}, {"reasoning": "none", "view": "image"}, {"reasoning": "candidate"}], ids=str
)
def test_a_row_is_what_was_sent_and_what_was_answered(training, program, counting, tmp_path, scoring):
    lm = counting()
    distill(program(**scoring), some(training), lm=lm, out=tmp_path, keep=None)
    sent = Counter(as_sent(request) for request in lm.engine.requests)
    rows = rows_of(tmp_path)
    assert Counter(as_row(row, tmp_path) for row in rows) == sent
    for row in rows:
        is_verdict = row.stage == "scoring.judge"
        assert row.answer in {"Yes.", "No."} if is_verdict else row.answer.startswith("{")


def as_sent(request):
    parts = [part for message in request.messages for part in message.parts]
    pictures = [part.data for part in parts if not hasattr(part, "text")]
    return request.system, "".join(getattr(part, "text", "<picture>") for part in parts), tuple(pictures)


def as_row(row, folder):
    system, user = (message["content"] for message in row.question)
    blocks = [{"type": "text", "text": user}] if isinstance(user, str) else user
    pictures = tuple(base64.b64encode((folder / name).read_bytes()).decode() for name in row.images)
    return system, "".join(block.get("text", "<picture>") for block in blocks), pictures


def test_pictures_are_files_by_their_digest_and_each_is_there_once(training, program, shop, tmp_path):
    report = distill(program(), some(training), lm=oracle(shop), out=tmp_path, keep=None)
    files = sorted((tmp_path / "images").iterdir())
    shown = {name for row in rows_of(tmp_path) for name in row.images}
    assert {f"images/{file.name}" for file in files} == shown
    assert len(files) == report.images
    for file in files:
        assert file.stem == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "base64" not in (tmp_path / "rows.jsonl").read_text()


def test_rows_name_case_user_item_time_label_and_outcome(training, program, shop, tmp_path):
    distill(program(), training, lm=oracle(shop), out=tmp_path, keep=None)
    by_id = {case.case_id: case for case in training}
    for row in rows_of(tmp_path):
        case = by_id[row.case_id]
        assert (row.user_id, row.at) == (case.user_id, case.at)
        assert 0.0 <= row.score <= 1.0
        if row.stage == "scoring.judge":
            assert row.label == (row.item_id in case.target_ids)
            assert clean_title(shop, row) in row.question[-1]["content"]
        else:
            assert row.label is None
        assert bool(row.item_id) == (row.stage in {"scoring.judge", "fusion.answer_question"})


def clean_title(shop, row):
    return " ".join(shop.data.items[row.item_id].title.split())


def test_an_item_of_several_cases_is_one_row(training, program, shop, tmp_path):
    distill(program(), training, lm=oracle(shop), out=tmp_path, keep=None)
    asked = Counter(
        (row.item_id, row.question[-1]["content"][-1]["text"]) for row in rows_of(tmp_path) if row.stage == STAGES[0]
    )
    assert set(asked.values()) == {1}
    shown = [{item.item_id for item in case.candidates} for case in training]
    assert set.intersection(*shown[:2]) or set.intersection(*shown[1:3]), "the cases share no item"


# Which rows


def test_only_cases_at_or_above_the_threshold_are_kept(training, program, shop, tmp_path):
    whole = distill(program(), training, lm=oracle(shop), out=tmp_path, keep=None)
    scores = {row.case_id: row.score for row in rows_of(tmp_path)}
    least = sorted(scores.values())[len(scores) // 2]
    report = distill(program(), training, lm=oracle(shop), out=tmp_path, keep=least)
    kept = {row.case_id for row in rows_of(tmp_path)}
    assert kept == {case_id for case_id, score in scores.items() if score >= least}
    assert report.cases_kept == len(kept) < whole.cases_kept
    assert report.cases_below == whole.cases - len(kept)
    assert report.outcome == whole.outcome
    assert report.outcome.value == pytest.approx(sum(scores.values()) / len(scores))


def test_a_shared_call_stays_when_its_first_case_is_left_out(training, program, shop, tmp_path):
    distill(program(), training, lm=oracle(shop), out=tmp_path, keep=None, metric="ndcg@5")
    least = max(row.score for row in rows_of(tmp_path))
    distill(program(), training, lm=oracle(shop), out=tmp_path, keep=least, metric="ndcg@5")
    rows = rows_of(tmp_path)
    by_id = {case.case_id: case for case in training}
    needed = {item.item_id for case_id in {row.case_id for row in rows} for item in by_id[case_id].candidates}
    assert needed <= {row.item_id for row in rows if row.stage == STAGES[0]}


@pytest.mark.parametrize("option", [{"metric": "accuracy"}, {"metric": "ndcg@0"}, {"keep": 1.5}], ids=str)
def test_options_that_mean_nothing_are_refused(training, program, shop, tmp_path, option):
    with pytest.raises(InputError, match=str(*option.values())):
        distill(program(), training, lm=oracle(shop), out=tmp_path, **{"keep": None, **option})


def test_a_program_without_predictors_is_refused(training, shop, tmp_path):
    class Empty(dspy.Module):
        pass

    with pytest.raises(InputError, match="no predictor"):
        distill(Empty(), training, lm=oracle(shop), out=tmp_path, keep=None)


def test_the_program_that_was_given_is_left_as_it_was(training, program, shop, tmp_path):
    given = program()
    distill(given, some(training, 1), lm=oracle(shop), out=tmp_path, keep=None)
    assert all(predictor.lm is None for _, predictor in given.named_predictors())


# Training users only


def test_cases_of_other_users_are_refused_before_anything_is_asked(shop, cases, program, counting, tmp_path):
    lm = counting()
    for given in (cases, list(cases)):
        with pytest.raises(LeakageError, match=shop.held_out_users[0]):
            distill(program(), given, lm=lm, out=tmp_path, keep=None, users=shop.training_users)
    with pytest.raises(LeakageError, match=shop.held_out_users[0]):
        distill(
            program(),
            (case for case in cases),
            lm=lm,
            out=tmp_path / "b",
            keep=None,
            users=shop.training_users,
            workers=1,
        )
    assert not (tmp_path / "rows.jsonl").exists()
    assert not (tmp_path / "b" / "rows.jsonl").exists()


def test_held_out_items_are_refused_in_candidates_and_histories(shop, cases, program, counting, tmp_path):
    lm = counting()
    trained = [case for case in cases if case.user_id in shop.training_users]
    for given in (cases, trained):
        with pytest.raises(LeakageError, match="none of the training items"):
            distill(program(), given, lm=lm, out=tmp_path, keep=None, items=shop.training_items)
    assert lm.engine.requests == []


def test_cases_of_training_users_and_items_are_welcome(shop, training, program, tmp_path):
    allowed = {"users": shop.training_users, "items": shop.training_items}
    report = distill(program(), training, lm=oracle(shop), out=tmp_path, keep=None, **allowed)
    assert report.cases_kept == len(training)
    assert {row.item_id for row in rows_of(tmp_path)} <= {"", *shop.training_items}


# Failures


def test_a_teacher_that_fails_on_a_fifth_of_its_calls_gives_rows_from_the_rest(training, program, counting, tmp_path):
    def fails(_, request):
        return zlib.crc32(repr(as_sent(request)).encode()) % 5 == 0

    lm = counting(fails=fails)
    report = distill(program(), training, lm=lm, out=tmp_path, keep=None)
    failed = sum(fails(0, request) for request in lm.engine.requests)
    assert 0.1 < failed / len(lm.engine.requests) < 0.3
    assert report.calls_failed == failed
    assert report.call_reasons.keys() == {"LMServerError"}
    assert "the teacher is out" in report.examples["LMServerError"]
    assert report.cases_failed + report.cases_kept == report.cases == len(training)
    assert report.rows == len(rows_of(tmp_path)) > 100
    assert "calls failed" in str(report)


def test_failures_that_come_by_chance_are_made_good_by_running_again(training, program, counting, tmp_path):
    chance = random.Random(7)
    broken = counting(fails=lambda *_: chance.random() < 0.2)
    first = distill(program(), training, lm=broken, out=tmp_path, keep=None)
    assert first.cases_failed
    for _ in range(20):
        again = distill(program(), training, lm=broken, out=tmp_path, keep=None)
        if not again.cases_failed:
            break
    assert again.cases_kept == len(training)


def test_a_failed_case_loses_its_rows_and_no_other_does(training, program, counting, tmp_path):
    lost = training[1].user_id
    lm = counting(fails=lambda _, request: f"The user_{lost} is" in as_sent(request)[1])
    report = distill(program(reasoning="none"), training, lm=lm, out=tmp_path, keep=None)
    assert report.cases_failed == 0  # a verdict that fails is a candidate without a score
    assert report.calls_failed == len(training[1].candidates)

    def summaries(_, request):
        return (
            "Summarize how" in as_sent(request)[0] and training[1].history.events[0].item.title in as_sent(request)[1]
        )

    report = distill(program(), training, lm=counting(fails=summaries), out=tmp_path / "b", keep=None)
    kept = {row.case_id for row in rows_of(tmp_path / "b")}
    assert training[1].case_id not in kept
    assert len(kept) == report.cases_kept == len(training) - report.cases_failed
    assert report.case_reasons == {"LMServerError": report.cases_failed}


def test_a_bug_in_a_stage_is_raised(training, shop, tmp_path):
    def broken(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        distill(srec.MLLMSRec(scoring=broken), training, lm=oracle(shop), out=tmp_path, keep=None)


# Once and no more


def test_a_finished_case_is_not_asked_again_and_the_bytes_are_the_same(training, program, counting, tmp_path):
    lm = counting()
    distill(program(), training, lm=lm, out=tmp_path, keep=None, workers=7)
    asked, first = len(lm.engine.requests), bytes_of(tmp_path)
    distill(program(), training, lm=lm, out=tmp_path, keep=None)
    assert len(lm.engine.requests) == asked
    assert bytes_of(tmp_path) == first
    distill(program(), training, lm=counting(), out=tmp_path / "anew", keep=None, workers=1)
    assert bytes_of(tmp_path / "anew") == first


def test_a_store_that_is_open_outside_hides_no_call(training, program, shop, counting, tmp_path):
    with srec.keep(tmp_path / "kept"):
        teacher = program()
        teacher.set_lm(oracle(shop))
        for case in training:
            teacher(case)
        inside = distill(program(), training, lm=counting(), out=tmp_path / "a", keep=None)
    outside = distill(program(), training, lm=counting(), out=tmp_path / "b", keep=None)
    assert inside.rows == outside.rows
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_results_made_before_anybody_listened_are_refused_not_passed_over(training, program, shop, tmp_path):
    teacher = program()
    teacher.set_lm(oracle(shop))
    with srec.keep(tmp_path):
        teacher(training[0])
        with noting(), pytest.raises(StoreError, match="before anybody took notes"):
            teacher(training[0])


def test_another_option_of_the_program_is_another_case(training, program, counting, tmp_path):
    lm = counting()
    distill(program(), some(training), lm=lm, out=tmp_path, keep=None)
    asked = len(lm.engine.requests)
    report = distill(program(view="both"), some(training), lm=lm, out=tmp_path, keep=None)
    assert len(lm.engine.requests) - asked == report.stages["scoring.judge"]


KILLED = """
import sys, time, warnings
warnings.simplefilter("ignore")
import dspy, srec
from conftest_of_learn import Counting, cases_of, toy_program
from srec.data.part import part
from srec.learn.distill import distill
from srec.testing import oracle
shop = srec.toyshop(items=60, users=10, seed=3)
def tell(number, request):
    time.sleep(0.002)
    print(number, flush=True)
    return False
engine = Counting(oracle(shop).engine, fails=tell)
lm = dspy.LM(engine.identity, engine=engine, cache=False, max_tokens=256, temperature=0.0, num_retries=0)
cases = cases_of(part(shop.data, users=shop.training_users, items=shop.training_items))
distill(toy_program(), cases, lm=lm, out=sys.argv[1], keep=None, workers=3)
"""


def test_a_run_that_is_killed_again_and_again_asks_little_twice_and_writes_the_same(
    training, program, counting, tmp_path
):
    (tmp_path / "conftest_of_learn.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    whole = counting()
    distill(program(), training, lm=whole, out=tmp_path / "whole", keep=None)
    asked = 0
    for after in (40, 60, 100):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "out")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(srec.__file__).parents[1])])},
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = [process.stdout.readline() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        rest = process.communicate(timeout=30)[0].splitlines()
        assert all(lines), "it ended before it was killed"
        asked += len(lines) + len(rest)
        assert not (tmp_path / "out" / "rows.jsonl").exists()
    last = counting()
    distill(program(), training, lm=last, out=tmp_path / "out", keep=None)
    asked += len(last.engine.requests)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    # of what was in the air at each kill, a few calls of up to 3 cases with up to 16 + 4 calls each
    assert asked - len(whole.engine.requests) < 3 * 3 * 20


# Stages of one's own


class Thinker(dspy.Module):
    """A preference that asks in DSPy's own way, and keeps nothing."""

    def __init__(self):
        super().__init__()
        self.think = dspy.ChainOfThought("events: list[str] -> taste")

    def forward(self, history, descriptions):
        taste = self.think(events=[event.item.title for event in history.events]).taste
        return [srec.PreferenceSummary(user_id=history.user_id, text=taste, until=history.until, events=len(history))]


def test_a_stage_of_one_s_own_is_heard_too(training, tmp_path):
    answers = {
        "AnswerVisualQuestion": {"answer": "a toy"},
        "FuseItem": {"description": "A toy.", "contradictions": []},
        "ProfileUser": {"profile": "A parent.", "traits": []},
        "ReasonAboutUser": {"reasoning": "Toys."},
        "JudgeItem": 0.7,
    }
    lm = scripted(answers)
    known = lm.engine.complete

    def complete(request):
        if "[[ ## taste ## ]]" not in str(request.system):
            return known(request)
        response = known(
            replace(
                request,
                system="Describe the lasting taste of one user, from summaries of consecutive periods, the oldest first.",
            )
        )
        text = "[[ ## reasoning ## ]]\nBuys toys.\n\n[[ ## taste ## ]]\nToys.\n\n[[ ## completed ## ]]"
        return replace(response, message=type(response.message).assistant([type(response.message.parts[0])(text)]))

    lm.engine.complete = complete
    report = distill(srec.MLLMSRec(preference=Thinker()), some(training), lm=lm, out=tmp_path, keep=None)
    assert report.calls_failed == report.cases_failed == 0, str(report)
    (row, _) = (row for row in rows_of(tmp_path) if row.stage == "preference.think.predict")
    assert "Buys toys." in row.answer


def test_a_predictor_that_is_no_part_of_the_program_is_counted_as_lost(training, shop, program, tmp_path):
    aside = srec.TemporalPreference(lm=oracle(shop))
    given = program()
    given.preference = partial(aside)  # no module, so that its predictor has no name
    report = distill(given, some(training), lm=oracle(shop), out=tmp_path, keep=None)
    assert "preference.summarize" not in report.stages
    assert report.call_reasons["InputError"] == report.calls_failed > 0
    assert "SummarizePreference is not part of the program" in report.examples["InputError"]


# The answer seen


@pytest.mark.parametrize("reasoning", ["user", "candidate"])
def test_reasoning_that_saw_the_answer_is_marked_and_does_not_say_so(training, program, counting, tmp_path, reasoning):
    lm = counting()
    report = distill(program(reasoning=reasoning), some(training), lm=lm, out=tmp_path, keep=None, show_answer=True)
    assert report.cases_kept == 2
    rows = rows_of(tmp_path)
    assert {row.stage for row in rows if row.saw_answer} == {"scoring.reason", "scoring.judge"}
    assert all(row.saw_answer == row.stage.startswith("scoring.") for row in rows)
    hinted = [request for request in lm.engine.requests if "You know what the user took" in request.system]
    assert len(hinted) == report.stages["scoring.reason"]
    for case in some(training):
        titles = [item.title for item in case.candidates if item.item_id in case.target_ids]
        assert any(title in request.system for request in hinted for title in titles)
    assert not any("You know what" in str(message["content"]) for row in rows for message in row.messages)
    open_eyed = distill(program(reasoning=reasoning), some(training), lm=lm, out=tmp_path, keep=None)
    assert open_eyed.rows == report.rows
    assert not any(row.saw_answer for row in rows_of(tmp_path))


def test_a_program_that_does_not_reason_cannot_see_the_answer(training, program, shop, tmp_path):
    report = distill(
        program(reasoning="none"), some(training), lm=oracle(shop), out=tmp_path, keep=None, show_answer=True
    )
    assert report.case_reasons == {"InputError": 2}


# A real model


@pytest.mark.model
def test_a_real_model_is_distilled(training, smollm2, tmp_path):
    program = srec.MLLMSRec(
        recent=3,
        fusion=srec.ItemFusion(questions=(), write="composed"),
        preference=srec.TemporalPreference(window=3, step=3, max_tokens=96),
        profiling=srec.UserProfiling(max_tokens=64),
        scoring=srec.CoTScoring(max_tokens=48),
    )
    few = [replace(case, candidates=case.candidates[:3]) for case in some(training)]
    with pytest.warns(UserWarning, match="cannot see"):
        report = distill(program, few, lm=smollm2, out=tmp_path, keep=None)
    assert report.cases_kept + report.cases_failed == 2
    rows = rows_of(tmp_path)
    assert report.rows == len(rows) >= 6, str(report)
    assert {row.teacher for row in rows} == {report.teacher}
    assert {row.answer for row in rows if row.stage == "scoring.judge"} <= {"Yes.", "No."}
    assert report.images == 0
