"""Training on real, if small, models: what is learnt, what it costs, and what is left after a kill."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_rows import summary, verdicts
from typer.testing import CliRunner

from srec.card import read_card
from srec.cli import app
from srec.doctor import examine
from srec.errors import InputError, ModelError
from srec.learn.batches import Batch, groups, lists, plan, trees
from srec.learn.rows import write_rows
from srec.learn.train import Lora, TrainConfig, train
from srec.lm.checkpoint import obtain
from srec.lm.connect import connect

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
pytest.importorskip("peft", reason="the extra `local` is not installed")

from srec.learn.reading import Reader  # noqa: E402 (needs torch)
from srec.learn.student import Collator, Student, put_lora_on  # noqa: E402 (needs torch)
from srec.learn.train import LANGUAGE_LAYERS  # noqa: E402
from srec.lm.local import LocalEngine  # noqa: E402 (needs torch)

pytestmark = pytest.mark.model

QUICK = TrainConfig(rank=4, epochs=2, batch_rows=8, learning_rate=1e-2, checkpoint_every=3, dropout=0.1)


@pytest.fixture(scope="module")
def engine(small):
    made = LocalEngine(obtain(str(small)), device="cpu", dtype=torch.float32)
    torch.manual_seed(1)
    around = put_lora_on(made, rank=4, alpha=8.0, dropout=0.0, layers=LANGUAGE_LAYERS, base="small")
    for name, parameter in around.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


def examples_of(engine, folder, rows, **stages):
    return Reader(engine, folder=folder, stages=stages).examples(rows)


def computed(engine, examples, batch):
    """Loss, margins and gradients of one batch."""
    student = Student(engine).eval()
    student.zero_grad()
    made = student(**Collator(engine, examples)([batch]))
    made["loss"].backward()
    gradients = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    return made["loss"].item(), made["margins"].tolist(), gradients


@pytest.mark.parametrize("pictures", [False, True])
def test_a_tree_gives_the_loss_and_gradients_of_its_rows_alone(engine, folder, pictures):
    examples = examples_of(engine, folder, [*verdicts(folder, users=2, pictures=pictures), summary()])
    numbers = groups(examples)
    packed = tuple(tree for group in numbers for tree in trees(group, examples, pack=True, most_positions=10_000))
    alone = tuple(tree for group in numbers for tree in trees(group, examples, pack=False, most_positions=10_000))
    assert [len(tree.members) for tree in packed] == [4, 4, 1]
    one = computed(engine, examples, Batch(packed, 0.5, 2.0))
    other = computed(engine, examples, Batch(alone, 0.5, 2.0))
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1] == pytest.approx(other[1], abs=1e-4)
    assert one[2].keys() == other[2].keys()
    for name, gradient in one[2].items():
        assert torch.allclose(gradient, other[2][name], rtol=1e-3, atol=1e-5), name


def test_the_loss_is_that_of_transformers_over_the_answers_alone(engine, folder):
    (example,) = examples_of(engine, folder, [summary()])
    (tree,) = trees((0,), [example], pack=False, most_positions=1)
    loss, _, _ = computed(engine, [example], Batch((tree,)))
    ids = torch.from_numpy(example.ids)[None]
    labels = ids.clone()
    labels[:, : example.asked] = -100
    with torch.no_grad():
        assert loss == pytest.approx(float(engine.model(input_ids=ids, labels=labels).loss), rel=1e-4)
    assert engine.tokenizer.decode(example.ids[example.asked :]) == summary().answer + "<|im_end|>"


def test_the_listwise_loss_is_a_softmax_over_the_margins(engine, folder):
    examples = examples_of(engine, folder, verdicts(folder, users=1))
    made = tuple(trees((0, 1, 2, 3), examples, pack=True, most_positions=10_000))
    without, margins, _ = computed(engine, examples, Batch(made))
    with_list, _, _ = computed(engine, examples, Batch(made, 1.0, 0.5))
    liked = next(i for i, example in enumerate(examples) if example.liked)
    by_hand = -torch.tensor(margins).log_softmax(0)[liked]
    assert with_list - without == pytest.approx(0.5 * float(by_hand), rel=1e-3)


def test_margins_are_what_the_engine_answers(engine, folder):
    """A verdict's margin while training is the log-odds that the served model gives."""
    import dspy  # noqa: PLC0415

    from srec.lm.adapters import ask, label_ids  # noqa: PLC0415

    rows = verdicts(folder, users=1)
    examples = examples_of(engine, folder, rows)
    made = tuple(trees((0, 1, 2, 3), examples, pack=True, most_positions=10_000))
    _, margins, _ = computed(engine, examples, Batch(made))
    lm = dspy.LM("local/x", engine=engine, cache=False)
    engine.forget()
    for row, margin in zip(rows, margins, strict=True):
        ids = label_ids(lm)
        options = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": 2}
        top = ask(lm, list(row.question), options, label_ids=ids).logprobs[0].top
        logprob = {entry.token_id: entry.logprob for entry in top}
        assert logprob[ids[0]] - logprob[ids[1]] == pytest.approx(margin, abs=1e-3)


