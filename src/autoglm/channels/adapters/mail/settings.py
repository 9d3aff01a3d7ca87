"""Settings of a `[[channel]]` of the kind mail."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from autoglm.channels.adapters.mail.addresses import BadAddress, parse_mail_address
from autoglm.channels.settings import ChannelSettings

Security = Literal["starttls", "tls", "none"]
_HOST_PATTERN = r"^[^\s/@]+$"


class MailServer(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What both servers have."""

    host: str = Field(min_length=1, max_length=253, pattern=_HOST_PATTERN)
    """Name of the server, as its certificate has it."""
    security: Security = "starttls"
    """starttls and tls fail rather than send anything in the clear; none sends all so, the password too."""
    username: str | None = Field(default=None, min_length=1, max_length=320)
    """Name to log in with."""
    password: SecretStr | None = Field(default=None, min_length=1)
    """Its password; many providers want one made for programs."""
    ca_file: Path | None = None
    """PEM file of the authorities that may vouch for the server; the system's when absent."""

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("give both username and password, or neither")
        return self


class SmtpSettings(MailServer, frozen=True):
    """`[channel.smtp]`: the server that takes what goes out."""

    port: int = Field(default=587, ge=1, le=65_535)
    """587 for starttls; 465 for tls."""
    wants_reports: bool = False
    """Ask for a report of success, too, where the server knows how (RFC 3461): then messages become `delivered`."""


class ImapSettings(MailServer, frozen=True):
    """`[channel.imap]`: the mailbox that comes in. It should be the hub's alone."""

    security: Security = "tls"
    port: int = Field(default=993, ge=1, le=65_535)
    """993 for tls; 143 for starttls."""
    username: str = Field(min_length=1, max_length=320)
    password: SecretStr = Field(min_length=1)
    folder: str = Field(default="INBOX", min_length=1, max_length=255)
    """Where the mails come in."""
    move_to: str | None = Field(default=None, min_length=1, max_length=255)
    """Folder for mails that were taken; without it they stay, as read."""
    poll_s: float = Field(default=60.0, ge=1.0, le=1500.0)
    """How often to look where the server cannot announce mails (IDLE); where it can, how often to make sure."""
    attachment_bytes: int = Field(default=10 * 1024 * 1024, ge=0, le=64 * 1024 * 1024)
    """Of all attachments of a mail together; what is beyond is named in the text, and stays in the mailbox."""
    per_sender_per_hour: int = Field(default=60, ge=1, le=100_000)
    """More mails than that by one sender, or in one thread, look like a loop, and are set aside."""
    authenticated_by: str | None = Field(default=None, min_length=1, max_length=253, pattern=_HOST_PATTERN)
    """Name of your mail server in its header Authentication-Results; then only mails are taken whose sender it
    confirms by DMARC. Without it anybody can write in another's name."""


class MailSettings(ChannelSettings, frozen=True):
    """A `[[channel]]` of the kind mail."""

    kind: Literal["mail"]
    address: str = Field(max_length=254)
    """The hub's own address: mails are from it, and answers go to it."""
    display_name: str = Field(default="AutoGLM Hub", max_length=100)
    """Name that people see beside the address."""
    recipients: tuple[str, ...] = Field(default=("*",), max_length=10_000)
    """Who may be written to: addresses, *@example.org for all of a domain, or * for everybody."""
    max_mail_bytes: int = Field(default=25 * 1024 * 1024, ge=64 * 1024, le=128 * 1024 * 1024)
    """Larger mails are neither sent nor taken. The server's own limit holds as well."""
    smtp: SmtpSettings | None = None
    """Server for what goes out; without it nothing does."""
    imap: ImapSettings | None = None
    """Mailbox for what comes in; without it nothing does."""

    @field_validator("address")
    @classmethod
    def _is_plain_address(cls, address: str) -> str:
        try:
            parsed = parse_mail_address(address)
        except BadAddress as error:
            raise ValueError(f"{address!r} is no mail address: {error}") from None
        if parsed.needs_utf8:
            raise ValueError(f"{address!r}: what is before the @ must be ASCII")
        return parsed.text

    @field_validator("senders", "recipients")
    @classmethod
    def _in_lower_case(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        """The address of who writes is compared in lower case."""
        return tuple(pattern.lower() for pattern in patterns)

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.smtp is None and self.imap is None:
            raise ValueError("give [channel.smtp], [channel.imap] or both")
        return self

    @property
    def domain(self) -> str:
        """Of the own address, in ASCII: what Message-IDs end in."""
        return self.address.rpartition("@")[2].lower()

    def may_receive(self, address: str) -> bool:
        """address: in lower case."""
        domain = address.rpartition("@")[2]
        return any(pattern in ("*", address, f"*@{domain}") for pattern in self.recipients)
