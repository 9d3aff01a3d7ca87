"""What every client of an instance does: over plain HTTP, TLS, and TLS through a proxy, on both event loops."""

import asyncio
import gzip
import os
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from pydantic import SecretStr

from autoglm.core.errors import InvalidField, UpstreamFailed, UpstreamTimeout
from autoglm.inference.upstream import Endpoint, Upstream, open_upstream
from autoglm.inference.upstream.plain import PlainUpstream
from autoglm.inference.upstream.secure import SecureUpstream
from inference.upstream_peer import LOOPS, PATIENCE, Line, Peer, Script, answers, ok, proxy, says, silent, until

KEY = "sk-very-secret"
MIB = 1 << 20


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


class Lab:
    """Starts peers, and clients that reach them in one of the ways."""

    def __init__(self, way: str, authority: trustme.CA, folder: Path, stack: AsyncExitStack) -> None:
        self.way, self._authority, self._folder, self._stack = way, authority, folder, stack

    async def peer(self, *scripts: Script) -> Peer:
        return await self._stack.enter_async_context(Peer(*scripts, tls=self._context()))

    async def open(self, *scripts: Script, **options: Any) -> tuple[Upstream, Peer]:
        peer = await self.peer(*scripts)
        return await self.client(peer.port, **options), peer

    async def client(self, port: int, **options: Any) -> Upstream:
        if self.way != "plain":
            self._authority.cert_pem.write_to_path(self._folder / "ca.pem")
            options.setdefault("ca_file", self._folder / "ca.pem")
        if self.way == "tunnel":
            middle = await self._stack.enter_async_context(Peer(proxy()))
            options.setdefault("proxy", f"http://127.0.0.1:{middle.port}")
        scheme, options = "http" if self.way == "plain" else "https", PATIENCE | options
        endpoint = Endpoint(name="glm-a", base_url=f"{scheme}://127.0.0.1:{port}/v1", api_key=SecretStr(KEY), **options)
        upstream = open_upstream(endpoint)
        self._stack.push_async_callback(upstream.aclose)
        return upstream

    def _context(self) -> ssl.SSLContext | None:
        if self.way == "plain":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert("127.0.0.1").configure_cert(context)
        return context


@pytest.fixture(params=["plain", "tls", "tunnel"])
async def lab(request: pytest.FixtureRequest, authority: trustme.CA, tmp_path: Path) -> AsyncIterator[Lab]:
    async with AsyncExitStack() as stack:
        yield Lab(request.param, authority, tmp_path, stack)


async def ask(upstream: Upstream, path: str = "/chat/completions") -> bytes:
    return await (await upstream.post(path, b"{}")).read(MIB)


# --- requests -----------------------------------------------------------------------------------------


async def test_a_request_carries_all_that_the_instance_needs(lab: Lab) -> None:
    upstream, peer = await lab.open(answers(ok()), headers={"X-Team": "robots"})
    await (await upstream.post("/chat/completions?n=1", b'{"a":1}', {"X-Trace": "7"})).aclose()
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions?n=1 HTTP/1.1"
    assert body == b'{"a":1}'
    assert {line.lower() for line in lines[1:]} >= {
        b"host: 127.0.0.1:%d" % peer.port,
        b"authorization: bearer sk-very-secret",
        b"accept-encoding: identity",
        b"content-type: application/json",
        b"content-length: 7",
        b"x-team: robots",
        b"x-trace: 7",
    }
    assert len({line.partition(b":")[0].lower() for line in lines[1:]}) == len(lines) - 1


