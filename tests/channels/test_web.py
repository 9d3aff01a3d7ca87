"""One request to a vendor: what each way to fail is told as, and that nothing grows or hangs without bound."""

import asyncio
import contextlib
import gzip
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from email.utils import formatdate
from typing import Any

import pytest
import trustme

from autoglm.channels import web
from autoglm.channels.delivery import Delivery
from autoglm.channels.web import Answer, NoAnswer, Web, of_status, retry_after_s
from autoglm.core.guard import AddressGuard
from scripted_model import Behaviour, Request, ScriptedModel, response, stop_listening, writing


@pytest.fixture
def server() -> Iterator[ScriptedModel]:
    with ScriptedModel(writing(response(200, b"ok"))) as server:
        yield server


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Web]:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.6)
    client = Web()
    yield client
    await client.aclose()


async def failure(client: Web, url: str, **fields: Any) -> Delivery:
    with pytest.raises(NoAnswer) as caught:
        await client.request("POST", url, body=b"{}", **fields)
    return caught.value.delivery


def told(delivery: Delivery) -> tuple[str, str, bool]:
    assert delivery.reason.en
    assert delivery.reason.zh
    return delivery.outcome, delivery.code, delivery.is_in_doubt


# --- failures before anything went out ----------------------------------------------------------------


