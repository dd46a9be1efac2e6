"""A server with OpenAI's chat API in this process: it fills every schema with canned words and judges with P(Yes) = 0.75."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from typing import Any

NAME = "canned"


@dataclass
class ChatServer:
    """`mode` is "answers", "fails" (500), "garbage" or "slow"; it may be changed while the server runs."""

    port: int
    mode: str = "answers"
    prompts: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        """The model string for `srec.connect`."""
        return f"http://127.0.0.1:{self.port}/v1#{NAME}"

    @property
    def calls(self) -> int:
        """How many prompts came in."""
        return len(self.prompts)


@contextmanager
def serving(mode: str = "answers") -> Iterator[ChatServer]:
    """A server that stops at the end of the `with` block."""
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    listener.daemon_threads = True
    listener.chat = server = ChatServer(port=listener.server_address[1], mode=mode)  # type: ignore[attr-defined]
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send(200, json.dumps({"object": "list", "data": [{"id": NAME, "object": "model"}]}))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat: ChatServer = self.server.chat  # type: ignore[attr-defined]
        chat.prompts.append(json.dumps(asked["messages"]))
        if chat.mode == "fails":
            self._send(500, json.dumps({"error": {"message": "out of order", "type": "server_error"}}))
        elif chat.mode == "garbage":
            self._send(200, "<html>not what you asked for</html>")
        else:
            if chat.mode == "slow":
                time.sleep(5)
            self._send(200, json.dumps(_completion(asked)))

    def log_message(self, *_: Any) -> None:
        """Tests are quiet."""

    def _send(self, code: int, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _completion(asked: dict[str, Any]) -> dict[str, Any]:
    schema = asked.get("response_format", {}).get("json_schema", {}).get("schema")
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": json.dumps(_filled(schema)) if schema else "Yes"},
    }
    if asked.get("logprobs"):
        top = [
            {"token": "Yes", "logprob": log(0.75), "bytes": None},
            {"token": "No", "logprob": log(0.25), "bytes": None},
        ]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": NAME, "choices": [choice], "usage": usage}


def _filled(schema: dict[str, Any]) -> Any:
    """Words for every field of a schema."""
    if schema.get("type") == "object":
        return {name: _filled(inner) for name, inner in schema["properties"].items()}
    return ["wooden toys"] if schema.get("type") == "array" else "a wooden toy"