async def test_a_get_has_no_body(lab: Lab) -> None:
    upstream, peer = await lab.open(answers(ok(b"models")))
    assert await (await upstream.get("/models", b"X-Trace: 7\r\n")).read(MIB) == b"models"
    assert peer.requests[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"\r\nX-Trace: 7\r\n" in peer.requests[0]
    assert b"content-length" not in peer.requests[0].lower()


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X Y": "a"}, {"Host": "other"}, {"Content-Length": "0"}])
async def test_headers_that_would_change_the_request_are_refused(lab: Lab, headers: dict[str, str]) -> None:
    upstream, peer = await lab.open(answers(ok()))
    with pytest.raises(InvalidField):
        await upstream.post("/chat/completions", b"{}", headers)
    with pytest.raises(InvalidField):
        await upstream.post("/x HTTP/1.1\r\nX: y", b"{}")
    with pytest.raises(InvalidField):
        await upstream.post("/chat/completions", b"{}", content_type="a/b\r\nX: y")
    assert peer.requests == []


async def test_a_large_body_reaches_an_instance_that_reads_slowly(lab: Lab) -> None:
    asked = asyncio.Event()

    async def reads_late(line: Line) -> None:
        await line.head()
        await asked.wait()
        received = await line.reader.readexactly(32 * MIB)
        await line.send(ok(b"%d" % received.count(b"x")))
        await line.closed()

    upstream, _ = await lab.open(reads_late)
    async with asyncio.TaskGroup() as tasks:
        reply = tasks.create_task(upstream.post("/chat/completions", b"x" * (32 * MIB)))
        await asyncio.sleep(0)
        asked.set()
    assert await reply.result().read(MIB) == b"%d" % (32 * MIB)


async def test_a_refusal_is_read_while_the_body_is_still_sent(lab: Lab) -> None:
    may_end = asyncio.Event()

    async def refuses(line: Line) -> None:
        await line.head()
        await line.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 7\r\n\r\ntoo ")
        await may_end.wait()
        await line.send(b"big")
        await line.closed()

    upstream, peer = await lab.open(refuses, answers(ok(b"next")))
    reply = await upstream.post("/chat/completions", b"x" * (32 * MIB))
    may_end.set()
    assert (reply.status, await reply.read(MIB)) == (413, b"too big")
    assert await ask(upstream) == b"next"
    assert len(peer.lines) == 2


async def test_an_upload_that_is_cancelled_closes_the_connection(lab: Lab) -> None:
    started = asyncio.Event()

    async def reads_nothing(line: Line) -> None:
        await line.head()
        started.set()
        await line.closed()

    upstream, peer = await lab.open(reads_nothing)
    sending = asyncio.create_task(upstream.post("/chat/completions", b"x" * (32 * MIB)))
    await started.wait()
    sending.cancel()
    with anyio.fail_after(2):
        await asyncio.wait([sending])
        await peer.lines[0].is_closed.wait()
    assert sending.cancelled()


# --- replies ------------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (ok(b"hello"), b"hello"),
        (CHUNKED + b"3;name=value\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n", b"hello"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil close", b"until close"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", b"old"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"hello"), b"hello"),
        (ok(b""), b""),
    ],
    ids=["length", "chunked", "until-close", "http-1.0", "1xx", "empty"],
)
async def test_bodies_of_each_framing_are_read_whole(lab: Lab, sent: bytes, body: bytes) -> None:
    upstream, _ = await lab.open(says(sent))
    reply = await upstream.post("/chat/completions", b"{}")
    assert reply.status == 200
    assert "link" not in reply.headers
    assert b"".join([part async for part in reply]) == body
    assert await reply.chunk() is None
    assert reply.complete
    assert reply.body_if_complete() == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_replies_without_a_body_end_with_their_head(lab: Lab, status: int) -> None:
    upstream, peer = await lab.open(answers(b"HTTP/1.1 %d X\r\n\r\n" % status))
    for _ in range(2):
        reply = await upstream.post("/chat/completions", b"{}")
        assert (reply.status, reply.body_if_complete()) == (status, b"")
    assert len(peer.lines) == 1


