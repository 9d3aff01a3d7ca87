"""Request smuggling against a running hub: what two readers could take for different requests is none.

Each case carries a message in what one reader takes for a body and another one for the next request.
Nothing of it may ever arrive. Sources: Linhart et al. 2005; Kettle 2019, "HTTP Desync Attacks"; RFC 9112, section 11.
"""

import json
import uuid
from collections.abc import Iterator

import pytest

from gateway.wire import Reply, Wire, call
from hub import HubProcess, running_hub

pytestmark = pytest.mark.attack("request smuggling")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("smuggling") / "data") as hub:
        yield hub


class Hidden:
    """A whole request that is taken when it is one: a message to somebody whom no other test writes to."""

    def __init__(self, hub: HubProcess) -> None:
        self._hub = hub
        self.to = f"user:{uuid.uuid4().hex}"
        self.body = json.dumps({"to": self.to, "content": "x"}).encode()
        head = f"POST /api/messages HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {hub.admin_key}\r\n"
        self.request = f"{head}content-length: {len(self.body)}\r\n\r\n".encode() + self.body

    def arrived(self) -> int:
        reply = call(self._hub.port, self._hub.admin_key, "GET", f"/api/messages?to={self.to}")
        return len(reply.json()["messages"])


@pytest.fixture
def hidden(hub: HubProcess) -> Hidden:
    return Hidden(hub)


