"""Real vLLM servers with real LoRAs: all answer for themselves, and nothing of a server stays behind."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dspy
import pytest
from dspy.clients.cache import Cache
from dspy.lm15 import ImagePart, Message, Request
from dspy.utils.exceptions import LMInvalidRequestError
from vllm_stub import alive, gone

import srec
from srec.lm.connect import served_models

pytestmark = [pytest.mark.server, pytest.mark.model]

QUESTIONS = ("What is a boat?", "Name a colour.", "Say hello to Ann.")
ROUNDING = 0.005  # of float32, with much to spare; the models are a hundred times as far apart


def answers(lm):
    return [lm(question)[0] for question in QUESTIONS]


def first_token(lm, question):
    """Log-probabilities of what an answer may begin with, the likeliest twenty."""
    said = lm(question, logprobs=True, top_logprobs=20, max_tokens=1)[0]
    return {entry["token"]: entry["logprob"] for entry in said["logprobs"]["content"][0]["top_logprobs"]}


def apart(one, other):
    """The largest distance between two models' log-probabilities, of the tokens that are likely in one."""
    likely = sorted(one, key=one.get)[-5:]
    return max(abs(one[token] - other.get(token, -99.0)) for token in likely)


def test_loras_served_at_once_write_different_answers(vllm):
    heard = [answers(vllm.lm(name, max_tokens=12)) for name in vllm.names]
    for question, three in zip(QUESTIONS, zip(*heard, strict=True), strict=True):
        assert len(set(three)) == 3, question


def test_what_is_computed_together_comes_out_as_if_alone(vllm):
    """Of the base, too: vLLM on the processor lays a LoRA on it here, where nothing is done about that."""
    asked = [(vllm.lm(name), question) for question in QUESTIONS for name in vllm.names]
    alone = [first_token(*one) for one in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda one: first_token(*one), asked))
    assert max(map(apart, alone, together)) <= ROUNDING
    for n in range(0, len(asked), 3):
        base, a, b = alone[n : n + 3]
        assert min(apart(base, a), apart(base, b), apart(a, b)) > 100 * ROUNDING


def test_no_cache_mixes_the_answers_of_loras(vllm, tmp_path, monkeypatch):
    def cache():
        return Cache(
            enable_disk_cache=True,
            enable_memory_cache=True,
            disk_cache_dir=str(tmp_path),
            disk_size_limit_bytes=10**8,
            memory_max_entries=1000,
        )

    monkeypatch.setattr(dspy, "cache", cache(), raising=False)
    told = {"max_tokens": 12, "num_retries": 0}
    uncached = {name: answers(vllm.lm(name, **told)) for name in vllm.names}
    first = {name: answers(vllm.lm(name, cache=True, **told)) for name in vllm.names}
    assert first == uncached
    monkeypatch.setattr(dspy, "cache", cache(), raising=False)  # what is on disk, as another process would find it
    again = {name: vllm.lm(name, cache=True, **told) for name in vllm.names}
    for lm in again.values():
        monkeypatch.setattr(lm.engine, "complete", None)  # no answer can come from the server
    assert {name: answers(lm) for name, lm in again.items()} == first


def test_a_served_lora_computes_as_peft_does(vllm, loras, given):
    import peft  # noqa: PLC0415 (they load torch)
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    model = transformers.AutoModelForImageTextToText.from_pretrained(given.folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(given.folder)
    tuned = peft.PeftModel.from_pretrained(model, loras["b"]).eval()
    chat = [{"role": "user", "content": QUESTIONS[0]}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        expected = tuned(**ids).logits[0, -1].float().log_softmax(-1)
    said = vllm.lm("b")(QUESTIONS[0], logprobs=True, top_logprobs=5, max_tokens=1)[0]
    top = said["logprobs"]["content"][0]["top_logprobs"]
    mine = {tokenizer.decode([int(i)]): float(expected[i]) for i in expected.topk(5).indices}
    assert top[0]["logprob"] == pytest.approx(mine[top[0]["token"]], abs=ROUNDING)
    assert len({entry["token"] for entry in top} & mine.keys()) >= 4


def test_an_address_on_the_network_is_not_fetched(vllm):
    picture = ImagePart(media_type="image/png", url="http://127.0.0.1:9/a.png")
    lm = vllm.lm(num_retries=0)
    with pytest.raises(LMInvalidRequestError, match="allowed domains"):
        lm(Request(model=lm.model, messages=(Message.user([picture, "What is it?"]),)))


@pytest.fixture(scope="module")
def elsewhere(given, vllm_python):
    """Another process that serves the model of `given` and lets LoRAs be loaded: the process, and the server's address."""
    code = (
        "import time, srec\n"
        f"with srec.start_server(base={str(given.folder)!r}, python={str(vllm_python)!r}, max_model_len=512, "
        "arguments=('--dtype', 'float32')) as server:\n"
        "    print(server.url, flush=True); time.sleep(600)\n"
    )
    environment = {**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_a_lora_is_loaded_into_a_running_server_and_taken_out_again(elsewhere, vllm, loras, given):
    _, url = elsewhere
    before = served_models(url)
    with (
        srec.serve(loras["a"], base=given.folder, base_url=url, max_tokens=12) as a,
        srec.serve(base=given.folder, base_url=url, max_tokens=12) as base,
        ThreadPoolExecutor(2) as pool,
    ):
        assert a.model.removeprefix("vllm/") in served_models(url)
        expected = [answers(vllm.lm(name, max_tokens=12)) for name in ("a", vllm.base)]
        assert list(pool.map(answers, [a, base])) == expected
    assert served_models(url) == before


def test_no_process_of_vllm_outlives_a_parent_that_was_killed(elsewhere):
    parent, url = elsewhere
    assert served_models(url)
    started = below(parent.pid)
    assert len(started) >= 3  # the watchdog, the server, its engine
    assert all(map(alive, started))
    os.kill(parent.pid, signal.SIGKILL)
    assert gone(started, within_s=30)


def below(pid):
    """The processes that a process started, and those that they started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for parent in found:
        found.extend(child for child, its_parent in parents.items() if its_parent == parent)
    return found[1:]
