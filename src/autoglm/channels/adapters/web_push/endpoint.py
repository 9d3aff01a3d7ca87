"""Whether a push may go to an endpoint: it comes from a client, and could name any host."""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from autoglm.channels.delivery import Words
from autoglm.core.guard import AddressGuard, parse_allowed


def origin_of(endpoint: str) -> str:
    """Scheme, host, and port where it is not the usual one: whom a token is for (RFC 8292, section 2; RFC 6454)."""
    place = urlsplit(endpoint)
    host = f"[{place.hostname}]" if ":" in (place.hostname or "") else place.hostname
    usual = {"https": 443, "http": 80}.get(place.scheme)
    return f"{place.scheme}://{host}" + ("" if place.port in (None, usual) else f":{place.port}")


class EndpointRule:
    """Public addresses by https; others only where the settings' `allow` names them."""

    def __init__(self, allow: Sequence[str]) -> None:
        self.guard = AddressGuard(allow)
        """For each request: it looks at what a name leads to at that moment."""
        self._allowed = [parse_allowed(entry) for entry in allow]

    def refusal(self, endpoint: str) -> Words | None:
        """As far as the endpoint itself tells; None when a push may be tried."""
        place = urlsplit(endpoint)
        host = (place.hostname or "").lower().rstrip(".")
        try:
            address = ip_address(host)
        except ValueError:
            address = None
        if address is not None and (reason := self.guard.refusal(host, str(address))) is not None:
            return reason
        is_named = any(
            entry == host if isinstance(entry, str) else address is not None and address in entry
            for entry in self._allowed
        )
        if place.scheme == "https" or is_named:
            return None
        return Words(
            "a push service must be reached by https, unless the channel's `allow` names its host",
            "推送服务必须使用 https，除非该渠道的 `allow` 写明了其主机",
        )
