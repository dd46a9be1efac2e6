"""The training of srec-tiny: nothing of the test in it, the same pictures for a seed, the prompts that stages send."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "evals" / "tiny"))

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")

import chats  # noqa: E402 (from evals/tiny)
import pictures  # noqa: E402 (likewise)
import questions  # noqa: E402 (likewise)
from words import WordsTraining  # noqa: E402 (likewise)

from srec.data.render import Look  # noqa: E402 (after torch is known to be there)
from srec.evaluation.questions import HELD_OUT_QUESTIONS  # noqa: E402 (likewise)
from srec.lm import tiny  # noqa: E402 (likewise)
from srec.lm.checkpoint import obtain  # noqa: E402 (likewise)

FACTS = [0, 3, 1]  # a striped green car


def practised():
    """Every question that practice or trial may put, without leads and ends."""
    asked = {wording for listed in questions.WORDINGS.values() for wording in listed}
    names = {name for listed in questions.NAMES.values() for name in listed}
    asked |= {frame.replace("{name}", name) for frame in questions.FRAMES for name in names}
    return {wording.format(noun=noun) for wording in asked for noun in questions.NOUNS}


def test_no_wording_of_the_test_is_practised():
    tested = {wording.lower() for listed in HELD_OUT_QUESTIONS.values() for wording in listed}
    assert not tested & {wording.lower() for wording in practised()}


def test_no_held_out_combination_is_practised(tmp_path):
    for held_out in (False, True):
        _, facts = pictures.pictures(60, seed=3, folder=tmp_path, held_out=held_out)
        told = [questions.truth(row) for row in facts.tolist()]
        assert {Look(**{aspect: one[aspect] for aspect in pictures.FACTS}).held_out for one in told} == {held_out}


def test_a_seed_gives_the_same_pictures_from_any_process(tmp_path):
    first, facts = pictures.pictures(3, seed=4, folder=tmp_path / "a")
    again, same = pictures.pictures(3, seed=4, folder=tmp_path / "b")
    assert first.shape == (3, pictures.SIDE, pictures.SIDE, 3)
    assert np.array_equal(first, again)
    assert np.array_equal(facts, same)


@pytest.mark.parametrize("prompt", questions.PROMPTS)
def test_every_answer_is_true(prompt):
    told = questions.truth(FACTS)
    for example in questions.examples(FACTS, prompt=prompt, count=60, rng=random.Random(0)):
        asked = str(example.messages[-1]["content"])
        if example.answer in {"Yes.", "No."}:
            assert (example.answer == "Yes.") == any(value in asked for value in ("green", "striped", " car")), asked
        else:
            assert example.answer in told.values()


def test_trial_wordings_are_not_those_of_practice():
    def asked(*, trial):
        made = questions.examples(FACTS, prompt="open", count=300, rng=random.Random(1), trial=trial)
        return {str(example.messages[-1]["content"][-1]["text"]) for example in made}

    assert not asked(trial=True) & asked(trial=False)


@pytest.mark.model
def test_the_rows_are_cut_from_the_prompts_that_the_stages_send(smollm2):
    _, processor = tiny.build(obtain("smollm2-135m").folder)
    writer = chats.Writer(processor)
    (example,) = questions.examples(FACTS, prompt="closed", count=1, rng=random.Random(2))
    before, asked, answer = writer.parts(example)
    assert "Look at the picture of one catalogue item" in before
    assert before.endswith("### Picture\n")
    assert processor.tokenizer.decode(asked).endswith('<|im_start|>assistant\n{"answer":"')
    assert processor.tokenizer.decode(answer) == f'{example.answer}"}}<|im_end|>'


@pytest.mark.model
def test_questions_that_share_a_picture_are_answered_as_if_asked_alone(smollm2):
    model, processor = tiny.build(obtain("smollm2-135m").folder)
    training = WordsTraining(model, processor.tokenizer).eval()
    writer, facts = chats.Writer(processor), torch.tensor([FACTS])
    made = questions.examples(FACTS, prompt="plain", count=3, rng=random.Random(3))

    def loss(rows):
        before, row = writer.row(rows)
        return float(training(facts=facts, before=before, **chats.packed([row]))["loss"]), sum(
            label != chats.IGNORED for label in row.labels
        )

    together, count = loss(made)
    alone = [loss([one]) for one in made]
    assert together == pytest.approx(sum(value * n for value, n in alone) / count, rel=0.02)