def replies_until_close(hub: HubProcess, data: bytes) -> list[Reply]:
    with Wire(hub.port) as wire:
        wire.send(data)
        found = []
        try:
            while True:
                found.append(wire.reply())
        except (ConnectionError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                pytest.fail("the connection stays open, and more would be read from it")
        return found


def test_the_hidden_message_would_be_taken_as_a_request_of_its_own(hub: HubProcess, hidden: Hidden) -> None:
    with Wire(hub.port) as wire:
        wire.send(hidden.request)
        assert wire.reply().status == 202
    assert hidden.arrived() == 1


# --- heads that say two things ---

AMBIGUOUS = {
    "CL.TE": "Content-Length: 6\r\nTransfer-Encoding: chunked",
    "TE.CL": "Transfer-Encoding: chunked\r\nContent-Length: 4",
    "TE.TE, second unknown": "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "TE.TE, first unknown": "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\nContent-Length: 4",
    "chunked is not last": "Transfer-Encoding: chunked, identity",
    "almost chunked": "Transfer-Encoding: xchunked",
    "chunked in quotes": 'Transfer-Encoding: "chunked"',
    "chunked behind a vertical tab": "Transfer-Encoding: \x0bchunked",
    "blank before the colon": "Transfer-Encoding : chunked",
    "tab before the colon": "Content-Length\t: 5",
    "folded": "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5",
    "folded value": "Transfer-Encoding:\r\n chunked",
    "blank before the first name": " Transfer-Encoding: chunked",
    "bare line feed before": "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5",
    "bare carriage return before": "X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5",
    "two lengths": "Content-Length: 5\r\nContent-Length: 0",
    "the same length twice": "Content-Length: 5\r\nContent-Length: 5",
    "a list of lengths": "Content-Length: 5, 5",
    "hexadecimal length": "Content-Length: 0x5",
    "length with a sign": "Content-Length: +5",
    "negative length": "Content-Length: -1",
    "length in two parts": "Content-Length: 5 5",
    "length with an exponent": "Content-Length: 1e1",
    "empty length": "Content-Length: ",
    "length over 64 bits": "Content-Length: 18446744073709551621",
    "NUL in a value": "X: a\0b\r\nContent-Length: 5",
    "NUL in a name": "Content\0-Length: 5",
    "no colon": "Content-Length 5",
    "empty name": ": chunked\r\nContent-Length: 5",
    "name with a bracket": "Content-Length]: 5",
    "two hosts": "Host: hub\r\nContent-Length: 5",
    "two hosts, spelled differently": "HOST: evil.example\r\nContent-Length: 5",
    "two keys": "Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 5",
}


@pytest.mark.parametrize("lines", list(AMBIGUOUS.values()), ids=list(AMBIGUOUS))
def test_a_head_that_two_readers_understand_differently_ends_the_connection(
    hub: HubProcess, hidden: Hidden, lines: str
) -> None:
    head = f"POST /api/tasks HTTP/1.1\r\nHost: hub\r\n{lines}\r\n\r\n".encode("latin-1")
    (reply,) = replies_until_close(hub, head + b"0\r\n\r\n" + hidden.request)
    assert (reply.status, reply.json()["code"], reply.headers["connection"]) == (400, "invalid_http", "close")
    assert hidden.arrived() == 0


@pytest.mark.parametrize(
    "line",
    [
        b"POST\t/api/tasks HTTP/1.1", b"POST /api/tasks",
        b"POST /api/ta\0sks HTTP/1.1", b"POST /api/tasks HTTP/1.1 ", b"POST /api/tasks http/1.1", b"POST /api/tasks\r",
        b"P\xc3\x96ST /api/tasks HTTP/1.1", b"POST /api/tasks HTTP/2.0", b"POST /api/tasks HTTP/0.9",
        b"POST /api/t asks HTTP/1.1",
    ],
)  # fmt: skip
def test_a_request_line_with_anything_more_or_less_ends_the_connection(
    hub: HubProcess, hidden: Hidden, line: bytes
) -> None:
    data = line + b"\r\nhost: hub\r\ncontent-length: 0\r\n\r\n" + hidden.request
    (reply,) = replies_until_close(hub, data)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_http")
    assert hidden.arrived() == 0


def test_lines_that_end_in_a_bare_line_feed_are_no_lines(hub: HubProcess, hidden: Hidden) -> None:
    data = b"POST /api/tasks HTTP/1.1\nhost: hub\ncontent-length: 0\n\n" + hidden.request
    (reply,) = replies_until_close(hub, data)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_http")
    assert hidden.arrived() == 0


# --- chunks ---

CHUNKS = {
    "size over 64 bits": b"10000000000000005\r\n{}abc\r\n0\r\n\r\n",
    "huge size": b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n",
    "negative size": b"-2\r\n{}\r\n0\r\n\r\n",
    "size with a sign": b"+2\r\n{}\r\n0\r\n\r\n",
    "size with 0x": b"0x2\r\n{}\r\n0\r\n\r\n",
    "size with a blank before": b" 2\r\n{}\r\n0\r\n\r\n",
    "no size": b"\r\n{}\r\n0\r\n\r\n",
    "bare line feed behind the size": b"2\n{}\r\n0\r\n\r\n",
    "bare line feed behind an extension": b"2;a=b\n{}\r\n0\r\n\r\n",
    "bare carriage return in an extension": b"2;a\rb\r\n{}\r\n0\r\n\r\n",
    "NUL in an extension": b"2;a=\0\r\n{}\r\n0\r\n\r\n",
    "no line end behind the data": b"2\r\n{}0\r\n\r\n",
    "bare line feed behind the data": b"2\r\n{}\n0\r\n\r\n",
    "data longer than its size": b"2\r\n{}{}\r\n0\r\n\r\n",
    "trailer without a colon": b"2\r\n{}\r\n0\r\nGET /x HTTP/1.1\r\n\r\n",
    "trailer with a blank before the colon": b"2\r\n{}\r\n0\r\na : b\r\n\r\n",
}


@pytest.mark.parametrize("chunks", list(CHUNKS.values()), ids=list(CHUNKS))
def test_chunks_that_two_readers_cut_differently_end_the_connection(
    hub: HubProcess, hidden: Hidden, chunks: bytes
) -> None:
    head = b"POST /api/tasks HTTP/1.1\r\nhost: hub\r\ntransfer-encoding: chunked\r\n"
    head += f"authorization: Bearer {hub.admin_key}\r\n\r\n".encode()
    (reply,) = replies_until_close(hub, head + chunks + hidden.request)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_http")
    assert hidden.arrived() == 0


def test_an_extension_without_end_is_cut_off(hub: HubProcess, hidden: Hidden) -> None:
    """A chunk's extension carries nothing, and would be read for ever (CVE-2023-39326, CVE-2024-27316)."""
    with Wire(hub.port) as wire:
        wire.send(b"POST /api/tasks HTTP/1.1\r\nhost: hub\r\ntransfer-encoding: chunked\r\n")
        wire.send(f"authorization: Bearer {hub.admin_key}\r\n\r\n2;".encode())
        try:
            for _ in range(100):
                wire.send(b"a" * 4096)
        except ConnectionError:
            pass
        assert wire.is_closed()


@pytest.mark.parametrize(("trailer", "status"), [("authorization: Bearer KEY", 401), ("content-length: 9", 400)])
def test_trailers_change_nothing_of_what_the_head_said(
    hub: HubProcess, hidden: Hidden, trailer: str, status: int
) -> None:
    """Not who asks, and not how long the next body is."""
    with Wire(hub.port) as wire:
        head = b"POST /api/messages HTTP/1.1\r\nhost: hub\r\ntransfer-encoding: chunked\r\n\r\n"
        last = trailer.replace("KEY", hub.admin_key).encode()
        wire.send(head + b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(hidden.body), hidden.body, last))
        assert wire.reply().status == status
    assert hidden.arrived() == 0


