"""What TLS and proxies add: trust, tunnels, and plain words when they fail."""

import asyncio
import base64
import socket
import ssl
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from autoglm.core.errors import UpstreamFailed, UpstreamTimeout
from autoglm.inference.upstream import Endpoint
from autoglm.inference.upstream.secure import SecureUpstream
from inference.upstream_peer import LOOPS, PATIENCE, Line, Peer, Script, answers, ok, proxy, says, silent

MIB = 1 << 20


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


class Lab:
    def __init__(self, authority: trustme.CA, folder: Path, stack: AsyncExitStack) -> None:
        self._authority, self._stack = authority, stack
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_file)

    async def peer(self, *scripts: Script, name: str | None = "127.0.0.1") -> Peer:
        """name: what the certificate is for; None speaks no TLS."""
        context = None if name is None else self.context(name)
        return await self._stack.enter_async_context(Peer(*scripts, tls=context))

    def context(self, name: str = "127.0.0.1") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(name).configure_cert(context)
        return context

    def client(self, port: int, *, scheme: str = "https", **options: Any) -> SecureUpstream:
        options = PATIENCE | {"ca_file": self.ca_file} | options
        upstream = SecureUpstream(Endpoint(name="glm-a", base_url=f"{scheme}://127.0.0.1:{port}/v1", **options))
        self._stack.push_async_callback(upstream.aclose)
        return upstream


@pytest.fixture
async def lab(authority: trustme.CA, tmp_path: Path) -> AsyncIterator[Lab]:
    async with AsyncExitStack() as stack:
        yield Lab(authority, tmp_path, stack)


async def ask(upstream: SecureUpstream) -> bytes:
    return await (await upstream.post("/chat", b"{}")).read(MIB)