def test_a_steps_loss_is_the_weighted_mean_over_its_rows(engine, folder):
    rows = [*verdicts(folder, users=3), *(summary(user) for user in range(5))]
    rows = [replace(row, weight=1.0 + number % 3) for number, row in enumerate(rows)]
    examples = examples_of(engine, folder, rows, **{"preference.summarize": 0.5})
    made = plan(
        examples,
        epochs=1,
        batch_rows=4,
        batch_positions=2000,
        accumulate=3,
        ranking=1.0,
        pack=True,
        seed=0,
    )
    for start in range(0, len(made.batches), 3):
        step = made.batches[start : start + 3]
        weights = [examples[i].weight for batch in step for tree in batch.trees for i in tree.members]
        assert sum(batch.row_share / len(step) for batch in step) == pytest.approx(len(step) / sum(weights))
    seen = sorted(i for batch in made.batches for tree in batch.trees for i in tree.members)
    assert seen == list(range(len(examples)))
    assert sum(len(lists(batch.trees, examples)) for batch in made.batches) == 3


def test_what_is_told_is_learnt(small, folder, tmp_path):
    rows, dev = verdicts(folder, users=12), verdicts(folder, users=4, first=100)
    config = replace(QUICK, epochs=12, ranking=1.0, dropout=0.0)
    steps = []
    made = train(rows, base=f"local:{small}", out=tmp_path / "lora", config=config, dev=dev, progress=steps.append)
    losses = [step.loss for step in steps if step.dev_auc is None]
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    assert made.metrics["dev_auc"] == max(step.dev_auc for step in steps if step.dev_auc is not None)
    assert sorted(path.name for path in (tmp_path / "lora").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "card.toml",
    ]
    assert Lora.read(tmp_path / "lora") == made


class Killed(Exception):
    pass


def killed_at(*numbers):
    left = list(numbers)

    def progress(step):
        if step.dev_auc is None and left and step.number == left[0]:
            left.pop(0)
            raise Killed

    return progress


def test_a_training_killed_twice_ends_as_one_that_was_not(small, folder, tmp_path):
    rows, dev = [*verdicts(folder, users=8, pictures=True), summary()], verdicts(folder, users=2, first=50)
    given = {"base": f"local:{small}", "config": replace(QUICK, epochs=4, accumulate=2), "dev": dev, "images": folder}
    whole, broken, seconds = [], [], []
    once = train(rows, out=tmp_path / "once", progress=whole.append, **given)
    kill = killed_at(4, 8)
    tries = 0
    while True:
        tries += 1
        try:
            twice = train(
                rows, out=tmp_path / "twice", progress=lambda step: (broken.append(step), kill(step)), **given
            )
            break
        except Killed:
            state = max((tmp_path / "twice" / "checkpoints").glob("checkpoint-*/trainer_state.json"))
            told = [entry["seconds"] for entry in json.loads(state.read_text())["log_history"]]
            assert told == sorted(told)
            seconds.append(told[-1] - sum(seconds))
            checkpoints = tmp_path / "twice" / "checkpoints"
            half = checkpoints / "checkpoint-99"  # as a kill while writing leaves it
            half.mkdir(exist_ok=True)
            (half / "adapter_config.json").write_text("{}")
    assert tries == 3
    assert len(whole) >= 9
    last = {step.number: step.loss for step in broken}
    assert last == {step.number: pytest.approx(step.loss, abs=1e-6) for step in whole}
    assert twice.digest == once.digest
    assert seconds[0] > 0
    assert twice.metrics["seconds"] > sum(seconds)  # of all three parts, less what was lost with a kill
    assert not (tmp_path / "twice" / "checkpoints").exists()


