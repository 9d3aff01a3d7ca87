"""Upgrades of a connection: to a WebSocket, and offers to anything else, which are ignored."""

import re

_is_offer = re.compile(rb"(?im)^upgrade(?=:[ \t]*+(?!websocket[ \t]*\r\n)[^\r\n]*\r\n)")


def without_offers(data: bytes) -> bytes:
    """The parser would take the body of a request that offers HTTP/2 (Java's HttpClient does) for HTTP/2 itself.

    RFC 9110, section 7.8: a server may ignore an offer to upgrade. data: begins with a request's head.
    """
    size = data.find(b"\r\n\r\n") + 2
    return _is_offer.sub(b"x-offer", data[:size]) + data[size:]


def is_websocket(headers: dict[bytes, bytes]) -> bool:
    """RFC 6455, section 4.2.1. headers: names in lower case."""
    tokens = [token.strip().lower() for token in headers.get(b"connection", b"").split(b",")]
    return b"upgrade" in tokens and headers.get(b"upgrade", b"").lower() == b"websocket"
