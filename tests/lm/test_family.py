"""A base and its LoRAs behind one engine: who answers, under which name, and what launch and kill do."""

import copy
import json

import dspy
import pytest
from dspy.lm15 import Message, Request, TextPart
from vllm_stub import gone, started_with

from srec.errors import InputError, ModelError
from srec.lm.checkpoint import obtain
from srec.lm.family import Family
from srec.lm.lora import obtain_lora
from srec.lm.server import served_name


@pytest.fixture
def lora(tmp_path):
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8}))
    (folder / "adapter_model.safetensors").write_bytes(b"numbers")
    return folder


def asked(model):
    return Request(model=model, messages=(Message.user([TextPart("?")]),))


def test_models_are_named_as_srec_connect_and_srec_serve_name_them(base, lora):
    checkpoint = obtain(str(base))
    here, there = Family(f"local:{base}"), Family(f"local:{base}", serve={})
    fitting = obtain_lora(lora, base=checkpoint)
    assert here.model == f"local/{checkpoint.identity}"
    assert here.add(lora) == f"local/{checkpoint.identity}+{fitting.identity}"
    assert there.model == f"vllm/{checkpoint.identity}"
    assert there.add(lora) == f"vllm/{served_name('base-lora', fitting)}"
    for family in (here, there):
        assert family.model_string(family.model) == f"local:{base}"
        assert family.model_string(family.add(lora)) == f"local:{base}#{lora}"
        assert copy.deepcopy(family) is family
        assert not family.sees_images


def test_a_server_is_launched_once_and_killed_with_all_its_processes(base, lora, stub, tmp_path):
    log = tmp_path / "log"
    family = Family(f"local:{base}", serve={"python": stub, "log": log})
    model = family.add(lora)
    with pytest.raises(ModelError, match=r"is not being served; call launch\(\)"):
        family.complete(asked(model))
    assert family.special_tokens == ()
    family.launch(model, {"max_num_seqs": 3})
    started = started_with(log)
    assert started["arguments"][started["arguments"].index("--max-num-seqs") + 1] == "3"
    family.launch(model)
    assert started_with(log) == started
    assert family.running == (model,)
    family.kill(model)
    assert gone(started["pids"], within_s=5)
    assert family.running == ()
    family.kill(model)


def test_weights_that_have_changed_are_not_handed_out_under_their_old_name(base, lora, stub):
    family = Family(f"local:{base}", serve={"python": stub})
    model = family.add(lora)
    (lora / "adapter_model.safetensors").write_bytes(b"others")
    with pytest.raises(ModelError, match="its files have changed; train anew"):
        family.launch(model)
    assert family.running == ()


def test_a_model_of_another_family_is_not_answered_for(base):
    with pytest.raises(ModelError, match="openai/x is none of local/base@"):
        Family(f"local:{base}").complete(asked("openai/x"))


def test_a_model_in_this_process_takes_no_options_of_a_server(base):
    family = Family(f"local:{base}")
    with pytest.raises(InputError, match="takes no options of a server"):
        family.launch(family.model, {"port": 1})


@pytest.mark.model
def test_weights_are_loaded_when_asked_and_dropped_by_kill(smollm2):
    family = Family("local:smollm2-135m", device="cpu")
    lm = dspy.LM(family.model, engine=family, cache=False, max_tokens=4, temperature=0.0)
    assert family.running == ()
    assert family.special_tokens == smollm2.engine.special_tokens
    assert family.answer_token_ids(("Yes.", "No.")) == smollm2.engine.answer_token_ids(("Yes.", "No."))
    before = lm("Say hello.")
    assert family.running == (family.model,) == (smollm2.model,)
    family.kill(family.model)
    assert family.running == ()
    assert lm("Say hello.") == before
    family.kill(family.model)
