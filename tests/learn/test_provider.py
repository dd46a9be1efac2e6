"""DSPy's BootstrapFinetune and BetterTogether on srec's training: what is learnt is what was asked, and is asked then."""

import json
import logging
import threading
import warnings
from dataclasses import asdict, replace

import dspy
import pytest
from dspy.clients.utils_finetune import TrainingStatus
from made_rows import photo

import srec
from srec.card import read_card
from srec.errors import InputError, ModelError
from srec.learn.provider import Finetuning, configured, rows_of
from srec.learn.rows import read_rows
from srec.learn.train import Lora, TrainConfig
from srec.lm.adapters import ScoreAdapter, picture
from srec.lm.connect import identity
from srec.lm.family import OtherWordsWarning
from srec.stages.signatures import JudgeItem
from srec.testing import oracle

QUICK = TrainConfig(rank=2, epochs=1, batch_rows=8, learning_rate=1e-2, checkpoint_every=2)


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("dspy").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("dspy").setLevel(logging.INFO)


@pytest.fixture
def brief():
    """A program of few calls: two events are read, one question is asked of each picture."""
    fusion = srec.ItemFusion(questions=srec.toy_questions()[:1], write="composed", doubt=1.0)
    preference = srec.TemporalPreference(window=2, step=2, max_tokens=24)
    return srec.MLLMSRec(
        fusion=fusion,
        preference=preference,
        profiling=srec.UserProfiling(max_tokens=24),
        scoring=srec.CoTScoring(reasoning="none", view="both"),
        recent=2,
    )


def examples_of(cases, count):
    """DSPy's examples of cases, each with its target and two other candidates."""
    return [dspy.Example(case=shortened(cases[number])).with_inputs("case") for number in range(count)]


def shortened(case):
    items = sorted(case.candidates, key=lambda item: item.item_id not in case.target_ids)
    return replace(case, candidates=tuple(items[:3]))


def at_least(score):
    return lambda gold, made, trace=None: made.score >= score


def finetuned(student, examples, *, metric=None, **compile_options):
    optimizer = dspy.BootstrapFinetune(metric=metric, adapter=srec.StageAdapter(), num_threads=1)
    return optimizer.compile(student, trainset=examples, **compile_options)


def probability(lm):
    """What an LM says to one question, asked alone: of the same weights, the same to the last bit."""
    question = {"profile": "likes ducks", "preference": "red", "reasoning": "", "target_item": "Red duck"}
    with dspy.context(lm=lm, adapter=ScoreAdapter()):
        return dspy.Predict(JudgeItem)(**question).probability


def jobs_of(monkeypatch):
    """What the engines of this process compute from now on: ids and keys of prompts."""
    from srec.lm.local import LocalEngine  # noqa: PLC0415 (needs torch)

    jobs, made = [], LocalEngine._job

    def job(engine, request):
        jobs.append(made(engine, request))
        return jobs[-1]

    monkeypatch.setattr(LocalEngine, "_job", job)
    return jobs


# With real training


@pytest.mark.model
def test_the_text_that_is_learnt_is_the_text_that_is_asked_token_by_token(
    small, training, brief, tmp_path, monkeypatch
):
    from srec.learn.reading import Reader  # noqa: PLC0415 (needs torch)
    from srec.lm.checkpoint import obtain  # noqa: PLC0415
    from srec.lm.local import LocalEngine  # noqa: PLC0415

    lm = srec.tunable(f"local:{small}", out=tmp_path, config=QUICK, device="cpu")
    jobs = jobs_of(monkeypatch)
    tuned = finetuned(srec.for_dspy(brief, lm=lm), examples_of(training, 2))
    asked = {(tuple(job.ids), job.keys) for job in jobs}
    (folder,) = tmp_path.iterdir()
    rows = list(read_rows(folder / "rows.jsonl"))
    reader = Reader(LocalEngine(obtain(str(small)), device="cpu"), folder=folder, stages={})
    learnt = [reader.example(row) for row in rows]
    prompts = {(tuple(one.ids[: one.asked].tolist()), tuple(one.keys[: one.asked].tolist())) for one in learnt}
    assert prompts == asked
    stages = {"fusion.answer_question", "preference.summarize", "profiling.describe", "scoring.judge"}
    assert {row.stage for row in rows} == stages
    assert {row.stage for row in rows if row.images} == {"fusion.answer_question", "scoring.judge"}
    jobs.clear()
    tuned(case=training[3])
    assert {job.ids[0] for job in jobs}  # it answers as well


