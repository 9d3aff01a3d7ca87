"""Tells mails that a machine wrote, which must never be answered. Source: RFC 3834 (automatic responses)."""

import re
import time
from collections import OrderedDict, deque

from autoglm.channels.adapters.mail.addresses import BadAddress, parse_mail_address
from autoglm.channels.adapters.mail.incoming import IncomingMail
from autoglm.channels.adapters.mail.letter import LOOP_HEADER

_HOUR_S = 3600.0
_MOST_KEYS = 20_000
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
            found = [entry for result in results if (entry := _dmarc_of(result)) is not None]
            return bool(found) and all(entry == ("pass", {_host(domain)}) for entry in found)
    return False


def _dmarc_of(result: str) -> tuple[str, set[str]] | None:
    """What came of DMARC, and for which domains by header.from; None where it is of another method.

    result: in lower case, without comments and quoted strings. Of its words only `header.from=` counts, whole: other
    properties have text of the sender's in them. Source: RFC 8601, section 2.2; RFC 7489, section 11.1: the domain of
    the author, which for DMARC is the same as that of the address in From.
    """
    method, *properties = re.sub(r"\s*([=/])\s*", r"\1", result).split() or [""]
    name, _, outcome = method.partition("=")
    if name.partition("/")[0] != "dmarc":
        return None
    values = [value for key, _, value in (word.partition("=") for word in properties) if key == "header.from"]
    return outcome, {_host(value.rpartition("@")[2]) for value in values}


def _host(name: str) -> str:
    """In ASCII, without the dot of the root: servers write names of other scripts one way or the other."""
    try:
        return parse_mail_address(f"x@{name.rstrip('.')}").text.removeprefix("x@")
    except BadAddress:
        return name


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
            kept += [] if depth else [" "]  # it may be all that keeps two words apart
            depth += {"(": 1, ")": -1}.get(one, 0)
        elif one == '"':
            is_quoted = True
            kept.append('"')  # keeps what is before and behind it apart
        else:
            kept.append(one)
    return "".join(kept)


class Rates:
    """Counts mails over the last hour, by sender and by thread: a machine that answers from a new address each time
    stays in its thread. Remembers the 20,000 senders and threads of late, in memory.
    """

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def is_too_many(self, *keys: str) -> bool:
        """Whether one of them has had as many as it may."""
        return any(self._count(key) >= self._per_hour for key in keys)

    def count(self, *keys: str) -> None:
        """One more was taken. A mail that is tried again counts once."""
        for key in keys:
            self._times.setdefault(key, deque()).append(time.monotonic())
            self._times.move_to_end(key)
        while len(self._times) > _MOST_KEYS:
            self._times.popitem(last=False)

    def _count(self, key: str) -> int:
        times = self._times.get(key, deque[float]())
        while times and times[0] < time.monotonic() - _HOUR_S:
            times.popleft()
        return len(times)
