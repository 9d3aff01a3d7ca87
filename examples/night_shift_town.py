"""What lies outside the hub in `night_shift.py`: a robot's service, an SMS gateway, a mail server. All on 127.0.0.1."""

import asyncio
import email
import imaplib
import json
import warnings
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage, Message
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from proxyprotocol.sock import SocketInfoLocal
from pymap.backend.dict import Config, DictBackend, Login
from pymap.concurrent import Subsystem
from pymap.imap import IMAPServer
from pysasl.hashing import BuiltinHash

PASSWORD = "correct horse"


class Town:
    """`robot` has the robot's messages, `sms` the short ones, `mails` what the mail server took."""

    def __init__(self) -> None:
        self.throttles = 0
        """So many requests of the robot are told to come back in 2 s, as by a proxy: WeCom itself says 45009 with HTTP
        200 and no time, and the hub would wait for half a minute.
        """
        self.robot: list[str] = []
        self.sms: list[tuple[str, str]] = []
        self.mails: list[Message] = []
        self.web_port = self.smtp_port = self.imap_port = 0

    async def web(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The robot's service and the SMS gateway: one request a connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        sizes = [int(line[16:]) for line in head.split("\r\n") if line.lower().startswith("content-length: ")]
        body = await reader.readexactly(sizes[0]) if sizes else b"{}"
        writer.write(self._answer(head.split(" ")[1], json.loads(body)))
        writer.close()

    def _answer(self, path: str, body: Any) -> bytes:
        if not body:  # a look whether it is there
            return _response(200, {"code": "0"})
        if path == "/sms":
            self.sms.append((body["mobile"], body["content"]))
            return _response(200, {"code": "0", "id": f"sms-{len(self.sms)}"})
        if self.throttles > 0:
            self.throttles -= 1
            return _response(429, {}, "Retry-After: 2\r\n")
        self.robot.append(body["text"]["content"])
        return _response(200, {"errcode": 0, "errmsg": "ok"})

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """A mail has come (a hook of aiosmtpd)."""
        assert isinstance(envelope.content, bytes)
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))
        return "250 OK"

    def reply(self, text: str) -> None:
        """The person answers the first mail: the answer lies in the hub's mailbox."""
        asked = self.mails[0]
        answer = EmailMessage()
        answer["From"], answer["To"], answer["Subject"] = asked["To"], asked["From"], f"Re: {asked['Subject']}"
        answer["Message-ID"], answer["In-Reply-To"] = "<answer-1@plant.example>", str(asked["Message-ID"])
        answer.set_content(text)
        with imaplib.IMAP4("127.0.0.1", self.imap_port, timeout=10) as client:
            client.login("hub", PASSWORD)
            client.append("INBOX", "", "", answer.as_bytes())


def _response(status: int, body: dict[str, Any], headers: str = "") -> bytes:
    data = json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    made = Town()
    loop = asyncio.get_running_loop()
    imap = await _imap()
    web = await asyncio.start_server(made.web, "127.0.0.1", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # aiosmtpd warns of logins without TLS; there are none
        smtp = await loop.create_server(lambda: SMTP(made, hostname="localhost"), "127.0.0.1", 0)
    made.web_port, made.smtp_port, made.imap_port = (one.sockets[0].getsockname()[1] for one in (web, smtp, imap))
    try:
        yield made
    finally:
        for server in (web, smtp, imap):
            server.close()


async def _imap() -> asyncio.Server:
    """pymap, in memory."""
    config = Config(
        Namespace(passlib_cfg=None, proxy_protocol=None), host="127.0.0.1", port=0, demo_data=False, demo_user="hub",
        demo_password=PASSWORD, tls_enabled=False, reject_insecure_auth=False, invalid_user_sleep=0.0,
        cpu_subsystem=Subsystem.for_asyncio(), hash_context=BuiltinHash(rounds=1),
    )  # fmt: skip
    config.apply_context()
    login = Login(config)
    await DictBackend._add_demo_user(config, login)
    serve = IMAPServer(login, config)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer, SocketInfoLocal(writer))

    return await asyncio.start_server(connected, "127.0.0.1", 0)
