"""One connection to a mailbox by IMAP. Its methods block: call them in a thread, one at a time.

Source: RFC 3501 (IMAP4rev1), RFC 2177 (IDLE), RFC 6851 (MOVE), RFC 4315 (UIDPLUS).
"""

import contextlib
import imaplib
import re
import socket
import ssl
import threading
from collections.abc import Callable

from imap_tools import BaseMailBox
from imap_tools.errors import UnexpectedCommandStatusError
from imap_tools.utils import encode_folder

from autoglm.channels.adapters.mail.settings import ImapSettings
from autoglm.channels.adapters.mail.submission import trust_of

OnSocket = Callable[[socket.socket], None]
ImapError = imaplib.IMAP4.error
_LITERAL_BYTES = 130 * 1024 * 1024
"""Over `max_mail_bytes` at its most. A server that announces more is not believed."""
_CLOSE_S = 2.0


class ServerRefused(Exception):
    """The server understood, and will not. `code`: login, folder or tls."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Client(imaplib.IMAP4):
    """imaplib's, with a bound, and a socket that can be ended while it still connects."""

    def __init__(self, host: str, port: int, timeout_s: float, on_socket: OnSocket) -> None:
        self._on_socket = on_socket
        super().__init__(host, port, timeout_s)

    def read(self, size: int) -> bytes:
        if size > _LITERAL_BYTES:
            raise self.abort("the server announces more than any mail has")
        return super().read(size)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        made: socket.socket = super()._create_socket(timeout)  # type: ignore[misc]  # typeshed does not know it
        self._on_socket(made)
        return made


class _TlsClient(_Client):
    """The same with TLS from the start; imaplib's own would not show its socket before the handshake."""

    def __init__(self, host: str, port: int, timeout_s: float, on_socket: OnSocket, trust: ssl.SSLContext) -> None:
        self._trust = trust
        super().__init__(host, port, timeout_s, on_socket)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        plain = super()._create_socket(timeout)
        made = self._trust.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        try:
            self._on_socket(made)
            made.do_handshake()
        except (OSError, ValueError):
            made.close()
            raise
        return made


class _Box(BaseMailBox):
    """imap-tools' mailbox, connected as the settings want it; nothing stays open when that fails."""

    def __init__(self, settings: ImapSettings, timeout_s: float, on_socket: OnSocket) -> None:
        self._wanted = settings
        self._timeout_s = timeout_s
        self._on_socket = on_socket
        super().__init__()

    def _get_mailbox_client(self) -> imaplib.IMAP4:
        wanted = self._wanted
        if wanted.security == "tls":
            return _TlsClient(wanted.host, wanted.port, self._timeout_s, self._on_socket, trust_of(wanted))
        client = _Client(wanted.host, wanted.port, self._timeout_s, self._on_socket)
        if wanted.security == "starttls":
            try:
                client.starttls(trust_of(wanted))
            except imaplib.IMAP4.error:  # not offered, or refused
                client.shutdown()
                raise ServerRefused("tls") from None
            except OSError:
                client.shutdown()
                raise
        return client


