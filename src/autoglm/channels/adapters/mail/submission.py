"""One mail to a mail server by SMTP: connect, protect, log in, send, and tell what became of it.

Source: RFC 5321 (SMTP), RFC 6409 (submission), RFC 3207 (STARTTLS), RFC 1870 (SIZE), RFC 3461 (reports).
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, cast

from autoglm.channels import web
from autoglm.channels.adapters.mail.refusals import Stage, of_reply
from autoglm.channels.adapters.mail.settings import MailServer, SmtpSettings
from autoglm.channels.delivery import Delivery, Words, accepted, failed, permanent, too_large, transient

if TYPE_CHECKING:
    from aiosmtplib import SMTP, SMTPResponse
    from aiosmtplib.protocol import SMTPProtocol

_CHUNK_BYTES = 256 * 1024
_QUIT_S = 2.0
_ENVID_CHARACTERS = 100
"""At most (RFC 3461, section 4.4)."""
_LOST = Words("the connection was cut before the mail was handed over", "邮件交付前连接中断")
_DOUBT_CUT = Words(
    "the connection was cut before the server confirmed; it may have been delivered",
    "服务器确认前连接中断，邮件可能已送达",
)
_DOUBT_LATE = Words(
    "the server did not confirm in time; it may have been delivered", "等待服务器确认超时，邮件可能已送达"
)
_LATE = Words("the mail server does not answer in time", "邮件服务器应答超时")
_GONE = Words("the mail server does not take connections", "邮件服务器拒绝连接")
_TLS = Words("the TLS connection failed; check the certificate", "TLS 连接失败，请检查证书")


class _Failed(Exception):
    """The attempt is over: `delivery` says why."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery.code)
        self.delivery = delivery


def trust_of(server: MailServer) -> ssl.SSLContext:
    """Raises OSError where the file cannot be read or holds no certificate. Blocks for some ms."""
    return ssl.create_default_context(cafile=server.ca_file)


class Submission:
    """Sends the mails of one channel, each by a connection of its own: nothing is ever in doubt for a stale one."""

    def __init__(self, settings: SmtpSettings, sender: str, domain: str) -> None:
        self._settings = settings
        self._sender = sender
        self._domain = domain
        self._trust: ssl.SSLContext | None = None

    async def send(self, mail: bytes, to: str, ticket: str, *, needs_utf8: bool) -> Delivery:
        """mail: lines that end in CR LF. Only one recipient: a mixed answer would be neither sent nor failed."""
        try:
            async with self._session() as server:
                options = self._mail_options(server, len(mail), needs_utf8)
                encoding = "utf-8" if needs_utf8 else "ascii"
                named: list[str] = []
                if server.supports_extension("dsn"):
                    # A bounce from behind a forwarder names this mail and its recipient.
                    options += [f"ENVID={id}"] if len(id := _xtext(ticket)) <= _ENVID_CHARACTERS else []
                    named += [f"ORCPT=rfc822;{_xtext(to)}"] if to.isascii() else []
                    named += ["NOTIFY=SUCCESS,FAILURE"] if self._settings.wants_reports else []
                await _asked(server, "sender", f"MAIL FROM:<{self._sender}>", *options)
                await _asked(server, "recipient", f"RCPT TO:<{to}>", *named, encoding=encoding)
                await _hand_over(server, mail)
        except _Failed as error:
            return error.delivery
        return accepted(ticket)

    async def check(self) -> Delivery:
        """Connects and logs in, and sends nothing."""
        try:
            async with self._session():
                return accepted()
        except _Failed as error:
            return error.delivery

    @asynccontextmanager
    async def _session(self) -> AsyncIterator["SMTP"]:
        """A server that takes commands. Raises _Failed."""
        from aiosmtplib import SMTP, SMTPException

        settings = self._settings
        server = SMTP(
            hostname=settings.host, port=settings.port, use_tls=settings.security == "tls", start_tls=False,
            tls_context=await self._trusted(), local_hostname=self._domain, timeout=web.TIMEOUT_S,
        )  # fmt: skip
        try:
            with _told("greeting"):
                await server.connect(timeout=min(web.TIMEOUT_S, web.CONNECT_TIMEOUT_S))
                await server.ehlo()
            with _told("starttls"):
                if settings.security == "starttls":
                    await _protect(server)
            with _told("auth"):
                if settings.username is not None and settings.password is not None:
                    await _log_in(server, settings.username, settings.password.get_secret_value())
            yield server
            with contextlib.suppress(SMTPException, OSError):  # how the server says goodbye changes nothing
                await server.quit(timeout=_QUIT_S)
        finally:
            server.close()
            await asyncio.sleep(0)  # the loop closes the socket in its next round

    async def _trusted(self) -> ssl.SSLContext:
        if self._trust is None:
            try:
                self._trust = trust_of(self._settings)
            except OSError:  # an SSLError is one
                words = Words("smtp.ca_file cannot be read, or is no certificate", "smtp.ca_file 无法读取或不是证书")
                raise _Failed(failed("auth", "ca_file", words)) from None
        return self._trust

    def _mail_options(self, server: "SMTP", size_bytes: int, needs_utf8: bool) -> list[str]:
        """Raises _Failed where the server says beforehand that it cannot carry the mail."""
        options = []
        if server.supports_extension("size"):
            limit = server.esmtp_extensions.get("size", "")
            if limit.isdecimal() and 0 < int(limit) < size_bytes:
                words = Words(
                    f"the mail has {size_bytes} bytes, and the server takes {int(limit)}",
                    f"邮件为 {size_bytes} 字节，服务器上限为 {int(limit)} 字节",
                )
                raise _Failed(too_large("size", words))
            options.append(f"SIZE={size_bytes}")
        if needs_utf8:
            if not server.supports_extension("smtputf8"):
                words = Words(
                    "the mail server cannot carry an address that is not ASCII (SMTPUTF8)",
                    "邮件服务器不支持非 ASCII 的邮件地址（SMTPUTF8）",
                )
                raise _Failed(permanent("smtputf8", words))
            options.append("SMTPUTF8")
        return options


