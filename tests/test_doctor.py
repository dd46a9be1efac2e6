import socket
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals.canned_server import serving
from srec.cli import app
from srec.doctor import EXTRAS, NEEDED, examine

REPOSITORY = Path(__file__).parents[1]


def ask(*args):
    return CliRunner().invoke(app, ["doctor", *map(str, args)])


def name_of(requirement):
    return requirement.split(">")[0].split("<")[0].split("=")[0].strip()


def test_the_doctor_knows_the_packages_that_the_project_asks_for():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    named = {extra: {name_of(r) for r in project["optional-dependencies"][extra]} for extra in EXTRAS}
    assert {extra: set(packages) for extra, packages in EXTRAS.items()} == named
    assert {name_of(r) for r in project["dependencies"]} - {"lazy-loader"} <= set(NEEDED)


def test_packages_machine_folders_and_models_are_looked_at(tmp_path):
    found = {one.subject: one for one in examine((), store=tmp_path / "runs")}
    assert {"python", "packages", "extra local", "processor", "GPU", "cache folder", "store"} <= set(found)
    assert found["packages"].state == "ok"
    assert found["store"].state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_store_folder_below_a_file_is_broken(tmp_path):
    (tmp_path / "file").write_text("")
    found = {one.subject: one for one in examine((), store=tmp_path / "file" / "runs")}
    assert found["store"].state == "broken"
    assert "--store" in found["store"].advice


def test_a_server_that_answers_is_ok(tmp_path):
    with serving() as server:
        result = ask(server.model, "--store", tmp_path)
    assert result.exit_code == 0, result.output
    assert "answers and serves canned" in " ".join(result.stdout.split())


def test_a_server_without_the_model_is_told_with_what_it_serves(tmp_path):
    with serving() as server:
        result = ask(server.model.replace("canned", "other"), "--store", tmp_path)
    assert result.exit_code == 1
    assert "it serves: canned" in " ".join(result.stdout.split())


@pytest.mark.parametrize("model", ["local:nosuch", "nonsense", "local:/nosuch/folder", "vllm:http://127.0.0.1#"])
def test_what_cannot_work_is_named_and_ends_with_code_1(model, tmp_path):
    result = ask(model, "--store", tmp_path)
    assert result.exit_code == 1
    assert model in result.stderr
    assert "to do:" in result.stdout
    assert "Traceback" not in result.output


def test_a_server_that_is_not_there_is_told_at_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = ask(f"vllm:http://127.0.0.1:{port}/v1#m", "--store", tmp_path)
    assert result.exit_code == 1
    assert "start it, or check the address" in " ".join(result.stdout.split())


def test_a_hosted_provider_without_a_key_says_which_variable_to_set(monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = ask("openai/gpt-4o-mini", "--store", tmp_path)
    assert result.exit_code == 1
    assert "set OPENAI_API_KEY" in result.stdout


def test_a_hosted_model_that_reasons_is_refused_as_by_connect(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    assert ask("openai/gpt-4o-mini", "--store", tmp_path).exit_code == 0
    result = ask("openai/gpt-5-mini", "--store", tmp_path)
    assert result.exit_code == 1
    assert "choose one that does not reason" in " ".join(result.stdout.split())