def test_aiohttp_is_not_imported_before_the_first_request() -> None:
    script = (
        "import sys; from autoglm.inference.upstream import *; "
        "open_upstream(Endpoint(name='a', base_url='https://host')); print('aiohttp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "False\n"


# --- trust --------------------------------------------------------------------------------------------


async def test_an_unknown_authority_is_not_trusted_by_default(lab: Lab) -> None:
    peer = await lab.peer(answers(ok()))
    with pytest.raises(UpstreamFailed, match=r"TLS: certificate is not trusted \(.*\); set ca_file"):
        await ask(lab.client(peer.port, ca_file=None))
    assert peer.requests == []


async def test_a_certificate_for_another_name_is_not_trusted(lab: Lab) -> None:
    peer = await lab.peer(answers(ok()), name="other.example")
    with pytest.raises(UpstreamFailed, match=r"TLS: certificate is not accepted: .*127"):
        await ask(lab.client(peer.port))
    assert peer.requests == []


async def test_trust_can_be_switched_off(lab: Lab) -> None:
    peer = await lab.peer(answers(ok()), name="other.example")
    assert await ask(lab.client(peer.port, ca_file=None, verify=False)) == b"ok"


async def test_a_ca_file_without_certificates_is_named(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(UpstreamFailed, match=f"TLS: ca_file .*{name} holds no certificates"):
            await ask(lab.client(1, ca_file=tmp_path / name))


async def test_an_instance_without_tls_is_recognized(lab: Lab) -> None:
    async def answers_plain(line: Line) -> None:
        await line.reader.read(100)
        await line.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await line.closed()

    peer = await lab.peer(answers_plain, name=None)
    with pytest.raises(UpstreamFailed, match=r"TLS: no TLS is spoken \(is it http://\?\) at 127"):
        await ask(lab.client(peer.port))


async def test_a_handshake_that_stalls_times_out(lab: Lab) -> None:
    peer = await lab.peer(silent, name=None)
    with anyio.fail_after(3), pytest.raises(UpstreamTimeout, match=r"no connection at 127\.0\.0\.1:\d+ within 0\.2 s"):
        await ask(lab.client(peer.port, connect_timeout_s=0.2))


async def test_a_refused_connection_and_an_unknown_name_are_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(UpstreamFailed, match=r"connection refused at 127\.0\.0\.1:\d+"):
            await ask(lab.client(unused.getsockname()[1]))

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with AsyncExitStack() as stack:
        upstream = SecureUpstream(Endpoint(name="glm-a", base_url="https://glm.example/v1"))
        stack.push_async_callback(upstream.aclose)
        with pytest.raises(UpstreamFailed, match=r"name does not resolve: glm\.example \(Name or service not known\)"):
            await ask(upstream)


# --- no rules of aiohttp's own ------------------------------------------------------------------------


async def test_a_get_on_a_new_connection_is_not_repeated(lab: Lab) -> None:
    peer = await lab.peer(says(b""))
    with pytest.raises(UpstreamFailed, match="before answering"):
        await lab.client(peer.port).get("/models")
    assert len(peer.lines) == 1


async def test_garbage_behind_a_reply_never_reaches_the_next_one(lab: Lab) -> None:
    """aiohttp may refuse the whole reply, which is as safe."""
    peer = await lab.peer(answers(ok() + b"surplus"))
    upstream = lab.client(peer.port)
    for _ in range(2):
        with suppress(UpstreamFailed):
            assert await ask(upstream) == b"ok"
    assert len(peer.lines) == 2


async def test_an_instance_that_only_writes_learns_of_an_early_end(lab: Lab) -> None:
    """TLS says goodbye first and then waits for the other side to do so, for 30 s: time to generate for nobody."""

    def writes_until_it_fails(listening: socket.socket) -> bool:
        plain, _ = listening.accept()
        with lab.context().wrap_socket(plain, server_side=True) as line:
            line.recv(1000)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            for _ in range(200):
                try:
                    line.sendall(b"x")
                except OSError:
                    return True
                time.sleep(0.01)
        return False

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        writing = asyncio.create_task(asyncio.to_thread(writes_until_it_fails, listening))
        reply = await lab.client(listening.getsockname()[1]).post("/chat", b"{}")
        await reply.chunk()
        await reply.aclose()
        assert await writing


# --- proxies ------------------------------------------------------------------------------------------


async def test_tls_goes_through_a_tunnel_with_the_proxys_own_password(lab: Lab) -> None:
    peer, middle = await lab.peer(answers(ok())), await lab.peer(proxy(), name=None)
    upstream = lab.client(peer.port, proxy=f"http://me:hunter2@127.0.0.1:{middle.port}")
    assert [await ask(upstream), await ask(upstream)] == [b"ok", b"ok"]
    password = base64.b64encode(b"me:hunter2")
    assert len(middle.requests) == 1
    assert middle.requests[0].startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % peer.port)
    assert b"Proxy-Authorization: Basic " + password in middle.requests[0]
    assert password not in b"".join(peer.requests)


async def test_a_proxy_may_speak_tls_itself(lab: Lab) -> None:
    peer, middle = await lab.peer(answers(ok())), await lab.peer(proxy())
    upstream = lab.client(peer.port, proxy=f"https://127.0.0.1:{middle.port}")
    assert [await ask(upstream), await ask(upstream)] == [b"ok", b"ok"]
    assert len(middle.requests) == 1


async def test_plain_http_goes_through_a_proxy_by_its_full_address(lab: Lab) -> None:
    middle = await lab.peer(answers(ok(b"by proxy")), name=None)
    upstream = lab.client(9, scheme="http", proxy=f"http://127.0.0.1:{middle.port}")
    assert await ask(upstream) == b"by proxy"
    assert middle.requests[0].startswith(b"POST http://127.0.0.1:9/v1/chat HTTP/1.1\r\n")


async def test_a_proxy_that_refuses_is_named_without_its_password(lab: Lab) -> None:
    middle = await lab.peer(proxy(b"407 Proxy Authentication Required"), name=None)
    upstream = lab.client(9, proxy=f"http://me:hunter2@127.0.0.1:{middle.port}")
    with pytest.raises(
        UpstreamFailed, match=r"the proxy at 127\.0\.0\.1:\d+ refused .* 127\.0\.0\.1:9: status 407"
    ) as caught:
        await ask(upstream)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


async def test_a_proxy_that_is_not_there_is_named_without_its_password(lab: Lab) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        upstream = lab.client(9, proxy=f"http://me:hunter2@127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UpstreamFailed, match=r"the proxy cannot be reached: connection refused at 127") as caught:
            await ask(upstream)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


async def test_the_environments_proxy_is_not_used(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    peer = await lab.peer(answers(ok()))
    assert await ask(lab.client(peer.port)) == b"ok"
