"""Pictures from a real host on this machine, which is at a private address and has to be trusted first."""

import socket
import time
from dataclasses import replace
from threading import Event, Timer

import pytest
from data_pictures import picture, serving

from srec.data.web import Client, Failure, Hosts, Manners, _seconds, is_public
from srec.errors import InputError

QUICK = Manners(
    delay_s=0.0, timeout_s=10.0, whole_s=20.0, backoff_s=0.05, most_bytes=100_000, trusted=frozenset({"127.0.0.1"})
)


@pytest.fixture
def server():
    with serving() as server:
        yield server


def get(url, manners=QUICK, stop=None):
    client = Client(manners, Hosts(manners), stop or Event())
    try:
        return client.get(url)
    finally:
        client.close()


@pytest.mark.parametrize(
    ("path", "reason", "lasting", "asked"),
    [
        ("/status/404", "status 404", True, 1),
        ("/status/403", "status 403", True, 1),
        ("/status/500", "status 500", False, 4),
        ("/circle", "too many redirects", True, 4),
        ("/page", "the answer is no picture", True, 1),
        ("/packed", "the answer is packed, which was not asked for", True, 1),
        ("/large", "too many bytes", True, 1),
        ("/endless", "too many bytes", True, 1),
        ("/cut", "the connection failed", False, 4),
        ("/silent", "no answer in time", False, 4),
        ("/hang-up", "the connection failed", False, 4),
        ("/to/ftp://127.0.0.1/x", "the URL is neither http nor https", True, 1),
        ("/to/http://169.254.169.254/latest/meta-data", "the address is not public", True, 1),
        ("/to/http://localhost/x", "the address is not public", True, 1),
        ("/astray/http://[::1", "the URL cannot be read", True, 1),
        ("/astray///[", "the URL cannot be read", True, 1),
        ("/astray/http://a]b/x", "the URL cannot be read", True, 1),
    ],
)
def test_a_failure_has_a_reason_and_only_what_passes_is_tried_again(server, path, reason, lasting, asked):
    manners = replace(QUICK, timeout_s=0.3) if path == "/silent" else QUICK
    assert get(server.url(path), manners) == Failure(reason=reason, lasting=lasting)
    assert len(server.asked) == asked


def test_drips_without_end_are_cut_off(server):
    began = time.monotonic()
    got = get(server.url("/drip"), replace(QUICK, attempts=1, whole_s=0.6))
    assert isinstance(got, Failure)
    assert not got.lasting
    assert time.monotonic() - began < 8  # the drips would last for ten


@pytest.mark.parametrize("path", ["/ok", "/to/ok/moved", "/third", "/ok/a b?c=d e", "/ok/%7E(1),_SY300_.jpg"])
def test_a_picture_comes_also_around_a_corner_and_at_the_third_time(server, path):
    assert get(server.url(path)) == picture()


def test_a_host_is_waited_for_as_long_as_it_says(server):
    began = time.monotonic()
    assert get(server.url("/later")) == picture()
    assert time.monotonic() - began >= 3.0
    began = time.monotonic()
    assert isinstance(get(server.url("/later/2"), replace(QUICK, longest_wait_s=0.1)), bytes)
    assert time.monotonic() - began < 2.9


@pytest.mark.parametrize("told", ["Mon, 01 Jan 2020 00:00:00 +9999999999999", "Mon, 01 Jan 0001 00:00:00 +2300", "x"])
def test_a_time_to_wait_until_that_no_calendar_has_is_none(told):
    assert _seconds(told) == 0.0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.org/x.jpg",
        "gopher://example.org/x",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "//example.org/x.jpg",
        "x.jpg",
        "",
        "http://",
        "http://exa mple.org/",
        "http://[::1",
        "http://example.org:port/",
        f"http://example.org/{'x' * 3000}",
        f"http://{'x' * 300}.org/",
        "http://user:secret@example.org/x.jpg",
        "http://example.org:22/x.jpg",
        "http://127.0.0.1.:80/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0/",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost/",
        "https://localhost/",
        "http://LOCALHOST/",
    ],
)
def test_a_hostile_url_is_refused_for_good_and_no_connection_is_made(url, monkeypatch):
    made = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: made.append(address))
    got = get(url, Manners(attempts=2, backoff_s=0.0))
    assert isinstance(got, Failure)
    assert not made
    assert got.lasting or got.reason == "the host has no address"


def test_a_host_on_this_machine_has_to_be_trusted(server):
    assert get(server.url("/ok"), replace(QUICK, trusted=frozenset())).reason == "the port is not that of the web"
    assert not server.asked


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
        ("2001:0:a00:1::", False),
    ],
)
def test_public_addresses(address, public):
    assert is_public(address) == public


def test_one_connection_is_kept_and_the_delay_between_two_requests_too(server):
    manners = replace(QUICK, delay_s=0.2)
    client = Client(manners, Hosts(manners), Event())
    began = time.monotonic()
    for path in ("/ok/1", "/status/404", "/to/ok/2", "/ok/3"):
        client.get(server.url(path))
    assert time.monotonic() - began >= 4 * 0.2
    client.close()
    assert server.paths == ["/ok/1", "/status/404", "/to/ok/2", "/ok/2", "/ok/3"]
    assert len(server.sockets) == 1


def test_each_host_has_turns_of_its_own():
    now = [100.0]
    hosts = Hosts(replace(QUICK, delay_s=2.0), clock=lambda: now[0])
    assert [hosts.turn("a"), hosts.turn("a"), hosts.turn("b"), hosts.turn("a")] == [0.0, 2.0, 0.0, 4.0]
    now[0] = 105.0
    assert [hosts.turn("a"), hosts.turn("b")] == [1.0, 0.0]


def test_a_connection_that_the_host_closed_meanwhile_is_opened_again_at_once(server):
    client = Client(replace(QUICK, attempts=1), Hosts(QUICK), Event())
    assert client.get(server.url("/ok-and-close/1")) == picture()
    time.sleep(0.1)
    assert client.get(server.url("/ok/2")) == picture()
    assert len(server.sockets) == 2


def test_a_host_that_fails_in_a_row_is_left_alone(server):
    manners = replace(QUICK, attempts=1, patience=3)
    client = Client(manners, Hosts(manners), Event())
    for path in ("/status/500", "/status/500", "/ok", *["/status/500"] * 3):
        client.get(server.url(path))
    assert client.get(server.url("/ok")).reason == "the host failed too often in a row"
    assert len(server.asked) == 6


@pytest.mark.parametrize("wrong", ["connections", "attempts", "patience"])
def test_manners_without_a_single_try_are_refused(wrong):
    with pytest.raises(InputError, match="at least 1"):
        Manners(**{wrong: 0})


def test_a_stop_ends_the_wait_for_another_try(server):
    stop = Event()
    Timer(0.2, stop.set).start()
    began = time.monotonic()
    assert isinstance(get(server.url("/status/500"), replace(QUICK, backoff_s=30.0), stop), Failure)
    assert time.monotonic() - began < 5
