import json

import pytest
from typer.testing import CliRunner

import srec
from evals.canned_server import serving
from srec.cli import app
from srec.data.toyshop import toyshop
from srec.evaluation.stages.fused import toy_fusion
from srec.learn.rows import read_rows

SMALL = ("--candidates", "uniform:5", "--users", "3")


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ask(*args):
    return CliRunner().invoke(app, list(map(str, args)))


def test_rows_and_verdicts_are_of_training_users_and_items(server, tmp_path):
    result = ask(
        "distill",
        "toyshop:40x10@2",
        *SMALL,
        "--out",
        "rows",
        "--model",
        server.model,
        "--verdicts",
        "1:2",
        "--json",
        "out.json",
    )
    assert result.exit_code == 0, result.output
    shop = toyshop(items=40, users=10, seed=2)
    rows, verdicts = (list(read_rows(tmp_path / "rows" / name)) for name in ("rows.jsonl", "verdicts.jsonl"))
    assert {row.user_id for row in rows + verdicts} <= set(shop.training_users)
    assert {row.item_id for row in rows + verdicts} <= {"", *shop.training_items}
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["rows"], found["verdicts"]["rows"]) == (len(rows), len(verdicts))
    assert found["cases"] == 3
    assert "rows.jsonl" in result.output


@pytest.mark.model
@pytest.mark.parametrize(
    "verb",
    [
        ("distill", "toyshop:40x10@2", "--users", 1, "--out", "rows"),
        (
            "optimize",
            "toyshop:40x10@2",
            "--optimizer",
            "bootstrap",
            "--calls",
            300,
            "--train",
            1,
            "--dev",
            1,
            "--out",
            "o",
        ),
    ],
    ids=lambda verb: verb[0],
)
def test_texts_that_choose_the_candidates_are_embedded_once(server, minilm, monkeypatch, verb):
    asked = (*verb, "--model", server.model, "--candidates", "retriever:text-embeddings:3")
    assert ask(*asked).exit_code == 0
    monkeypatch.setattr("srec.data.embedding._encoder", lambda recipe: pytest.fail("what is kept was embedded again"))
    again = ask(*asked)
    assert again.exit_code == 0, again.output


def test_the_training_users_can_be_named(server, tmp_path):
    shop = toyshop(items=40, users=10, seed=2)
    shop.write("shop")
    named = shop.data.users[:3]
    (tmp_path / "users.txt").write_text("\n".join(named) + "\n")
    result = ask("distill", "shop", *SMALL, "--out", "rows", "--model", server.model, "--training-users", "users.txt")
    assert result.exit_code == 0, result.output
    assert {row.user_id for row in read_rows(tmp_path / "rows" / "rows.jsonl")} == set(named)


@pytest.mark.parametrize(
    ("users", "word"), [("missing.txt", "cannot be read"), ("held_out.txt", "held out"), ("nobody.txt", "no user")]
)
def test_users_that_cannot_be_learnt_from_end_with_a_sentence(server, tmp_path, users, word):
    (tmp_path / "held_out.txt").write_text(toyshop(items=40, users=10, seed=2).held_out_users[0])
    (tmp_path / "nobody.txt").write_text("nobody")
    result = ask(
        "distill", "toyshop:40x10@2", *SMALL, "--out", "rows", "--model", server.model, "--training-users", users
    )
    assert result.exit_code == 2
    assert word in result.stderr


def test_a_bad_metric_ends_with_a_sentence(server):
    result = ask("distill", "toyshop:40x10@2", *SMALL, "--out", "rows", "--model", server.model, "--metric", "fun")
    assert result.exit_code == 2
    assert "fun" in result.stderr


def test_a_saved_program_teaches_with_its_own_words(server, tmp_path):
    words = "Say what this user looks for."
    program = srec.MLLMSRec(fusion=toy_fusion())
    program.profiling.describe.signature = program.profiling.describe.signature.with_instructions(words)
    srec.save_program(program, "mine", card={})
    result = ask(
        "distill",
        "toyshop:40x10@2",
        *SMALL,
        *("--out", "rows", "--model", server.model, "--program", "mine", "--show-answer"),
        *("--verdicts", "1:1", "--sampling", "item-knn"),
    )
    assert result.exit_code == 0, result.output
    rows = list(read_rows(tmp_path / "rows" / "rows.jsonl"))
    assert {row.question[0]["content"].startswith(words) for row in rows if row.stage == "profiling.describe"} == {True}
    assert {row.saw_answer for row in rows if row.stage.startswith("scoring.")} == {True}


@pytest.mark.parametrize("option", [("--sampling", "hardest"), ("--label", "stars"), ("--verdicts", "2:1")], ids=str)
def test_verdicts_that_mean_nothing_end_with_a_sentence_before_anybody_is_asked(tmp_path, option):
    result = ask(
        "distill", "toyshop:40x10@2", *SMALL, "--out", "rows", "--model", "vllm:http://127.0.0.1:9/v1#x", *option
    )
    assert result.exit_code == 2
    assert option[1] in result.stderr
    assert not (tmp_path / "rows").exists()
