"""A hub that does not know what time it is: what administers is withheld, but not what ends a right."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoglm.client.device import Device
from autoglm.core.clock import now_ms
from gateway.inside import Inside, hub_inside, settings
from gateway.test_enrolled_devices import Raw, invite, reason
from gateway.wire import call

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Its clock was believed, until somebody set the machine's back by an hour. A device and two keys are here."""
    folder = tmp_path_factory.mktemp("no-clock")
    with hub_inside(folder / "data", settings()) as inside:
        for name, scope in (("clerk", "admin:devices"), ("lost", "send:message"), ("stolen", "send:message")):
            made = call(inside.port, inside.key, "POST", "/api/keys", {"name": name, "scopes": [scope]})
            (folder / name).write_text(made.json()["key"])
        for name in ("lost-1", "lost-2"):
            Device.enrol(folder / f"{name}.json", invite(inside, name), url=inside.hub.url)
        trust = inside.hub._trust
        trust.clock._wall_ms = lambda: now_ms() - HOUR_MS

        async def look() -> None:
            trust.judge.look()

        inside.ask(look())
        assert trust.clock.reason == "behind"
        yield inside


def key_of(hub: Inside, name: str) -> str:
    return (hub.hub.data_dir.parent / name).read_text()


@pytest.mark.attack("a clock set back so that nobody can revoke")
def test_devices_keys_and_tokens_are_revoked_while_the_time_is_not_believed(hub: Inside, tmp_path: Path) -> None:
    folder = hub.hub.data_dir.parent
    first, second = (Raw(hub, Device.load(folder / f"lost-{number}.json")) for number in (1, 2))
    lost = key_of(hub, "lost")
    assert [one.send("GET", "/api/me").status for one in (first, second)] == [200, 200]
    assert call(hub.port, hub.key, "DELETE", "/api/devices/lost-1").status == 204
    assert call(hub.port, key_of(hub, "clerk"), "POST", "/api/revocations", {"id": "device:lost-2"}).status == 200
    assert call(hub.port, hub.key, "DELETE", "/api/keys/lost").status == 204
    assert [reason(one.send("GET", "/api/me")) for one in (first, second)] == [(401, "revoked")] * 2
    assert call(hub.port, lost, "GET", "/api/me").status == 401
    # What gives rights waits for the clock; what was revoked is not given back.
    for method, path, body in (
        ("POST", "/api/keys", {"name": "new", "scopes": ["send:message"]}),
        ("POST", "/api/devices/enrolments", {"name": "new", "scopes": ["send:message"]}),
        ("DELETE", "/api/revocations/device:lost-2", None),
    ):
        assert reason(call(hub.port, hub.key, method, path, body)) == (403, "clock_untrusted"), path


def test_a_policy_may_be_brought_all_the_same(hub: Inside) -> None:
    assert reason(call(hub.port, hub.key, "POST", "/api/policy/pull"))[0] == 404  # there is none, that is all
    assert reason(call(hub.port, key_of(hub, "clerk"), "POST", "/api/policy/pull")) == (403, "no_scope")


def test_who_has_not_the_right_has_it_no_more_without_a_clock(hub: Inside) -> None:
    refused = call(hub.port, key_of(hub, "stolen"), "POST", "/api/revocations", {"id": "user:admin"})
    assert reason(refused) == (403, "no_scope")
    assert reason(call(hub.port, key_of(hub, "clerk"), "DELETE", "/api/keys/stolen")) == (403, "no_scope")
    assert call(hub.port, key_of(hub, "stolen"), "GET", "/api/me").status == 200
