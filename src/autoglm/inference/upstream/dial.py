"""Opens a TCP connection: resolves the name and tries its addresses in turn."""

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from autoglm.core.errors import HubError, UpstreamFailed, UpstreamTimeout
from autoglm.inference.upstream.endpoint import Endpoint

P = TypeVar("P", bound=asyncio.Protocol)


async def dial(endpoint: Endpoint, make_protocol: Callable[[], P]) -> P:
    """The protocol of a new connection, within connect_timeout_s. Raises UpstreamFailed, UpstreamTimeout.

    An address that stays silent gets its share of the time only, so that the next one has its chance.
    """
    loop = asyncio.get_running_loop()
    origin, deadline_s = endpoint.origin, loop.time() + endpoint.connect_timeout_s
    try:
        async with asyncio.timeout_at(deadline_s):
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise UpstreamTimeout(endpoint.name, f"address for {origin.host}", endpoint.connect_timeout_s) from error
    except OSError as error:
        reason = f"name does not resolve: {origin.host} ({error.strerror or error})"
        raise UpstreamFailed(endpoint.name, reason) from error
    failures: list[OSError] = []
    places: list[str] = []
    for index, (family, _, protocol_number, _, address) in enumerate(found):
        host, port = str(address[0]), int(address[1])
        places.append(f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}")
        share_s = (deadline_s - loop.time()) / (len(found) - index)
        try:
            async with asyncio.timeout(share_s):
                _, protocol = await loop.create_connection(
                    make_protocol, host, port, family=family, proto=protocol_number
                )
                return protocol
        except OSError as error:  # TimeoutError is one
            failures.append(error)
    raise _failure(endpoint, places, failures) from (failures[-1] if failures else None)


def _failure(endpoint: Endpoint, places: list[str], failures: list[OSError]) -> HubError:
    if all(isinstance(error, TimeoutError) for error in failures):
        return UpstreamTimeout(endpoint.name, f"connection at {' or '.join(places)}", endpoint.connect_timeout_s)
    if all(isinstance(error, ConnectionRefusedError) for error in failures):
        return UpstreamFailed(endpoint.name, f"connection refused at {' and '.join(places)}")
    reasons = (f"{place} ({_reason(error)})" for place, error in zip(places, failures, strict=True))
    return UpstreamFailed(endpoint.name, f"cannot connect to {', '.join(reasons)}")


def _reason(error: OSError) -> str:
    match error:
        case TimeoutError():
            return "timed out"
        case ConnectionRefusedError():
            return "connection refused"
        case _:
            return error.strerror or str(error)
