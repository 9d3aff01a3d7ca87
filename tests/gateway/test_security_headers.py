"""Every answer has the headers that keep browsers from doing with it what it is not meant for: over every route."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoglm.gateway.headers import API_HEADERS, PAGE_HEADERS
from autoglm.gateway.openapi import openapi
from gateway.inside import Inside, hub_inside
from gateway.wire import Reply, Wire, call
from hub import instance_config, running_hub
from scripted_model import ScriptedModel

API = {name.decode(): value.decode() for name, value in API_HEADERS}
PAGE = {name.decode(): value.decode() for name, value in PAGE_HEADERS}
ROUTES = [(method.upper(), path) for path, methods in openapi()["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("headers") / "data") as inside:
        yield inside


def missing(reply: Reply, wanted: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in wanted.items() if reply.headers.get(name) != value}


def first(hub: Inside, method: str, path: str, key: str, body: bytes | None = None) -> Reply:
    with Wire(hub.port, key) as wire:
        wire.request(method, path, body)
        return wire.start()


@pytest.mark.attack("content sniffing, framing and caching of answers")
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=str)
def test_every_endpoint_s_answer_is_data_that_no_page_may_load_and_no_browser_keep(
    hub: Inside, method: str, path: str
) -> None:
    """With a key, without one, and by a method that there is not: good answers and problems alike."""
    target = re.sub(r"\{\w+\}", "x", path) + ("?to=user:a" if path.startswith("/api/messages") else "")
    body = b"{}" if method in ("POST", "PUT") else None
    for key, verb in ((hub.key, method), ("", method), ("sk-wrong", method), (hub.key, "OPTIONS"), (hub.key, "PATCH")):
        reply = first(hub, verb, target, key, body)
        assert missing(reply, API) == {}, (verb, key, reply)
        assert "server" not in reply.headers
        assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_the_list_has_every_route_of_the_hub(hub: Inside) -> None:
    served = {(route.method, route.template) for route in hub.hub._front._router.routes}
    assert {(method, path) for method, path in served if (method, path) not in ROUTES} == set()


@pytest.mark.parametrize(
    "data",
    [
        b"\0garbage\r\n\r\n",
        b"GET /api/me HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        b"GET /nothing-here.js HTTP/1.1\r\nhost: x\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /api/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nauthorization: Bearer wrong\r\n\r\n",
    ],
)
def test_what_is_refused_has_them_too(hub: Inside, data: bytes) -> None:
    with Wire(hub.port) as wire:
        wire.send(data)
        reply = wire.start()
        assert reply.status >= 400
        assert missing(reply, API) == {}, reply


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_model_s_answer_has_them_on_the_measured_path(tmp_path: Path, is_stream: bool) -> None:
    body = {"model": "echo-model", "stream": is_stream, "messages": [{"role": "user", "content": "hi"}]}
    with ScriptedModel() as model, running_hub(tmp_path / "data", instance_config("a", model.url)) as hub:
        for _ in range(3):  # the head is known from the third on
            reply = call(hub.port, hub.admin_key, "POST", "/v1/chat/completions", body)
            assert reply.status == 200
            assert missing(reply, API) == {}, reply


@pytest.mark.attack("framing of the page")
def test_the_page_is_the_hub_s_own_and_in_nobody_s_frame(hub: Inside) -> None:
    reply = call(hub.port, "", "GET", "/")
    assert reply.status == 200
    assert missing(reply, PAGE) == {}
    assert "unsafe" not in PAGE["content-security-policy"]
    assert "frame-ancestors 'none'" in PAGE["content-security-policy"]
    assert {"camera=()", "microphone=()", "geolocation=()"} <= set(PAGE["permissions-policy"].split(", "))
