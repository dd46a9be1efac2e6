"""README's example prints what README says it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBERS = re.compile(r"\d+\.\d+|\d+,\d+|\d+ s\b")


def _example() -> tuple[str, str]:
    code, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL).groups()
    return code, printed


@pytest.mark.model
def test_the_example_of_the_readme_prints_what_it_shows_there(smollm2, tmp_path):
    code, printed = _example()
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    env = {**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "100"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500, check=False
    )
    assert run.returncode == 0, run.stderr

    def shape(text: str) -> list[str]:
        """Lines without their numbers: a bfloat16 score differs in its last digits from processor to processor."""
        lines = (re.sub(r"[─━┏┓┗┛┃│╇┡┩└┘┴\s]+", " ", NUMBERS.sub("#", line)).strip() for line in text.splitlines())
        return [line for line in lines if line]

    first, *_ = shape(run.stdout)
    assert first == shape(printed)[0]
    assert "popularity" in run.stdout
    assert {line.split(" ")[0] for line in shape(run.stdout)[-12:]} & {"program", "random"}
    assert interval_of_auc(run.stdout, "program")[0] > 0.52  # chance is .5; the student never saw the shop
    best_of_the_others = max(auc_of(run.stdout, name) for name in ("random", "popularity", "content-knn"))
    assert auc_of(run.stdout, "program") > best_of_the_others + 0.1


def lines_of(printed, ranker):
    """A ranker's means, and the intervals below them; AUC is the fourth of both."""
    return printed.split(f"\n {ranker} ", 1)[1].split("\n")[:2]


def auc_of(printed, ranker):
    return float(lines_of(printed, ranker)[0].split()[3])


def interval_of_auc(printed, ranker):
    return tuple(map(float, re.findall(r"\[(\S+) (\S+)\]", lines_of(printed, ranker)[1])[3]))


def test_every_file_that_the_readme_names_exists():
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    tree = re.search(r"## Where things are\n\n```\n(.*?)```", README, re.DOTALL).group(1)
    inside = [word for line in tree.splitlines() if line.startswith("  ") for word in line.split("  ")[1].split()]
    assert linked
    for name in linked:
        assert (ROOT / name).exists(), name
    for name in inside:
        assert (ROOT / "srec" / name).exists(), name


def test_the_verbs_of_the_readme_exist():
    helped = subprocess.run(
        [sys.executable, "-c", "from srec.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout
    for verb in set(re.findall(r"^srec ([a-z]+)", README, re.MULTILINE)):
        assert verb in helped, verb
