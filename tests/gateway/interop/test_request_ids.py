"""One connection, many requests: the audit has each under its own id."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.inside import Inside, hub_inside
from gateway.wire import Wire, call


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("ids") / "data") as inside:
        yield inside


def ids_of_sends(hub: Inside) -> list[str]:
    """Of the decisions to let somebody send, the oldest first."""
    hub.ask(hub.hub._trust.audit.written())
    found: list[dict[str, Any]] = call(hub.port, hub.key, "GET", "/api/audit?action=send:message").json()["entries"]
    return [entry["request_id"] for entry in found[::-1]]


def test_a_request_of_ntfy_or_apprise_is_not_written_down_under_the_one_before_it(hub: Inside) -> None:
    message = b'{"to": "user:a", "content": "x"}'
    requests: list[tuple[str, str, bytes]] = [
        ("POST", "/api/messages", message), ("POST", "/alarms", b"hot"), ("POST", "/api/messages", message),
        ("POST", "/notify", b'{"body": "hot"}'), ("PUT", "/alarms", b"hot"), ("GET", "/alarms/trigger", b""),
    ]  # fmt: skip
    sent = []
    with Wire(hub.port, hub.key) as wire:
        for method, path, body in requests:
            wire.request(method, path, body or None, content_type="application/json" if b"{" in body else "")
            reply = wire.reply()
            assert reply.status in (200, 202, 424), (path, reply.body)  # 424: no route takes it
            sent.append(reply.headers["x-request-id"])
    assert ids_of_sends(hub) == sent
