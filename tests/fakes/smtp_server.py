"""A mail server on loopback (aiosmtpd, in the test's own event loop) that takes mails, or refuses as told."""

import asyncio
import ssl
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, Literal, cast

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from fakes.vendor import Fault

USER, PASSWORD = "hub", "correct horse battery"
Step = Literal["sender", "recipient", "data"]
_REPLIES = {
    "throttled": "450 4.7.1 Error: too much mail from 127.0.0.1",
    "transient": "451 4.7.1 Greylisted, see http://postgrey.example",
    "permanent": "550 5.1.1 No such user here",
    "server_error": "421 4.3.2 Service shutting down",
}


class MailServer:
    """`mails` has what was taken, in order, `faults` what happens to the next sessions."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.options: list[tuple[list[str], list[str]]] = []
        """Of MAIL and RCPT, by mail."""
        self.faults: deque[Fault] = deque()
        self.replies: deque[tuple[Step, str]] = deque()
        """Answers for the next mails instead of 250."""
        self.cut_at: Step | Literal["reading"] | None = None
        """The next mail's connection is cut there, once; `data`: after all of it was read."""
        self.knows_reports = False
        """Whether it offers RFC 3461."""
        self.wanted_reports: list[str] = []
        """Its parameters, as they came."""
        self.port = 0
        self.sessions = 0
        self.logins = 0
        self.stop: Callable[[], None] = lambda: None

    @property
    def mails(self) -> list[EmailMessage]:
        return [message_from_bytes(raw, policy=default) for raw in self.raw]

    @property
    def texts(self) -> list[str]:
        return [_text(mail) for mail in self.mails]

    # --- aiosmtpd's hooks

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [responses[0], *(["250-DSN"] if self.knows_reports else []), *responses[1:]]

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.logins += 1
        told = bool(self.faults) and self.faults[0] == "auth"
        if told:
            self.faults.popleft()
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=good and not told, handled=False)

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.cut_at == "sender":
            return await self._cut(server)
        if self.replies and self.replies[0][0] == "sender":
            return self.replies.popleft()[1]
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.cut_at == "recipient":
            return await self._cut(server)
        if self.replies and self.replies[0][0] == "recipient":
            return self.replies.popleft()[1]
        if self.faults and self.faults[0] in _REPLIES:
            return _REPLIES[self.faults.popleft()]
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.cut_at == "data":
            self._keep(envelope)
            return await self._cut(server)
        if self.replies and self.replies[0][0] == "data":
            return self.replies.popleft()[1]
        fault = self.faults.popleft() if self.faults else None
        self._keep(envelope)
        match fault:
            case "silent":
                await asyncio.Event().wait()
            case "cut":
                return await self._cut(server)
            case "garbage":
                return "<html>hello</html>"
        return "250 2.0.0 Queued"

    def _keep(self, envelope: Envelope) -> None:
        assert isinstance(envelope.content, bytes)
        self.raw.append(envelope.content)
        self.options.append((list(envelope.mail_options), list(envelope.rcpt_options)))

    async def _cut(self, server: SMTP) -> str:
        self.cut_at = None
        _abort(server)
        return "421 never seen"


class _Session(SMTP):
    """Cuts while it reads a mail, when told; and takes the parameters of RFC 3461, which aiosmtpd does not know."""

    async def smtp_MAIL(self, arg: str) -> None:
        rest = self._without(arg, "ENVID=")
        if any(len(word) > len("ENVID=") + 100 for word in arg.split(" ") if word.startswith("ENVID=")):
            await self.push("501 5.5.4 ENVID is over 100 characters")  # RFC 3461, section 4.4
            return
        await super().smtp_MAIL(rest)

    async def smtp_RCPT(self, arg: str) -> None:
        await super().smtp_RCPT(self._without(arg, "NOTIFY=", "ORCPT=rfc822;"))

    def _without(self, arg: str, *parameters: str) -> str:
        words = arg.split(" ")
        found = [word for word in words if word.startswith(parameters)] if self.event_handler.knows_reports else []
        self.event_handler.wanted_reports.extend(found)
        return " ".join(word for word in words if word not in found)

    async def smtp_DATA(self, arg: str) -> None:
        if self.event_handler.cut_at == "reading":
            await self.push("354 Go on")
            await self._reader.readexactly(4096)
            await self.event_handler._cut(self)
            return
        await super().smtp_DATA(arg)


@asynccontextmanager
async def mail_server(
    authority: trustme.CA, *, security: Literal["starttls", "tls", "none"] = "starttls", utf8: bool = True,
    size_bytes: int | None = 33_554_432, auth: bool = True,
) -> AsyncIterator[MailServer]:  # fmt: skip
    """security: what it offers. auth: it takes no mail without USER's PASSWORD."""
    state = MailServer()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(tls)
    loop = asyncio.get_running_loop()
    open_sessions: set[SMTP] = set()

    def session() -> SMTP:
        state.sessions += 1
        with warnings.catch_warnings():  # it does not see that the socket itself is protected
            warnings.filterwarnings("ignore", message="Requiring AUTH while not requiring TLS")
            made = _Session(
                state, hostname="mx.test", data_size_limit=size_bytes, enable_SMTPUTF8=utf8, loop=loop,
                tls_context=tls if security == "starttls" else None, require_starttls=security == "starttls",
                auth_required=auth, auth_require_tls=security == "starttls", authenticator=state.authenticate,
            )  # fmt: skip
        open_sessions.add(made)
        return made

    server = await loop.create_server(session, "127.0.0.1", 0, ssl=tls if security == "tls" else None)
    state.port = server.sockets[0].getsockname()[1]
    state.stop = server.close
    try:
        yield state
    finally:
        server.close()
        for one in open_sessions:
            _abort(one)
        await asyncio.sleep(0)


def _abort(session: SMTP) -> None:
    if session.transport is not None:
        cast(asyncio.WriteTransport, session.transport).abort()


def _text(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    text = body.get_content()
    assert isinstance(text, str)
    return text.replace("\r\n", "\n")