# --- bodies that nobody asked for ---


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /healthz", 200), ("HEAD /healthz", 200), ("DELETE /api/groups/x", 401), ("POST /api/tasks", 401),
        ("POST /healthz", 405), ("POST /nothing/at/all", 404), ("OPTIONS /api/tasks", 204), ("GET /", 200),
        ("TRACE /api/tasks", 405), ("POST /v1/chat/completions", 401), ("POST /api/hooks/x", 404),
    ],
)  # fmt: skip
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_body_that_nobody_reads_is_not_the_next_request(
    hub: HubProcess, hidden: Hidden, line: str, status: int, framing: str
) -> None:
    """The answer comes before the body is looked at, and the connection may go on afterwards."""
    with Wire(hub.port) as wire:
        head = f"{line} HTTP/1.1\r\nhost: hub\r\n"
        if framing == "length":
            wire.send(f"{head}content-length: {len(hidden.request)}\r\n\r\n".encode() + hidden.request)
        else:
            chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden.request), hidden.request)
            wire.send(f"{head}transfer-encoding: chunked\r\n\r\n".encode() + chunk)
        assert wire.reply(to_head=line.startswith("HEAD")).status == status
        wire.send(b"GET /api/capabilities HTTP/1.1\r\nhost: hub\r\n\r\n")
        assert wire.reply().status == 401, "the next answer is the next request's"
    assert hidden.arrived() == 0


def test_whoever_does_not_wait_for_100_continue_smuggles_nothing(hub: HubProcess, hidden: Hidden) -> None:
    head = "POST /api/messages HTTP/1.1\r\nhost: hub\r\nexpect: 100-continue\r\n"
    with Wire(hub.port) as wire:
        wire.send(f"{head}content-length: {len(hidden.request)}\r\n\r\n".encode() + hidden.request)
        assert wire.reply().status == 401
        wire.send(b"GET /healthz HTTP/1.1\r\nhost: hub\r\n\r\n")
        assert wire.reply().status == 200, "the next answer is the next request's"
    assert hidden.arrived() == 0


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.0"])
def test_an_upgrade_opens_no_tunnel(hub: HubProcess, hidden: Hidden, offer: str) -> None:
    """A proxy that lets an upgrade through stops reading; what follows must not be requests (h2c smuggling)."""
    lines = f"host: hub\r\nconnection: upgrade, http2-settings\r\nupgrade: {offer}\r\nhttp2-settings: AAMAAABkAAQ\r\n"
    data = f"POST /api/tasks HTTP/1.1\r\n{lines}content-length: 5\r\n\r\n".encode() + b"hello" + hidden.request
    with Wire(hub.port) as wire:
        wire.send(data)
        first = wire.reply()
        assert first.status in (400, 401), "never 101"
        if offer != "websocket":
            assert wire.reply().status == 202, "an offer that is ignored leaves a plain connection, as RFC 9110 has it"
            return
        assert wire.is_closed()
    assert hidden.arrived() == 0


def test_the_preface_of_http_2_is_refused(hub: HubProcess, hidden: Hidden) -> None:
    (reply,) = replies_until_close(hub, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" + hidden.request)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_http")
    assert hidden.arrived() == 0


def test_behind_garbage_nothing_is_read(hub: HubProcess, hidden: Hidden) -> None:
    for pause in (b"", b"\r\n" * 3):
        (reply,) = replies_until_close(hub, b"\0\r\n\r\n" + pause + hidden.request)
        assert reply.status == 400
    assert hidden.arrived() == 0