async def _protect(server: "SMTP") -> None:
    if not server.supports_extension("starttls"):
        words = Words(
            "the mail server offers no STARTTLS; nothing is sent in the clear",
            "邮件服务器不支持 STARTTLS，未以明文发送",
        )
        raise _Failed(failed("auth", "no_starttls", words))
    await server.starttls()
    await server.ehlo()


async def _log_in(server: "SMTP", username: str, password: str) -> None:
    """Once, by one mechanism: aiosmtplib's own `login` tries all, and servers lock an account for that."""
    known = server.supported_auth_methods
    if "plain" in known:
        await server.auth_plain(username, password)
    elif "login" in known:
        await server.auth_login(username, password)
    elif "cram-md5" in known:
        await server.auth_crammd5(username, password)
    else:
        words = Words("the mail server offers no login that this hub knows", "邮件服务器没有提供本机支持的登录方式")
        raise _Failed(failed("auth", "no_auth_method", words))


async def _asked(server: "SMTP", stage: Stage, *words: str, encoding: str = "ascii") -> None:
    with _told(stage):
        reply = await server.execute_command(*(word.encode(encoding) for word in words))
        if not 200 <= reply.code < 300:
            raise _Failed(_refusal(reply, stage))


async def _hand_over(server: "SMTP", mail: bytes) -> None:
    """DATA in two steps: until the final dot has left, the server must forget what it has (RFC 5321, 4.1.1.4)."""
    protocol = server.protocol
    if protocol is None or protocol.transport is None:
        raise _Failed(transient("cut", _LOST))
    with _told("data"):
        reply = await server.execute_command(b"DATA")
        if reply.code != 354:
            raise _Failed(_refusal(reply, "data"))
        stuffed = memoryview(_stuffed(mail))
        transport = cast(asyncio.WriteTransport, server.transport)
        transport.set_write_buffer_limits(1)  # draining is until nothing is left; with 0 asyncio's TLS never resumes
        for start in range(0, len(stuffed), _CHUNK_BYTES):
            protocol.write(bytes(stuffed[start : start + _CHUNK_BYTES]))
            await _drained(protocol)
        protocol.write(b".\r\n")
    with _told("data", is_in_doubt=True):
        reply = await protocol.read_response(timeout=web.TIMEOUT_S)
        if not 200 <= reply.code < 300:
            raise _Failed(_refusal(reply, "data", is_in_doubt=True))


async def _drained(protocol: "SMTPProtocol") -> None:
    """Waits until the socket took all. Raises TimeoutError, OSError."""
    async with asyncio.timeout(web.TIMEOUT_S):
        await (
            protocol._drain_helper()
        )  # asyncio has no public name for it but StreamWriter's, which is another protocol


def _stuffed(mail: bytes) -> bytes:
    """A line that begins with a dot gets another one (RFC 5321, section 4.5.2)."""
    return re.sub(rb"(?m)^\.", b"..", mail)


def _refusal(reply: "SMTPResponse", stage: Stage, *, is_in_doubt: bool = False) -> Delivery:
    if 400 <= reply.code < 600:
        return of_reply(reply.code, reply.message, stage)
    if is_in_doubt:
        words = Words(
            "the server's answer cannot be read; it may have been delivered", "无法解析服务器应答，邮件可能已送达"
        )
        return transient("unreadable", words, is_in_doubt=True)
    return transient("unreadable", Words("the server's answer cannot be read", "无法解析邮件服务器的应答"))


@contextmanager
def _told(stage: Stage, *, is_in_doubt: bool = False) -> Iterator[None]:
    """What goes wrong inside becomes _Failed. is_in_doubt: the mail has left, and only the confirmation is missing."""
    import aiosmtplib

    try:
        yield
    except aiosmtplib.SMTPResponseException as error:
        reply = aiosmtplib.SMTPResponse(error.code, error.message)
        raise _Failed(_refusal(reply, stage, is_in_doubt=is_in_doubt)) from None
    except TimeoutError:  # aiosmtplib's own are
        words = _DOUBT_LATE if is_in_doubt else _LATE
        raise _Failed(transient("timeout", words, is_in_doubt=is_in_doubt)) from None
    except OSError as error:  # aiosmtplib's disconnections, too
        raise _Failed(_of_socket(error, is_in_doubt=is_in_doubt)) from None
    except (aiosmtplib.SMTPException, ValueError):  # of a command that has no form, such as an EHLO name
        words = Words("the mail server does not speak SMTP as it should", "邮件服务器的 SMTP 应答不符合规范")
        raise _Failed(transient("protocol", words, is_in_doubt=is_in_doubt)) from None


def _of_socket(error: BaseException, *, is_in_doubt: bool) -> Delivery:
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    if any(isinstance(one, ssl.SSLError) for one in causes):
        return transient("tls", _TLS, is_in_doubt=is_in_doubt)
    if any(isinstance(one, socket.gaierror) for one in causes):
        return transient("no_name", Words("the name of the mail server does not resolve", "无法解析邮件服务器的主机名"))
    if any(isinstance(one, ConnectionRefusedError) for one in causes):
        return transient("refused", _GONE)
    return transient("cut", _DOUBT_CUT if is_in_doubt else _LOST, is_in_doubt=is_in_doubt)


def _xtext(text: str) -> str:
    """Source: RFC 3461, section 4."""
    return "".join(one if "!" <= one <= "~" and one not in "+=" else f"+{ord(one):02X}" for one in text)
