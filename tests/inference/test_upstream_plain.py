"""What only our own client promises: its pool, its limits, its sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from math import inf
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.errors import UpstreamFailed, UpstreamTimeout
from autoglm.core.turn import Turn
from autoglm.inference.upstream import Endpoint
from autoglm.inference.upstream.connection import BUFFER_LIMIT_BYTES, HEAD_LIMIT_BYTES, SLICE_BYTES, Connection
from autoglm.inference.upstream.plain import PlainUpstream
from inference.upstream_peer import LOOPS, PATIENCE, Line, Peer, Script, answers, ok, silent, until

MIB = 1 << 20
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


class Lab:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def open(self, *scripts: Script, **options: Any) -> tuple[PlainUpstream, Peer]:
        peer = await self._stack.enter_async_context(Peer(*scripts))
        return self.client(f"http://127.0.0.1:{peer.port}", **options), peer

    def client(self, url: str, **options: Any) -> PlainUpstream:
        upstream = PlainUpstream(Endpoint(name="glm-a", base_url=url, **PATIENCE | options))
        self._stack.push_async_callback(upstream.aclose)
        return upstream


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    async with AsyncExitStack() as stack:
        yield Lab(stack)


async def ask(upstream: PlainUpstream) -> bytes:
    return await (await upstream.post("/chat", b"{}")).read(MIB)


# --- the pool -----------------------------------------------------------------------------------------


async def numbered(line: Line) -> None:
    """Answers with the number of the connection once all connections that the test wants are there."""
    while True:
        request = await line.request()
        await until(lambda: len(line.peer.requests) >= int(request[-1:]))  # noqa: B023  # the lambda ends here
        await line.send(ok(b"%d" % line.number))


async def test_the_connection_that_was_used_last_is_used_next(lab: Lab) -> None:
    upstream, peer = await lab.open(numbered)
    both = await asyncio.gather(upstream.post("/chat", b"2"), upstream.post("/chat", b"2"))
    assert len(peer.lines) == 2
    used = [await reply.read(9) for reply in both]
    last = [await (await upstream.post("/chat", b"0")).read(9) for _ in range(3)]
    assert last == [last[0]] * 3
    assert last[0] in used


async def test_a_connection_that_the_instance_closes_leaves_the_pool_at_once(lab: Lab) -> None:
    may_close = asyncio.Event()

    async def closes_when_told(line: Line) -> None:
        await line.request()
        await line.send(ok())
        await may_close.wait()

    upstream, peer = await lab.open(closes_when_told)
    await ask(upstream)
    assert len(upstream._idle) == 1
    may_close.set()
    await until(lambda: not upstream._idle)
    assert await ask(upstream) == b"ok"
    assert len(peer.requests) == 2, "no request was wasted on the closed connection"


async def test_bytes_that_nobody_asked_for_close_an_idle_connection(lab: Lab) -> None:
    may_talk_on = asyncio.Event()

    async def talks_on(line: Line) -> None:
        await line.request()
        await line.send(ok(b"right"))
        await may_talk_on.wait()
        await line.send(ok(b"wrong"))
        await line.closed()

    upstream, peer = await lab.open(talks_on)
    assert await ask(upstream) == b"right"
    assert len(upstream._idle) == 1
    may_talk_on.set()
    await until(lambda: not upstream._idle)
    assert await ask(upstream) == b"right"
    assert len(peer.lines) == 2


async def test_garbage_behind_a_reply_is_no_part_of_it(lab: Lab) -> None:
    upstream, peer = await lab.open(answers(ok() + b"surplus"))
    assert [await ask(upstream), await ask(upstream)] == [b"ok", b"ok"]
    assert len(peer.lines) == 2


async def test_requests_in_the_queue_are_served_in_their_order(lab: Lab) -> None:
    upstream, peer = await lab.open(answers(ok()), max_connections=1)
    order: list[int] = []

    async def one(number: int) -> None:
        await (await upstream.post(f"/{number}", b"")).read(MIB)
        order.append(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(one(number))
    assert order == list(range(8))
    assert len(peer.lines) == 1


async def test_a_waiter_that_gives_up_passes_its_connection_on(lab: Lab) -> None:
    upstream, peer = await lab.open(answers(ok()), max_connections=1)
    first = await upstream.post("/1", b"")
    await first.read(MIB)
    held = upstream._idle.pop()
    loser, winner = asyncio.create_task(ask(upstream)), asyncio.create_task(ask(upstream))
    await until(lambda: len(upstream._queue) == 2)
    upstream._on_idle(held)  # grants it to the first in line ...
    loser.cancel()  # ... who is cancelled before it learns so
    with anyio.fail_after(2):
        assert await winner == b"ok"
    assert len(peer.lines) == 1


async def test_a_retry_does_not_exceed_the_limit(lab: Lab) -> None:
    async def closes_at_the_second_request(line: Line) -> None:
        await line.request()
        await line.send(ok(b"first"))
        await line.request()
        await until(lambda: upstream._queue)

    upstream, peer = await lab.open(closes_at_the_second_request, answers(ok(b"new")), max_connections=1)
    assert await ask(upstream) == b"first"
    assert [*await asyncio.gather(ask(upstream), ask(upstream))] == [b"new", b"new"]
    assert (len(peer.lines), upstream._slots_used) == (2, 1)


async def test_a_retry_that_is_closed_too_is_the_last(lab: Lab) -> None:
    async def closes_at_the_second_request(line: Line) -> None:
        await line.request()
        await line.send(ok(b"first"))
        await line.request()
        await until(lambda: upstream._queue or line.number)

    upstream, peer = await lab.open(closes_at_the_second_request, max_connections=1)
    await ask(upstream)
    stale, queued = await asyncio.gather(ask(upstream), ask(upstream), return_exceptions=True)
    assert queued == b"first"
    assert isinstance(stale, UpstreamFailed)
    assert "closed two connections in turn" in str(stale)
    assert (len(peer.lines), len(peer.requests)) == (2, 4)


async def test_a_failed_attempt_frees_its_slot(lab: Lab) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        upstream = lab.client(f"http://127.0.0.1:{unused.getsockname()[1]}", max_connections=1)
        for _ in range(3):
            with pytest.raises(UpstreamFailed, match=r"connection refused at 127\.0\.0\.1:\d+"):
                await ask(upstream)
    assert upstream._slots_used == 0


async def test_a_reader_that_is_cancelled_when_the_reply_is_complete_harms_no_one(lab: Lab) -> None:
    upstream, peer = await lab.open(answers(ok()))
    put_back = upstream._on_idle
    tasks: list[asyncio.Task[Any]] = []

    def cancel_then_put_back(connection: Connection) -> None:
        tasks[0].cancel()
        put_back(connection)

    upstream._on_idle = cancel_then_put_back  # type: ignore[method-assign]  # the moment is the fault to inject
    tasks.append(asyncio.create_task(upstream.post("/chat", b"{}")))
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()
    assert [await ask(upstream), await ask(upstream)] == [b"ok", b"ok"]
    assert len(peer.lines) == 1


async def test_the_sweep_ends_with_the_last_connection(lab: Lab) -> None:
    upstream, _ = await lab.open(answers(ok()), idle_s=0.1)
    await ask(upstream)
    assert upstream._sweep_handle is not None
    await until(lambda: upstream._sweep_handle is None)
    assert (upstream._connections, upstream._idle, upstream._slots_used) == (set(), [], 0)
    assert await ask(upstream) == b"ok"


async def test_closing_while_a_connection_is_opened_leaves_none(lab: Lab) -> None:
    upstream, peer = await lab.open(silent)
    asking = asyncio.create_task(ask(upstream))
    await asyncio.sleep(0)
    await upstream.aclose()
    with pytest.raises(UpstreamFailed, match="closed its connections"):
        await asking
    await until(lambda: all(line.is_closed.is_set() for line in peer.lines))
    assert upstream._connections == set()


# --- bounds -------------------------------------------------------------------------------------------


async def test_unread_bytes_are_bounded(lab: Lab) -> None:
    async def floods(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (16 * MIB))
        await line.send(bytes(16 * MIB))
        await line.closed()

    upstream, _ = await lab.open(floods)
    reply = await upstream.post("/chat", b"{}")
    (connection,) = upstream._connections
    await until(lambda: connection._is_paused)
    assert connection.deadline_s == inf, "the reader is slow, which is no silence of the instance"
    assert BUFFER_LIMIT_BYTES < sum(map(len, connection._parts)) <= BUFFER_LIMIT_BYTES + 256 * 1024
    received = 0
    async for part in reply:
        received += len(part)
        assert sum(map(len, connection._parts)) <= 2 * BUFFER_LIMIT_BYTES
    assert received == 16 * MIB
    assert connection in upstream._idle


async def test_a_slow_instance_holds_no_more_than_slices_of_an_upload(lab: Lab) -> None:
    may_read = asyncio.Event()

    async def reads_late(line: Line) -> None:
        await line.head()
        await may_read.wait()
        await line.reader.readexactly(32 * MIB)
        await line.send(ok())
        await line.closed()

    upstream, _ = await lab.open(reads_late)
    sending = asyncio.create_task(upstream.post("/chat", b"x" * (32 * MIB)))
    await until(lambda: upstream._connections)
    (connection,) = upstream._connections
    await until(lambda: connection._writable is not None)
    assert connection._transport is not None
    assert connection._transport.get_write_buffer_size() <= 2 * SLICE_BYTES
    may_read.set()
    assert (await sending).status == 200


async def test_an_early_reply_that_is_no_refusal_does_not_end_the_upload(lab: Lab) -> None:
    async def answers_at_once(line: Line) -> None:
        await line.head()
        await line.send(CHUNKED + b"5\r\nearly\r\n")
        received = await line.reader.readexactly(32 * MIB)
        await line.send(b"8\r\n%8d\r\n0\r\n\r\n" % len(received))
        await line.closed()

    upstream, _ = await lab.open(answers_at_once)
    reply = await upstream.post("/chat", b"x" * (32 * MIB))
    assert await reply.read(MIB) == b"early33554432"


async def test_a_refusal_is_read_although_the_instance_closes_with_it(lab: Lab) -> None:
    """Its reset then meets our writes, while the reply is still unread; in a thread, as both must not take turns."""

    def refuse_and_go(listening: socket.socket, times: int) -> None:
        for _ in range(times):
            line, _ = listening.accept()
            line.recv(1000)
            line.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
            line.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        upstream = lab.client(f"http://127.0.0.1:{listening.getsockname()[1]}")
        refusing = asyncio.create_task(asyncio.to_thread(refuse_and_go, listening, 20))
        for _ in range(20):
            reply = await upstream.post("/chat", b"x" * (4 * MIB))
            assert (reply.status, await reply.read(MIB)) == (413, b"big")
        await refusing


async def test_a_head_of_just_the_limit_is_read_and_one_byte_more_is_not(lab: Lab) -> None:
    frame = len(ok(b"", b"X-Long: "))
    fits = ok(b"", b"X-Long: " + b"x" * (HEAD_LIMIT_BYTES - frame))
    upstream, _ = await lab.open(answers(fits, fits.replace(b"\r\n\r\n", b"x\r\n\r\n")))
    assert (await upstream.post("/chat", b"{}")).status == 200
    with pytest.raises(UpstreamFailed, match="over 65536 bytes"):
        await upstream.post("/chat", b"{}")


@pytest.mark.parametrize(
    "flood", [b"5;" + b"x" * 300_000, b"0\r\n" + b"X: y\r\n" * 50_000], ids=["extension", "trailers"]
)
async def test_framing_without_a_body_is_bounded(lab: Lab, flood: bytes) -> None:
    may_flood = asyncio.Event()

    async def floods(line: Line) -> None:
        await line.request()
        await line.send(CHUNKED + b"5\r\nstart\r\n")
        await may_flood.wait()
        await line.send(flood)
        await line.closed()

    upstream, _ = await lab.open(floods)
    reply = await upstream.post("/chat", b"{}")
    assert await reply.chunk() == b"start"
    may_flood.set()
    with pytest.raises(UpstreamFailed, match="65536 bytes of framing"):
        await reply.chunk()


async def test_a_large_body_may_follow_its_head_at_once(lab: Lab) -> None:
    body = bytes(range(256)) * 4096
    upstream, _ = await lab.open(answers(ok(body)))
    for _ in range(3):
        assert await ask(upstream) == body


# --- addresses ----------------------------------------------------------------------------------------


async def test_sockets_send_at_once_and_notice_a_vanished_peer(lab: Lab) -> None:
    upstream, _ = await lab.open(answers(ok()))
    await ask(upstream)
    transport = upstream._idle[0]._transport
    assert transport is not None
    connected = transport.get_extra_info("socket")
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


async def test_an_ipv6_address_works(lab: Lab) -> None:
    async with Peer(answers(ok()), host="::1") as peer:
        upstream = lab.client(f"http://[::1]:{peer.port}/v1")
        assert await ask(upstream) == b"ok"
        assert b"Host: [::1]:%d\r\n" % peer.port in peer.requests[0]
        await upstream.aclose()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """A name with several addresses: a fault that no real resolver gives on demand."""

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


async def test_each_address_of_a_name_is_tried(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Peer(answers(ok())) as peer:
        upstream = lab.client("http://glm.example:80")
        resolve_to(monkeypatch, ("127.0.0.2", peer.port), ("127.0.0.1", peer.port))
        assert await ask(upstream) == b"ok"
        await upstream.aclose()


async def test_a_silent_address_leaves_time_for_the_next(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with full_backlog() as port:
        async with Peer(answers(ok())) as peer:
            upstream = lab.client("http://glm.example:80", connect_timeout_s=0.6)
            resolve_to(monkeypatch, ("127.0.0.1", port), ("127.0.0.1", peer.port))
            assert await ask(upstream) == b"ok"
            await upstream.aclose()


async def test_an_address_that_stays_silent_times_out(lab: Lab) -> None:
    with full_backlog() as port:
        upstream = lab.client(f"http://127.0.0.1:{port}", connect_timeout_s=0.2)
        with pytest.raises(UpstreamTimeout, match=rf"no connection at 127\.0\.0\.1:{port} within 0\.2 s"):
            await ask(upstream)


async def test_a_name_that_does_not_resolve_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(UpstreamFailed, match=r"name does not resolve: glm\.example \(Name or service not known\)"):
        await ask(lab.client("http://glm.example/v1"))


class full_backlog:
    """A listening port whose queue is full: the kernel leaves further connections without an answer."""

    def __enter__(self) -> int:
        self._sockets = [socket.socket() for _ in range(3)]
        listening = self._sockets[0]
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for waiting in self._sockets[1:]:
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        return int(listening.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()


# --- parsing ------------------------------------------------------------------------------------------


class Recorder(asyncio.Transport):
    """Takes what a connection writes; what it reads comes from the test."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__({"socket": connected})
        self.is_aborted = False

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@given(cuts=st.sets(st.integers(1, 160), max_size=12))
def test_a_reply_does_not_depend_on_how_it_was_cut(anyio_backend: str, cuts: set[int]) -> None:
    whole = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
        b"5;x=y\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Trailer: z\r\n\r\n"
    )

    async def exchange() -> tuple[int, dict[str, str], bytes, bool]:
        idle: list[Connection] = []
        connection = Connection("glm-a", 5.0, idle.append, lambda _: None, Turn())
        with socket.socket() as unused:
            connection.connection_made(Recorder(unused))
            asking = asyncio.create_task(connection.ask(b"GET / HTTP/1.1\r\n\r\n", b"", 5.0))
            for _ in range(2):  # the request goes out with the end of the loop's turn
                await asyncio.sleep(0)
            places = [0, *sorted(cut for cut in cuts if cut < len(whole)), len(whole)]
            for start, end in pairwise(places):
                connection.data_received(whole[start:end])
        reply = await asking
        return reply.status, dict(reply.headers), await reply.read(MIB), idle == [connection]

    headers = {"transfer-encoding": "chunked", "x-a": "b"}
    assert asyncio.run(exchange()) == (200, headers, b"hello world", True)
