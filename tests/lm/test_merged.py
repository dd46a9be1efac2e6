"""A LoRA merged into its base says what the LoRA beside its base says, in this process and to vLLM."""

import json

import pytest
from vllm_stub import started_with

import srec
from srec import show
from srec.card import read_card
from srec.errors import InputError, ModelError
from srec.lm.checkpoint import digest_of, obtain
from srec.lm.lora import obtain_lora

torch = pytest.importorskip("torch", reason="the extra `local` is not installed")
pytest.importorskip("peft", reason="the extra `local` is not installed")

pytestmark = pytest.mark.model

ASKED = {"logprobs": True, "top_logprobs": 5, "max_tokens": 1, "temperature": 0.0}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SREC_CACHE", str(tmp_path / "cache"))


def most_likely(lm):
    from srec.lm.adapters import ask  # noqa: PLC0415

    top = ask(lm, [{"role": "user", "content": "A red drum, a blue boat."}], ASKED).logprobs[0].top
    return {entry.token_id: entry.logprob for entry in top}


def test_a_whole_model_says_what_the_lora_beside_its_base_says(given, loras, tmp_path):
    out = srec.merge(loras["a"], base=given.folder, out=tmp_path / "whole")
    whole, beside = srec.connect(f"local:{out}"), srec.connect(f"local:{given.folder}#{loras['a']}")
    base = srec.connect(f"local:{given.folder}")
    one, other, bare = most_likely(whole), most_likely(beside), most_likely(base)
    both = one.keys() & other.keys()
    assert len(both) >= 3
    assert max(abs(one[token] - other[token]) for token in both) < 0.3
    assert one.keys() != bare.keys() or max(abs(one[token] - bare[token]) for token in one) > 0.3
    assert "frequency_penalty" in base.kwargs
    assert "frequency_penalty" not in whole.kwargs  # what is tuned writes as it learned
    assert "frequency_penalty" not in beside.kwargs


def test_its_files_are_those_of_the_base_with_a_card(given, loras, tmp_path):
    out = srec.merge(loras["a"], base=given.folder, out=tmp_path / "whole")
    named = {path.name for path in given.folder.iterdir() if path.suffix in {".json", ".jinja", ".safetensors"}}
    assert named | {"card.toml"} <= {path.name for path in out.iterdir()}
    lora = obtain_lora(loras["a"], base=given)
    card = read_card(out / "card.toml")
    assert card["lora"] == lora.digest
    assert card["base"]["digest"] == given.digest
    assert card["digest"] == digest_of(out) != given.digest
    again = srec.merge(loras["a"], base=given.folder, out=tmp_path / "again")
    assert digest_of(again) == digest_of(out)


def test_it_is_served_as_one_model_without_a_lora(given, loras, stub, capsys):
    with srec.start_server([loras["a"]], base=given.folder, merge=True, python=stub) as server:
        told = started_with(server.log)["arguments"]
        assert server.names == (server.loras["a"],)
        show.server(show.console(), server)
        assert f"--model '{server.model_string(server.base)}'" in capsys.readouterr().out.replace("\n", "")
        assert server.lm().model == server.lm("a").model == f"vllm/{server.base}"
    assert "--enable-lora" not in told
    whole = obtain(told[told.index("--model") + 1])
    assert server.base == f"a@{whole.digest[:12]}"
    with srec.serve(loras["a"], base=given.folder, merge=True, python=stub) as lm:
        assert lm.model == f"vllm/{server.base}"


def test_the_folder_one_stands_in_can_be_filled(given, loras, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    srec.merge(loras["a"], base=given.folder, out=".")
    assert srec.connect(f"local:{tmp_path / 'here'}").engine.is_tuned
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"cannot be written to .*file/out: .*; name another folder"):
        srec.merge(loras["a"], base=given.folder, out=tmp_path / "file" / "out")


def test_what_cannot_be_merged_is_refused(given, loras, stub, tmp_path):
    with (
        pytest.raises(InputError, match="2 LoRAs cannot be merged into one model"),
        srec.start_server([loras["a"], loras["b"]], base=given.folder, merge=True, python=stub),
    ):
        pass
    with (
        pytest.raises(InputError, match="leave out what is for a new one"),
        srec.serve(loras["a"], base=given.folder, merge=True, base_url="http://127.0.0.1:1/v1"),
    ):
        pass
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    with pytest.raises(InputError, match="is not an empty folder"):
        srec.merge(loras["a"], base=given.folder, out=tmp_path / "full")
    with pytest.raises(ModelError, match=r"nowhere has no adapter_config.json; .* toyshop-student"):
        srec.merge(tmp_path / "nowhere", base=given.folder, out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_lora_that_does_not_fit_leaves_nothing_half_written(given, loras, tmp_path):
    settings = json.loads((loras["a"] / "adapter_config.json").read_text())
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "adapter_config.json").write_text(json.dumps(settings | {"r": 1, "rank_pattern": {}}))
    (odd / "adapter_model.safetensors").write_bytes((loras["a"] / "adapter_model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="does not fit"):
        srec.merge(odd, base=given.folder, out=tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
