"""What is trained on is what is served, token by token up to the answer, pictures included."""

import dspy
import pytest
from made_rows import as_row, kept, photo

from srec.lm.adapters import ScoreAdapter, StructuredAdapter, picture, write_answer
from srec.lm.checkpoint import obtain
from srec.lm.render import cleaned
from srec.stages.signatures import (
    AnswerTextQuestion,
    AnswerVisualQuestion,
    DeduceNext,
    FuseItem,
    JudgeItem,
    JudgeReasonedItem,
    ProfileUser,
    ReasonAboutItem,
    ReasonAboutUser,
    SummarizePreference,
    VerifyFact,
)

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")

from srec.learn.reading import Reader  # noqa: E402 (needs torch)
from srec.lm.local import LocalEngine  # noqa: E402 (needs torch)

pytestmark = pytest.mark.model

RED = picture(photo("red"))
WHO = {"profile": "A <repo_name> collector", "preference": "now <|im_end|> red\nand  more", "reasoning": "- <filename>"}
STAGES = {
    "a score": (JudgeItem, ScoreAdapter(), {**WHO, "target_item": "Duck <gh_stars>"}, {"answer": "Yes."}),
    "a score of a picture": (
        JudgeItem,
        ScoreAdapter(),
        {**WHO, "target_picture": RED, "target_item": "Duck"},
        {"answer": "No."},
    ),
    "a score in the paper's words": (
        DeduceNext,
        ScoreAdapter(),
        {"history": "The user <repo_name> likes", "picture": RED, "item": "<file_sep> a duck next?"},
        {"answer": "Yes."},
    ),
    "a summary": (
        SummarizePreference,
        StructuredAdapter(),
        {
            "previous_summary": "Likes <issue_start> cars.",
            "events": ["first: a <empty_output> car", "<empty_output>", "later: a duck"],
        },
        {"summary": "Ducks.", "stable": [], "rising": ["ducks"], "fading": ["cars"]},
    ),
    "a profile": (
        ProfileUser,
        StructuredAdapter(),
        {"summaries": ["Likes <issue_start> cars.", "Ducks."]},
        {"profile": "A collector.", "traits": ["tin"]},
    ),
    "a reasoning about a user": (
        ReasonAboutUser,
        StructuredAdapter(),
        {name: WHO[name] for name in ("profile", "preference")},
        {"reasoning": "First tin. Second red. Third a duck."},
    ),
    "a reasoning about an item": (
        ReasonAboutItem,
        StructuredAdapter(),
        {"profile": "A collector", "preference": "red", "target_picture": RED, "target_item": "Duck <gh_stars>"},
        {"reasoning": "It is red."},
    ),
    "a score after a reasoning": (
        JudgeReasonedItem,
        ScoreAdapter(),
        {**WHO, "target_picture": RED, "target_item": "Duck"},
        {"answer": "Yes."},
    ),
    "a description": (
        FuseItem,
        StructuredAdapter(),
        {"title": "Duck <filename>", "attributes": ["price: 3"], "seen_in_picture": ["colour: red"]},
        {"description": "A red duck.", "contradictions": []},
    ),
    "a check of a picture": (
        VerifyFact,
        ScoreAdapter(),
        {"picture": RED, "question": "Is the colour of the item red?"},
        {"answer": "Yes."},
    ),
    "an answer about a text": (
        AnswerTextQuestion,
        StructuredAdapter(),
        {"title": "Duck", "attributes": ["price: 3"], "question": "Which material?", "choices": "tin, wood"},
        {"answer": "tin"},
    ),
    "an answer about a picture": (
        AnswerVisualQuestion,
        StructuredAdapter(),
        {"picture": RED, "question": "Which colour?", "choices": "red, blue"},
        {"answer": "red"},
    ),
}


@pytest.fixture(scope="module", params=["drawn", "given"])
def engine(request, small):
    checkpoint = obtain(str(small)) if request.param == "drawn" else request.getfixturevalue("given")
    return LocalEngine(checkpoint, device="cpu")


def served(engine, signature, adapter, inputs, monkeypatch):
    """Ids and keys of the one prompt that the engine computes when the stage asks."""
    jobs = []
    made = engine._job
    monkeypatch.setattr(engine, "_job", lambda request: jobs.append(made(request)) or jobs[-1])
    lm = dspy.LM("local/x", engine=engine, cache=False, num_retries=0, max_tokens=1, temperature=0.0)
    monkeypatch.setattr(adapter, "parse", lambda *_: {}, raising=False)
    with dspy.context(lm=lm, adapter=adapter, disable_history=True, trace=None):
        dspy.Predict(signature)(**inputs)
    (job,) = jobs
    return job


@pytest.mark.parametrize("stage", STAGES)
def test_the_prompt_trained_on_is_the_prompt_served(engine, stage, tmp_path, monkeypatch):
    signature, adapter, inputs, outputs = STAGES[stage]
    chat = adapter.format_finetune_data(signature, [], inputs, outputs)["messages"]
    row = as_row(tmp_path, chat, stage=stage)
    example = Reader(engine, folder=tmp_path, stages={}).example(row)
    job = served(engine, signature, adapter, inputs, monkeypatch)
    assert example.ids[: example.asked].tolist() == job.ids
    assert example.keys[: example.asked].tolist() == list(job.keys)
    assert len([key for key in job.keys if key < 0]) == sum(sight.places for sight in job.sights)
    answer = outputs["answer"] if isinstance(adapter, ScoreAdapter) else write_answer(signature, outputs)
    assert engine.tokenizer.decode(example.ids[example.asked : -1]) == answer
    assert example.ids[-1] == engine.end_of_turn() == engine.tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize("stage", STAGES)
def test_cleaning_a_chat_later_is_cleaning_it_at_once(engine, stage):
    signature, adapter, inputs, _ = STAGES[stage]
    at_once = adapter._chat(signature, [], inputs, special_tokens=engine.special_tokens)
    assert cleaned(adapter.format(signature, [], inputs), special_tokens=engine.special_tokens) == at_once


def test_a_special_token_in_an_answer_is_not_learnt(engine, tmp_path):
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": '{"a":"x <|im_end|> y"}'}]
    example = Reader(engine, folder=tmp_path, stages={}).example(as_row(tmp_path, chat, stage="s"))
    assert engine.tokenizer.decode(example.ids[example.asked :]) == '{"a":"x y"}<|im_end|>'


def test_the_picture_is_read_from_its_file(engine, tmp_path):
    from srec.errors import InputError  # noqa: PLC0415

    chat = [
        {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image"}]},
        {"role": "assistant", "content": "Yes."},
    ]
    from srec.learn.rows import Row  # noqa: PLC0415

    row = Row(stage="s", messages=tuple(chat), images=(kept(tmp_path, photo("green").data),))
    reader = Reader(engine, folder=tmp_path, stages={})
    assert len(reader.example(row).images) == 1
    with pytest.raises(InputError, match="keep images/ beside the rows"):
        Reader(engine, folder=tmp_path / "elsewhere", stages={}).example(row)
