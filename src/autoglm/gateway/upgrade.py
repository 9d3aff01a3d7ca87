"""Upgrades of a connection: to a WebSocket, and offers to anything else, which are ignored."""

import re

from autoglm.gateway.exchange import Headers

_is_offer = re.compile(rb"(?im)^upgrade(?=:[ \t]*+(?!websocket[ \t]*\r\n)[^\r\n]*\r\n)")


def without_offers(data: bytes) -> bytes:
    """The parser would take the body of a request that offers HTTP/2 (Java's HttpClient does) for HTTP/2 itself.

    RFC 9110, section 7.8: a server may ignore an offer to upgrade. Only whole lines are looked at: half of one may be
    half of `websocket`.
    """
    size = data.find(b"\r\n\r\n") + 2
    head = data[:size] if size > 1 else data
    if _is_offer.search(head) is None:
        return data
    return _is_offer.sub(b"x-offer", head) + data[len(head) :]


def is_websocket(headers: Headers) -> bool:
    """RFC 6455, section 4.2.1. headers: names in lower case."""
    known = dict(headers)
    tokens = [token.strip().lower() for token in known.get(b"connection", b"").split(b",")]
    return b"upgrade" in tokens and known.get(b"upgrade", b"").lower() == b"websocket"