def test_a_training_goes_on_from_another_lora(small, folder, tmp_path):
    given = {"base": f"local:{small}", "images": folder}
    rows, losses = verdicts(folder, users=4), []
    first = train(rows, out=tmp_path / "first", config=replace(QUICK, dropout=0.0), **given)
    again = {"config": replace(QUICK, dropout=0.0, learning_rate=1e-9), "progress": losses.append, **given}
    second = train(rows, out=tmp_path / "second", start=first.folder, **again)
    assert losses[0].loss == pytest.approx(first.metrics["loss"], rel=0.5)
    assert second.digest != first.digest
    assert read_card(second.folder / "card.toml")["start"] == first.digest
    with pytest.raises(InputError, match="another rank or other layers"):
        train(rows, out=tmp_path / "third", start=first.folder, config=replace(QUICK, rank=2), **given)
    with pytest.raises(ModelError, match="adapter_config"):
        train(rows, out=tmp_path / "third", start=tmp_path, **given)


def test_a_training_that_ended_is_not_done_again(small, folder, tmp_path):
    rows, given = verdicts(folder, users=2), {"base": f"local:{small}", "config": replace(QUICK, epochs=1)}
    first = train(rows, out=tmp_path / "a", **given)
    steps = []
    assert train(rows, out=tmp_path / "a", progress=steps.append, **given) == first
    assert not steps
    with pytest.raises(InputError, match="another training"):
        train(rows[:-1], out=tmp_path / "a", **given)


def test_it_stops_when_dev_gets_no_better_and_keeps_the_best(small, folder, tmp_path):
    said = iter([0.5, 0.7, 0.6, 0.65, 0.9])
    config = replace(QUICK, epochs=9, evaluate_every=1, patience=2)
    asked = []

    def dev(lm):
        asked.append(lm("Hi?", max_tokens=1))
        return next(said)

    made = train(verdicts(folder, users=4), base=f"local:{small}", out=tmp_path / "a", config=config, dev=dev)
    assert made.metrics["dev_auc"] == 0.7
    assert made.metrics["steps"] == 4
    assert len(asked) == 4


def test_a_lora_answers_differently_from_its_base_and_as_when_merged(small, folder, tmp_path):
    write_rows(folder / "rows.jsonl", verdicts(folder, users=4))
    config = replace(QUICK, epochs=3)
    made = train(folder / "rows.jsonl", base=f"local:{small}", out=tmp_path / "lora", config=config)
    whole = train(
        folder / "rows.jsonl", base=f"local:{small}", out=tmp_path / "whole", config=replace(config, merge=True)
    )
    assert whole.merged
    base, tuned = connect(f"local:{small}"), connect(f"local:{small}#{made.folder}")
    merged = connect(f"local:{whole.folder}")
    assert base.model in tuned.model
    assert f"lora@{made.digest[:12]}" in tuned.model

    def odds(lm):
        from srec.lm.adapters import ask, label_ids  # noqa: PLC0415

        options = {"max_tokens": 1, "temperature": 0.0, "logprobs": True, "top_logprobs": 2}
        question = list(verdicts(folder, users=1)[0].question)
        top = ask(lm, question, options, label_ids=label_ids(lm)).logprobs[0].top
        return {entry.token_id: entry.logprob for entry in top}

    one, other, third = odds(tuned), odds(merged), odds(base)
    assert max(abs(one[i] - third[i]) for i in one) > 1.0
    assert max(abs(one[i] - other[i]) for i in one) < 0.5
    again = type(tuned.engine).load_state(tuned.engine.dump_state())
    assert again.identity == tuned.engine.identity


