"""A chat server for the checks here and for the tests: OpenAI's API on a free local port, canned words, a count.

It fills every field that is asked for, and judges with P(Yes) = 0.75.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from typing import Any

MODEL = "canned"


class CannedServer:
    """`mode` is "answers", "fails" (500), "garbage" or "silent", and may be changed; every answer takes `delay_s`.

    `prompts` counts the requests by prompt, `total` all of them.
    """

    def __init__(self, *, port: int, mode: str, delay_s: float) -> None:
        self.model = f"http://127.0.0.1:{port}/v1#{MODEL}"
        self.mode = mode
        self.delay_s = delay_s
        self.prompts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """How many requests came in."""
        with self._lock:
            return self.prompts.total()

    @property
    def repeated(self) -> int:
        """How many of them had a prompt that came before."""
        with self._lock:
            return self.prompts.total() - len(self.prompts)

    def count(self, prompt: str) -> None:
        """Count one request."""
        with self._lock:
            self.prompts[prompt] += 1


@contextmanager
def serving(mode: str = "answers", *, delay_s: float = 0.0) -> Iterator[CannedServer]:
    """A server that stops at the end of the `with` block."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    listener.canned = canned = CannedServer(port=listener.server_address[1], mode=mode, delay_s=delay_s)  # type: ignore[attr-defined]
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield canned
    finally:
        listener.shutdown()
        listener.socket.close()  # not server_close, which would wait for answers that nobody reads any more


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def canned(self) -> CannedServer:
        return self.server.canned  # type: ignore[attr-defined, no-any-return]

    def handle(self) -> None:
        """Answer until the other side goes; one that is killed goes without a word."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        if self.canned.mode == "silent":
            time.sleep(60)
        self._send(200, json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.canned.count(json.dumps(asked["messages"]))
        time.sleep(self.canned.delay_s)
        if self.canned.mode == "fails":
            self._send(500, json.dumps({"error": {"message": "out of order", "type": "server_error"}}))
        elif self.canned.mode == "garbage":
            self._send(200, "<html>not what you asked for</html>")
        else:
            self._send(200, json.dumps(_completion(asked)))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _send(self, code: int, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    schema = asked.get("response_format", {}).get("json_schema", {}).get("schema")
    message = {"role": "assistant", "content": json.dumps(_filled(schema)) if schema else "Yes"}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": message}
    if asked.get("logprobs"):
        top = [{"token": word, "logprob": log(p), "bytes": None} for word, p in (("Yes", 0.75), ("No", 0.25))]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": usage}


def _filled(schema: dict[str, Any]) -> Any:
    """Words for every field of a schema."""
    if schema.get("type") == "object":
        return {name: _filled(inner) for name, inner in schema["properties"].items()}
    return ["wooden toys"] if schema.get("type") == "array" else "a wooden toy"