async def test_a_reply_to_head_has_no_body(lab: Lab) -> None:
    upstream, _ = await lab.open(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"))
    assert isinstance(upstream, PlainUpstream | SecureUpstream)
    reply = await upstream.request("HEAD", "/models", b"")
    assert (reply.headers["content-length"], await reply.read(MIB)) == ("9", b"")


async def test_a_reply_that_came_in_one_piece_needs_no_waiting(lab: Lab) -> None:
    upstream, _ = await lab.open(answers(ok(b"all of it")))
    reply = await upstream.post("/chat/completions", b"{}")
    await until(lambda: reply.complete)
    assert reply.body_if_complete() == b"all of it"
    assert reply.body_if_complete() == b"all of it"  # it stays unread: who looks first may not be the one who takes it


class Taker:
    """A sink that is slow until it is told otherwise, and may refuse a chunk."""

    def __init__(self, *, is_slow: bool = False, refuses: bytes = b"--") -> None:
        self.chunks: list[bytes] = []
        self.is_slow = is_slow
        self.has_refused = False
        self._refuses = refuses
        self._goes_on = anyio.Event()

    def take(self, chunk: bytes) -> None:
        if self._refuses in chunk:
            self.has_refused = True
            raise ValueError("not this one")
        self.chunks.append(chunk)

    async def keep_pace(self) -> None:
        if self.is_slow:
            await self._goes_on.wait()

    def go_on(self) -> None:
        self.is_slow = False
        self._goes_on.set()

    def _has_dealt_with(self, number: int) -> bool:
        return len(self.chunks) >= number or self.is_slow or self.has_refused

    def piece_by_piece(self, *pieces: bytes, ends: bool = True) -> Script:
        """A reply whose pieces come when this has taken those before them."""

        async def script(line: Line) -> None:
            await line.request()
            await line.send(CHUNKED)
            for number, piece in enumerate(pieces, start=1):
                await line.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                await until(partial(self._has_dealt_with, number))
            if ends:
                await line.send(b"0\r\n\r\n")
                await line.closed()

        return script


async def test_a_body_is_forwarded_piece_by_piece(lab: Lab) -> None:
    sink = Taker()
    upstream, _ = await lab.open(sink.piece_by_piece(b"one", b"two", b"three"))
    await (await upstream.post("/chat/completions", b"{}")).forward(sink)
    assert sink.chunks == [b"one", b"two", b"three"]


async def test_a_slow_sink_is_waited_for(lab: Lab) -> None:
    sink = Taker(is_slow=True)
    upstream, _ = await lab.open(sink.piece_by_piece(b"one", b"two", b"three"))
    reply = await upstream.post("/chat/completions", b"{}")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reply.forward, sink)
        await until(lambda: reply.complete)
        assert len(sink.chunks) <= 1, "a reply that asks after giving may have given one"
        sink.go_on()
    assert b"".join(sink.chunks) == b"onetwothree"


async def test_what_a_sink_raises_reaches_who_forwards_and_ends_the_connection(lab: Lab) -> None:
    sink = Taker()
    upstream, peer = await lab.open(sink.piece_by_piece(b"one", b"--", b"two"), answers(ok(b"next")))
    async with await upstream.post("/chat/completions", b"{}") as reply:
        with pytest.raises(ValueError, match="not this one"):
            await reply.forward(sink)
    assert sink.chunks == [b"one"]
    assert await ask(upstream) == b"next"
    assert len(peer.lines) == 2


async def test_a_forwarded_body_that_is_cut_says_so(lab: Lab) -> None:
    sink = Taker()
    upstream, _ = await lab.open(sink.piece_by_piece(b"one", b"two", ends=False))
    with pytest.raises(UpstreamFailed, match="in the middle"):
        await (await upstream.post("/chat/completions", b"{}")).forward(sink)
    assert sink.chunks == [b"one", b"two"]


async def test_header_names_are_lower_case_and_the_last_value_wins(lab: Lab) -> None:
    upstream, _ = await lab.open(answers(ok(b"", b"X-A: 1", b"x-a: 2", b"Retry-After: 3")))
    async with await upstream.post("/chat/completions", b"{}") as reply:
        assert (reply.headers["x-a"], reply.headers["retry-after"]) == ("2", "3")


