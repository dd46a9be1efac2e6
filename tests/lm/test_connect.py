import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError, LMError

from srec.errors import ModelError, SrecError
from srec.lm.adapters import ScoreAdapter, StructuredAdapter
from srec.lm.connect import connect, identity, parse, sees, served_models


class Judge(dspy.Signature):
    """Would the user like it?"""

    candidate: str = dspy.InputField()
    answer: str = dspy.OutputField()


@pytest.mark.parametrize(
    ("model", "kind", "name", "url"),
    [
        ("local:smollm2-135m", "local", "smollm2-135m", ""),
        ("local:./folder/of:mine", "local", "./folder/of:mine", ""),
        ("vllm:http://127.0.0.1:8000/v1#org/name", "vllm", "org/name", "http://127.0.0.1:8000/v1"),
        ("https://example.org/v1/#name", "server", "name", "https://example.org/v1"),
        ("openai/gpt-5-mini", "hosted", "openai/gpt-5-mini", ""),
    ],
)
def test_a_model_string_is_taken_apart(model, kind, name, url):
    parsed = parse(model)
    assert (parsed.kind, parsed.model, parsed.url) == (kind, name, url)


@pytest.mark.parametrize(
    "model", ["", "local", "smollm2-135m", "lokal:smollm2-135m", "nosuchprovider/model", "openai/"]
)
def test_an_unknown_model_string_lists_the_forms(model):
    with pytest.raises(ModelError, match=r"unknown model string.*local:NAME"):
        parse(model)


def test_a_local_model_without_a_name_is_the_one_of_the_environment(monkeypatch):
    monkeypatch.setenv("SREC_LOCAL_MODEL", "owner/name")
    assert parse("local:").model == "owner/name"
    assert parse("local:other").model == "other"
    monkeypatch.delenv("SREC_LOCAL_MODEL")
    assert parse("local:").model == "srec-tiny"


@pytest.mark.parametrize(
    "model", ["vllm:127.0.0.1:8000#m", "vllm:http://127.0.0.1:8000/v1", "http://#m", "vllm:file:///etc#m"]
)
def test_an_address_without_its_parts_is_refused(model):
    with pytest.raises(ModelError, match="needs an address and a model"):
        parse(model)


