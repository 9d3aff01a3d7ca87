"""Strangers flood a hook of a real hub: forged, over-long and slow calls, and valid ones among them."""

import base64
import json
import re
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks

from autoglm.channels.settings import parse_channel
from autoglm.gateway import large_bodies
from eventually import wait_until
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Reply, Wire
from hub import HubProcess, running_hub

SECRET = "whsec_" + base64.b64encode(b"a press " * 4).decode()
PATH = "/api/hooks/plant"
MIB = 1 << 20
CONFIG = f"""
[[channel]]
name = "plant"
kind = "webhook"
incoming_to = "user:bob"
senders = ["press"]
incoming_bytes = {MIB}
[channel.endpoints.press]
secret = "{SECRET}"
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path / "hub", CONFIG) as hub:
        yield hub
        assert "Traceback" not in hub.log()


def signed(number: int, text: str) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a valid call."""
    body, at = json.dumps({"content": text}), datetime.fromtimestamp(int(time.time()), UTC)
    headers = {
        "webhook_id": f"msg_{number}", "webhook_timestamp": str(int(at.timestamp())),
        "webhook_signature": standardwebhooks.Webhook(SECRET).sign(f"msg_{number}", at, body),
    }  # fmt: skip
    return body.encode(), headers


def call(wire: Wire, body: bytes, headers: dict[str, str]) -> Reply:
    wire.request("POST", PATH, body, **headers)
    return wire.reply()


def called(port: int, body: bytes, headers: dict[str, str]) -> Reply:
    """By a connection of its own."""
    with Wire(port) as wire:
        return call(wire, body, headers)


