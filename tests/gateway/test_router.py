"""Paths, methods and what is wrong with a request before any endpoint sees it."""

import json
from collections.abc import Iterator

import pytest

from gateway.wire import Reply, Wire, call
from hub import HubProcess, running_hub

LIMIT_BYTES = 65536


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("router") / "data", f"[gateway]\nmax_body_bytes = {LIMIT_BYTES}\n") as hub:
        yield hub
        assert "Traceback" not in hub.log()


def problem(reply: Reply, status: int, code: str) -> dict[str, object]:
    """Check that the reply is a problem as all are, and return it."""
    body: dict[str, object] = reply.json()
    assert (reply.status, body["code"], body["status"]) == (status, code, status)
    assert reply.headers["content-type"] == "application/problem+json"
    assert body["instance"] == f"urn:request:{reply.headers['x-request-id']}"
    assert body["type"] == f"https://autoglm-hub.invalid/problems/{code}"
    assert "Traceback" not in str(body)
    return body


# --- paths and methods ---


@pytest.mark.parametrize(
    "path",
    [
        "/api", "/api/", "/api/nothing", "/api/messages/", "/api/messages/a/b", "/api/messages//receipts", "/v2/models",
        "/nothing.js", "/assets/", "/assets", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2f..%2fsettings.py", "/%00", "/index.html%00.js", "//etc/passwd", "/" + "a" * 5000, "/%ff%fe",
    ],
)  # fmt: skip
def test_what_is_not_there_is_a_problem(hub: HubProcess, path: str) -> None:
    reply = call(hub.port, hub.admin_key, "GET", path)
    assert problem(reply, 404, "unknown_path")["path"]


@pytest.mark.attack("path traversal")
def test_dots_in_a_path_never_leave_the_page(hub: HubProcess) -> None:
    for path in ("/../app.py", "/assets/../../../app.py", "/./../console/__init__.py", "/..\\app.py", "/....//app.py"):
        reply = call(hub.port, "", "GET", path)
        assert reply.status == 404, path
        assert b"import" not in reply.body


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/messages", "GET, HEAD, OPTIONS, POST"),
        ("/api/messages/x", "GET, HEAD, OPTIONS"),
        ("/api/groups/ops", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS, POST, PUT"),
    ],
)
def test_a_wrong_method_is_told_which_are_right(hub: HubProcess, path: str, allowed: str) -> None:
    for method in ("PATCH", "TRACE", "PROPFIND"):
        reply = call(hub.port, hub.admin_key, method, path)
        assert problem(reply, 405, "method_not_allowed")["allowed"] == allowed.split(", ")
        assert reply.headers["allow"] == allowed
    options = call(hub.port, "", "OPTIONS", path)
    assert (options.status, options.headers["allow"], options.body) == (204, allowed, b"")
    assert "content-length" not in options.headers
    assert not any(name.startswith("access-control") for name in options.headers)


def test_openai_paths_have_openai_errors(hub: HubProcess) -> None:
    wrong_method = call(hub.port, hub.admin_key, "GET", "/v1/chat/completions")
    assert (wrong_method.status, wrong_method.headers["allow"]) == (405, "OPTIONS, POST")
    assert wrong_method.json()["error"]["code"] == "method_not_allowed"
    unknown = call(hub.port, hub.admin_key, "POST", "/v1/fine_tuning/jobs", {})
    assert (unknown.status, unknown.json()["error"]["code"]) == (404, "unknown_path")
    assert call(hub.port, "", "OPTIONS", "/v1/embeddings").status == 204


@pytest.mark.parametrize("path", ["/chat/completions", "/models", "/models/auto", "/responses"])
def test_openai_paths_without_v1_have_openai_errors_too(hub: HubProcess, path: str) -> None:
    reply = call(hub.port, "", "POST", path, {})
    error = reply.json()["error"]
    assert (reply.status, error["code"], error["type"]) == (404, "unknown_path", "invalid_request_error")
    assert "/v1" in error["message"]
    assert problem(call(hub.port, "", "GET", "/models.js"), 404, "unknown_path"), "no path of that API"


def test_head_is_get_without_the_body(hub: HubProcess) -> None:
    for path in ("/healthz", "/api/me", "/api/messages?to=user:a&wait=60", "/openapi.json", "/"):
        with Wire(hub.port, hub.admin_key) as wire:
            wire.request("HEAD", path)
            head = wire.reply(to_head=True)
            wire.request("GET", path.replace("&wait=60", ""))
            get = wire.reply()
            assert (head.status, head.headers["content-type"]) == (200, get.headers["content-type"]), path
            assert head.headers["content-length"] == get.headers["content-length"], path