@pytest.mark.model
def test_bootstrap_finetune_gives_an_lm_named_by_its_weights(small, training, brief, shop, tmp_path):
    lm = srec.tunable(f"local:{small}", out=tmp_path, config=QUICK, device="cpu")
    student, teacher = (srec.for_dspy(brief, lm=one, metric="auc") for one in (lm, oracle(shop)))
    examples = examples_of(training, 3)
    tuned = finetuned(student, examples, metric=at_least(0.5), teacher=teacher)
    (made,) = {predictor.lm for predictor in tuned.predictors()}
    (folder,) = tmp_path.iterdir()
    lora = Lora.read(folder / "lora")
    assert made.model == f"{lm.model}+lora@{lora.digest[:12]}"
    assert read_card(folder / "lora" / "card.toml")["config"]["rank"] == 2
    later = srec.connect(made.provider.model_string(made), device="cpu")
    assert (later.model, identity(later)) == (made.model, identity(made))
    assert probability(later) == probability(made) != probability(lm)
    assert 0.0 < tuned(case=examples[0].case).recommendation.scores[0].value < 1.0
    rows = list(read_rows(folder / "rows.jsonl"))
    assert {row.teacher.split(":")[0] for row in rows} == {"oracle"}
    assert {row.label for row in rows if row.stage == "scoring.judge"} == {True, False}
    # the same rows are not learnt twice, whatever order they come in
    written = (folder / "lora" / "card.toml").stat().st_mtime_ns
    student = srec.for_dspy(brief, lm=lm, metric="auc")
    twice = finetuned(student, examples[::-1], metric=at_least(0.5), teacher=teacher)
    assert twice.predictors()[0].lm.model == made.model
    assert (folder / "lora" / "card.toml").stat().st_mtime_ns == written


@pytest.mark.model
def test_copies_of_a_tuned_program_ask_the_tuned_weights(small, training, brief, shop, tmp_path):
    lm = srec.tunable(f"local:{small}", out=tmp_path, config=QUICK, device="cpu")
    (example,) = examples_of(training, 1)
    teacher = srec.for_dspy(brief, lm=oracle(shop))
    tuned = finetuned(srec.for_dspy(brief, lm=lm), [example], teacher=teacher)
    twin = tuned.deepcopy()
    assert twin.program.scoring.judge.lm.engine is tuned.program.scoring.judge.lm.engine is lm.engine
    assert twin.program.scoring.judge.lm.provider is lm.provider
    assert probability(twin.program.scoring.judge.lm) == probability(tuned.program.scoring.judge.lm) != probability(lm)


@pytest.mark.model
def test_a_finetuning_that_was_stopped_goes_on_and_ends_as_one_that_was_not(small, tmp_path):
    config = TrainConfig(rank=2, epochs=4, batch_rows=2, learning_rate=1e-2, checkpoint_every=2)
    data = chats(12)
    once = srec.tunable(f"local:{small}", out=tmp_path / "once", config=config, device="cpu")
    whole = once.finetune(data, "chat").result()
    lm = srec.tunable(f"local:{small}", out=tmp_path / "twice", config=config, device="cpu")
    job = Stopping.of(lm, after=3).finetune(data, "chat")
    error = job.result()
    assert isinstance(error, ModelError)
    assert "stopped after step 3 of" in str(error)
    assert job.status() == TrainingStatus.cancelled
    steps = []
    lm.provider.TrainingJob = type(
        "Noting", (Stopping.plain,), {"report": lambda self, step: steps.append(step.number)}
    )
    assert lm.finetune(data[::-1], "chat").result().model == whole.model
    assert min(steps) == 3  # from the checkpoint of step 2


