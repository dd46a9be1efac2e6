"""The same measurement by `srec evaluate --stages` and by `evals/stages.py`."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals.canned_server import serving
from srec.cli import app

SCRIPT = Path(__file__).parents[3] / "evals" / "stages.py"


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_verb_and_script_write_the_same_figures(monkeypatch, capsys):
    with serving() as server:
        asked = [
            "evaluate",
            "toyshop:8x3@1",
            "--stages",
            "--model",
            server.model,
            "--store",
            "kept",
            "--json",
            "verb.json",
        ]
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 0, result.output
        assert "control: blank image" in result.stdout
        calls = server.total
        options = ["--seed", "1", "--items", "8", "--users", "3", "--store", "kept", "--json", "script.json", "--model"]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options, server.model])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        assert server.total == calls, "the script finds the results of the verb in the store"
    verb, script = (json.loads(Path(name).read_text()) for name in ("verb.json", "script.json"))
    assert verb == script
    assert verb["ceilings"]["all"]["n"] >= 2000
    assert "control: blank image" in capsys.readouterr().out


def test_only_a_world_whose_truth_is_known_has_stages_to_measure():
    result = CliRunner().invoke(app, ["evaluate", "some/folder", "--stages"])
    assert result.exit_code == 2
    assert "give toyshop:ITEMSxUSERS@SEED" in result.output
