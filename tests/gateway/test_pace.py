"""Clients that read late, or send what nobody asks for: the hub waits for them, and holds little meanwhile."""

import json
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from autoglm.gateway.exchange import HIGH_WATER_BYTES, Exchange
from autoglm.gateway.http1 import HttpConnection
from eventually import wait_until
from gateway.inside import Inside, hub_inside
from gateway.wire import Wire, call

FEW_BYTES = 1 << 20
"""Far more than the hub should hold for one client, and far less than what it would hold if it did not wait."""
READ_BYTES = 256 * 1024
"""What the event loop reads at a time."""
TCP_CLOSE_WAIT = 8
"""Linux: the other side has ended."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("pace") / "data") as inside:
        yield inside


def the_connection(hub: Inside) -> HttpConnection | None:
    """The only one there is, once the hub has taken it. To be called on the loop."""
    connections = hub.hub._server._house.connections
    assert len(connections) <= 1
    return next((connection for connection in connections if isinstance(connection, HttpConnection)), None)


def number_of(hub: Inside, look: Callable[[HttpConnection], int]) -> int:
    """Of the connection; 0 as long as there is none."""

    def on_loop() -> int:
        connection = the_connection(hub)
        return 0 if connection is None else look(connection)

    return hub.count(on_loop)


def held_bytes(connection: HttpConnection) -> int:
    """What was written and is not in the kernel yet."""
    return connection._unsent_bytes + connection.transport.get_write_buffer_size()


def of_request(look: Callable[[Exchange], int]) -> Callable[[HttpConnection], int]:
    """Of the request that runs; 0 as long as there is none."""
    return lambda connection: 0 if connection.running is None else look(connection.running)


def alone(hub: Inside) -> None:
    """Those of earlier tests are gone."""
    wait_until(lambda: hub.count(lambda: len(hub.hub._server._house.connections)) == 0)


def is_stuck(connection: HttpConnection) -> bool:
    """The last answer was written, and the client takes no more."""
    return connection.is_write_paused and connection.running is not None and connection.running.is_complete


# --- out ---


def test_who_sends_many_requests_and_reads_late_gets_all_answers_and_few_are_held(hub: Inside) -> None:
    alone(hub)
    with Wire(hub.port, hub.key, receive_buffer_bytes=64 * 1024) as wire:
        wire.send(wire.head("GET", "/openapi.json") * 400)
        wait_until(lambda: number_of(hub, is_stuck))
        assert number_of(hub, held_bytes) < FEW_BYTES  # of 23 MB
        replies = [wire.reply() for _ in range(400)]
    assert {(reply.status, len(reply.body)) for reply in replies} == {(200, len(replies[0].body))}
    assert len(replies[0].body) * 400 > 16 * FEW_BYTES


def test_who_catches_up_without_reading_is_held_few_of_the_messages(hub: Inside) -> None:
    """They all are there at once, so that they are written in one turn of the event loop."""
    alone(hub)
    for number in range(100):
        body = {"to": "user:behind", "content": f"{number} " + "x" * 100_000}
        assert call(hub.port, hub.key, "POST", "/api/messages", body).status == 202
    alone(hub)
    with Wire(hub.port, hub.key, receive_buffer_bytes=64 * 1024) as wire:
        wire.request("GET", "/api/messages/stream?to=user:behind")
        wait_until(lambda: number_of(hub, lambda connection: connection.is_write_paused))
        assert number_of(hub, held_bytes) < FEW_BYTES  # of 10 MB
        assert wire.start().status == 200
        events = wire.events()
        assert next(events) == {"comment": "connected"}
        assert [next(events)["data"]["content"].split(" ")[0] for _ in range(100)] == [str(n) for n in range(100)]


def test_an_answer_reaches_a_client_that_ends_its_side_in_the_same_moment(
    hub: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is written, but goes out only with the end of the turn; before that the client's end is read."""
    alone(hub)
    write = HttpConnection.write
    with Wire(hub.port, hub.key) as wire:

        def ending(connection: HttpConnection, data: bytes) -> None:
            write(connection, data)
            wire._socket.shutdown(socket.SHUT_WR)
            server_side = connection.transport.get_extra_info("socket")
            wait_until(lambda: server_side.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE_WAIT)

        monkeypatch.setattr(HttpConnection, "write", ending)
        wire.request("GET", "/api/me")
        assert wire.reply().status == 200
        assert wire.is_closed()


# --- in ---


body_bytes = of_request(lambda running: running._size_bytes)
body_parts = of_request(lambda running: len(running._parts))


def test_a_body_that_nobody_asks_for_is_not_read_into_memory(hub: Inside) -> None:
    """Another process that holds the write lock stands for a disk that is slow to delete the group."""
    call(hub.port, hub.key, "PUT", "/api/groups/doomed", {"members": []})
    alone(hub)
    blocker = sqlite3.connect(hub.hub.data_dir / "hub.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as sender, Wire(hub.port, hub.key) as wire:
        try:
            body = bytes(20 * FEW_BYTES)
            sending = sender.submit(wire.request, "DELETE", "/api/groups/doomed", body)
            wait_until(lambda: number_of(hub, lambda it: it._is_reading_paused or body_bytes(it) > FEW_BYTES))
            assert HIGH_WATER_BYTES < number_of(hub, body_bytes) <= HIGH_WATER_BYTES + READ_BYTES
        finally:
            blocker.execute("ROLLBACK")
            blocker.close()
        assert wire.reply().status == 204
        sending.result(20)
        wire.request("GET", "/api/me")
        assert wire.reply().status == 200


def test_a_body_in_the_smallest_chunks_is_held_in_few_parts(hub: Inside) -> None:
    """Each part is an object of its own, so that two bytes would take fifty."""
    alone(hub)
    body = json.dumps({"to": "user:tiny", "content": "x" * 20_000}).encode()
    chunks = [b"1\r\n%c\r\n" % byte for byte in body]
    with Wire(hub.port, hub.key) as wire:
        wire.send(wire.head("POST", "/api/messages", transfer_encoding="chunked") + b"".join(chunks[:-1]))
        wait_until(lambda: number_of(hub, body_bytes) == len(body) - 1)
        assert number_of(hub, body_parts) < 1100
        wire.send(chunks[-1] + b"0\r\n\r\n")
        assert wire.reply().status == 202
    assert call(hub.port, hub.key, "GET", "/api/messages?to=user:tiny").json()["messages"][0]["content"] == "x" * 20_000
