"""Lines of text out of a byte stream."""

from collections.abc import AsyncIterator

from anyio.abc import ByteReceiveStream

_LIMIT_BYTES = 8192


async def lines_of(stream: ByteReceiveStream) -> AsyncIterator[str]:
    """Decode and split; a line over 8 KiB comes in pieces, so that a program gone wild cannot fill the memory."""
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")
        while len(rest) > _LIMIT_BYTES:
            yield rest[:_LIMIT_BYTES].decode("utf-8", "replace")
            rest = rest[_LIMIT_BYTES:]
    if rest:
        yield rest.decode("utf-8", "replace")
