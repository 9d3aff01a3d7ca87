"""Pages of strangers in an honest user's browser, and names that lead where they should not, against a running hub."""

import base64
import hashlib
import json
from collections.abc import Iterator

import pytest

from gateway.wire import Reply, Wire
from hub import HubProcess, running_hub

CONFIG = '[gateway]\nhosts = ["hub.factory.example", ".plant.example"]\n'
HANDSHAKE = {
    "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("names") / "data", CONFIG) as hub:
        yield hub


def ask(hub: HubProcess, line: str, body: bytes = b"", **headers: str) -> Reply:
    """Exactly these headers, and no key."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    with Wire(hub.port) as wire:
        wire.send(f"{line} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body)
        return wire.reply(to_head=line.startswith("HEAD"))


def handshake(hub: HubProcess, **headers: str) -> Reply:
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**HANDSHAKE, **headers}.items())
    with Wire(hub.port) as wire:
        wire.send(f"GET /api/ws HTTP/1.1\r\n{lines}\r\n".encode())
        return wire.start()


# --- names ---


@pytest.mark.attack("DNS rebinding")
@pytest.mark.parametrize(
    "line",
    [
        "GET /", "GET /healthz", "GET /readyz", "GET /openapi.json", "GET /api/me", "POST /api/messages", "HEAD /",
        "GET /metrics", "OPTIONS /api/messages", "POST /v1/chat/completions", "GET /nothing",
    ],
)  # fmt: skip
def test_a_page_whose_name_leads_here_reads_nothing(hub: HubProcess, line: str) -> None:
    reply = ask(hub, line, host=f"evil.example:{hub.port}")
    assert reply.status == 421
    if not line.startswith("HEAD"):
        code = reply.json()["error"]["code"] if "/v1" in line else reply.json()["code"]
        assert code == "wrong_host"


@pytest.mark.attack("DNS rebinding")
def test_the_target_s_own_host_counts_before_the_header(hub: HubProcess) -> None:
    """RFC 9112, section 3.2.2."""
    assert ask(hub, "GET http://evil.example/healthz", host="127.0.0.1").status == 421
    assert ask(hub, "GET http://127.0.0.1/healthz", host="evil.example").status == 200
    assert ask(hub, "GET http://[::1]:9/healthz", host="evil.example").status == 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.9.8.7:8600", "[::1]:8600", "localhost", "hub", "hub.factory.example", "a.plant.example:1"]
)
def test_the_hub_s_own_names_are_answered(hub: HubProcess, host: str) -> None:
    assert ask(hub, "GET /healthz", host=host).status == 200
    assert ask(hub, "GET /api/me", host=host).status == 401


def test_who_shows_a_key_may_use_any_name_and_a_vendor_too(hub: HubProcess) -> None:
    """A container's or a tunnel's name is none that the hub knows; a page of strangers has no key."""
    key = f"Bearer {hub.admin_key}"
    assert ask(hub, "GET /api/me", host="hub.some-tunnel.example", authorization=key).status == 200
    assert ask(hub, "POST /api/hooks/none", b"{}", host="hub.some-tunnel.example").status == 404
    query = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    assert ask(hub, f"POST /alarm?auth={query}", b"hi", host="hub.some-tunnel.example").status == 200
    assert ask(hub, "POST /alarm", b"hi", host="hub.some-tunnel.example").status == 401


# --- origins ---


@pytest.mark.attack("cross-site WebSocket hijacking")
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "x"])
def test_a_page_of_others_opens_no_websocket(hub: HubProcess, origin: str) -> None:
    reply = handshake(hub, host=f"127.0.0.1:{hub.port}", origin=origin)
    assert reply.status == 403


@pytest.mark.attack("cross-site WebSocket hijacking")
def test_the_hub_s_page_and_programs_open_one(hub: HubProcess) -> None:
    host = f"127.0.0.1:{hub.port}"
    assert handshake(hub, host=host, origin=f"http://{host}").status == 101
    assert handshake(hub, host=host).status == 101
    key = f"Bearer {hub.admin_key}"
    assert handshake(hub, host=host, origin="app://robot", authorization=key).status == 101
    assert handshake(hub, host="evil.example", origin="http://evil.example").status == 421


def test_the_handshake_is_answered_with_the_client_s_own_nonce(hub: HubProcess) -> None:
    """RFC 6455, section 4.2.2: what is no WebSocket server cannot be made to look like one."""
    reply = handshake(hub, host="127.0.0.1")
    magic = HANDSHAKE["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    assert reply.headers["sec-websocket-accept"] == base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()


@pytest.mark.attack("reading answers from a page of another origin (CORS)")
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
@pytest.mark.parametrize(
    "line", ["GET /api/me", "OPTIONS /api/messages", "OPTIONS /v1/chat/completions", "GET /healthz"]
)
def test_no_other_origin_is_allowed_anything(hub: HubProcess, line: str, origin: str) -> None:
    reply = ask(
        hub, line, host="127.0.0.1", origin=origin, access_control_request_method="POST",
        access_control_request_headers="authorization",
    )  # fmt: skip
    assert not [name for name in reply.headers if name.startswith("access-control-")]


@pytest.mark.attack("cross-site request forgery")
def test_a_form_of_another_page_does_nothing(hub: HubProcess) -> None:
    """It cannot add the key, and there is nothing else that a browser would add."""
    form = b'{"to": "user:forged", "content": "x", "a": "=b"}'
    reply = ask(
        hub, "POST /api/messages", form, host="127.0.0.1", origin="http://evil.example", content_type="text/plain",
        cookie="session=guess", referer="http://evil.example/",
    )  # fmt: skip
    assert reply.status == 401
    with Wire(hub.port, hub.admin_key) as wire:
        wire.request("GET", "/api/messages?to=user:forged")
        assert wire.reply().json()["messages"] == []


# --- paths and methods ---


@pytest.mark.attack("path traversal")
@pytest.mark.parametrize(
    "target",
    [
        "/../../../../etc/passwd", "/..%2f..%2f..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5c..%5cetc%5cpasswd", "/assets/..%252f..%252f..%252fetc/passwd", "/....//....//etc/passwd",
        "/assets/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd", "/%2fetc%2fpasswd", "//etc/passwd", "/file:///etc/passwd",
        "/assets/../../../settings.py", "/index.html/../../app.py", "/assets\\..\\..\\app.py", "/etc/passwd%00.js",
        "/.git/config", "/..;/..;/etc/passwd", "/assets/.%2e/.%2e/app.py", "/admin.key", "/hub.db", "/autoglm.toml",
        "/api/hooks/..%2f..%2fadmin.key", "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_page_s_folder(hub: HubProcess, target: str) -> None:
    reply = ask(hub, f"GET {target}", host="127.0.0.1")
    assert reply.status in (401, 404), reply
    for secret in (b"root:", b"import ", b"[core]", hub.admin_key.encode(), b"SQLite"):
        assert secret not in reply.body


@pytest.mark.attack("TRACE")
@pytest.mark.parametrize("method", ["TRACE", "TRACK", "DEBUG", "CONNECT", "PROPFIND"])
def test_no_method_repeats_what_a_browser_added(hub: HubProcess, method: str) -> None:
    """Cross-site tracing: a script would read cookies that it may not see."""
    reply = ask(hub, f"{method} /", host="127.0.0.1", cookie="session=secret-value")
    assert reply.status in (400, 404, 405)
    assert b"secret-value" not in json.dumps(reply.headers).encode() + reply.body


@pytest.mark.attack("header injection by a request")
@pytest.mark.parametrize("part", ["%0d%0aset-cookie:%20a=b", "%0aset-cookie:%20a=b", "a%0d%0a%0d%0a<script>"])
@pytest.mark.parametrize("place", ["/{}", "/api/{}", "/v1/models/{}", "/api/hooks/{}"])
def test_line_breaks_in_a_path_stay_out_of_the_head(hub: HubProcess, place: str, part: str) -> None:
    reply = ask(hub, f"GET {place.format(part)}", host="127.0.0.1")
    assert reply.status in (401, 404)
    assert "set-cookie" not in reply.headers
    assert b"<script>" not in reply.body or reply.headers["content-type"].startswith("application/")
