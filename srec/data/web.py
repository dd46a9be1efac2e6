"""Pictures from the web, asked for politely and taken with care.

The URLs come from a catalogue and are hostile until shown otherwise: only http and https, no credentials, the usual
ports, and no address that is not public, looked up once and connected to as it was looked up, after each redirect
again. Proxies of the environment are not used.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from threading import Event, Lock, Timer
from urllib.parse import quote, urljoin, urlsplit

from srec import __version__
from srec.errors import InputError

PORTS = {"http": 80, "https": 443}
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # worth another try
UNSAID_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream"})  # what a file store says of any file
MOST_OPEN = 8  # connections that a client keeps
MOST_URL_CHARS = 2000
CHUNK_BYTES = 2**16
LONGEST_DELAY_S = 3600
NAT64 = ip_network("64:ff9b::/96")
HEADERS = {"User-Agent": f"srec/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How the web is asked: times in seconds.

    `connections` is how many are open at once, to one host or to all. Between two requests to a host pass `delay_s`,
    and no answer may be silent for `timeout_s` or take longer than `whole_s`. What fails in passing is tried
    `attempts` times, after `backoff_s`, twice that and so on, or when the host says, but never after more than
    `longest_wait_s`. A host that failed `patience` pictures in a row is not asked again. `trusted` are hosts that may
    have private addresses and unusual ports: a mirror of one's own.
    """

    connections: int = 1
    delay_s: float = 0.2
    timeout_s: float = 20.0
    whole_s: float = 60.0
    attempts: int = 4
    backoff_s: float = 1.0
    longest_wait_s: float = 60.0
    patience: int = 20
    redirects: int = 3
    most_bytes: int = 20 * 2**20
    trusted: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if min(self.connections, self.attempts, self.patience) < 1:
            raise InputError("connections, attempts and patience are at least 1; give such numbers")
        if not 0 <= self.delay_s <= LONGEST_DELAY_S:
            raise InputError(f"a delay of {self.delay_s} seconds cannot be kept; give 0 to {LONGEST_DELAY_S:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a picture did not come, in the same words for all of a kind; a `lasting` one is not worth another try."""

    reason: str
    lasting: bool = True


class _Failed(Exception):
    """Never leaves this file."""

    def __init__(self, reason: str, *, lasting: bool = True, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.failure = Failure(reason=reason, lasting=lasting)
        self.after_s = after_s


class Hosts:
    """Whose turn is when, and who is no longer asked; shared by all clients of a download."""

    def __init__(self, manners: Manners, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._manners = manners
        self._clock = clock
        self._next: dict[str, float] = {}
        self._in_a_row: Counter[str] = Counter()
        self._lock = Lock()

    def turn(self, host: str) -> float:
        """Take the next turn at a host; the seconds until then."""
        with self._lock:
            now = self._clock()
            at = max(now, self._next.get(host, now))
            self._next[host] = at + self._manners.delay_s
            return at - now

    def count(self, host: str, *, failed: bool) -> None:
        """Remember how the last picture of a host went."""
        with self._lock:
            self._in_a_row[host] = self._in_a_row[host] + 1 if failed else 0

    def given_up(self, host: str) -> bool:
        """Whether the host failed too often in a row."""
        return self._in_a_row[host] >= self._manners.patience


class Client:
    """Asks for one picture after the other and keeps connections open; for one thread."""

    def __init__(self, manners: Manners, hosts: Hosts, stop: Event) -> None:
        self._manners = manners
        self._hosts = hosts
        self._stop = stop
        self._open: OrderedDict[tuple[str, str, int], http.client.HTTPConnection] = OrderedDict()

    def get(self, url: str) -> bytes | Failure:
        """The bytes behind a URL, at most `most_bytes`, said to be a picture; or why there are none."""
        try:
            host = _parts(url, self._manners)[1]
        except _Failed as error:
            return error.failure
        if self._hosts.given_up(host):
            return Failure(reason="the host failed too often in a row", lasting=False)
        got = self._tried(url)
        if not self._stop.is_set():
            self._hosts.count(host, failed=isinstance(got, Failure) and not got.lasting)
        return got

    def close(self) -> None:
        """Close all connections."""
        while self._open:
            self._open.popitem()[1].close()

    def _tried(self, url: str) -> bytes | Failure:
        failure = Failure(reason="stopped", lasting=False)
        wait_s = 0.0
        for attempt in range(self._manners.attempts):
            if self._stop.wait(min(wait_s, self._manners.longest_wait_s)):
                break
            try:
                return self._followed(url)
            except _Failed as error:
                failure = error.failure
                if failure.lasting:
                    break
                wait_s = max(self._manners.backoff_s * 2**attempt, error.after_s)
        return failure

    def _followed(self, url: str) -> bytes:
        for _ in range(self._manners.redirects + 1):
            got = self._once(url)
            if isinstance(got, bytes):
                return got
            try:
                url = urljoin(url, got)
            except ValueError:
                raise _Failed("the URL cannot be read") from None
        raise _Failed("too many redirects")

    def _once(self, url: str) -> bytes | str:
        """The body, or where the answer points to."""
        scheme, host, port, path = _parts(url, self._manners)
        if self._stop.wait(self._hosts.turn(host)):
            raise _Failed("stopped", lasting=False)
        connection = self._connection(scheme, host, port)
        try:
            if connection.sock is not None:
                with suppress(ConnectionError):  # kept open here for too long, and closed by the host meanwhile
                    return self._answer(connection, path)
            return self._answer(connection, path)
        except ssl.SSLCertVerificationError:
            raise _Failed("the certificate is not valid") from None
        except TimeoutError:
            raise _Failed("no answer in time", lasting=False) from None
        except (OSError, http.client.HTTPException):
            raise _Failed("the connection failed", lasting=False) from None

    def _answer(self, connection: http.client.HTTPConnection, path: str) -> bytes | str:
        """What the host answers; the connection is closed if anything of the answer may be left in it."""
        keep = False
        try:
            with _cut_off(connection, self._manners.whole_s):
                connection.request("GET", path, headers=HEADERS)
                answer = connection.getresponse()
                if answer.status != http.client.OK and answer.length is not None and answer.length <= CHUNK_BYTES:
                    answer.read()
                keep = answer.isclosed()
                got = self._read(answer)
                keep = answer.isclosed()
                return got
        finally:
            if not keep:
                connection.close()

    def _connection(self, scheme: str, host: str, port: int) -> http.client.HTTPConnection:
        key = (scheme, host, port)
        if key not in self._open:
            if len(self._open) >= MOST_OPEN:
                self._open.popitem(last=False)[1].close()
            kind = _Secure if scheme == "https" else _Plain
            self._open[key] = kind(host, port, timeout=self._manners.timeout_s)
            self._open[key].trusted = host in self._manners.trusted  # type: ignore[attr-defined]
        self._open.move_to_end(key)
        return self._open[key]

    def _read(self, answer: http.client.HTTPResponse) -> bytes | str:
        if answer.status in REDIRECTS:
            return answer.headers.get("Location") or ""
        if answer.status in PASSING:
            after_s = _seconds(answer.headers.get("Retry-After"))
            raise _Failed(f"status {answer.status}", lasting=False, after_s=after_s)
        if answer.status != http.client.OK:
            raise _Failed(f"status {answer.status}")
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind not in UNSAID_TYPES:
            raise _Failed("the answer is no picture")
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Failed("the answer is packed, which was not asked for")
        return self._body(answer)

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        most = self._manners.most_bytes
        if answer.length is not None and answer.length > most:
            raise _Failed("too many bytes")
        body = bytearray()
        while chunk := answer.read(min(CHUNK_BYTES, most + 1 - len(body))):
            body += chunk
            if len(body) > most:
                raise _Failed("too many bytes")
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        return bytes(body)


class _Plain(http.client.HTTPConnection):
    trusted = False

    def connect(self) -> None:
        self.sock = _socket(self.host, self.port, self.timeout, trusted=self.trusted)


class _Secure(http.client.HTTPSConnection):
    trusted = False

    def connect(self) -> None:
        plain = _socket(self.host, self.port, self.timeout, trusted=self.trusted)
        self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, and so does the one that it wraps."""
    ip = ip_address(address.partition("%")[0])
    return all(one.is_global and not one.is_multicast for one in (ip, *_wrapped(ip)))


def _wrapped(ip: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """The IPv4 addresses that an IPv6 address stands for."""
    if isinstance(ip, IPv6Address):
        yield from filter(None, (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())))
        if ip in NAT64:
            yield IPv4Address(int(ip) & 0xFFFFFFFF)


def _socket(host: str, port: int, timeout_s: float | None, *, trusted: bool) -> socket.socket:
    """A connection to an address that was looked at before: a second look-up could give another one."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _Failed("the host has no address", lasting=False) from None
    if not trusted and not all(is_public(str(address[0])) for *_, address in found):
        raise _Failed("the address is not public")
    error: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout_s)
            sock.connect(address)
        except OSError as failed:
            sock.close()
            error = failed
        else:
            return sock
    raise error or OSError("no address")


def _parts(url: str, manners: Manners) -> tuple[str, str, int, str]:
    """Scheme, host, port and path of a URL that may be asked for."""
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").encode("idna").decode("ascii") if parts.hostname else ""
        port = parts.port
    except ValueError:
        raise _Failed("the URL cannot be read") from None
    if parts.scheme not in PORTS:
        raise _Failed("the URL is neither http nor https")
    if not host or len(url) > MOST_URL_CHARS or not host.isprintable() or " " in host:
        raise _Failed("the URL cannot be read")
    if parts.username is not None or parts.password is not None:
        raise _Failed("the URL has credentials in it")
    if port not in {None, *PORTS.values()} and host not in manners.trusted:
        raise _Failed("the port is not that of the web")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=~-._?')}" if parts.query else ""
    return parts.scheme, host, port or PORTS[parts.scheme], path + query


@contextmanager
def _cut_off(connection: http.client.HTTPConnection, after_s: float) -> Iterator[None]:
    """Ends an answer that comes in drips, each in time but without end."""

    def cut() -> None:
        sock = connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    timer = Timer(after_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _seconds(told: str | None) -> float:
    """What `Retry-After` says, as a number or as a date."""
    if not told:
        return 0.0
    if told.strip().isdecimal():
        return float(told.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