async def test_compressed_and_redirecting_replies_pass_untouched(lab: Lab) -> None:
    packed = gzip.compress(b"hello")
    moved = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    upstream, peer = await lab.open(answers(ok(packed, b"Content-Encoding: gzip"), moved))
    reply = await upstream.post("/chat/completions", b"{}")
    assert (reply.headers["content-encoding"], await reply.read(MIB)) == ("gzip", packed)
    async with await upstream.post("/chat/completions", b"{}") as reply:
        assert reply.headers["location"] == "/elsewhere"
    assert len(peer.requests) == 2


async def test_parts_come_as_they_arrive(lab: Lab) -> None:
    may_go_on = asyncio.Event()

    async def in_two_parts(line: Line) -> None:
        await line.request()
        await line.send(CHUNKED + b"5\r\nfirst\r\n")
        await may_go_on.wait()
        await line.send(b"6\r\nsecond\r\n0\r\n\r\n")
        await line.closed()

    upstream, _ = await lab.open(in_two_parts)
    reply = await upstream.post("/chat/completions", b"{}")
    assert await reply.chunk() == b"first"
    assert reply.body_if_complete() is None
    may_go_on.set()
    assert [part async for part in reply] == [b"second"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab", "no valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "no valid HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "101"),
        (b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000, "64|65|over|valid"),
        (b"HTTP/1.1 200 OK\r\nX-Cut: ", "within the head"),
        (b"", "before answering"),
    ],
    ids=["garbage", "two-framings", "two-lengths", "upgrade", "long-head", "cut-head", "nothing"],
)
async def test_what_is_no_reply_fails_without_a_retry_or_a_secret(lab: Lab, sent: bytes, reason: str) -> None:
    upstream, peer = await lab.open(says(sent))
    with pytest.raises(UpstreamFailed, match=reason) as caught:
        await upstream.post("/chat/completions", b"{}")
    assert "instance 'glm-a'" in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert KEY not in repr(_chain(caught.value))
    assert len(peer.lines) == 1


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart", CHUNKED + b"5\r\nstart\r\n"],
    ids=["length", "chunked"],
)
async def test_a_body_that_is_cut_never_ends_normally(lab: Lab, start: bytes) -> None:
    may_cut = asyncio.Event()

    async def cuts(line: Line) -> None:
        await line.request()
        await line.send(start)
        await may_cut.wait()

    upstream, _ = await lab.open(cuts)
    reply = await upstream.post("/chat/completions", b"{}")
    assert await reply.chunk() == b"start"
    may_cut.set()
    for _ in range(2):
        with pytest.raises(UpstreamFailed):
            await reply.chunk()


async def test_a_reply_over_the_readers_limit_fails(lab: Lab) -> None:
    upstream, peer = await lab.open(answers(ok(b"x" * 1000)))
    assert len(await (await upstream.post("/chat/completions", b"{}")).read(1000)) == 1000
    with pytest.raises(UpstreamFailed, match="over 999 bytes"):
        await (await upstream.post("/chat/completions", b"{}")).read(999)
    assert len(peer.lines) == 1


# --- timeouts -----------------------------------------------------------------------------------------


async def test_silence_before_the_head_times_out(lab: Lab) -> None:
    upstream, peer = await lab.open(silent, first_byte_timeout_s=0.2)
    with anyio.fail_after(3), pytest.raises(UpstreamTimeout, match=r"no answer within 0\.2 s"):
        await upstream.post("/chat/completions", b"{}")
    with anyio.fail_after(1):
        await peer.lines[0].is_closed.wait()
    with anyio.fail_after(3), pytest.raises(UpstreamTimeout, match=r"no answer within 0\.1 s"):
        await upstream.get("/models", first_byte_timeout_s=0.1)


async def test_an_upload_that_stalls_times_out(lab: Lab) -> None:
    async def reads_nothing(line: Line) -> None:
        await line.head()
        await asyncio.Event().wait()

    upstream, _ = await lab.open(reads_nothing, first_byte_timeout_s=0.3)
    with anyio.fail_after(5), pytest.raises(UpstreamTimeout, match="no answer"):
        await upstream.post("/chat/completions", b"x" * (32 * MIB))


