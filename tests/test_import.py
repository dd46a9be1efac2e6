import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "vllm", "llguidance"}
LATER = {"dspy", "pyarrow", "scipy", "PIL", "numpy", "rich", "typer", "litellm", "diskcache"}

LOAD = """
import json, sys, time
began = time.perf_counter()
{statement}
print(json.dumps([time.perf_counter() - began, sorted(name.split(".")[0] for name in sys.modules)]))
"""


def load(statement: str) -> tuple[float, set[str]]:
    """Seconds of a statement in a fresh process, and the packages that are loaded after it."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(statement=statement)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, modules = json.loads(done.stdout)
    return seconds, set(modules)


def test_import_srec_is_quick_and_loads_nothing_large():
    seconds, modules = load("import srec")
    assert not modules & (HEAVY | LATER)
    assert seconds < 0.5  # 0.02 on an idle machine


@pytest.mark.parametrize(
    "statement",
    [
        "import srec; srec.MLLMSRec(scoring=srec.CoTScoring())",
        "import srec; srec.connect",
        "import srec; srec.toyshop(items=4, users=2); srec.cases; srec.evaluate; srec.explain",
        "import srec.testing; srec.testing.scripted({})",
    ],
)
def test_a_program_without_a_local_model_loads_no_torch(statement):
    assert not load(statement)[1] & HEAVY


@pytest.mark.parametrize("statement", ["import srec; srec.Item; srec.Case", "import srec; srec.SrecError"])
def test_the_nouns_load_no_dspy(statement):
    assert not load(statement)[1] & (HEAVY | LATER)


def test_an_unknown_name_is_an_attribute_error_that_names_it():
    done = subprocess.run(
        [sys.executable, "-c", "import srec; srec.Nothing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "Nothing" in done.stderr.splitlines()[-1]
