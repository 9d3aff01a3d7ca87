"""A syslog server as a second place: RFC 5424, over a Unix socket, or TCP with TLS (RFC 5425) or without (RFC 6587).

Syslog has no acknowledgements. Over TCP an entry counts as sent once the server's machine has confirmed its bytes; what
that loses from then on is lost. Some may come twice after a failure: `seq` tells.
"""

import fcntl
import os
import socket
import ssl
import struct
import termios
from collections.abc import Sequence

import anyio
from anyio.abc import ByteStream, SocketAttribute

from autoglm.auth.audit.line import time_of, to_line
from autoglm.auth.audit.places import PlaceFailed, Trouble
from autoglm.auth.audit.settings import SyslogPlaceSettings
from autoglm.core.clock import monotonic_s
from autoglm.core.ports import Journal, JournalEntry

_FACILITY = 13  # log audit (RFC 5424, section 6.2.1)
_SEVERITIES = {"allowed": 6, "denied": 5, "failed": 4}
_CONNECT_S = 10.0
_CONFIRM_S = 20.0
_LOOK_EVERY_S = 0.01
_ESTABLISHED = 1  # linux/tcp_states.h
_BOM = b"\xef\xbb\xbf"


class SyslogPlace:
    """Implements `Place`."""

    def __init__(self, settings: SyslogPlaceSettings) -> None:
        self.name = settings.name
        self._settings = settings
        self._host = socket.gethostname()[:255].encode("ascii", "replace") or b"-"
        self._stream: ByteStream | None = None
        self._datagrams: anyio.abc.ConnectedUNIXDatagramSocket | None = None

    async def open(self, position: int, journal: Journal) -> tuple[int, Trouble | None]:
        """What is there, nobody can ask."""
        settings = self._settings
        try:
            with anyio.fail_after(_CONNECT_S):
                if settings.socket is not None:
                    self._datagrams = await anyio.create_connected_unix_datagram_socket(settings.socket)
                elif settings.host is not None and settings.tls:
                    context = ssl.create_default_context(cafile=settings.ca_file)
                    context.minimum_version = ssl.TLSVersion.TLSv1_2
                    self._stream = await anyio.connect_tcp(settings.host, settings.port, ssl_context=context)
                elif settings.host is not None:
                    self._stream = await anyio.connect_tcp(settings.host, settings.port)
        except TimeoutError as error:
            raise PlaceFailed(f"no connection within {_CONNECT_S:.0f} s") from error
        except OSError as error:  # ssl.SSLError is one
            raise PlaceFailed(str(error)) from error
        return position, None

    async def put(self, rows: Sequence[JournalEntry]) -> Trouble | None:
        messages = [
            rfc5424(row, host=self._host, with_personal=self._settings.with_personal) for row in rows
        ]  # fmt: skip
        try:
            if self._datagrams is not None:
                for message in messages:
                    await self._datagrams.send(message)
            elif self._stream is not None:
                # Octet counting: RFC 5425, section 4.3; RFC 6587, section 3.4.1.
                framed = b"".join(b"%d %b" % (len(message), message) for message in messages)
                with anyio.fail_after(_CONFIRM_S):
                    await self._stream.send(framed)
                await _confirmed(self._stream)
        except TimeoutError as error:
            raise PlaceFailed(f"the server takes nothing for {_CONFIRM_S:.0f} s") from error
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise PlaceFailed(f"the connection broke: {error or type(error).__name__}") from error
        return None

    async def erase(self, runs: Sequence[tuple[int, int]]) -> None:
        """What was sent cannot be called back."""

    async def aclose(self) -> None:
        for resource in (self._stream, self._datagrams):
            if resource is not None:
                await anyio.aclose_forcefully(resource)
        self._stream = self._datagrams = None


def rfc5424(row: JournalEntry, *, host: bytes, with_personal: bool) -> bytes:
    """One message. Its structured data have an id of the enterprise number for documentation (RFC 5612)."""
    priority = 8 * _FACILITY + _SEVERITIES.get(row.outcome, 4)
    head = (
        f"<{priority}>1 {time_of(row)} {host.decode()} autoglm-hub {os.getpid()} {row.kind or '-'} "
        f'[audit@32473 seq="{row.seq}" hash="{row.digest.hex()}"] '
    )
    return head.encode() + _BOM + to_line(row, with_personal=with_personal)[:-1]


async def _confirmed(stream: ByteStream) -> None:
    """Wait until the other machine has confirmed all bytes (Linux: SIOCOUTQ, which termios calls TIOCOUTQ)."""
    raw: socket.socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610  # not Django's
    until_s = monotonic_s() + _CONFIRM_S
    while True:
        if raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED:
            raise PlaceFailed("the server closed the connection")
        [unconfirmed] = struct.unpack("i", fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(4)))
        if unconfirmed == 0:
            return
        if monotonic_s() > until_s:
            raise PlaceFailed(f"the server confirms nothing for {_CONFIRM_S:.0f} s")
        await anyio.sleep(_LOOK_EVERY_S)