async def test_a_full_backlog_is_no_doubt(client: Web) -> None:
    """The connection never came about, so the message did not go out."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        found = await failure(client, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    assert told(found) == ("retry", "connect_timeout", False)


async def test_a_tls_handshake_without_an_answer_is_no_doubt(client: Web) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        found = await failure(client, f"https://127.0.0.1:{listener.getsockname()[1]}/")
    assert told(found) == ("retry", "connect_timeout", False)


async def test_a_name_server_without_an_answer_is_no_doubt(client: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def lookup(*args: object, **fields: object) -> list[Any]:
        answered.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    try:
        found = await failure(client, "http://slow.example/")
    finally:
        answered.set()
    assert told(found) == ("retry", "connect_timeout", False)


async def test_a_name_that_is_none_is_no_doubt(client: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*args: object, **fields: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert told(await failure(client, "http://gone.example/")) == ("retry", "no_name", False)


async def test_a_closed_port_is_no_doubt(client: Web) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found = await failure(client, f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert told(found) == ("retry", "refused", False)


async def test_a_certificate_of_a_stranger_is_no_doubt(client: Web) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=context)
    try:
        found = await failure(client, f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")
    finally:
        await stop_listening(listener)
    assert told(found) == ("retry", "tls", False)


@pytest.mark.parametrize(
    "url", ["http:///x", "http://2130706433/", "http://127.1/", "http://0177.0.0.1/", "http://[::1/", "nonsense"]
)
async def test_an_address_that_is_none_is_final(client: Web, guarded: Web, url: str) -> None:
    assert told(await failure(client, url)) == ("permanent", "bad_url", False)
    assert told(await failure(guarded, url)) == ("permanent", "bad_url", False)


# --- failures after the request went out --------------------------------------------------------------


async def silent(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def dripping(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then: no pause is long enough for a time-out between two reads."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)  # the pace of the attack


async def dripping_head(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("behaviour", [silent, dripping, dripping_head])
async def test_an_answer_that_does_not_end_is_in_doubt(
    server: ScriptedModel, client: Web, behaviour: Behaviour
) -> None:
    server.behaviour = behaviour
    begun_s = time.monotonic()
    assert told(await failure(client, server.url)) == ("retry", "timeout", True)
    assert time.monotonic() - begun_s < 5


async def test_a_file_on_a_slow_link_takes_its_time(server: ScriptedModel, client: Web) -> None:
    """64 KiB get 4 s more than a text; the answer comes after a text would have been given up."""

    async def slow(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * web.TIMEOUT_S)  # the link
        writer.write(response(200, b"ok"))

    server.behaviour = slow
    answer = await client.request("POST", server.url, body=bytes(64 * 1024))
    assert answer.status == 200
    assert told(await failure(client, server.url)) == ("retry", "timeout", True)


@pytest.mark.parametrize(
    "data", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", b"HTTP/1.1 200 OK\r\nX: "]
)
async def test_an_answer_that_is_cut_is_in_doubt(server: ScriptedModel, client: Web, data: bytes) -> None:
    server.behaviour = writing(data)
    assert told(await failure(client, server.url)) == ("retry", "cut", True)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_an_answer_that_is_no_http_is_in_doubt(server: ScriptedModel, client: Web, data: bytes) -> None:
    server.behaviour = writing(data)
    outcome, code, is_in_doubt = told(await failure(client, server.url))
    assert (outcome, is_in_doubt) == ("retry", True)
    assert code in ("unreadable", "cut")


async def test_headers_without_end_are_not_taken_in(server: ScriptedModel, client: Web) -> None:
    written = 0

    async def flooding(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing() and written < 1 << 28:
            writer.write(b"X-Header: %b\r\n" % (b"x" * 1000) * 16)
            written += 16_000
            await writer.drain()

    server.behaviour = flooding
    assert (await failure(client, server.url)).is_in_doubt
    server.stop()
    assert written < 1 << 25


# --- answers that are too much ------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["length", "chunked", "until close"])
async def test_an_answer_over_the_limit_is_cut_there(server: ScriptedModel, client: Web, form: str) -> None:
    heads = {"length": b"Content-Length: 50000000\r\n", "chunked": b"Transfer-Encoding: chunked\r\n"}
    block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n" if form == "chunked" else b"x" * 0x10000

    async def flooding(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + heads.get(form, b"") + b"\r\n")
        while not writer.is_closing():
            writer.write(block)
            await writer.drain()

    server.behaviour = flooding
    answer = await client.request("POST", server.url, limit_bytes=100_000)
    assert answer == (200, answer.headers, b"x" * 100_000)


def packed_by(coding: str, data: bytes) -> bytes:
    return gzip.compress(data) if coding == "gzip" else zlib.compress(data)


@pytest.mark.attack("decompression bomb in a vendor's answer")
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_bomb_unpacks_no_further_than_the_limit(server: ScriptedModel, client: Web, coding: str) -> None:
    bomb = packed_by(coding, bytes(100 << 20))
    server.behaviour = writing(response(200, bomb, {"Content-Encoding": coding}))
    tracemalloc.start()
    try:
        answer = await client.request("POST", server.url)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(answer.body) == web.ANSWER_LIMIT_BYTES
    assert peak_bytes < 8 << 20


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_packed_answer_is_read_all_the_same(server: ScriptedModel, client: Web, coding: str) -> None:
    server.behaviour = writing(response(200, packed_by(coding, b'{"errcode": 0}'), {"Content-Encoding": coding}))
    assert (await client.request("POST", server.url)).body == b'{"errcode": 0}'
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_an_answer_that_is_not_packed_as_it_says_stays_as_it_is(server: ScriptedModel, client: Web) -> None:
    server.behaviour = writing(response(200, b"plain", {"Content-Encoding": "gzip"}))
    assert (await client.request("POST", server.url)).body == b"plain"


# --- what an answer means -----------------------------------------------------------------------------


async def test_a_redirect_is_not_followed_and_is_final(server: ScriptedModel, client: Web) -> None:
    server.behaviour = writing(response(307, b"", {"Location": f"{server.url}/elsewhere"}))
    answer = await client.request("POST", server.url)
    found = of_status(answer)
    assert found is not None
    assert (told(found), len(server.requests)) == (("permanent", "http_307", False), 1)
    assert "redirect" in found.reason.en


async def test_no_cookie_is_kept(server: ScriptedModel, client: Web) -> None:
    server.behaviour = writing(response(200, b"", {"Set-Cookie": "a=b"}))
    for _ in range(2):
        await client.request("POST", server.url)
    assert ["cookie" in request.headers for request in server.requests] == [False, False]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, None), (204, None), (299, None), (301, "permanent"), (400, "permanent"), (401, "auth"), (403, "auth"),
        (404, "permanent"), (408, "transient"), (410, "permanent"), (413, "too_large"), (425, "transient"),
        (429, "throttled"), (500, "transient"), (503, "transient"), (599, "transient"),
    ],
)  # fmt: skip
def test_each_status_has_its_class(status: int, expected: str | None) -> None:
    found = of_status(Answer(status, {}, b""))
    assert (found and found.failure) == expected


@pytest.mark.parametrize(("status", "is_in_doubt"), [(500, False), (502, True), (503, False), (504, True)])
def test_what_a_gateway_does_not_know_is_in_doubt(status: int, is_in_doubt: bool) -> None:
    """RFC 9110, sections 15.6.3 and 15.6.5: the answer from behind it was no good, or came too late."""
    found = of_status(Answer(status, {}, b""))
    assert found is not None
    assert (found.failure, found.is_in_doubt) == ("transient", is_in_doubt)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120.0), (" 7 ", 7.0), ("0", 0.0), ("9" * 400, 86_400.0), ("0000000000030", 30.0), ("-5", None),
        ("1.5", None), ("soon", None), ("", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400.0), ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_in_its_forms(text: str, expected: float | None) -> None:
    assert retry_after_s(Answer(429, {"Retry-After": text}, b"")) == expected


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize("form", ["imf", "no zone", "asctime"])
def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch, zone: str, form: str) -> None:
    """Recipients take all three of RFC 9110, section 5.6.7; the machine's own zone is none of them."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        at = time.time() + 600
        imf = formatdate(at, usegmt=True)
        text = {"imf": imf, "no zone": imf.replace("GMT", "-0000"), "asctime": time.asctime(time.gmtime(at))}[form]
        found = retry_after_s(Answer(429, {"Retry-After": text}, b""))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == pytest.approx(600, abs=3)