def peak_bytes(hub: HubProcess) -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{hub.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def taken(hub: HubProcess) -> list[str]:
    with hub.client() as http:
        messages = http.get("/api/messages", params={"to": "user:bob", "limit": 1000}).json()["messages"]
    return [message["content"] for message in messages]


def slow(stack: ExitStack, port: int, *, size: int, sent: int) -> Wire:
    """A call that announces `size` bytes, sends `sent` of them, and then nothing."""
    wire = stack.enter_context(Wire(port))
    _, headers = signed(0, "")
    head = wire.head("POST", PATH, None, content_length=str(size), **headers)
    with suppress(BrokenPipeError, ConnectionResetError):  # refused while it still sent
        wire.send(head + bytes(sent))
    return wire


@pytest.mark.attack("flood of forged vendor calls")
def test_valid_calls_among_a_flood_arrive_and_memory_stays_bounded(hub: HubProcess) -> None:
    """200 strangers keep the hub waiting for the last byte of a MiB each; others forge 3,000 calls, and announce more
    than is ever taken. Meanwhile valid calls are taken, and other endpoints answer.
    """
    before_bytes = peak_bytes(hub)
    forged_body, forged = signed(1, "forged")

    def forge(_: int) -> set[int]:
        with Wire(hub.port) as wire:
            ids = (f"forged_{number}" for number in range(300))
            return {call(wire, forged_body + b" ", {**forged, "webhook_id": id}).status for id in ids}

    def overlong(_: int) -> set[int]:
        statuses = set()
        for length in ({"content_length": str(1 << 30)}, {"transfer_encoding": "chunked"}):
            with Wire(hub.port) as wire:
                wire.send(wire.head("POST", PATH, None, **forged, **length))
                if "transfer_encoding" in length:
                    wire.send(b"200000\r\n" + bytes(2 * MIB))  # 2 MiB, and no end
                statuses.add(wire.reply().status)
        return statuses

    def valid(worker: int) -> set[int]:
        with Wire(hub.port) as wire:
            numbers = range(1000 * worker, 1000 * worker + 50)
            return {call(wire, *signed(number, f"valid {number}")).status for number in numbers}

    def look(_: int) -> set[int]:
        with Wire(hub.port, hub.admin_key) as wire:
            statuses = set()
            for path in ["/healthz", "/api/channels", "/api/messages?to=user:alice"] * 20:
                wire.request("GET", path)
                statuses.add(wire.reply().status)
            return statuses

    with ExitStack() as stack, ThreadPoolExecutor(18) as pool:
        held = [slow(stack, hub.port, size=MIB, sent=MIB - 1) for _ in range(200)]
        forging = [pool.submit(forge, number) for number in range(10)]
        others = [[pool.submit(task, number) for number in range(1, 5)] for task in (valid, look, overlong)]
        forged_found = set().union(*(task.result() for task in forging))
        valid_found, look_found, overlong_found = (set().union(*(one.result() for one in tasks)) for tasks in others)
        grown_bytes = peak_bytes(hub) - before_bytes
        assert len(held) == 200
    assert (forged_found, valid_found, look_found) == ({401}, {200}, {200})
    assert overlong_found <= {413, 503}
    wanted = [f"valid {number}" for worker in range(1, 5) for number in range(1000 * worker, 1000 * worker + 50)]
    assert sorted(taken(hub)) == wanted
    assert grown_bytes < 120 * MIB, f"{grown_bytes / MIB:.0f} MiB more"
    assert hub.log().count("hook_calls_refused") <= 2, "a line a minute"


@contextmanager
def plant_inside(folder: Path) -> Iterator[Inside]:
    plant = parse_channel(tomllib.loads(CONFIG)["channel"][0])
    with hub_inside(folder / "data", settings().model_copy(update={"channel": (plant,)})) as hub:
        yield hub


def test_large_calls_have_places_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds none, for all come at a good pace, is told to call again. Short calls need no place."""
    monkeypatch.setattr(large_bodies, "_GRACE_S", 60.0)  # none of these is slow
    body, headers = signed(1, "x" * 500_000)
    replies: list[Reply] = []
    with plant_inside(tmp_path) as hub:
        with ExitStack() as stack:
            for _ in range(32):
                slow(stack, hub.port, size=MIB, sent=100_000)

            def is_refused() -> bool:
                replies.append(called(hub.port, body, headers))
                return replies[-1].status == 503

            wait_until(is_refused)  # all of them have come
            assert (replies[-1].json()["code"], replies[-1].headers["retry-after"]) == ("too_many_bodies", "2")
            assert called(hub.port, *signed(2, "short")).status == 200
        wait_until(lambda: called(hub.port, *signed(3, "x" * 500_000)).status == 200)  # they have left


@pytest.mark.attack("flood of forged vendor calls")
@pytest.mark.parametrize("sent", [1_000, MIB - 1], ids=["the_first_bytes", "all_but_the_last_byte"])
def test_idle_strangers_lose_their_places_to_a_good_caller(hub: HubProcess, sent: int) -> None:
    """32 hold on, each with a body whose rest never comes; long before their time is over, others get through."""
    begun_s = time.monotonic()
    with ExitStack() as stack:
        held = [slow(stack, hub.port, size=MIB, sent=sent) for _ in range(32)]
        for number in range(1, 4):
            body, headers = signed(number, f"{number}" * 500_000)
            wait_until(lambda body=body, headers=headers: called(hub.port, body, headers).status == 200)  # type: ignore[misc]  # of this round
        assert time.monotonic() - begun_s < large_bodies.LONGEST_S / 2
        assert [len(text) for text in taken(hub)] == [500_000] * 3
        reply = held[0].reply()
        assert (reply.status, reply.headers["connection"]) == (503, "close"), "the first is the slowest"


@pytest.mark.attack("slow body (R.U.D.Y.)")
def test_a_trickle_holds_no_place(hub: HubProcess) -> None:
    """A byte now and then is no pace."""
    with ExitStack() as stack:
        held = [slow(stack, hub.port, size=MIB, sent=1_000) for _ in range(32)]

        def is_taken() -> bool:
            for wire in held:
                with suppress(BrokenPipeError, ConnectionResetError):
                    wire.send(b"x")
            return called(hub.port, *signed(1, "x" * 500_000)).status == 200

        wait_until(is_taken, large_bodies.LONGEST_S / 2, every_s=0.05)


@pytest.mark.attack("slow body (R.U.D.Y.)")
def test_a_large_body_that_comes_too_slowly_loses_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_bodies, "LONGEST_S", 0.1)
    with plant_inside(tmp_path) as hub, ExitStack() as stack:
        replies = [slow(stack, hub.port, size=MIB, sent=100_000).reply() for _ in range(2)]
        assert [reply.status for reply in replies] == [408, 408]
        assert "has been coming for" in replies[0].json()["detail"]
        assert replies[0].headers["connection"] == "close"
        assert called(hub.port, *signed(1, "x" * 500_000)).status == 200