async def test_silence_within_the_body_times_out(lab: Lab) -> None:
    async def stalls(line: Line) -> None:
        await line.request()
        await line.send(CHUNKED + b"5\r\nstart\r\n")
        await line.closed()

    upstream, peer = await lab.open(stalls, read_timeout_s=0.2)
    reply = await upstream.post("/chat/completions", b"{}")
    assert await reply.chunk() == b"start"
    with anyio.fail_after(3), pytest.raises(UpstreamTimeout, match=r"further part of its answer within 0\.2 s"):
        await reply.chunk()
    with anyio.fail_after(1):
        await peer.lines[0].is_closed.wait()


async def test_a_busy_pool_makes_requests_wait_and_then_fail(lab: Lab) -> None:
    may_answer = asyncio.Event()

    async def answers_late(line: Line) -> None:
        while True:
            await line.request()
            await may_answer.wait()
            await line.send(ok(b"late"))

    upstream, peer = await lab.open(answers_late, max_connections=1, connect_timeout_s=0.3)
    first = asyncio.create_task(ask(upstream))
    await until(lambda: peer.requests)
    with anyio.fail_after(3), pytest.raises(UpstreamTimeout, match="no free connection"):
        await ask(upstream)
    waiting = asyncio.create_task(ask(upstream))
    await asyncio.sleep(0)
    may_answer.set()
    assert [await first, await waiting] == [b"late", b"late"]
    assert len(peer.lines) == 1


# --- connections --------------------------------------------------------------------------------------


async def test_connections_are_kept_alive(lab: Lab) -> None:
    upstream, peer = await lab.open(answers(ok()))
    for _ in range(3):
        assert await ask(upstream) == b"ok"
    assert len(peer.lines) == 1