def test_head_of_a_stream_ends(hub: HubProcess) -> None:
    reply = call(hub.port, hub.admin_key, "HEAD", "/api/messages/stream?to=user:a")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")


def test_ids_in_paths_may_hold_anything_that_ids_may(hub: HubProcess) -> None:
    for id, encoded in (
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        ("a?b#c", "a%3Fb%23c"),
        ("..x", "..x"),
        ("a+b&c=d", "a+b&c=d"),
    ):
        sent = call(hub.port, hub.admin_key, "POST", "/api/messages", {"to": "user:a", "content": "x", "id": id})
        assert sent.status == 202
        assert call(hub.port, hub.admin_key, "GET", f"/api/messages/{encoded}").json()["id"] == id
        assert call(hub.port, hub.admin_key, "GET", f"/api/messages/{encoded}/receipts").status == 200
    missing = call(hub.port, hub.admin_key, "GET", "/api/messages/has%20space")
    assert problem(missing, 404, "not_found")["name"] == "has space"


@pytest.mark.parametrize("segment", ["%zz", "%", "a%2", "%ff", "%C3%28"])
def test_bad_percent_encoding_names_the_variable(hub: HubProcess, segment: str) -> None:
    reply = call(hub.port, hub.admin_key, "GET", f"/api/messages/{segment}")
    assert problem(reply, 400, "invalid_field")["field"] == "id"
    reply = call(hub.port, hub.admin_key, "PUT", f"/api/groups/{segment}", {"members": []})
    assert problem(reply, 400, "invalid_field")["field"] == "name"


# --- query ---


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "to"), ("to=alice", "to"), ("to=user:a&to=user:b", "to"), ("to=", "to"), ("to=user:a%0a", "to"),
        ("to=%ff", "query"),
        ("to=user:a&after=-1", "after"), ("to=user:a&after=x", "after"), ("to=user:a&after=9007199254740992", "after"),
        ("to=user:a&after=1e3", "after"), ("to=user:a&after=%EF%BC%91", "after"), ("to=user:a&after=", "after"),
        ("to=user:a&limit=0", "limit"), ("to=user:a&limit=1001", "limit"),
        ("to=user:a&wait=61", "wait"), ("to=user:a&wait=-1", "wait"), ("to=user:a&wait=inf", "wait"),
        ("to=user:a&wait=nan", "wait"), ("to=user:a&reader=", "reader"), ("to=user:a&reader=a%20b", "reader"),
        ("to=user:a&reader=" + "r" * 65, "reader"),
        ("to=user:a&waits=1", "waits"), ("&".join(f"p{number}=1" for number in range(101)), "query"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named(hub: HubProcess, query: str, field: str) -> None:
    reply = call(hub.port, hub.admin_key, "GET", f"/api/messages?{query}")
    assert problem(reply, 400, "invalid_field")["field"] == field


def test_a_misspelt_parameter_is_met_with_a_guess(hub: HubProcess) -> None:
    reply = call(hub.port, hub.admin_key, "GET", "/api/messages?to=user:a&waits=1")
    assert "Did you mean 'wait'?" in reply.json()["detail"]
    far = call(hub.port, hub.admin_key, "GET", "/api/tasks?state=done").json()
    assert far["detail"] == "state: there is no such parameter. Known here: after, limit"


# --- bodies ---


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "words"),
    [
        (b"{", {}, 400, "invalid_json", "truncated"),
        (b"", {}, 400, "invalid_json", "truncated"),
        (b"\xff\xfe{\x00}\x00", {}, 400, "invalid_json", "UTF-16"),
        (b'{"to": "\xff"}', {}, 400, "invalid_json", "not UTF-8"),
        (b'{"to": "user:a", "content": [{"type": "json", "json": ' + b"[" * 60_000, {}, 400, "invalid_field", "nested"),
        (b"\x1f\x8b\x08\x00", {"content_encoding": "gzip"}, 415, "unsupported_media_type", "gzip"),
        (b"{}", {"content_encoding": "br"}, 415, "unsupported_media_type", "br"),
        (b"a" * (LIMIT_BYTES + 1), {}, 413, "payload_too_large", "65536"),
    ],
)  # fmt: skip
def test_a_bad_body_is_a_problem(
    hub: HubProcess, body: bytes, headers: dict[str, str], status: int, code: str, words: str
) -> None:
    reply = call(hub.port, hub.admin_key, "POST", "/api/messages", body, **headers)
    assert words in str(problem(reply, status, code)["detail"])


