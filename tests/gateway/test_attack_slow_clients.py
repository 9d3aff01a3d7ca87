"""Clients that hold places by being slow (slowloris, R.U.D.Y.), and honest ones who go on meanwhile."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from autoglm.gateway.http1 import LEAST_BYTES_PER_S, HttpConnection
from autoglm.gateway.server import SILENT_S
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Reply, Wire, call

HALF_A_HEAD = b"GET /api/me HTTP/1.1\r\nhost: hub\r\nx-slow: "


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("slow") / "data") as inside:
        yield inside


@contextmanager
def slow_clients(hub: Inside, count: int, data: bytes) -> Iterator[list[Wire]]:
    """So many connections that have sent this, and all of it has arrived."""
    house = hub.hub._server._house
    before = hub.count(lambda: len(house.connections))
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(hub.port)) for _ in range(count)]
        for wire in wires:
            wire.send(data)
        wait_until(lambda: hub.count(lambda: len(house.connections)) == before + count)
        yield wires


def the_slow_one(hub: Inside) -> HttpConnection:
    found = [c for c in hub.hub._server._house.connections if isinstance(c, HttpConnection) and c._is_in_message]
    (connection,) = found
    return connection


def round_at(hub: Inside, after_s: float) -> None:
    """The server's round, as it is so long after the message began. Patience is counted, not waited for."""

    def make() -> int:
        connection = the_slow_one(hub)
        began_s = connection._began_s
        connection.heard_s = began_s + after_s  # a byte came just now
        hub.hub._server._send_silent_away(began_s + after_s)
        return 0

    hub.count(make)


def is_waiting(hub: Inside) -> bool:
    connections = hub.hub._server._house.connections
    return hub.count(lambda: sum(isinstance(c, HttpConnection) and c._is_in_message for c in connections)) == 1


@pytest.mark.attack("slowloris: a head that never ends")
def test_a_head_by_single_bytes_is_sent_away_although_it_is_never_silent(hub: Inside) -> None:
    with Wire(hub.port) as wire:
        wire.send(HALF_A_HEAD)
        wait_until(lambda: is_waiting(hub))
        round_at(hub, SILENT_S - 1)
        wire.send(b"a")
        round_at(hub, SILENT_S + 1)
        reply = wire.reply()
        assert (reply.status, reply.json()["code"], reply.headers["connection"]) == (408, "request_timeout", "close")
        assert wire.is_closed()


@pytest.mark.attack("slow body (R.U.D.Y.)")
@pytest.mark.parametrize(("sent_bytes", "is_kept"), [(10, False), (40 * 1024, True)])
def test_a_body_by_single_bytes_is_sent_away_and_a_slow_link_s_is_not(
    hub: Inside, sent_bytes: int, is_kept: bool
) -> None:
    assert (SILENT_S + 1) * LEAST_BYTES_PER_S < 40 * 1024
    with Wire(hub.port, hub.key) as wire:
        body = json.dumps({"to": "user:slow", "content": "x" * 50_000}).encode()
        wire.send(wire.head("POST", "/api/messages", body))
        wait_until(lambda: is_waiting(hub))
        wire.send(body[:sent_bytes])
        wait_until(lambda: hub.count(lambda: the_slow_one(hub)._came_bytes) >= sent_bytes)
        round_at(hub, SILENT_S + 1)
        if is_kept:
            wire.send(body[sent_bytes:])
            assert wire.reply().status == 202
        else:
            assert wire.reply().json()["code"] == "request_timeout"
            assert wire.is_closed()


@pytest.mark.attack("slowloris: a head that never ends")
def test_honest_clients_are_served_beside_hundreds_of_slow_ones(hub: Inside) -> None:
    with slow_clients(hub, 300, HALF_A_HEAD):
        for _ in range(20):
            assert call(hub.port, hub.key, "GET", "/api/me").status == 200


@pytest.mark.attack("all places held by connections that ask for nothing")
@pytest.mark.parametrize("data", [b"", HALF_A_HEAD, b"GET /healthz HTTP/1.1\r\nhost: hub\r\n\r\n"])
def test_whoever_asks_gets_the_place_of_one_who_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """Silent ones, half heads, and answered ones that stay: none of them keeps a verified client out."""
    monkeypatch.setattr("autoglm.gateway.http1.NEW_S", 0.0)
    with (
        hub_inside(tmp_path / "data", settings(max_connections=40)) as hub,
        Wire(hub.port, hub.key) as regular,
        slow_clients(hub, 39, data),
    ):
        regular.request("GET", "/api/me")
        assert regular.reply().status == 200
        replies: list[Reply] = []
        for _ in range(30):
            replies.append(call(hub.port, hub.key, "GET", "/api/me"))
        assert {reply.status for reply in replies} == {200}
        regular.request("GET", "/api/me")
        assert regular.reply().status == 200, "who was verified keeps his place"


@pytest.mark.attack("slow reading")
def test_a_client_that_reads_nothing_costs_its_own_connection_only(tmp_path: Path) -> None:
    """What waits for it is bounded, and it is cut off in the round that finds nothing was taken for a minute."""
    with hub_inside(tmp_path / "data") as hub, socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", hub.port))
        with Wire(hub.port, hub.key) as filler:
            for _ in range(40):
                filler.request("POST", "/api/messages", json.dumps({"to": "user:l", "content": "x" * 200_000}).encode())
                assert filler.reply().status == 202
        head = f"GET /api/messages/stream?to=user:l HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {hub.key}\r\n\r\n"
        lazy.sendall(head.encode())
        house = hub.hub._server._house

        def waiting() -> int:
            sizes = [c.transport.get_write_buffer_size() for c in house.connections if isinstance(c, HttpConnection)]
            return max(sizes, default=0)

        wait_until(lambda: hub.count(waiting) > 0)
        assert hub.count(waiting) < 1 << 20, "of 8 MB"
        now_s = house.now_s

        def two_rounds() -> int:
            hub.hub._server._send_silent_away(now_s)
            hub.hub._server._send_silent_away(now_s + SILENT_S + 1)
            return 0

        hub.count(two_rounds)
        wait_until(lambda: hub.count(waiting) == 0)
        assert call(hub.port, hub.key, "GET", "/api/me").status == 200
