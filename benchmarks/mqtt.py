"""MQTT from device to device at QoS 1: through the hub, which has each message on its disk, and by Mosquitto alone.

One Mosquitto, which saves its state on every change as the hub's own broker does, carries both: a device publishes
256 bytes with at most 64 messages unconfirmed, another one subscribes. Alone, both use one topic. Through the hub, the
first topic's messages become messages to a second one: taken in, acknowledged when they are on disk, sent out by the
outbox, counted as sent when the broker has confirmed twice. In turns, in one run; CPU of the broker and of the hub.
"""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/mqtt.py`

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.hub import RunningHub, running_hub
from benchmarks.outcome import SCRATCH, Target, conclude, options, say, this_machine
from benchmarks.ports import free_port, wait_for_port
from benchmarks.processes import priority, running, usage
from benchmarks.samples import middle

FULL, QUICK = (5, 2_000), (2, 500)
"""(rounds, messages a round)."""
INFLIGHT = 64
PAYLOAD = "x" * 256
_PATIENCE_S = 120.0
_BROKER = """
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_inflight_messages {inflight}
max_queued_messages 0
log_type error
"""
_HUB = """
[engine]
learns = false
[[channel]]
name = "mqtt"
kind = "mqtt"
url = "mqtt://127.0.0.1:{port}"
[[channel.topics]]
topic = "in/+"
kind = "chat"
to = "channel:mqtt/out/{{1}}"
"""


class Cost(NamedTuple):
    per_s: float
    broker_us: float
    hub_us: float


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    if shutil.which("mosquitto") is None:
        return conclude("mqtt", chosen, machine, {}, _targets(None), ["mosquitto"])
    rounds, count = QUICK if chosen.is_quick else FULL
    alone: list[Cost] = []
    through: list[Cost] = []
    with priority(), ExitStack() as stack:
        port, broker = stack.enter_context(_broker())
        hub = stack.enter_context(running_hub(SCRATCH / "mqtt", _HUB.format(port=port)))
        _until(lambda: _listens(hub))
        devices = stack.enter_context(_devices(port))
        for number in range(-1, rounds):  # the first one warms up
            found = [devices.round(topic, count, broker, hub) for topic in ("plain/a", "in/a")]
            if number >= 0:
                alone.append(found[0])
                through.append(found[1])
                say(f"round {number + 1}  alone {found[0].per_s:,.0f}/s  through the hub {found[1].per_s:,.0f}/s  "
                    f"hub {found[1].hub_us:,.0f} us a message")  # fmt: skip
    figures: dict[str, Any] = {
        "messages_a_round": count,
        "alone": _middle(alone),
        "through_the_hub": _middle(through),
        "lost": devices.lost,
        "twice": devices.twice,
    }
    return conclude("mqtt", chosen, machine, figures, _targets(figures))


def _targets(figures: dict[str, Any] | None) -> list[Target]:
    """Speed is told, not promised: no peer does what the hub does with a message."""
    lost, twice = (None, None) if figures is None else (figures["lost"], figures["twice"])
    return [
        Target(claim="messages lost between two devices", measured=lost, bound=0, unit=""),
        Target(claim="messages that came twice", measured=twice, bound=0, unit=""),
    ]


def _middle(costs: list[Cost]) -> dict[str, float]:
    return {name: round(middle([getattr(cost, name) for cost in costs]) or 0.0, 1) for name in Cost._fields}


class Devices:
    """One that publishes, one that hears."""

    def __init__(self, port: int) -> None:
        self.lost = self.twice = self._rounds = 0
        self._heard: list[bytes] = []
        self._granted = 0
        self._sender = self._client(port)
        self._hearer = self._client(port)
        self._hearer.on_message = lambda _client, _data, message: self._heard.append(bytes(message.payload))
        self._hearer.on_subscribe = self._count_grant
        self._hearer.subscribe([("plain/#", 1), ("out/#", 1)])
        _until(lambda: self._granted)

    def _client(self, port: int) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.max_inflight_messages_set(INFLIGHT)
        client.connect("127.0.0.1", port)
        client.loop_start()
        return client

    def _count_grant(self, *_: object) -> None:
        self._granted += 1

    def round(self, topic: str, count: int, broker: "subprocess.Popen[str]", hub: RunningHub) -> Cost:
        self._heard.clear()
        self._rounds += 1
        before = usage(broker.pid).cpu_ns, usage(hub.pid).cpu_ns
        begun_s = time.monotonic()
        for number in range(count):
            self._sender.publish(topic, f"{self._rounds}.{number} {PAYLOAD}", qos=1)
        _until(lambda: len(self._heard) >= count)
        took_s = time.monotonic() - begun_s
        after = usage(broker.pid).cpu_ns, usage(hub.pid).cpu_ns
        different = len({payload.split(b" ")[0] for payload in self._heard})
        self.lost += count - different
        self.twice += len(self._heard) - different
        broker_us, hub_us = ((late - early) / 1000 / count for early, late in zip(before, after, strict=True))
        return Cost(count / took_s, broker_us, hub_us)

    def close(self) -> None:
        for client in (self._sender, self._hearer):
            client.disconnect()
            client.loop_stop()


@contextmanager
def _devices(port: int) -> Iterator[Devices]:
    made = Devices(port)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def _broker() -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    folder = SCRATCH / "mosquitto"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(_BROKER.format(port=port, folder=folder, inflight=INFLIGHT))
    user = [] if (folder.owner() != "root") else ["user root\n"]
    config.write_text(config.read_text() + "".join(user))
    with running(["mosquitto", "-c", str(config)], folder / "log") as process:
        wait_for_port(port, process)
        yield port, process


def _listens(hub: RunningHub) -> bool:
    request = urllib.request.Request(f"{hub.url}/api/channels?check=1")
    request.add_header("Authorization", f"Bearer {hub.admin_key}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        (channel,) = json.load(answer)["channels"]
    return bool(channel["health"]["ok"])


def _until(has_come: Any) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not has_come():
        if time.monotonic() > deadline_s:
            raise RuntimeError("messages did not come")
        time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main())
