"""What `srec optimize` and `srec train` pass on, and what they refuse before a model is loaded."""

import pytest
from typer.testing import CliRunner

from evals.canned_server import serving
from srec.artifact import card_of
from srec.cli import app
from srec.cli.learning import _weights
from srec.errors import InputError

ITEMS = "item_id,title\n" + "".join(f"{n},Toy number {n}\n" for n in range(8))
LOG = "user_id,item_id,timestamp,rating\n" + "".join(
    f"user{user},{(user + step) % 8},{100 * (step + 1)},5\n" for user in range(4) for step in range(3)
)
FEW = ("--optimizer", "bootstrap", "--candidates", "uniform:2", "--train", "1", "--dev", "1", "--calls", "500")


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name, text in (("items.csv", ITEMS), ("interactions.csv", LOG)):
        (tmp_path / "data" / name).write_text(text, "utf-8")


def ask(*args):
    return CliRunner().invoke(app, list(map(str, args)))


def test_an_optimized_program_can_be_optimized_again_for_another_task(server):
    first = ask("optimize", "data", *FEW, "--model", server.model, "--out", "first")
    assert first.exit_code == 0, first.output
    again = ask("optimize", "data", *FEW, "--model", server.model, "--out", "again",
                "--program", "first", "--task", "like:4.0")  # fmt: skip
    assert again.exit_code == 0, again.output
    assert (card_of("first")["task"], card_of("again")["task"]) == ("next", "like:4.0")


def test_who_writes_instructions_sees_the_pictures_if_asked_to(server):
    args = ("optimize", "data", *FEW, "--model", server.model, "--stages", "scoring", "--train", 2)
    for folder, flags in (("seeing", ["--reflection-images"]), ("blind", [])):
        made = ask(*args, "--optimizer", "gepa", "--calls", 60, "--out", folder, *flags)
        assert made.exit_code == 0, made.output
        assert card_of(folder)["optimizer"]["images"] is bool(flags)
    refused = ask(*args, "--reflection-images", "--out", "none")
    assert refused.exit_code == 2
    assert "--reflection-images is for gepa" in refused.stderr


def test_too_few_users_end_with_a_sentence():
    result = ask("optimize", "data", *FEW, "--train", 90, "--dev", 90, "--out", "mine")
    assert result.exit_code == 2
    assert "4 users with a case, 90 and 90 are asked for" in " ".join(result.stderr.split())


def test_stages_are_weighed_by_name():
    assert _weights(["scoring.judge=2", "fusion.answer_question = 0"]) == {
        "scoring.judge": 2.0,
        "fusion.answer_question": 0.0,
    }
    for wrong in ("scoring.judge", "scoring.judge=much"):
        with pytest.raises(InputError, match=r"scoring\.judge=2"):
            _weights([wrong])


def test_a_weight_below_nought_ends_with_a_sentence():
    result = ask("train", "rows.jsonl", "--out", "lora", "--stage", "scoring.judge=-1")
    assert result.exit_code == 2
    assert "must not be negative" in result.stderr
