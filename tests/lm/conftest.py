import os
from pathlib import Path

import pytest
import vllm_stub

import srec

PYTHON = Path(os.environ.get("SREC_VLLM_PYTHON") or Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python")
LANGUAGE = r".*text_model.*\.(q_proj|v_proj|down_proj)"
STRENGTH = 0.6  # of drawn LoRAs: they write something else than their base, and still words


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def stub(tmp_path, monkeypatch):
    monkeypatch.setenv("STUB", "serves")
    for name in ("SREC_API_KEY", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "SREC_VLLM_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return vllm_stub.written(tmp_path)


@pytest.fixture(scope="session")
def vllm_python():
    """A python with vLLM; a test that needs it skips where there is none."""
    if not PYTHON.is_file():
        pytest.skip(f"no python with vLLM at {PYTHON}; run `make test`, or set SREC_VLLM_PYTHON")
    return PYTHON


@pytest.fixture(scope="session")
def loras(given, tmp_path_factory):
    """Three LoRAs of `given` that have learned nothing; their numbers are drawn by seeds."""
    return {
        name: drawn_lora(given, tmp_path_factory.mktemp("loras") / name, seed=seed) for seed, name in enumerate("abc")
    }


def drawn_lora(base, folder, *, seed):
    import peft  # noqa: PLC0415 (they load torch)
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    model = transformers.AutoModelForImageTextToText.from_pretrained(base.folder, dtype=torch.float32)
    torch.manual_seed(seed)
    rank = 4 * (seed + 1)
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=LANGUAGE, init_lora_weights=False)
    tuned = peft.get_peft_model(model, config)
    for name, weights in tuned.named_parameters():
        if "lora_B" in name:
            weights.data.mul_(STRENGTH)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="package")  # the memory is wanted by the tests after these
def vllm(given, loras, vllm_python):
    """A vLLM server with the model of `given` and the LoRAs "a" and "b".

    In float32: in bfloat16 each processor, and each size of a batch, rounds in other places, by up to a step of a logit.
    """
    named = {name: loras[name] for name in "ab"}
    told = {"python": vllm_python, "max_model_len": 1024, "arguments": ("--dtype", "float32")}
    with srec.start_server(named, base=given.folder, **told) as server:
        yield server