def test_identity_is_no_encoding(hub: HubProcess) -> None:
    body = {"to": "user:a", "content": "x"}
    assert call(hub.port, hub.admin_key, "POST", "/api/messages", body, content_encoding="Identity").status == 202


@pytest.mark.attack("oversized body")
def test_a_chunked_body_has_the_same_limit(hub: HubProcess) -> None:
    with Wire(hub.port, hub.admin_key) as wire:
        wire.send(wire.head("POST", "/api/messages", transfer_encoding="chunked"))
        for _ in range(LIMIT_BYTES // 1024 + 1):
            wire.send(b"400\r\n" + b" " * 1024 + b"\r\n")
        wire.send(b"0\r\n\r\n")
        problem(wire.reply(), 413, "payload_too_large")
        message = json.dumps({"to": "user:a", "content": "x" * 2000}).encode()
        wire.send(wire.head("POST", "/api/messages", transfer_encoding="chunked"))
        for byte in (message[:500], message[500:]):
            wire.send(b"%x\r\n%b\r\n" % (len(byte), byte))
        wire.send(b"0\r\n\r\n")
        assert wire.reply().status == 202


@pytest.mark.attack("oversized body")
def test_who_expects_to_be_asked_for_a_huge_body_is_refused_before_sending_it(hub: HubProcess) -> None:
    with Wire(hub.port, hub.admin_key) as wire:
        wire.send(wire.head("POST", "/api/messages", content_length="10000000", expect="100-continue"))
        reply = wire.reply()
        problem(reply, 413, "payload_too_large")
        assert reply.headers["connection"] == "close"
        assert wire.is_closed()


def test_an_announced_upgrade_to_http2_does_not_swallow_the_body(hub: HubProcess) -> None:
    """Java's HttpClient offers it with each first request."""
    with Wire(hub.port, hub.admin_key) as wire:
        body = json.dumps({"to": "user:a", "content": "x"}).encode()
        wire.request(
            "POST", "/api/messages", body, connection="Upgrade, HTTP2-Settings", upgrade="h2c", http2_settings="AAM"
        )
        assert wire.reply().status == 202
        wire.request("GET", "/healthz")
        assert wire.reply().status == 200


# --- what is no request ---


@pytest.mark.attack("what is no HTTP")
@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        b"POST /api/messages HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /api/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /api/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)  # fmt: skip
def test_garbage_is_a_problem_too_and_ends_the_connection(hub: HubProcess, data: bytes) -> None:
    with Wire(hub.port) as wire:
        wire.send(data)
        reply = wire.reply()
        if reply.json()["code"] != "unauthorized":  # what the parser lets pass is refused for want of a key
            problem(reply, 400, "invalid_http")
            assert wire.is_closed()


@pytest.mark.attack("header flood")
def test_endless_headers_are_cut_off(hub: HubProcess) -> None:
    with Wire(hub.port) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        try:
            for number in range(400):
                wire.send(b"X-%d: %b\r\n" % (number, b"a" * 1000))
            problem(wire.reply(), 431, "head_too_large")
        except (BrokenPipeError, ConnectionResetError):
            pass  # it did not wait for all of them
    with Wire(hub.port) as wire:  # and goes on to answer others
        wire.request("GET", "/healthz")
        assert wire.reply().status == 200


@pytest.mark.parametrize(
    ("authorization", "words"),
    [
        ("", "no key"), ("Basic dXNlcjpwYXNz", "not 'Bearer KEY'"), ("Bearer", "not know"),
        ("Bearer wrong", "not know"),
        ("Bearer \xff\xfe", "not know"), ("Bearer " + "x" * 8000, "not know"), ("\u00e9", "not 'Bearer KEY'"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_a_problem(hub: HubProcess, authorization: str, words: str) -> None:
    reply = call(hub.port, "", "GET", "/api/me", authorization=authorization)
    assert words in str(problem(reply, 401, "unauthorized")["detail"])
    assert reply.headers["www-authenticate"] == 'Bearer realm="autoglm"'
    assert "WWW" not in reply.body.decode()


def test_request_ids_differ(hub: HubProcess) -> None:
    ids = {
        call(hub.port, hub.admin_key, "GET", path).headers["x-request-id"]
        for path in ("/", "/healthz", "/no", "/api/me")
    }
    assert len(ids) == 4


def test_requests_in_a_row_are_answered_in_their_order(hub: HubProcess) -> None:
    with Wire(hub.port, hub.admin_key) as wire:
        wire.send(b"".join(wire.head("GET", path) for path in ("/healthz", "/api/me", "/nothing", "/healthz")))
        assert [wire.reply().status for _ in range(4)] == [200, 200, 404, 200]
