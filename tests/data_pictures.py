"""A real host of pictures on this machine: every path is a behaviour, every request is remembered."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import unquote

from PIL import Image as Pillow


def picture(side: int = 8, kind: str = "JPEG") -> bytes:
    raw = BytesIO()
    Pillow.new("RGB", (side, side), "teal").save(raw, kind)
    return raw.getvalue()


@dataclass
class PictureServer:
    """`asked` has the path and the moment of each request; `sockets` the ports they came from."""

    port: int
    asked: list[tuple[str, float]] = field(default_factory=list)
    sockets: set[int] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def wait_for(self, requests: int, *, within_s: float = 60.0) -> bool:
        """Whether so many requests came in time."""
        until = time.monotonic() + within_s
        while len(self.asked) < requests and time.monotonic() < until:
            time.sleep(0.005)
        return len(self.asked) >= requests

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@contextmanager
def serving() -> Iterator[PictureServer]:
    listener = _Listener(("127.0.0.1", 0), _Handler)
    listener.pictures = server = PictureServer(port=listener.server_address[1])  # type: ignore[attr-defined]
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: PictureServer = self.server.pictures  # type: ignore[attr-defined]
        with server.lock:
            server.asked.append((self.path, time.monotonic()))
            server.sockets.add(self.client_address[1])
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            self._behave(server)
        except OSError:
            self.close_connection = True
        finally:
            with server.lock:
                server.at_once -= 1

    def _behave(self, server: PictureServer) -> None:  # noqa: PLR0912 (a list)
        what, _, rest = self.path.removeprefix("/").partition("/")
        times = server.paths.count(self.path)
        if what == "ok":
            self._send(200, picture())
        elif what == "ok-and-close":
            self._send(200, picture())
            self.close_connection = True
        elif what == "png":
            self._send(200, picture(kind="PNG"), kind="binary/octet-stream")
        elif what == "status":
            self._send(int(rest), b"sorry", kind="text/plain")
        elif what == "third":  # fails twice
            self._send(503 if times < 3 else 200, picture())
        elif what == "later":
            self._send(429 if times < 2 else 200, picture(), headers={"Retry-After": "3"})
        elif what == "to":
            self._send(302, b"", headers={"Location": rest if "://" in rest else f"/{rest}"})
        elif what == "astray":  # as it is meant, to what is no URL
            self._send(302, b"", headers={"Location": unquote(rest)})
        elif what == "circle":
            self._send(302, b"", headers={"Location": self.path})
        elif what == "page":
            self._send(200, b"<html>no picture</html>", kind="text/html")
        elif what == "lie":
            self._send(200, b"<html>no picture</html>")
        elif what == "pixel":
            self._send(200, picture(side=1, kind="GIF"), kind="image/gif")
        elif what == "packed":
            self._send(200, picture(), headers={"Content-Encoding": "gzip"})
        elif what == "large":
            self._send(200, b"x" * 200_000)
        elif what == "endless":
            self._chunked(lambda: b"x" * 10_000, pause_s=0.0)
        elif what == "drip":
            self._chunked(lambda: b"x", pause_s=0.05)
        elif what == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"x" * 100)
            self.close_connection = True
        elif what == "silent":
            time.sleep(1.0)
            self.close_connection = True
        elif what == "slow":
            time.sleep(0.1)
            self._send(200, picture())
        elif what == "hang-up":
            self.close_connection = True

    def _send(
        self, status: int, body: bytes, *, kind: str = "image/jpeg", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _chunked(self, piece: object, *, pause_s: float) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(200):
            data = piece()  # type: ignore[operator]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            time.sleep(pause_s)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""
