from pathlib import Path

import dspy
import pytest

from srec.errors import ModelError
from srec.lm.checkpoint import packaged_file
from srec.lm.connect import connect


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared data sets beside the repository; a test that needs it skips where it is missing."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the folder of shared data is missing: {folder}")
    return folder


@pytest.fixture(scope="session")
def smollm2() -> dspy.LM:
    """SmolLM2-135M in this process; a test that needs it skips where its weights can be had from nowhere."""
    try:
        return connect("local:smollm2-135m")
    except ModelError as error:
        if packaged_file("smollm2-135m") is not None:
            raise
        pytest.skip(f"the weights of SmolLM2-135M are missing: {error}")
