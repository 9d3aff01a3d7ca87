"""An IMAP server on loopback (pymap, in memory, in the test's own event loop), and a person's view of its mailbox."""

import asyncio
import imaplib
import ssl
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

import anyio.to_thread
import trustme
from proxyprotocol.sock import SocketInfoLocal
from pymap.backend.dict import Config, DictBackend, Login
from pymap.concurrent import Subsystem
from pymap.config import BackendCapability
from pymap.imap import IMAPServer
from pysasl.hashing import BuiltinHash

from eventually import until

USER, PASSWORD = "hub", "correct horse battery"
Security = Literal["starttls", "tls", "none"]
T = TypeVar("T")


class MailboxServer:
    """`append` puts a mail into the inbox; `flags` and `subjects` look at it as another mail program would."""

    def __init__(self, security: Security, trust: ssl.SSLContext) -> None:
        self.port = 0
        self.security = security
        self.sessions = 0
        self.stop: Callable[[], None] = lambda: None
        self._trust = trust
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def append(self, raw: bytes, *, folder: str = "INBOX", flags: str = "") -> None:
        await self._look(lambda client: client.append(folder, flags, "", raw))

    async def create(self, folder: str) -> None:
        await self._look(lambda client: client.create(folder))

    async def flags(self, folder: str = "INBOX") -> list[set[str]]:
        """Of each mail, oldest first."""

        def look(client: imaplib.IMAP4) -> list[set[str]]:
            client.select(folder, readonly=True)
            _, lines = client.fetch("1:*", "(FLAGS)")
            found = [imaplib.ParseFlags(line) for line in lines if isinstance(line, bytes)]
            return [{flag.decode() for flag in flags} - {"\\Recent"} for flags in found]

        return await self._look(look)

    def cut(self) -> None:
        """Ends all connections without a word."""
        for writer in self._open.values():
            writer.transport.abort()

    async def closed(self) -> None:
        self.stop()
        self.cut()
        await until(lambda: not self._open)

    async def _look(self, do: Callable[[imaplib.IMAP4], T]) -> T:
        def in_thread() -> T:
            if self.security == "tls":
                client: imaplib.IMAP4 = imaplib.IMAP4_SSL("localhost", self.port, ssl_context=self._trust, timeout=10)
            else:
                client = imaplib.IMAP4("localhost", self.port, timeout=10)
            with client:
                if self.security == "starttls":
                    client.starttls(self._trust)
                client.login(USER, PASSWORD)
                return do(client)

        return await anyio.to_thread.run_sync(in_thread)


class _Config(Config):
    can_idle = True

    @property
    def greeting(self) -> bytes:
        """The real one asks the DNS for the machine's name."""
        return b"ready"

    @property
    def backend_capability(self) -> BackendCapability:
        return BackendCapability(idle=self.can_idle, object_id=True, multi_append=True)


@asynccontextmanager
async def imap_server(
    authority: trustme.CA, *, security: Security = "tls", can_idle: bool = True, port: int = 0
) -> AsyncIterator[MailboxServer]:
    """Nothing is kept when it ends."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(served)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    config = _Config(
        Namespace(passlib_cfg=None, proxy_protocol=None), host="127.0.0.1", port=0, demo_data=False, demo_user=USER,
        demo_password=PASSWORD, ssl_context=served, tls_enabled=security == "starttls", invalid_user_sleep=0.0,
        cpu_subsystem=Subsystem.for_asyncio(), hash_context=BuiltinHash(rounds=1),
    )  # fmt: skip
    config.can_idle = can_idle
    config.apply_context()
    login = Login(config)
    await DictBackend._add_demo_user(config, login)
    serve = IMAPServer(login, config)
    state = MailboxServer(security, trust)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        state.sessions += 1
        state._open[task] = writer
        task.add_done_callback(state._open.pop)
        await serve(reader, writer, SocketInfoLocal(writer))

    server = await asyncio.start_server(connected, "127.0.0.1", port, ssl=served if security == "tls" else None)
    state.port = server.sockets[0].getsockname()[1]
    state.stop = server.close
    try:
        yield state
    finally:
        await state.closed()