class MailboxConnection:
    """Opened by `open`, ended by `close`, or from any thread by `abort`."""

    def __init__(self, settings: ImapSettings, timeout_s: float) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._box: _Box | None = None
        self._socket: socket.socket | None = None
        self._is_aborted = False
        self._busy = threading.Lock()
        self._idle_tag = b""
        self.capabilities: frozenset[str] = frozenset()
        self.uid_validity = ""

    def open(self) -> None:
        """Connects, logs in and selects the folder. Raises OSError, ImapError, ServerRefused."""
        with self._busy:
            box = _Box(self._settings, self._timeout_s, self._opening)
            self._box = box
            self._log_in(box)
            # imaplib keeps those from before the login, and servers tell most of them after it.
            _, lines = box.client.capability()
            self.capabilities = frozenset(str(lines[-1] or b"", "ascii", "replace").upper().split())
            try:
                box.folder.set(self._settings.folder)
            except imaplib.IMAP4.abort:
                raise
            except (UnexpectedCommandStatusError, ImapError):
                raise ServerRefused("folder") from None
            _, found = box.client.response("UIDVALIDITY")
            self.uid_validity = str(found[-1] or b"", "ascii", "replace")
            if self._settings.move_to is not None and not box.folder.exists(self._settings.move_to):
                box.folder.create(self._settings.move_to)

    def _opening(self, made: socket.socket) -> None:
        self._socket = made
        if self._is_aborted:
            made.close()
            raise OSError("given up")

    def _log_in(self, box: _Box) -> None:
        name, password = self._settings.username, self._settings.password.get_secret_value()
        is_plain = (name + password).isascii() and "LOGINDISABLED" not in box.client.capabilities
        try:
            if is_plain:
                box.login(name, password, initial_folder=None)
            else:
                box.login_utf8(name, password, initial_folder=None)
        except imaplib.IMAP4.abort:
            raise
        except (UnexpectedCommandStatusError, ImapError):
            raise ServerRefused("login") from None

    def waiting(self) -> list[str]:
        """UIDs of the mails that nobody read and that were not set aside, oldest first."""
        with self._busy:
            self._opened.client.untagged_responses.pop(
                "EXISTS", None
            )  # imaplib keeps it; what comes from now on is news
            return self._opened.uids("UNSEEN UNFLAGGED UNDELETED", charset=None)

    def size_bytes(self, uid: str) -> int | None:
        """None when the mail has gone."""
        found = re.search(rb"RFC822\.SIZE (\d+)", b" ".join(_flat(self._fetch(uid, "(RFC822.SIZE)"))))
        return None if found is None else int(found[1])

    def read(self, uid: str) -> bytes | None:
        """The whole mail, and leaves it unread; None when it has gone."""
        return next((part[1] for part in self._fetch(uid, "(BODY.PEEK[])") if isinstance(part, tuple)), None)

    def settle(self, uid: str) -> None:
        """It is taken: marks it as read, and moves it where the settings say so."""
        with self._busy:
            self._store(uid, r"(\Seen)")
            if self._settings.move_to is not None:
                self._move(uid, self._settings.move_to)

    def set_aside(self, uid: str) -> None:
        """It stays, unread and flagged; it is not offered again."""
        with self._busy:
            self._store(uid, r"(\Flagged)")

    def begin_idle(self) -> bool:
        """Asks to be told. True where something was told at once."""
        with self._busy:
            client = self._opened.client
            self._idle_tag = client._command("IDLE")
            while client._get_response() is not None:  # what is new, before the server says that it waits
                if client.tagged_commands[self._idle_tag]:
                    raise client.error("IDLE was refused")
            return bool(self._told(is_ready=False)) or "EXISTS" in client.untagged_responses

    def told(self) -> bool:
        """After the socket became readable: is there news? Raises ImapError where it was the end."""
        with self._busy:
            return bool(self._told(is_ready=True))

    def end_idle(self) -> None:
        with self._busy:
            box = self._opened
            box.client.send(b"DONE\r\n")
            box.consume_until_tagged_response(self._idle_tag)
            self._idle_tag = b""

    @property
    def socket(self) -> socket.socket:
        return self._opened.client.sock

    def abort(self) -> None:
        """Ends whatever a thread waits for; `close` is still needed."""
        self._is_aborted = True
        made = self._socket if self._box is None else self.socket  # the latter after STARTTLS
        if made is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which would take the TLS away from under the thread that reads.
                socket.socket.shutdown(made, socket.SHUT_RDWR)

    def close(self) -> None:
        if not self._busy.acquire(timeout=_CLOSE_S):
            return  # it looks for the host's name; then it closes its socket
        try:
            self._close()
        finally:
            self._busy.release()

    def _close(self) -> None:
        box, self._box = self._box, None
        if box is None:
            return
        if not self._is_aborted and not self._idle_tag:  # a server that waits for DONE takes no LOGOUT
            with contextlib.suppress(OSError, ImapError):
                box.client.sock.settimeout(_CLOSE_S)
                box.client.logout()
        with contextlib.suppress(OSError):
            box.client.shutdown()

    @property
    def _opened(self) -> _Box:
        if self._box is None:
            raise OSError("the connection is closed")
        return self._box

    def _fetch(self, uid: str, what: str) -> list[bytes | tuple[bytes, bytes]]:
        with self._busy:
            status, data = self._opened.client.uid("FETCH", uid, what)
        if status != "OK":
            raise ImapError("FETCH was refused")
        return [part for part in data if part is not None]

    def _store(self, uid: str, flags: str) -> None:
        """imap-tools' own `flag` would expunge the folder, and with it what others marked as deleted."""
        status, _ = self._opened.client.uid("STORE", uid, "+FLAGS.SILENT", flags)
        if status != "OK":
            raise ImapError("STORE was refused")

    def _move(self, uid: str, folder: str) -> None:
        client, target = self._opened.client, encode_folder(folder).decode("ascii")
        if "MOVE" in self.capabilities:
            status, _ = client.uid("MOVE", uid, target)
        else:
            status, _ = client.uid("COPY", uid, target)
            if status == "OK":
                self._store(uid, r"(\Deleted)")
                if "UIDPLUS" in self.capabilities:
                    client.uid("EXPUNGE", uid)
        if status != "OK":
            raise ImapError("MOVE was refused")

    def _told(self, *, is_ready: bool) -> list[bytes]:
        """What came, without waiting: TLS and imaplib keep bytes that the socket does not show any more."""
        client = self._opened.client
        lines: list[bytes] = []
        self.socket.settimeout(0)
        try:
            while True:
                lines.append(client._get_line())
        except imaplib.IMAP4.abort:  # of a plain socket also where nothing more is there
            if is_ready and not lines:
                raise
        except OSError:  # TLS: nothing more, or nothing but its own
            pass
        finally:
            self.socket.settimeout(self._timeout_s)
        return lines


def _flat(parts: list[bytes | tuple[bytes, bytes]]) -> list[bytes]:
    return [piece for part in parts for piece in (part if isinstance(part, tuple) else (part,))]
