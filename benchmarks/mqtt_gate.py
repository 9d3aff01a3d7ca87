"""What the gate before the hub's own MQTT broker costs: from device to device, through the gate and without it.

200 bytes a message. QoS 0 as fast as it goes; QoS 1 with at most 64 unconfirmed; QoS 1 one by one, where each message
costs the gate four turns of its loop: in, out, its PUBACK, and the delivery. CPU of the hub's process alone (uvloop),
whose gate is all that works in it. Each topic is judged by a policy of 1,000 rules, as in a whole hub; the answer is
kept while that holds. In turns, in one run.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/mqtt_gate.py`

from benchmarks.outcome import SCRATCH, Target, conclude, options, say, this_machine
from benchmarks.processes import priority, running, usage
from benchmarks.samples import middle

FULL, QUICK = (5, 10_000), (1, 2_000)
"""(rounds, messages a round)."""
BOUND_US = 200.0
"""Of the hub's CPU for a message that comes alone and is confirmed."""
_WINDOWS = {"qos_0": 0, "qos_1": 64, "qos_1_one_by_one": 1}
_TOPIC = b"plant/7/alarm"
_PAYLOAD = b"x" * 200
_PATIENCE_S = 60.0
_HUB = """
import sys
from pathlib import Path
import anyio
from autoglm.auth.policy.decider import compile_policy
from autoglm.auth.policy.snapshot import parse_snapshot
from autoglm.auth.trust import TrustParts, open_trust
from autoglm.channels.broker import open_broker
from autoglm.channels.broker_settings import BrokerSettings
from autoglm.device_logins import DeviceLogins, LoginRecord
from autoglm.policy_fetch import http_fetch
from autoglm.store import StoreSettings, open_store

RULE = 'forbid(principal == Device::"press-{0}", action == Action::"publish:topic", resource == Topic::"no/{0}");'
FILES = {"roles.json": b"{}", "revocations.json": b"{}", "pins.json": b"[]",
         "policies.cedar": "".join(RULE.format(number) for number in range(1000)).encode()}

async def main():
    user = {"name": "press-7", "password": "press-secret", "publish": ["plant/7/#"], "subscribe": ["plant/7/#"]}
    found = {"program": sys.argv[1], "port": 0, "tokens": sys.argv[2] == "gate", "user": [user]}
    folder, settings = Path(sys.argv[3]), BrokerSettings.model_validate(found)
    async with (
        open_store(folder, StoreSettings()) as store,
        open_trust(folder, TrustParts(), store.keyvalue, store.journal, fetching=http_fetch) as trust,
        open_broker(
            settings, folder / "mqtt", authenticate=DeviceLogins(trust.authenticator, trust.vouched, settings.user),
            record=LoginRecord(trust.audit, trust.refusals), now_ms=trust.clock.now_ms,
        ) as broker,
    ):
        trust.decider.swap(compile_policy(parse_snapshot(FILES, version=1, issued_ms=0, expires_ms=2**45)))
        trust.judge.renew()
        print(broker.pid, broker.device_url.rpartition(":")[2], flush=True)
        await anyio.sleep_forever()

anyio.run(main, backend_options={"use_uvloop": True})
"""


class Hub(NamedTuple):
    pid: int
    broker_pid: int
    port: int

    def cpu_ns(self) -> int:
        """Without the broker's."""
        return usage(self.pid).cpu_ns - usage(self.broker_pid).cpu_ns


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    rounds, count = QUICK if chosen.is_quick else FULL
    figures: dict[str, Any] = {"messages_a_round": count}
    for program in ("mosquitto", "nats-server"):
        with priority(), _hub(program, "gate") as gated, _hub(program, "direct") as direct:
            for name, window in _WINDOWS.items():
                found = [(_round(gated, count, window), _round(direct, count, window)) for _ in range(rounds)]
                figures[f"{program}.{name}"] = {
                    "gate_us": round(middle([one.hub_us for one, _ in found]) or 0.0, 1),
                    "per_s": round(middle([one.per_s for one, _ in found]) or 0.0),
                    "direct_per_s": round(middle([one.per_s for _, one in found]) or 0.0),
                }
                say(f"{program} {name}: {figures[f'{program}.{name}']}")
    worst = max(figures[f"{program}.qos_1_one_by_one"]["gate_us"] for program in ("mosquitto", "nats-server"))
    target = Target(claim="the gate's CPU for a message that comes alone", measured=worst, bound=BOUND_US, unit="us")
    return conclude("mqtt_gate", chosen, machine, figures, [target])


class Cost(NamedTuple):
    hub_us: float
    per_s: float


def _round(hub: Hub, count: int, window: int) -> Cost:
    """window: messages without a PUBACK; 0 is QoS 0."""
    message = _publish(window)
    delivered = len(_publish(0)) * count
    with _client(hub.port, b"hears") as hearer, _client(hub.port, b"says") as sayer:
        hearer.sendall(b"\x82" + bytes((5 + len(_TOPIC),)) + b"\0\1" + _string(_TOPIC) + b"\0")
        _take(hearer, 5)
        thread = threading.Thread(target=_take, args=(hearer, delivered))
        thread.start()
        before, begun_s = hub.cpu_ns(), time.monotonic()
        if window:
            for number in range(count):
                sayer.sendall(message)
                if number >= window - 1:
                    _take(sayer, 4)
            _take(sayer, 4 * (window - 1))
        else:
            for _ in range(count):
                sayer.sendall(message)
        thread.join()
        took_s = time.monotonic() - begun_s
        return Cost((hub.cpu_ns() - before) / 1000 / count, count / took_s)


def _publish(window: int) -> bytes:
    body = _string(_TOPIC) + (b"\0\1" if window else b"") + _PAYLOAD
    return bytes((0x32 if window else 0x30, len(body) & 127 | 128, len(body) >> 7)) + body


def _string(raw: bytes) -> bytes:
    return len(raw).to_bytes(2, "big") + raw


def _take(found: socket.socket, size: int) -> None:
    while size:
        size -= len(found.recv(min(size, 65_536)) or _hung_up())


def _hung_up() -> bytes:
    raise RuntimeError("the broker has hung up")


@contextmanager
def _client(port: int, name: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as found:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = b"\0\4MQTT\4\xc2\0\0" + _string(name) + _string(b"press-7") + _string(b"press-secret")
        found.sendall(bytes((0x10, len(body))) + body)
        _take(found, 4)
        yield found


@contextmanager
def _hub(program: str, way: str) -> Iterator[Hub]:
    folder = SCRATCH / "mqtt_gate" / f"{program}-{way}"
    command = [sys.executable, "-c", _HUB, program, way, str(folder)]
    with running(command, folder.with_suffix(".log"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines: Callable[[], list[str]] = lambda: process.stdout.readline().split()  # type: ignore[union-attr]  # noqa: E731
        while len(words := lines()) != 2 or not words[0].isdigit():
            if process.poll() is not None:
                raise RuntimeError(f"{program} does not start: see {folder.with_suffix('.log')}")
        drain = threading.Thread(target=process.stdout.read, daemon=True)  # its log must not hold it up
        drain.start()
        yield Hub(process.pid, int(words[0]), int(words[1]))


if __name__ == "__main__":
    sys.exit(main())
