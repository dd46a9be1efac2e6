"""The budget is kept to the call, and what was asked once is not asked again, whoever kills the process."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import dspy
import pytest
from colours import HEED, asked, cases, program, pupil, writer
from dspy.clients.cache import Cache
from dspy.lm15 import request_from_openai_chat

from srec.artifact import prompts_of
from srec.errors import InputError
from srec.learn.budget import Allowance, BudgetSpent, Meter
from srec.learn.optimize import CALLS, optimize
from srec.learn.optimizers import gepa, instructions
from srec.stages.signatures import JudgeItem
from srec.store import Store

WAYS = {
    "gepa": lambda: gepa(minibatch=2),
    "instructions": lambda: instructions(breadth=3, depth=1),
}


def run(way, *, calls, out=None, each=lambda _: None, temperature=0.0, metric="auc", sentence=HEED):
    lm, reflection_lm = pupil(each=each), writer(sentence, each=each, temperature=temperature)
    result = optimize(
        program(),
        cases(0, 1, 2, 3),
        cases(4, 5, 6),
        optimizer=WAYS[way](),
        metric=metric,
        lm=lm,
        reflection_lm=reflection_lm,
        calls=calls,
        stages="scoring",
        out=out,
    )
    return result, asked(lm, reflection_lm)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("calls", [45, 70])
def test_the_budget_is_never_exceeded_and_the_best_so_far_is_the_result(way, calls):
    result, made = run(way, calls=calls)
    assert made == result.calls <= calls
    assert "the budget was spent" in result.ended or result.calls < calls
    assert result.kept


def test_what_was_held_back_for_a_change_that_never_came_is_told():
    result, made = run("gepa", calls=45)
    assert not result.changed
    assert f"the other {45 - made} calls were held back to measure a change, of which there was none" in result.ended


def test_a_budget_that_ends_after_a_good_instruction_keeps_it():
    result, made = run("gepa", calls=110, metric="pairwise", sentence=f"{HEED} This is try {{}}.")
    assert "the budget was spent" in result.ended
    assert made <= 110
    assert HEED in prompts_of(result.program)["scoring.judge"].instructions
    assert result.after["auc"].value == 1.0


def test_the_same_optimization_again_asks_nothing_and_says_the_same(tmp_path):
    first, made = run("gepa", calls=90, out=tmp_path / "p")
    before = (tmp_path / "p" / "program.json").read_bytes(), (tmp_path / "p" / "card.toml").read_bytes()
    again, more = run("gepa", calls=90, out=tmp_path / "p")
    assert (made, more) == (first.calls, 0)
    assert again.calls == first.calls
    assert before == ((tmp_path / "p" / "program.json").read_bytes(), (tmp_path / "p" / "card.toml").read_bytes())


def test_more_calls_go_on_from_where_fewer_ended(tmp_path):
    first, made = run("gepa", calls=60, out=tmp_path / "p")
    result, more = run("gepa", calls=90, out=tmp_path / "p")
    assert first.calls == made
    assert result.calls == made + more <= 90
    assert more < result.calls


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
sys.path.insert(0, {learn!r})
from test_optimize_budget import run
made = 0
def each(request):
    global made
    made += 1
    if made > {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    with open({log!r}, "a") as log:
        log.write("x")
run({way!r}, calls=110, out={out!r}, each=each, temperature={temperature})
"""


@pytest.mark.parametrize(("way", "temperature"), [("gepa", 0.0), ("instructions", 1.0)])
def test_a_killed_optimization_goes_on_without_asking_again(way, temperature, tmp_path):
    unbroken, made = run(way, calls=110, out=tmp_path / "unbroken", temperature=temperature)
    out, log = tmp_path / "killed", tmp_path / "log"
    for after in (15, 30):  # the first within the measurement before, the second in the optimizer
        code = KILLED.format(
            tests=str(Path(__file__).parents[1]),
            learn=str(Path(__file__).parent),
            after=after,
            log=str(log),
            way=way,
            out=str(out),
            temperature=temperature,
        )
        killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env=os.environ)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert not (out / "program.json").exists()
    answered = log.stat().st_size
    result, more = run(way, calls=110, out=out, temperature=temperature)
    lost = result.calls - more - answered
    assert answered >= 2 * 15
    assert 0 <= lost <= 2 * 64, "calls that were under way when the process was killed count as made"
    assert result.calls <= 110
    if not lost:
        assert answered + more == made
    assert prompts_of(result.program) == prompts_of(unbroken.program)
    cards = [tomllib.loads((folder / "card.toml").read_text()) for folder in (out, tmp_path / "unbroken")]
    assert cards[0]["after"] == cards[1]["after"]