@pytest.mark.model
def test_better_together_optimizes_prompts_and_then_weights(small, training, brief, shop, tmp_path):
    lm = srec.tunable(f"local:{small}", out=tmp_path, config=QUICK, device="cpu")
    student, teacher = (srec.for_dspy(brief, lm=one, metric="auc", only_right=True) for one in (lm, oracle(shop)))
    examples = examples_of(training, 3)
    optimizer = dspy.BetterTogether(
        metric=lambda gold, made, trace=None: made.score,
        p=dspy.BootstrapFewShot(metric=at_least(0.5), max_bootstrapped_demos=1, max_labeled_demos=0, max_rounds=1),
        w=dspy.BootstrapFinetune(adapter=srec.StageAdapter(), num_threads=8),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherWordsWarning)
        best = optimizer.compile(
            student,
            trainset=examples[:2],
            valset=examples[2:],
            strategy="p -> w",
            num_threads=1,
            optimizer_compile_args={"p": {"teacher": teacher}},
        )
    assert not best.flag_compilation_error_occurred
    ways = {entry["strategy"]: entry["program"].program for entry in best.candidate_programs}
    assert set(ways) == {"", "p", "p -> w"}
    assert ways["p"].scoring.judge.lm.model == lm.model
    assert ways["p"].scoring.judge.demos
    assert "+lora@" in ways["p -> w"].scoring.judge.lm.model
    (folder,) = tmp_path.iterdir()
    rows = [row for row in read_rows(folder / "rows.jsonl") if row.stage == "scoring.judge"]
    assert {len(row.messages) for row in rows} == {5}  # with the demo that the first step gave it
    assert not lm.engine.running  # BetterTogether ends what it launched
    assert 0.0 <= ways["p -> w"](examples[2].case).scores[0].value <= 1.0


@pytest.mark.model
def test_a_student_asked_in_other_words_than_its_teacher_was_is_warned_of(small, training, brief, shop, tmp_path):
    lm = srec.tunable(f"local:{small}", out=tmp_path, config=QUICK, device="cpu")
    student, teacher = (srec.for_dspy(brief, lm=one) for one in (lm, oracle(shop)))
    (example,) = examples_of(training, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherWordsWarning)
        tuned = finetuned(student, [example], teacher=teacher)
        assert tuned(case=example.case).error == ""
    describe = tuned.program.profiling.describe
    describe.demos = [dspy.Example(summaries=["Likes cars."], profile="A driver.", traits=["cars"])]
    with pytest.warns(OtherWordsWarning, match="is asked in words that it was not trained on, as in 'Describe the"):
        tuned(case=example.case)
    own = srec.for_dspy(tuned.program, lm=lm)
    again = finetuned(own, [example])  # as its own teacher
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherWordsWarning)
        assert again(case=example.case).error == ""


@pytest.mark.model
def test_a_case_that_failed_stops_nothing(small, training, brief, counting, tmp_path):
    lm = srec.tunable(f"local:{small}", out=tmp_path, config=QUICK, device="cpu")
    examples = examples_of(training, 2)
    failing = examples[0].case.history.events[-1].item.title
    teacher = counting(fails=lambda number, request: "Summarize" in str(request.system) and failing in str(request))
    tuned = finetuned(
        srec.for_dspy(brief, lm=lm),
        examples,
        metric=lambda gold, made, trace=None: not made.error,
        teacher=srec.for_dspy(brief, lm=teacher),
    )
    assert "+lora@" in tuned.program.scoring.judge.lm.model
    (folder,) = tmp_path.iterdir()
    assert {row.case_id for row in read_rows(folder / "rows.jsonl")} == {examples[1].case.case_id}


@pytest.mark.model
def test_what_goes_wrong_in_training_is_dspys_to_raise(small, training, brief, shop, tmp_path):
    lm = srec.tunable(f"local:{small}", out=tmp_path, device="cpu")
    student, teacher = (srec.for_dspy(brief, lm=one) for one in (lm, oracle(shop)))
    (example,) = examples_of(training, 1)
    plain = dspy.BootstrapFinetune(num_threads=1, adapter=dspy.ChatAdapter())
    with pytest.raises(InputError, match=r"adapter=srec\.StageAdapter\(\)"):
        plain.compile(student, trainset=[example], teacher=teacher)
    with pytest.raises(InputError, match="no call is left to learn from"):
        finetuned(student, [example], metric=at_least(2.0), teacher=teacher)
    several = dspy.BootstrapFinetune(num_threads=1, adapter=srec.StageAdapter(), train_kwargs={"num_processes": 8})
    with pytest.raises(InputError, match=r"train_kwargs num_processes cannot be used.*accelerate launch"):
        several.compile(student, trainset=[example], teacher=teacher)
    error = lm.finetune([{"prompt": "a", "completion": "b"}], "completion").result()
    assert isinstance(error, InputError)
    assert "give chats" in str(error)
    assert not list(tmp_path.iterdir())