class Handler(BaseHTTPRequestHandler):
    """Speaks OpenAI's chat API as its server's `mode` says."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        mode = self.server.listing
        if mode == "garbage":
            self.wfile.write(b"\x00\xff\x00 no http here\r\n\r\n")
            self.close_connection = True
        elif mode == "closes":
            self.close_connection = True
        elif mode == "slow":
            time.sleep(3)
        elif mode in {"401", "500"}:
            self.answer({"error": {"message": "no"}}, status=int(mode))
        elif mode == "other api":
            self.answer(["hello"])
        elif mode == "html":
            self.answer(b"<html>hello</html>")
        else:
            self.answer({"data": [{"id": name} for name in self.server.names]})

    def do_POST(self):
        self.server.keys.append(self.headers.get("Authorization"))
        self.server.posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        mode = self.server.mode
        if mode == "503 once":
            self.server.mode = "fine"
            self.answer({"error": {"message": "busy"}}, status=503)
        elif mode == "500":
            self.answer({"error": {"message": "broken"}}, status=500)
        elif mode == "slow":
            time.sleep(3)
        elif mode == "garbage":
            self.answer(b"\x00\xff\xfe not json")
        elif mode == "closes":
            self.close_connection = True
        elif mode == "half":
            self.answer(completion("Yes", logprobs=True), cut=True)
        elif mode == "null":
            self.answer({"choices": None})
        else:
            self.answer(completion(self.server.text, logprobs=mode != "no logprobs"))

    def answer(self, body, *, status=200, cut=False):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut


def completion(text, *, logprobs):
    tops = [{"token": "Yes", "logprob": -0.5, "bytes": None}, {"token": "No", "logprob": -1.5, "bytes": None}]
    content = {"content": [{"token": "Yes", "logprob": -0.5, "bytes": None, "top_logprobs": tops}]}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                "logprobs": content if logprobs else None,
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }


@contextmanager
def serving(*, mode="fine", listing="fine", text="Yes"):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.mode, server.listing, server.text, server.posts, server.names = mode, listing, text, [], ["m", "n"]
    server.keys = []
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.socket.close()
        thread.join()


def judge(server, *, num_retries=0, adapter=None):
    lm = connect(f"{server.url}#m", num_retries=num_retries, timeout_s=0.5 if server.mode == "slow" else 10.0)
    with dspy.context(lm=lm, adapter=adapter or ScoreAdapter(), disable_history=True, trace=None):
        return dspy.Predict(Judge)(candidate="c")


def test_a_server_answers_and_is_asked_for_what_was_meant():
    with serving() as server:
        assert judge(server).probability == pytest.approx(0.7310586)
    (body,) = server.posts
    assert (body["model"], body["max_tokens"], body["top_logprobs"]) == ("m", 1, 20)


def test_a_structured_question_sends_its_schema():
    with serving(text='{"answer": "Yes."}') as server:
        assert judge(server, adapter=StructuredAdapter()).answer == "Yes."
    assert server.posts[0]["response_format"]["json_schema"]["schema"]["required"] == ["answer"]


@pytest.mark.parametrize("prefix", ["", "vllm:"])
def test_a_structured_answer_is_read_whatever_its_types(prefix):
    class Count(dspy.Signature):
        """Count."""

        title: str = dspy.InputField()
        year: int = dspy.OutputField()
        animated: bool = dspy.OutputField()
        kind: Literal["film", "book"] = dspy.OutputField()

    with serving(text='{"year":1995,"animated":true,"kind":"film"}') as server:
        lm = connect(f"{prefix}{server.url}#m", num_retries=0)
        with dspy.context(lm=lm, adapter=StructuredAdapter(), disable_history=True, trace=None):
            answer = dspy.Predict(Count)(title="T")
    assert (answer.year, answer.animated, answer.kind) == (1995, True, "film")


@pytest.mark.parametrize("own_key", [{"api_key": "mine"}, {}])
def test_a_hosted_model_is_asked_with_its_key_and_its_bound_on_silence(own_key, monkeypatch):
    """By the provider's own name; its address is the one thing that is not the provider's here."""
    monkeypatch.setenv("OPENAI_API_KEY", "of the environment")
    with serving() as server:
        told = {"api_base": server.url, "timeout_s": 0.5, "num_retries": 0}
        lm = connect("openai/gpt-4o-mini", **own_key, **told)
        with dspy.context(lm=lm, adapter=ScoreAdapter(), disable_history=True, trace=None):
            assert dspy.Predict(Judge)(candidate="c").probability == pytest.approx(0.7310586)
            server.mode, began = "slow", time.monotonic()
            with pytest.raises(LMError):
                dspy.Predict(Judge)(candidate="d")
    assert time.monotonic() - began < 2.5
    assert server.keys[0] == f"Bearer {own_key.get('api_key', 'of the environment')}"
    body = server.posts[0]
    assert (body["model"], body["max_completion_tokens"], body["top_logprobs"]) == ("gpt-4o-mini", 1, 20)
    assert not {"timeout", "api_key", "api_base"} & body.keys()


def test_a_busy_server_is_asked_again():
    with serving(mode="503 once") as server:
        assert judge(server, num_retries=1).answer == "Yes."
    assert len(server.posts) == 2


@pytest.mark.parametrize("mode", ["500", "slow", "garbage", "closes", "half", "null"])
def test_a_broken_server_is_one_error_of_a_known_kind(mode):
    began = time.monotonic()
    with serving(mode=mode) as server, pytest.raises((LMError, SrecError, AdapterParseError)) as caught:
        judge(server)
    assert time.monotonic() - began < 5
    assert str(caught.value).strip()
    assert len(server.posts) == 1


def test_a_server_without_logprobs_cannot_judge():
    with serving(mode="no logprobs") as server, pytest.raises(ModelError, match="returned no log-probabilities"):
        judge(server)


def test_a_server_that_stops_after_connecting_is_an_lm_error():
    with serving() as server:
        lm = connect(f"{server.url}#m", num_retries=0, timeout_s=0.5)
    with dspy.context(lm=lm, adapter=ScoreAdapter(), disable_history=True, trace=None), pytest.raises(LMError):
        dspy.Predict(Judge)(candidate="c")


@pytest.mark.parametrize(
    ("listing", "sentence"),
    [
        ("garbage", "no server answers at .*/v1/models"),
        ("closes", "no server answers at .*/v1/models"),
        ("slow", "no server answers at .*timed out"),
        ("401", "the server answered 401 .* check the address and SREC_API_KEY"),
        ("500", "the server answered 500"),
        ("other api", "not a server with OpenAI's API"),
        ("html", "not a server with OpenAI's API"),
    ],
)
def test_connecting_to_what_is_no_model_server_says_so(listing, sentence):
    with serving(listing=listing) as server, pytest.raises(ModelError, match=sentence):
        connect(f"{server.url}#m", timeout_s=0.3 if listing == "slow" else 10.0)


def test_connecting_to_a_model_that_is_not_served_lists_those_that_are():
    with serving() as server, pytest.raises(ModelError, match="does not serve 'x'; it serves: m, n"):
        connect(f"{server.url}#x")


def test_connecting_to_nobody_says_so():
    with serving() as server:
        url = server.url
    with pytest.raises(ModelError, match="no server answers"):
        connect(f"{url}#m")


def test_an_address_with_a_broken_port_says_so():
    with pytest.raises(ModelError, match="no server answers"):
        connect("http://127.0.0.1:port/v1#m")


def test_served_models_are_listed():
    with serving() as server:
        assert served_models(server.url) == ["m", "n"]


def test_a_vllm_server_that_cannot_tell_its_tokens_says_so():
    with serving() as server:
        lm = connect(f"vllm:{server.url}#m", num_retries=0)
        with pytest.raises(ModelError, match=r"/tokenize does not answer as vLLM does"):
            lm.engine.answer_token_ids(("Yes.", "No."))


@pytest.mark.parametrize("name", ["qwen3:4b", "org/name", "openai/gpt-oss"])
def test_a_model_name_reaches_the_server_as_it_is(name):
    with serving() as server:
        server.names = ["m", name]
        lm = connect(f"{server.url}#{name}", num_retries=0, timeout_s=10.0, seed=3, top_p=0.9)
        assert lm("Hello?") == ["Yes"]
    (body,) = server.posts
    assert (body["model"], body["max_tokens"], body["seed"], body["top_p"]) == (name, 512, 3, 0.9)


def test_a_picture_travels_to_a_server_byte_for_byte():
    class See(dspy.Signature):
        """What is it?"""

        photo: dspy.Image = dspy.InputField()
        answer: str = dspy.OutputField()

    url = "data:image/jpeg;base64,/9j/4AAQSkZJRgABAQ=="
    with serving() as server:
        lm = connect(f"{server.url}#m", num_retries=0)
        with dspy.context(lm=lm, adapter=ScoreAdapter(), disable_history=True, trace=None):
            dspy.Predict(See)(photo=dspy.Image(url))
    sent = server.posts[0]["messages"][1]["content"]
    assert [part["image_url"]["url"] for part in sent if part["type"] == "image_url"] == [url]


def test_no_secret_of_a_hosted_model_stands_in_its_identity():
    lm = connect("openai/gpt-4o-mini", api_key="secret", extra_headers={"Authorization": "secret"}, top_p=0.5)
    assert "secret" not in identity(lm)
    assert "top_p" in identity(lm)


def test_two_models_never_have_one_identity():
    with serving() as server:
        one, other = connect(f"{server.url}#m"), connect(f"{server.url}#n")
        warm = connect(f"{server.url}#m", temperature=0.7)
        named = connect(f"{server.url}#m", weights="abc", api_key="secret")
    assert len({identity(lm) for lm in (one, other, warm, named)}) == 4
    assert "secret" not in identity(named)
    assert "127.0.0.1" not in identity(named)


def test_whether_a_server_sees_is_as_it_was_told():
    with serving() as server:
        assert sees(connect(f"{server.url}#m"))
        assert not sees(connect(f"{server.url}#m", images=False))


@pytest.mark.parametrize(
    ("told", "model", "lora"),
    [
        ("local:srec-tiny#runs/lora", "srec-tiny", "runs/lora"),
        ("local:#runs/lora", "other", "runs/lora"),
        ("local:", "other", "its/lora"),
        ("local:./folder", "./folder", ""),
    ],
)
def test_a_local_model_may_name_a_lora(monkeypatch, told, model, lora):
    monkeypatch.setenv("SREC_LOCAL_MODEL", "other#its/lora")
    parsed = parse(told)
    assert (parsed.kind, parsed.model, parsed.lora) == ("local", model, lora)


def test_a_sign_without_a_lora_is_refused():
    with pytest.raises(ModelError, match="names no LoRA after '#'"):
        parse("local:srec-tiny#")
