"""Floods against a running hub: heads, cookies, sockets, guesses, and what unpacks to far more than it is."""

import base64
import gzip
import json
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from eventually import wait_until
from gateway.wire import Reply, Wire, call
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel, response, writing

HANDSHAKE = {
    "connection": "Upgrade", "upgrade": "websocket", "sec_websocket_version": "13",
    "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
ATTEMPTS = 10
LOOPBACK_FACTOR = 20
CONFIG = f"""
[gateway]
failures_per_minute = {ATTEMPTS}
trusted_proxies = ["127.0.0.1"]

[[key]]
name = "weak"
value = "sk-1234"
scopes = ["send:message"]
"""
BOMB_BYTES = 256 << 20


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, model: ScriptedModel) -> Iterator[HubProcess]:
    config = CONFIG + instance_config("bomber", model.url)
    with running_hub(tmp_path_factory.mktemp("floods") / "data", config) as hub:
        yield hub


def memory_bytes(hub: HubProcess) -> int:
    """What the hub holds in memory now."""
    pages = int(Path(f"/proc/{hub.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def is_served(hub: HubProcess) -> bool:
    return call(hub.port, hub.admin_key, "GET", "/api/me", x_forwarded_for="192.0.2.200").status == 200


# --- heads ---


@pytest.mark.attack("header flood")
def test_thousands_of_headers_are_read_or_refused_and_cost_nobody_else(hub: HubProcess) -> None:
    for count, status in ((100, 200), (3000, 200), (20_000, 431)):
        with Wire(hub.port) as wire:
            lines = b"".join(b"x-%d: %d\r\n" % (number, number) for number in range(count))
            try:
                wire.send(b"GET /healthz HTTP/1.1\r\nhost: hub\r\n" + lines + b"\r\n")
            except ConnectionError:
                pass  # it did not wait for all of them
            else:
                assert wire.reply().status == status, count
    assert is_served(hub)


@pytest.mark.attack("large cookies")
@pytest.mark.parametrize(("size_bytes", "status"), [(4096, 200), (60_000, 200), (200_000, 431)])
def test_a_cookie_may_be_as_large_as_a_head_and_no_larger(hub: HubProcess, size_bytes: int, status: int) -> None:
    """A page of the same site can plant cookies that lock its user out; the answer says what to do."""
    with Wire(hub.port) as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nhost: hub\r\ncookie: a=" + b"b" * size_bytes + b"\r\n\r\n")
        reply = wire.reply()
        assert reply.status == status
        assert status == 200 or reply.json()["code"] == "head_too_large"


# --- guesses ---


def guess(hub: HubProcess, key: str, client: str, path: str = "/api/me") -> Reply:
    return call(hub.port, key, "GET", path, x_forwarded_for=client)


@pytest.mark.attack("guessing of keys and logins")
def test_guesses_of_one_address_end_in_429_and_a_right_one_is_not_told(hub: HubProcess) -> None:
    statuses = [guess(hub, f"sk-{number}", "192.0.2.1").status for number in range(ATTEMPTS + 5)]
    assert statuses == [401] * ATTEMPTS + [429] * 5
    for key in ("sk-99", "sk-1234"):
        refused = guess(hub, key, "192.0.2.1")
        assert (refused.status, refused.json()["code"]) == (429, "too_many_failures")
        assert 1 <= int(refused.headers["retry-after"]) <= 60 / ATTEMPTS + 1
    assert guess(hub, "sk-1234", "192.0.2.2").status == 200


@pytest.mark.attack("guessing of keys and logins")
def test_each_way_to_name_a_key_counts(hub: HubProcess) -> None:
    """As a Bearer, as a password, in the query, and under /v1."""
    basic = base64.b64encode(b":sk-wrong").decode()
    query = base64.urlsafe_b64encode(b"Bearer sk-wrong").decode().rstrip("=")
    for number in range(ATTEMPTS):
        match number % 4:
            case 0:
                reply = guess(hub, "sk-wrong", "192.0.2.3")
            case 1:
                reply = guess(hub, "sk-wrong", "192.0.2.3", "/v1/models")
            case 2:
                headers = {"authorization": f"Basic {basic}", "x_forwarded_for": "192.0.2.3"}
                reply = call(hub.port, "", "POST", "/alarm", b"x", **headers)
            case _:
                reply = call(hub.port, "", "POST", f"/alarm?auth={query}", b"x", x_forwarded_for="192.0.2.3")
        assert reply.status == 401, number
    assert guess(hub, "sk-wrong", "192.0.2.3").status == 429
    assert guess(hub, "sk-wrong", "192.0.2.3", "/v1/models").json()["error"]["type"] == "rate_limit_error"


@pytest.mark.attack("lock-out of others by failing in their name")
def test_who_was_here_before_the_guesses_works_on(hub: HubProcess) -> None:
    assert guess(hub, "sk-1234", "192.0.2.4").status == 200
    for number in range(ATTEMPTS + 1):
        guess(hub, f"sk-{number}", "192.0.2.4")
    assert guess(hub, "sk-wrong", "192.0.2.4").status == 429
    assert guess(hub, "sk-1234", "192.0.2.4").status == 200
    assert guess(hub, hub.admin_key, "192.0.2.4").status == 429, "never seen from there"


def socket_hello(hub: HubProcess, key: str, client: str) -> bytes:
    """What a WebSocket that says this hello is told first."""
    with Wire(hub.port) as wire:
        wire.request("GET", "/api/ws", None, x_forwarded_for=client, **HANDSHAKE)
        assert wire.start().status == 101
        wire.send(masked(1, json.dumps({"type": "hello", "key": key}).encode()))
        size = wire._exactly(2)[1]
        if size == 126:
            (size,) = struct.unpack("!H", wire._exactly(2))
        return wire._exactly(size)


def masked(opcode: int, data: bytes, first_bits: int = 0x80) -> bytes:
    """A client's frame (RFC 6455, section 5.2), masked with zeros."""
    size = len(data)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = bytes([0x80 | 126]) + struct.pack("!H", size) if size < 65536 else b"\xff" + struct.pack("!Q", size)
    return bytes([first_bits | opcode]) + length + bytes(4) + data


@pytest.mark.attack("guessing of keys by WebSocket hellos")
def test_hellos_count_as_guesses(hub: HubProcess) -> None:
    for number in range(ATTEMPTS):
        assert b'"unauthorized"' in socket_hello(hub, f"sk-{number}", "192.0.2.5")
    assert b'"too_many_failures"' in socket_hello(hub, "sk-1234", "192.0.2.5")
    assert b'"welcome"' in socket_hello(hub, "sk-1234", "192.0.2.6")
    assert guess(hub, "sk-1234", "192.0.2.5").status == 429


@pytest.mark.attack("guessing of keys and logins")
def test_a_neighbourhood_of_ipv6_is_one_address(hub: HubProcess) -> None:
    statuses = [guess(hub, "sk-wrong", f"2001:db8:1:2::{number:x}").status for number in range(1, ATTEMPTS + 3)]
    assert statuses == [401] * ATTEMPTS + [429, 429]
    assert guess(hub, "sk-wrong", "2001:db8:1:3::1").status == 401


# --- sockets ---


@pytest.mark.attack("WebSocket: compressed frames")
def test_no_compression_is_agreed_and_a_compressed_frame_ends_the_connection(hub: HubProcess) -> None:
    """RFC 7692: a frame of a KiB could hold a MiB, and each connection would need buffers for it."""
    with Wire(hub.port, hub.admin_key) as wire:
        wire.request("GET", "/api/ws", None, sec_websocket_extensions="permessage-deflate", **HANDSHAKE)
        reply = wire.start()
        assert reply.status == 101
        assert "sec-websocket-extensions" not in reply.headers
        wire._exactly(wire._exactly(2)[1])  # welcome
        wire.send(masked(1, b"\xaa\x56\x2a\xa9\x2c\x48\x55\xb2\x52\x00\x00", first_bits=0xC0))
        assert wire._exactly(4)[2:] == struct.pack("!H", 1002)
        assert wire.is_closed()


@pytest.mark.attack("WebSocket: idle connections without end")
def test_hundreds_of_silent_sockets_keep_nobody_out(hub: HubProcess) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(500, soft // 4)
    before = memory_bytes(hub)
    with ExitStack() as stack:
        for _ in range(count):
            wire = stack.enter_context(Wire(hub.port))
            wire.request("GET", "/api/ws", None, **HANDSHAKE)
            assert wire.start().status == 101
        assert is_served(hub)
        assert memory_bytes(hub) - before < count * 200_000
    wait_until(lambda: is_served(hub))


# --- what unpacks to more than it is ---


@pytest.mark.attack("decompression bomb in a request")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
@pytest.mark.parametrize("path", ["/api/messages", "/v1/chat/completions", "/api/events"])
def test_a_packed_body_is_not_unpacked(hub: HubProcess, path: str, coding: str) -> None:
    before = memory_bytes(hub)
    bomb = gzip.compress(bytes(BOMB_BYTES), 9)
    reply = call(hub.port, hub.admin_key, "POST", path, bomb, content_encoding=coding, x_forwarded_for="192.0.2.9")
    assert reply.status == 415
    assert memory_bytes(hub) - before < BOMB_BYTES // 8


@pytest.mark.attack("decompression bomb in an instance's answer")
def test_a_packed_answer_of_an_instance_is_not_unpacked(hub: HubProcess, model: ScriptedModel) -> None:
    bomb = gzip.compress(bytes(BOMB_BYTES), 9)
    model.behaviour = writing(response(200, bomb, {"Content-Encoding": "gzip", "Content-Type": "application/json"}))
    before = memory_bytes(hub)
    body = {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}
    call(hub.port, hub.admin_key, "POST", "/v1/chat/completions", body, x_forwarded_for="192.0.2.9")
    assert model.requests, "it was asked"
    assert memory_bytes(hub) - before < BOMB_BYTES // 8
    assert is_served(hub)