def test_two_processes_do_not_optimize_in_one_folder(tmp_path, monkeypatch):
    taken = []

    def each(_):
        if not taken:
            taken.append(True)
            with pytest.raises(InputError, match="another process is at this optimization"):
                in_another_process(tmp_path / "p")

    run("gepa", calls=60, out=tmp_path / "p", each=each)
    assert taken


def in_another_process(out):
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(Path(__file__).parent)!r}]\n"
        f"from test_optimize_budget import run\nrun('gepa', calls=60, out={str(out)!r})"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    raise InputError(ended.stderr.strip().splitlines()[-1])


# The meter


@pytest.fixture
def meter(tmp_path):
    with Store(tmp_path / CALLS) as store:
        yield Meter(store, name="one")


def test_an_answer_is_paid_for_once_and_comes_back_word_for_word(meter):
    lm = pupil({"JudgeItem": 0.25})
    with Allowance(meter, limit=10) as allowance:
        metered = allowance.lm(lm, asked_for="scoring")
        request = judge_request(metered)
        first, again = metered(request), metered(request)
    assert first == again
    assert first.logprobs == lm(request).logprobs
    assert meter.spent == 1
    assert len(allowance.asked["scoring"]) == 1


def test_answers_that_are_drawn_are_each_paid_for_and_each_kept(meter):
    lm = writer(temperature=1.0)
    for _ in range(2):
        with Allowance(meter, limit=10) as allowance:
            metered = allowance.lm(lm, asked_for="optimizer")
            metered("Deduce, step by step, what the user is likely to want next. `new_instruction`")
            metered("Deduce, step by step, what the user is likely to want next. `new_instruction`")
    assert meter.spent == asked(lm) == 2


def test_a_call_too_many_is_not_made(meter):
    lm = pupil({"JudgeItem": 0.25})
    with Allowance(meter, limit=0) as allowance:
        metered = allowance.lm(lm, asked_for="scoring")
        with pytest.raises(BudgetSpent):
            metered(judge_request(metered))
    assert not lm.engine.prompts


def test_what_a_phase_leaves_behind_spends_nothing_of_the_next(meter):
    lm = pupil({"JudgeItem": 0.25})
    with Allowance(meter, limit=5) as allowance:
        metered = allowance.lm(lm, asked_for="scoring")
    with pytest.raises(BudgetSpent):
        metered(judge_request(metered))
    assert meter.spent == 0


def test_a_call_that_failed_was_a_call_and_is_tried_again(meter):
    lm = pupil({"JudgeItem": ValueError("ill")})
    with Allowance(meter, limit=5) as allowance:
        metered = allowance.lm(lm, asked_for="scoring")
        for _ in range(2):
            with pytest.raises(dspy.utils.exceptions.LMError):
                metered(judge_request(metered))
    assert meter.spent == 2


def test_what_dspys_own_cache_has_costs_nothing(meter, monkeypatch):
    in_memory = Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)
    monkeypatch.setattr(dspy, "cache", in_memory)
    lm = pupil({"JudgeItem": 0.25}).copy(cache=True)
    request = judge_request(lm)
    with Allowance(meter, limit=5) as allowance:
        metered = allowance.lm(lm, asked_for="scoring")
        metered(request)
        metered(request)
    assert meter.spent == 1


def test_a_hosted_lm_is_metered_too(meter):
    hosted = dspy.LM("openai/gpt-4o-mini", api_key="none", api_base="http://127.0.0.1:9", num_retries=0, max_tokens=5)
    with Allowance(meter, limit=2) as allowance:
        metered = allowance.lm(hosted, asked_for="scoring")
        for _ in range(2):
            with pytest.raises(dspy.utils.exceptions.LMError):
                metered("hello")
        with pytest.raises(BudgetSpent):
            metered("hello")
    assert meter.spent == 2
    assert metered.model == hosted.model


def judge_request(lm):
    messages = [{"role": "system", "content": JudgeItem.instructions}, {"role": "user", "content": "x"}]
    return request_from_openai_chat({"model": lm.model, "messages": messages, "max_tokens": 1, "temperature": 0.0})