@pytest.mark.parametrize(
    "reply",
    [
        ok(b"ok", b"Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ok() + ok(b"an answer that nobody asked for"),
    ],
    ids=["close", "http-1.0", "second-reply"],
)
async def test_connections_that_cannot_be_trusted_are_not_used_again(lab: Lab, reply: bytes) -> None:
    upstream, peer = await lab.open(answers(reply))
    assert [await ask(upstream), await ask(upstream)] == [b"ok", b"ok"]
    assert len(peer.lines) == 2


async def test_a_stale_connection_costs_one_retry_on_a_new_one(lab: Lab) -> None:
    async def closes_at_the_second_request(line: Line) -> None:
        await line.request()
        await line.send(ok(b"first"))
        await line.request()

    upstream, peer = await lab.open(closes_at_the_second_request, answers(ok(b"again")))
    assert [await ask(upstream), await ask(upstream, "/second")] == [b"first", b"again"]
    targets = [request.split()[1] for request in peer.requests]
    assert targets == [b"/v1/chat/completions", b"/v1/second", b"/v1/second"]


async def test_a_stale_connection_is_not_replaced_by_another_stale_one(lab: Lab) -> None:
    async def closes_at_the_second_request(line: Line) -> None:
        await line.request()
        await until(lambda: len(line.peer.requests) == 2)
        await line.send(ok(b"first"))
        await line.request()

    upstream, peer = await lab.open(closes_at_the_second_request, closes_at_the_second_request, answers(ok(b"again")))
    assert [*await asyncio.gather(ask(upstream), ask(upstream))] == [b"first", b"first"]
    assert await ask(upstream) == b"again"
    assert len(peer.requests) == 4


async def test_the_retry_of_a_stale_connection_is_the_only_one(lab: Lab) -> None:
    async def closes_at_the_second_request(line: Line) -> None:
        await line.request()
        await line.send(ok(b"first"))
        await line.request()

    upstream, peer = await lab.open(closes_at_the_second_request, says(b""))
    await ask(upstream)
    with pytest.raises(UpstreamFailed, match="before answering"):
        await ask(upstream)
    assert len(peer.lines) == 2


async def test_a_used_connection_that_began_to_answer_is_not_retried(lab: Lab) -> None:
    async def begins_to_answer(line: Line) -> None:
        await line.request()
        await line.send(ok(b"first"))
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nX: ")
        line.writer.close()
        await line.writer.wait_closed()

    upstream, peer = await lab.open(begins_to_answer, answers(ok(b"twice")))
    await ask(upstream)
    with pytest.raises(UpstreamFailed, match="within the head"):
        await ask(upstream)
    assert len(peer.lines) == 1


async def test_an_unused_connection_is_closed_in_time(lab: Lab) -> None:
    async def answers_once(line: Line) -> None:
        await line.request()
        await line.send(ok())
        await line.closed()

    upstream, peer = await lab.open(answers_once, idle_s=0.2)
    await ask(upstream)
    with anyio.fail_after(3):
        await peer.lines[0].is_closed.wait()
    assert await ask(upstream) == b"ok"


async def streams_forever(line: Line) -> None:
    await line.request()
    await line.send(CHUNKED + b"5\r\nstart\r\n")
    await line.closed()


async def test_closing_a_reply_early_closes_the_connection_at_once(lab: Lab) -> None:
    upstream, peer = await lab.open(streams_forever)
    reply = await upstream.post("/chat/completions", b"{}")
    assert await reply.chunk() == b"start"
    await reply.aclose()
    with anyio.fail_after(0.5):
        await peer.lines[0].is_closed.wait()
    with pytest.raises(UpstreamFailed, match="closed before the end"):
        await reply.chunk()
    await reply.aclose()


async def test_cancelling_a_reader_closes_the_connection_at_once(lab: Lab) -> None:
    upstream, peer = await lab.open(streams_forever)
    reply = await upstream.post("/chat/completions", b"{}")
    assert await reply.chunk() == b"start"
    with anyio.move_on_after(0.05) as limit:
        await reply.chunk()
    assert limit.cancelled_caught
    with anyio.fail_after(0.5):
        await peer.lines[0].is_closed.wait()


async def test_cancelling_a_request_closes_the_connection_at_once(lab: Lab) -> None:
    upstream, peer = await lab.open(silent)
    with anyio.move_on_after(0.3) as limit:
        await upstream.post("/chat/completions", b"{}")
    assert limit.cancelled_caught
    with anyio.fail_after(0.5):
        await peer.lines[0].is_closed.wait()


async def test_a_slow_reader_slows_the_instance_and_loses_nothing(lab: Lab) -> None:
    total, stuck, sent = 64 * MIB, asyncio.Event(), 0

    async def floods(line: Line) -> None:
        nonlocal sent
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while sent < total:
            line.writer.write(bytes(MIB))
            sent += MIB
            with anyio.move_on_after(0.5) as limit:
                await line.writer.drain()
            if limit.cancelled_caught:
                stuck.set()
                await line.writer.drain()
        await line.closed()

    upstream, _ = await lab.open(floods)
    reply = await upstream.post("/chat/completions", b"{}")
    with anyio.fail_after(10):
        await stuck.wait()
    assert sent < total / 2
    largest, received = 0, 0
    async for part in reply:
        largest, received = max(largest, len(part)), received + len(part)
    assert received == total
    assert largest <= MIB


async def test_nothing_is_left_behind(lab: Lab) -> None:
    peer = await lab.peer(streams_forever)
    before = _open_sockets(), len(asyncio.all_tasks())
    upstream = await lab.client(peer.port)
    replies = [await upstream.post("/chat/completions", b"{}") for _ in range(3)]
    await upstream.aclose()
    with anyio.fail_after(1):
        for line in peer.lines:
            await line.is_closed.wait()
    with pytest.raises(UpstreamFailed):
        await replies[0].read(MIB)
    with pytest.raises(UpstreamFailed, match="closed its connections"):
        await upstream.post("/chat/completions", b"{}")
    own = 1 if lab.way == "tunnel" else 0  # where the proxy listens
    await until(lambda: (_open_sockets() - own, len(asyncio.all_tasks())) == before)


def _open_sockets() -> int:
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return sum(link.is_socket() for link in links)


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
