"""HTTP/1.1 as the hub's own server speaks it: the same bytes mean the same, however they are cut and repeated."""

import contextlib
import itertools
import json
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from autoglm.core.envelope import Envelope
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.head import Head, KnownHeads
from autoglm.gateway.http1 import HttpConnection
from eventually import wait_until
from gateway.inside import Inside, hub_inside
from gateway.wire import Reply, Wire


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("http1") / "data") as inside:
        yield inside


def post(wire: Wire, to: str, **headers: str) -> bytes:
    body = json.dumps({"to": to, "content": "x"}).encode()
    return wire.head("POST", "/api/messages", body, **headers) + body


# --- cut and repeated ---


@hypothesis_settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(1, 400), max_size=6))
def test_a_request_means_the_same_wherever_the_network_cuts_it(hub: Inside, cuts: list[int]) -> None:
    with Wire(hub.port, hub.key) as wire:
        data = post(wire, "user:a") + wire.head("GET", "/api/me") + post(wire, "user:b")
        edges = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
        for start, end in itertools.pairwise(edges):
            wire.send(data[start:end])
        assert [wire.reply().status for _ in range(3)] == [202, 200, 202]


def test_a_head_that_repeats_is_parsed_once_and_its_bodies_are_its_own(
    hub: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    parse = HttpConnection._parse

    def counted(connection: HttpConnection, data: bytes) -> None:
        parsed.append(data)
        parse(connection, data)

    monkeypatch.setattr(HttpConnection, "_parse", counted)
    with Wire(hub.port, hub.key) as wire:
        numbers = []
        for _ in range(4):
            wire.send(post(wire, "user:r2", x_once="yes"))
            numbers.append(wire.reply().json()["seq"])
        assert sorted(set(numbers)) == numbers
        assert len(parsed) == 2, "the second time it is remembered"
        wire.request("GET", "/api/messages?to=user:r2&after=0")
        assert [message["seq"] for message in wire.reply().json()["messages"]] == numbers


@pytest.mark.parametrize("special", ["connection: close", "expect: 100-continue", "transfer-encoding: chunked"])
def test_a_head_that_says_more_than_a_length_is_parsed_each_time(special: str) -> None:
    name, value = (part.encode() for part in special.split(": "))
    headers = {b"content-length": b"0", name: value}
    head = Head("POST", b"/x", headers, is_keep_alive=name != b"connection", is_old=False)
    heads, data = KnownHeads(), b"POST /x HTTP/1.1\r\ncontent-length: 0\r\n" + special.encode() + b"\r\n\r\n"
    for _ in range(3):
        heads.add(data, head, 0)
    assert heads.find(data) is None


def test_a_known_head_with_half_its_body_waits_for_the_other_half(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        data = post(wire, "user:half")
        for cut in (len(data), len(data) - 5, len(data) - 1, data.index(b"\r\n\r\n") + 4):
            wire.send(data[:cut])
            wire.send(data[cut:])
            assert wire.reply().status == 202


def test_requests_that_come_together_are_answered_in_their_order(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        wire.send(b"".join(post(wire, f"user:p{number}", x_autoglm_n=str(number)) for number in range(50)) * 2)
        numbers = [wire.reply().json()["seq"] for _ in range(100)]
        assert numbers == sorted(numbers)


# --- who could smuggle a request past it ---


@pytest.mark.attack("request smuggling")
@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: +5",
        "Content-Length : 5",
        "Content-Length: 5\r\n folded",
        "Content-Length: 5\r\nbad header",
    ],
)
def test_a_body_whose_length_two_readers_could_see_differently_is_refused(hub: Inside, lines: str) -> None:
    with Wire(hub.port) as wire:
        wire.send(f"POST /api/messages HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n0\r\n\r\n".encode())
        reply = wire.reply()
        assert (reply.status, reply.json()["code"]) == (400, "invalid_http")
        assert wire.is_closed()


def head_of(data: bytes, length: int | None) -> tuple[KnownHeads, Head]:
    headers = {} if length is None else {b"content-length": b"%d" % length}
    return KnownHeads(), Head("POST", b"/x", headers, is_keep_alive=True, is_old=False)


@pytest.mark.attack("request smuggling by a remembered head")
def test_a_head_is_remembered_only_where_its_length_says_where_it_ends() -> None:
    start = b"POST /x HTTP/1.1\r\ncontent-length: 4\r\n\r\n"
    heads, head = head_of(start, 4)
    heads.add(start + b"body", head, 4)
    assert heads.find(start) is None, "it may never come again"
    heads.add(start + b"ydob", head, 4)
    assert heads.find(start) is head
    # Were a parser to end the head at bare line feeds, the blank line found here would lie in the body.
    sly = b"POST /x HTTP/1.1\ncontent-length: 9\n\nab\r\n\r\nabc"
    heads, head = head_of(sly, 9)
    for _ in range(3):
        heads.add(sly, head, 9)
    assert heads.find(sly[:-3]) is None
    heads, head = head_of(start, None)
    for _ in range(3):
        heads.add(start + b"body", head, 4)
    assert heads.find(start) is None


@pytest.mark.attack("memory filled by heads that differ")
def test_heads_without_end_do_not_fill_the_memory() -> None:
    heads, head = head_of(b"", 0)
    for number in range(40_000):
        data = b"POST /x HTTP/1.1\r\nn: %d\r\n\r\n" % number
        heads.add(data, head, 0)
        if number < 5000:
            heads.add(data, head, 0)
    assert len(heads._heads) <= 1024
    assert len(heads._seen) <= 16_384


# --- what comes behind a request that runs ---


def start_long_poll(hub: Inside, to: str) -> Wire:
    wire = Wire(hub.port, hub.key)
    wire.request("GET", f"/api/messages?to={to}&wait=20")
    wait_until(lambda: hub.count(lambda: hub.readers) == 1)
    return wire


def handshake(wire: Wire) -> bytes:
    return wire.head(
        "GET", "/api/ws", connection="Upgrade", upgrade="websocket", sec_websocket_version="13",
        sec_websocket_key="MDEyMzQ1Njc4OWFiY2RlZg==",
    )  # fmt: skip


def deliver(hub: Inside, to: str) -> None:
    with Wire(hub.port, hub.key) as other:
        other.send(post(other, to))
        assert other.reply().status == 202


@pytest.mark.attack("response splitting by pipelined requests")
@pytest.mark.parametrize("what", ["garbage", "websocket"])
def test_what_cannot_be_served_behind_a_request_waits_for_its_answer(hub: Inside, what: str) -> None:
    """The answer of a request is never that to the bytes behind it, and a WebSocket never gets an HTTP response."""
    with start_long_poll(hub, f"user:{what}") as wire:
        wire.send(b"\0garbage\r\n\r\n" if what == "garbage" else handshake(wire))
        deliver(hub, f"user:{what}")
        reply = wire.reply()
        assert (reply.status, len(reply.json()["messages"])) == (200, 1)
        refused = wire.reply()
        assert (refused.status, refused.json()["code"], refused.headers["connection"]) == (400, "invalid_http", "close")
        assert wire.is_closed()


def test_a_client_that_leaves_after_garbage_is_noticed(hub: Inside) -> None:
    with start_long_poll(hub, "user:g2") as wire:
        wire.send(b"\0garbage\r\n\r\n")
    wait_until(lambda: hub.count(lambda: hub.readers) == 0)


def test_requests_before_a_broken_one_are_answered(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        wire.send(post(wire, "user:a", x_n="1") + post(wire, "user:a", x_n="2") + b"NOT HTTP\r\n\r\n")
        assert [wire.reply().status for _ in range(3)] == [202, 202, 400]
        assert wire.is_closed()


def test_a_writer_that_fails_does_not_take_the_others_along(hub: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection that writes in the same turn is flushed, whatever becomes of one."""
    flush = HttpConnection.flush
    failed: list[bool] = []

    def failing(connection: HttpConnection) -> None:
        if not failed:
            failed.append(True)
            raise RuntimeError("a closed handle")
        flush(connection)

    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(hub.port, hub.key)) for _ in range(20)]
        for wire in wires:
            wire.request("GET", "/api/messages?to=user:all&wait=20")
        wait_until(lambda: hub.count(lambda: hub.readers) == 20)
        monkeypatch.setattr(HttpConnection, "flush", failing)
        hub.ask(hub.hub._mailbox.send(Envelope(to="user:all", content="x"), sender="user:admin"))
        ready: set[Wire] = set()
        while len(ready) < 19:
            ready.update(select.select(wires, [], [], 20)[0])
        assert {wire.reply().status for wire in ready} == {200}


def test_a_message_of_any_size_leaves_the_departure_visible(hub: Inside) -> None:
    """A body that came in one read must not leave the connection unread for as long as the request runs."""
    for size in (1, 70_000, 200_000, 400_000):
        body = json.dumps({"x": "x" * size}).encode()
        with Wire(hub.port, hub.key) as wire:
            wire.send(wire.head("GET", "/api/messages?to=user:big&wait=20", body) + body)
            wait_until(lambda: hub.count(lambda: hub.readers) == 1)
        wait_until(lambda: hub.count(lambda: hub.readers) == 0)


@pytest.mark.attack("trailers without end")
def test_trailers_without_end_are_refused(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        wire.send(wire.head("POST", "/api/messages", transfer_encoding="chunked") + b"1\r\n{\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                wire.send(b"a: b\r\n" * 1000)
        assert wire.is_closed()


@pytest.mark.attack("memory filled by tiny chunks")
def test_a_body_in_the_smallest_chunks_is_put_together(hub: Inside) -> None:
    body = json.dumps({"to": "user:tiny", "content": "x" * 20_000}).encode()
    with Wire(hub.port, hub.key) as wire:
        chunks = b"".join(b"2\r\n%b\r\n" % body[start : start + 2] for start in range(0, len(body) - 1, 2))
        last = body[len(body) // 2 * 2 :]
        chunks += b"%x\r\n%b\r\n" % (len(last), last) if last else b""
        wire.send(wire.head("POST", "/api/messages", transfer_encoding="chunked") + chunks + b"0\r\n\r\n")
        assert wire.reply().status == 202
        wire.request("GET", "/api/messages?to=user:tiny")
        assert wire.reply().json()["messages"][0]["content"] == "x" * 20_000


# --- old and picky clients ---


def test_a_websocket_s_handshake_may_be_cut_anywhere(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as whole:
        data = handshake(whole)
    for cut in range(data.index(b"upgrade: "), data.index(b"websocket") + 12):
        with Wire(hub.port, hub.key) as wire:
            wire.send(data[:cut])
            time.sleep(0.002)  # so that the network does not put the halves together again
            wire.send(data[cut:])
            assert wire.start().status == 101, data[:cut]


@pytest.mark.parametrize(
    "line", ["GET /api/me HTTP/2.0\r\nHost: x", "GET /api/me HTTP/1.1", "GET /api/me HTTP/1.9\r\nHost: x"]
)
def test_a_request_of_another_version_or_to_nobody_is_refused(hub: Inside, line: str) -> None:
    with Wire(hub.port) as wire:
        wire.send(f"{line}\r\n\r\n".encode())
        assert wire.reply().json()["code"] == "invalid_http"
        assert wire.is_closed()


def test_http_1_0_is_not_asked_for_its_body(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        body = b'{"to": "user:a", "content": "x"}'
        head = wire.head("POST", "/api/messages", body, expect="100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        wire.send(head)
        time.sleep(0.01)  # a body that came along would not have been asked for anyway
        wire.send(body)
        assert wire.reply().status == 202


def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection_ends_the_body(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        head = wire.head("GET", "/api/messages/stream?to=user:old").replace(b"HTTP/1.1", b"HTTP/1.0")
        wire.send(head)
        reply = wire.start()
        assert "transfer-encoding" not in reply.headers
        assert reply.headers["connection"] == "close"
        assert wire._exactly(13) == b": connected\n\n"


def test_a_body_that_was_not_asked_for_yet_is_asked_for(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        body = b'{"to": "user:a", "content": "x"}'
        wire.send(wire.head("POST", "/api/messages", body, expect="100-continue"))
        assert wire._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue"
        wire.send(body)
        assert wire.reply().status == 202
    with Wire(hub.port, "wrong") as wire:
        wire.send(wire.head("POST", "/api/messages", body, expect="100-continue"))
        reply = wire.reply()
        assert (reply.status, reply.headers["connection"]) == (401, "close")


@pytest.mark.parametrize("name", ["upgrade", "UPGRADE", "uPGRADE"])
@pytest.mark.parametrize("offer", ["h2c", "TLS/1.0", "websocketish"])
def test_an_offer_to_upgrade_is_ignored_and_the_request_answered(hub: Inside, name: str, offer: str) -> None:
    with Wire(hub.port, hub.key) as wire:
        for _ in range(2):
            data = post(wire, "user:a", connection="Upgrade", **{name: offer})
            wire.send(data)
            assert wire.reply().status == 202
        for cut in (1, 60, data.index(offer.encode()) + 1, data.index(b"\r\n\r\n") + 2):
            wire.send(data[:cut])
            time.sleep(0.002)  # so that the network does not put the halves together again
            wire.send(data[cut:])
            assert wire.reply().status == 202


def test_a_request_before_an_offer_is_served_once(hub: Inside) -> None:
    """One that names an upgrade without offering it, and one behind it that offers."""
    with Wire(hub.port, hub.key) as wire:
        behind = wire.head("GET", "/api/me", upgrade="h2c", connection="Upgrade")
        wire.send(post(wire, "user:once", upgrade="h2c") + behind)
        assert wire.reply().status == 202
        assert wire.reply().json()["code"] == "invalid_http"
        assert wire.is_closed()
    with Wire(hub.port, hub.key) as wire:
        wire.request("GET", "/api/messages?to=user:once")
        assert len(wire.reply().json()["messages"]) == 1


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_what_looks_like_an_offer_in_a_body_stays_as_it_is(hub: Inside, cut: int) -> None:
    body = b'{"to": "user:offer", "content": "x"}\r\nupgrade: h2c\r\n\r\n'
    with Wire(hub.port, hub.key) as wire:
        head = wire.head("POST", "/api/messages", body)
        seen: list[bytes] = []
        take = Exchange.take

        def watched(exchange: Exchange, part: bytes) -> None:
            seen.append(part)
            take(exchange, part)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Exchange, "take", watched)
            wire.send(head[:-cut])
            time.sleep(0.01)  # so that the network does not put the halves together again
            wire.send(head[-cut:] + body)
            assert wire.reply().json()["code"] == "invalid_json"
    assert b"".join(seen) == body


def test_a_target_that_is_no_path_is_refused(hub: Inside) -> None:
    for target in ("hub", "http://", "?to=user:a"):
        with Wire(hub.port, hub.key) as wire:
            wire.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert wire.reply().json()["code"] == "invalid_http"


def test_a_response_says_when_it_was_made(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        wire.request("GET", "/api/me")
        reply: Reply = wire.reply()
    assert reply.headers["date"].endswith(" GMT")
