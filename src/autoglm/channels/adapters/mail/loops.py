"""Tells mails that a machine wrote, which must never be answered. Source: RFC 3834 (automatic responses)."""

import re
import time
from collections import OrderedDict, deque

from autoglm.channels.adapters.mail.incoming import IncomingMail
from autoglm.channels.adapters.mail.letter import LOOP_HEADER

_HOUR_S = 3600.0
_MOST_SENDERS = 10_000
_DAEMONS = ("mailer-daemon", "postmaster", "no-reply", "noreply", "do-not-reply", "donotreply")


def loop_reason(mail: IncomingMail, own_address: str) -> str | None:
    """A word for the log; None for a mail by a person."""
    marks = mail.marks
    automatic = marks.get("auto-submitted", "no").partition(";")[0].strip().lower()
    found = {
        "own_mail": LOOP_HEADER.lower() in marks or mail.sender == own_address.lower(),
        "automatic": automatic not in ("no", "") or "x-autoreply" in marks or "x-autorespond" in marks,
        "mailing_list": "list-id" in marks or marks.get("precedence", "").strip().lower() in ("bulk", "list", "junk"),
        "daemon": marks.get("return-path", "").strip() == "<>" or mail.sender.partition("@")[0] in _DAEMONS,
    }
    return next((reason for reason, is_so in found.items() if is_so), None)


def is_confirmed(mail: IncomingMail, server: str) -> bool:
    """The mail server says that the sender's own domain stands for the mail: DMARC passed for it. Source: RFC 8601.

    Only the newest header by that server counts: older ones may have come with the mail.
    """
    domain = mail.sender.rpartition("@")[2]
    for value in mail.confirmations:
        name, *results = _bare(value).lower().split(";")
        if name.split()[:1] == [server.lower()]:
            found = [entry for result in results if (entry := _is_dmarc(result)) is not None]
            return bool(found) and all(entry[1] == "pass" and entry[2] == domain for entry in found)
    return False


_is_dmarc = re.compile(
    r"\s*dmarc(?:\s*/\s*\d+)?\s*=\s*(\w+)(?:\s.*?\bheader\.from\s*=\s*@?([^\s;]+))?.*", re.DOTALL
).fullmatch
"""With what came of it, and for which domain."""


def _bare(value: str) -> str:
    """Without comments, which may be nested, and quoted strings: in them is text of whoever sent the mail, such as the
    part of an address before the @. What is not closed goes on to the end.
    """
    kept: list[str] = []
    depth, is_quoted = 0, False
    characters = iter(value)
    for one in characters:
        if one == "\\":
            next(characters, "")
        elif is_quoted:
            is_quoted = one != '"'
        elif depth or one == "(":
            depth += {"(": 1, ")": -1}.get(one, 0)
        elif one == '"':
            is_quoted = True
            kept.append('"')  # keeps what is before and behind it apart
        else:
            kept.append(one)
    return "".join(kept)


class SenderRates:
    """Counts mails by sender over the last hour; remembers the 10,000 senders that wrote last."""

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def is_too_many(self, sender: str) -> bool:
        times = self._times.get(sender, deque[float]())
        while times and times[0] < time.monotonic() - _HOUR_S:
            times.popleft()
        return len(times) >= self._per_hour

    def count(self, sender: str) -> None:
        """One more was taken. A mail that is tried again counts once."""
        self._times.setdefault(sender, deque()).append(time.monotonic())
        self._times.move_to_end(sender)
        if len(self._times) > _MOST_SENDERS:
            self._times.popitem(last=False)