# Without


def chats(count):
    return [
        {
            "stage": "scoring.judge",
            "messages": [
                {"role": "system", "content": "Say Yes. or No."},
                {"role": "user", "content": f"Is {number} even?"},
                {"role": "assistant", "content": "No." if number % 2 else "Yes."},
            ],
        }
        for number in range(count)
    ]


class Stopping:
    """LMs whose finetuning is cancelled after a step."""

    plain = Finetuning

    @staticmethod
    def of(lm, *, after):
        class Cancelled(Stopping.plain):
            def report(self, step):
                if step.number == after:
                    assert self.status() == TrainingStatus.running
                    assert self.cancel()
                super().report(step)

        lm.provider.TrainingJob = Cancelled
        return lm


def test_rows_have_their_pictures_by_name():
    shown = picture(photo("red"))
    (one, *_) = chats(1)
    question = [{"type": "text", "text": "Red?"}, {"type": "image_url", "image_url": {"url": shown.url}}]
    data = {**one, "messages": [{"role": "user", "content": question}, one["messages"][-1]], "label": True}
    (row,), pictures = rows_of([data])
    assert row.messages[0]["content"] == [{"type": "text", "text": "Red?"}, {"type": "image"}]
    assert row.images == tuple(pictures)
    assert list(pictures.values()) == [shown.url.partition(",")[2]]
    assert "base64" not in json.dumps(row.messages)
    url = {"type": "image_url", "image_url": {"url": "https://elsewhere.example/a.png"}}
    with pytest.raises(InputError, match="given by its address"):
        rows_of([{**data, "messages": [{"role": "user", "content": [url]}, one["messages"][-1]]}])


def test_a_verdict_counts_in_each_case_and_any_other_call_once():
    verdict, summary = (
        {**one, "stage": stage} for one, stage in zip(chats(2), ("scoring.judge", "fusion.fuse"), strict=True)
    )
    data = [
        {**one, "case_id": case, "label": label} for one, label in ((verdict, True), (summary, None)) for case in "ba"
    ]
    rows, _ = rows_of(data)
    assert [(row.case_id, row.stage) for row in rows] == [
        ("a", "fusion.fuse"),
        ("a", "scoring.judge"),
        ("b", "scoring.judge"),
    ]


def test_train_kwargs_replace_single_fields():
    assert configured(QUICK, {"epochs": 5}) == TrainConfig(**{**asdict(QUICK), "epochs": 5})
    with pytest.raises(InputError, match="must be at least 1"):
        configured(QUICK, {"epochs": 0})
    with pytest.raises(InputError, match="merge=True"):
        configured(QUICK, {"merge": True})


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "vllm:http://127.0.0.1:1/v1#a", "local:srec-tiny#runs/lora"])
def test_only_a_local_base_can_be_finetuned(model, tmp_path):
    with pytest.raises(ModelError, match="cannot be finetuned; give a local model without a LoRA"):
        srec.tunable(model, out=tmp_path)


def test_a_merged_model_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(InputError, match="merge=True"):
        srec.tunable("local:nowhere", out=tmp_path, config=TrainConfig(merge=True))


def test_a_finetuning_ends_with_the_program(tmp_path):
    """Ctrl-C reaches the main thread alone; the training must not hold the process until its end."""
    job = Stopping.plain(thread=threading.current_thread())
    job.report(srec.learn.train.Step(number=1, of=9, loss=1.0))
    assert job.step.number == 1
    assert job.status() == TrainingStatus.pending
    job.cancel()
    with pytest.raises(ModelError, match="stopped after step 2 of 9"):
        job.report(srec.learn.train.Step(number=2, of=9, loss=1.0))