def test_a_lora_is_refused_by_another_base(small, folder, tmp_path):
    made = train(verdicts(folder, users=2), base=f"local:{small}", out=tmp_path / "a", config=replace(QUICK, epochs=1))
    with pytest.raises(ModelError, match="was trained on"):
        connect(f"local:smollm2-135m#{made.folder}")
    (made.folder / "card.toml").write_text("= 1")
    with pytest.raises(ModelError, match=r"cannot be read .* or take the card away"):
        connect(f"local:smollm2-135m#{made.folder}")
    (made.folder / "card.toml").unlink()
    with pytest.raises(ModelError, match="does not fit smollm2-135m"):
        connect(f"local:smollm2-135m#{made.folder}")
    (made.folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors"):
        connect(f"local:{small}#{made.folder}")


def test_the_vision_tower_gets_no_lora(small, folder, tmp_path):
    made = train(verdicts(folder, users=2), base=f"local:{small}", out=tmp_path / "a", config=replace(QUICK, epochs=1))
    from safetensors import safe_open  # noqa: PLC0415

    with safe_open(made.folder / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    assert names
    assert all(name.startswith("base_model.model.model.text_model.layers.") for name in names)
    settings = json.loads((made.folder / "adapter_config.json").read_text())
    assert "/" not in settings["base_model_name_or_path"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"base": "openai/gpt-4o-mini"}, "cannot be trained"),
        ({"rows": []}, "no rows"),
        ({"dev": [summary()]}, "no dev row has a label"),
        ({"rows": [summary()], "config": TrainConfig(ranking=1.0)}, "ranking loss needs"),
        ({"config": TrainConfig(stages={"scoring.judge": 0.0})}, "weight of 0"),
        ({"config": TrainConfig(stages={"scoring.jugde": 2.0})}, "no row of scoring.jugde; rows are of scoring.judge"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_words(small, folder, tmp_path, change, told):
    given = {"rows": verdicts(folder, users=1), "base": f"local:{small}", "out": tmp_path / "a", **change}
    with pytest.raises((InputError, ModelError), match=told):
        train(given.pop("rows"), **given)


def test_dev_rows_that_saw_the_answer_are_refused(small, folder, tmp_path):
    rows = [replace(row, saw_answer=True) for row in verdicts(folder, users=1)]
    with pytest.raises(InputError, match="saw the answer"):
        train(rows, base=f"local:{small}", out=tmp_path / "a", dev=rows)


def test_the_verb_trains(small, folder, tmp_path):
    write_rows(folder / "few.jsonl", verdicts(folder, users=2))
    told = ["train", folder / "few.jsonl", "--base", f"local:{small}", "--out", tmp_path / "a", "--epochs", 1]
    result = CliRunner().invoke(app, [*map(str, told), "--json", str(tmp_path / "told.json")])
    assert result.exit_code == 0, result.output
    made = json.loads((tmp_path / "told.json").read_text("utf-8"))
    assert made["digest"] == Lora.read(tmp_path / "a").digest
    assert made["folder"] == str(tmp_path / "a")


def test_doctor_looks_at_the_lora(small, folder, tmp_path):
    made = train(verdicts(folder, users=1), base=f"local:{small}", out=tmp_path / "a", config=replace(QUICK, epochs=1))
    (*_, good) = examine((f"local:{small}#{made.folder}",), store=tmp_path / "store")
    (*_, bad) = examine((f"local:{small}#{tmp_path}",), store=tmp_path / "store")
    assert good.state == "ok"
    assert "with the LoRA in" in good.told
    assert bad.state == "broken"
    assert "adapter_config.json" in bad.told
