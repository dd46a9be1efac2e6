import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
LINES = {
    "bring_your_own_data.py": "left out: interactions.csv, line 50: item 'cup99' is not among the items",
    "custom_pipeline.py": "The pipeline once more: 0 LM calls, 5 results from the store.",
    "distill_and_serve.py": "In process: toy0000",
    "optimize_prompts.py": "Loaded again: fusion.answer_question, ",
    "finetune_with_dspy.py": "finetuned local/",
    "rank_one_user.py": "Ranked 5 toys with ",
}
TIMEOUT_S = 300


@pytest.mark.model
@pytest.mark.parametrize(("name", "line"), LINES.items(), ids=LINES)
def test_an_example_runs_and_prints_what_it_is_about(name, line, smollm2, tmp_path):
    ran = subprocess.run(
        [sys.executable, FOLDER / name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert any(printed.startswith(line) for printed in ran.stdout.splitlines()), ran.stdout


def test_every_example_is_run():
    assert sorted(path.name for path in FOLDER.glob("*.py")) == sorted(LINES)


@pytest.mark.parametrize("name", LINES)
def test_an_example_fits_a_screen_or_two(name):
    assert len((FOLDER / name).read_text("utf-8").splitlines()) <= 60
