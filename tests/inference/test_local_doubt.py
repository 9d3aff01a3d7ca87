"""A worker in doubt hangs only when it says nothing and does nothing; processes of this file stand in for llama.cpp."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from autoglm.inference.local import LocalSpec
from autoglm.inference.local.child import LocalChild
from autoglm.inference.models.lines import lines_of

SILENT = """
import socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
"""
IDLE = "sys.stdin.read()"
BUSY = "while True: pass"
GONE = "listener.close(); print('closed', flush=True); sys.stdin.read()"
ANSWERING = """
while True:
    peer, _ = listener.accept()
    peer.recv(4096)
    peer.sendall(b"HTTP/1.0 503 loading\\r\\n\\r\\n")
    peer.close()
"""


@asynccontextmanager
async def child_that(does: str) -> AsyncIterator[LocalChild]:
    spec = LocalSpec(name="a", model="m", path=Path("none.gguf"))
    async with await anyio.open_process([sys.executable, "-c", SILENT + does]) as process:
        try:
            assert process.stdout is not None
            lines = lines_of(process.stdout)
            child = LocalChild(spec, process)
            child.url = f"http://127.0.0.1:{await anext(lines)}"
            if does == GONE:
                assert await anext(lines) == "closed"
            yield child
        finally:
            process.kill()


@pytest.mark.parametrize(("does", "hangs"), [(IDLE, True), (BUSY, False), (GONE, False), (ANSWERING, False)])
async def test_silence_without_work_is_a_hang_and_nothing_else(does: str, *, hangs: bool) -> None:
    async with child_that(does) as child:
        assert await child._seems_to_hang() is hangs
