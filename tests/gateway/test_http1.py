"""HTTP/1.1 as the hub's own server speaks it: the same bytes mean the same, however they are cut and repeated."""

import itertools
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from autoglm.gateway.head import Head, KnownHeads
from gateway.inside import Inside, hub_inside
from gateway.wire import Reply, Wire


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("http1") / "data") as inside:
        yield inside


def post(wire: Wire, to: str, **headers: str) -> bytes:
    body = json.dumps({"to": to, "content": "x"}).encode()
    return wire.head("POST", "/api/messages", body, **headers) + body


def known(hub: Inside) -> int:
    return hub.count(lambda: len(hub.hub._server._house.known_heads._heads))


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


def test_a_head_that_repeats_is_parsed_once_and_its_bodies_are_its_own(hub: Inside) -> None:
    with Wire(hub.port, hub.key) as wire:
        wire.send(post(wire, "user:r1"))
        wire.reply()
        before = known(hub)
        numbers = []
        for _ in range(3):
            wire.send(post(wire, "user:r2"))
            numbers.append(wire.reply().json()["seq"])
        assert sorted(set(numbers)) == numbers
        assert known(hub) == before > 0
        wire.request("GET", "/api/messages?to=user:r2&after=0")
        assert [message["seq"] for message in wire.reply().json()["messages"]] == numbers


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


def test_a_head_is_remembered_only_where_its_length_says_where_it_ends() -> None:
    start = b"POST /x HTTP/1.1\r\ncontent-length: 4\r\n\r\n"
    heads, head = head_of(start, 4)
    heads.add(start + b"body", head, 4)
    assert heads.find(start) is head
    # Were a parser to end the head at bare line feeds, the blank line found here would lie in the body.
    sly = b"POST /x HTTP/1.1\ncontent-length: 9\n\nab\r\n\r\nabc"
    heads, head = head_of(sly, 9)
    heads.add(sly, head, 9)
    assert heads.find(sly[:-3]) is None
    heads, head = head_of(start, None)
    heads.add(start + b"body", head, 4)
    assert heads.find(start) is None


def test_heads_without_end_do_not_fill_the_memory() -> None:
    heads, head = head_of(b"", 0)
    for number in range(5000):
        heads.add(b"POST /x HTTP/1.1\r\nn: %d\r\n\r\n" % number, head, 0)
    assert len(heads._heads) <= 1024


# --- old and picky clients ---


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


@pytest.mark.parametrize("offer", ["h2c", "TLS/1.0", "websocketish"])
def test_an_offer_to_upgrade_is_ignored_and_the_request_answered(hub: Inside, offer: str) -> None:
    with Wire(hub.port, hub.key) as wire:
        for _ in range(2):
            wire.send(post(wire, "user:a", connection="Upgrade", upgrade=offer))
            assert wire.reply().status == 202


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