# --- where requests may go ----------------------------------------------------------------------------


class House:
    """Two hosts of this machine, 127.0.0.2 and 127.0.0.3, that listen on one port and count who connects."""

    def __init__(self) -> None:
        self.connections = {"127.0.0.2": 0, "127.0.0.3": 0}

    async def open(self, stack: contextlib.AsyncExitStack) -> None:
        first = await asyncio.start_server(self._answer, "127.0.0.2", 0)
        stack.push_async_callback(stop_listening, first)
        self.port = first.sockets[0].getsockname()[1]
        second = await asyncio.start_server(self._answer, "127.0.0.3", self.port)
        stack.push_async_callback(stop_listening, second)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections[writer.get_extra_info("sockname")[0]] += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(response(200, b""))
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    async with contextlib.AsyncExitStack() as stack:
        await house.open(stack)
        yield house


@pytest.fixture
async def guarded() -> AsyncIterator[Web]:
    """May go to 127.0.0.2, which stands for the public network, and nowhere else on this machine."""
    client = Web(guard=AddressGuard(["127.0.0.2"]), timeout_s=5.0)
    yield client
    await client.aclose()


def names(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """A name server that gives the next answer to each question. Returns the questions."""
    asked: list[str] = []

    def lookup(host: str, port: int, *args: object, **fields: object) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


async def test_a_name_that_turns_to_a_private_address_is_refused(
    house: House, guarded: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: each request asks once, and what was checked is what is connected to."""
    asked = names(monkeypatch, ["127.0.0.2"], ["127.0.0.3"])
    url = f"http://rebind.example:{house.port}/"
    assert (await guarded.request("POST", url, body=b"{}")).status == 200
    assert asked == ["rebind.example"]
    assert told(await failure(guarded, url)) == ("permanent", "address_refused", False)
    assert house.connections == {"127.0.0.2": 1, "127.0.0.3": 0}


async def test_one_question_is_asked_for_one_request(
    house: House, guarded: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second question between the check and the connection would be answered otherwise."""
    asked = names(monkeypatch, ["127.0.0.2"], ["127.0.0.3"])
    await guarded.request("POST", f"http://rebind.example:{house.port}/", body=b"{}")
    assert (asked, house.connections) == (["rebind.example"], {"127.0.0.2": 1, "127.0.0.3": 0})


async def test_a_private_address_among_public_ones_is_refused(
    house: House, guarded: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, ["127.0.0.2", "127.0.0.3"])
    found = await failure(guarded, f"http://mixed.example:{house.port}/")
    assert told(found) == ("permanent", "address_refused", False)
    assert set(house.connections.values()) == {0}


@pytest.mark.parametrize(
    "host", ["127.0.0.3", "[::ffff:127.0.0.3]", "[::ffff:7f00:3]", "0x7f000003", "①②⑦.⓪.⓪.③", "localhost"]
)
async def test_a_private_host_is_refused_in_each_way_to_write_it(house: House, guarded: Web, host: str) -> None:
    found = await failure(guarded, f"http://{host}:{house.port}/")
    assert told(found) == ("permanent", "address_refused", False)
    assert "allow" in found.reason.en or "192.0.2.1" in found.reason.en
    assert set(house.connections.values()) == {0}


async def test_without_a_guard_a_name_goes_where_it_resolves(
    house: House, client: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    names(monkeypatch, ["127.0.0.3"])
    assert (await client.request("POST", f"http://inside.example:{house.port}/")).status == 200
    assert house.connections["127.0.0.3"] == 1
