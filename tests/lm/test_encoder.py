"""The packaged encoder of texts, with its real weights."""

import json
import shutil

import numpy as np
import pytest

from srec.errors import ModelError
from srec.lm.sentence import obtain_encoder

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
transformers = pytest.importorskip("transformers", reason="the extra `local` is not installed")

from srec.lm.encoder import TextEncoder  # noqa: E402 (needs torch)

pytestmark = pytest.mark.model

TEXTS = ["A man is eating food.", "Someone eats a meal", "The stock market fell on Monday", "x " * 400]


@pytest.fixture(scope="module")
def encoder(minilm):
    return TextEncoder(minilm, device="cpu")


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_what_means_alike_is_near(encoder):
    vectors = encoder(TEXTS)
    assert vectors.shape == (4, 384)
    assert vectors.dtype == np.float32
    assert cosine(vectors[0], vectors[1]) > 0.6
    assert cosine(vectors[0], vectors[2]) < 0.2


def test_vectors_are_the_mean_over_the_first_256_tokens(encoder, minilm):
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm.checkpoint.folder)
    model = transformers.AutoModel.from_pretrained(minilm.checkpoint.folder).eval()
    tokens = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    assert tokens["input_ids"].shape == (4, 256)
    with torch.inference_mode():
        states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
    np.testing.assert_allclose(encoder(TEXTS), ((states * mask).sum(1) / mask.sum(1)).numpy(), atol=1e-5)


def test_a_vector_is_the_same_in_any_company_and_after_loading_anew(encoder, minilm):
    vectors = encoder(TEXTS)
    assert (encoder(TEXTS[::-1])[::-1] == vectors).all()
    assert (TextEncoder(minilm, device="cpu")(TEXTS[1:2]) == vectors[1]).all()


def test_another_folder_is_read_as_it_asks(encoder, minilm, tmp_path):
    shutil.copytree(minilm.checkpoint.folder, tmp_path / "cls")
    (tmp_path / "cls" / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    other = TextEncoder(obtain_encoder(str(tmp_path / "cls")), device="cpu")
    assert not np.allclose(other(TEXTS[:1]), encoder(TEXTS[:1]), atol=1e-2)
    assert cosine(other(TEXTS[:1])[0], encoder(TEXTS[:1])[0]) > 0.2


def test_a_folder_without_weights_is_told(minilm, tmp_path):
    shutil.copytree(minilm.checkpoint.folder, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelError, match="cannot be loaded as an encoder of texts"):
        TextEncoder(obtain_encoder(str(tmp_path / "bare")))
