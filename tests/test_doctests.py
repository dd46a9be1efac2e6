"""The examples in the docstrings run."""

import doctest
import importlib
from pathlib import Path

import pytest

import srec

PACKAGE = Path(srec.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("srec", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
HEAVY = {"srec.lm.local", "srec.lm.prefix", "srec.lm.guide"}  # they load torch; tests/lm runs them


@pytest.mark.parametrize("module", [name for name in WITH_EXAMPLES if name not in HEAVY])
def test_the_examples_in_a_module_run(module):
    loaded = importlib.import_module(module)
    assert any(found.examples for found in doctest.DocTestFinder().find(loaded))
    assert doctest.testmod(loaded, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
