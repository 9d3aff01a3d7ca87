"""One hub for the forgeries of a module, which has been up for an hour, and the ways into it.

Not for the session: other tests move the clocks of their process, and a hub believes what it once heard.
"""

import shutil
from collections.abc import Callable, Iterator

import pytest

from autoglm.channels.broker.gate import Attempt, Challenge, Rights
from autoglm.channels.broker.plan import free_port
from autoglm.channels.broker_settings import BrokerSettings, BrokerUser
from autoglm.core.clock import now_ms
from autoglm.core.errors import Unauthorized
from autoglm.device_logins import DeviceLogins
from forged.entries import Entry, Http, Mqtt3, Mqtt5, OfHub, Verifying, WebSocket, WebSocketHeader, enrolled
from gateway.inside import Inside, hub_inside, settings

ENTRIES = ["unit", "http", "websocket", "websocket-header", "mqtt-3.1.1", "mqtt-5"]
HAS_BROKER = shutil.which("mosquitto") is not None or shutil.which("nats-server") is not None


@pytest.fixture(scope="module")
def broker_port() -> int:
    return free_port("127.0.0.1")


@pytest.fixture(scope="module")
def heard() -> Iterator[dict[str, Exception]]:
    """Why the hub refused a login at its broker, by the client's id: it is told nobody but the gate."""
    found: dict[str, Exception] = {}
    asked = DeviceLogins.__call__

    async def listening(logins: DeviceLogins, attempt: Attempt) -> Rights | Challenge:
        try:
            return await asked(logins, attempt)
        except Unauthorized as error:
            found[attempt.client_id] = error
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeviceLogins, "__call__", listening)
        yield found


@pytest.fixture(scope="module")
def hub(heard: dict[str, Exception], tmp_path_factory: pytest.TempPathFactory, broker_port: int) -> Iterator[Inside]:
    reader = BrokerUser.model_validate({"name": "reader", "password": "reader's password"})
    broker = BrokerSettings(enabled=HAS_BROKER, port=broker_port, tokens=True, user=(reader,))
    with hub_inside(
        tmp_path_factory.mktemp("forged") / "data",
        # A limit of failures by address would refuse what the forgery is to be refused for.
        settings(failures_per_minute=100_000).model_copy(update={"mqtt_broker": broker}),
    ) as inside:
        yield inside


@pytest.fixture(scope="module")
def entries(
    hub: Inside, heard: dict[str, Exception], broker_port: int, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Entry]:
    holder = enrolled(hub, tmp_path_factory.mktemp("forger"))
    _set_started(hub, now_ms() - 3_600_000)
    made: list[Entry] = [Verifying(), Http(hub, holder), WebSocket(hub, holder), WebSocketHeader(hub, holder)]
    if hub.hub.broker is not None:
        made.append(Mqtt3(hub, holder, broker_port, heard))
        if hub.hub.broker.version == "5":
            made.append(Mqtt5(hub, holder, broker_port, heard))
    return {entry.name: entry for entry in made}


@pytest.fixture
def find(entries: dict[str, Entry]) -> Callable[[str], Entry]:
    def found(name: str) -> Entry:
        if name not in entries:
            pytest.skip("no broker is installed that speaks it")
        return entries[name]

    return found


@pytest.fixture(params=ENTRIES)
def entry(request: pytest.FixtureRequest, find: Callable[[str], Entry]) -> Entry:
    return find(request.param)


@pytest.fixture(params=ENTRIES[1:])
def door(request: pytest.FixtureRequest, find: Callable[[str], Entry]) -> OfHub:
    """One of the hub's, which knows devices and revocations."""
    entry = find(request.param)
    assert isinstance(entry, OfHub)
    return entry


@pytest.fixture
def just_started(hub: Inside) -> Iterator[None]:
    """For as long as this test takes, the hub has started a moment ago."""
    _set_started(hub, now_ms())
    yield
    _set_started(hub, now_ms() - 3_600_000)


def _set_started(hub: Inside, at_ms: int) -> None:
    """Its clock, as proofs are judged by it."""
    hub.hub._auth.requests._started_ms = at_ms
