"""The peer of the upstream tests leaves no connection open: its warning would fail a test that comes later."""

import asyncio
import socket
from contextlib import suppress

import pytest

from inference.upstream_peer import LOOPS, Peer, silent


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_of_the_last_moment_is_closed(turns: int) -> None:
    with socket.socket() as client:
        client.settimeout(5)
        async with Peer(silent) as peer:
            client.connect(("127.0.0.1", peer.port))
            for _ in range(turns):
                await asyncio.sleep(0)
        with suppress(ConnectionResetError):
            assert await asyncio.to_thread(client.recv, 1) == b""
