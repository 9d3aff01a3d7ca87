"""An answer that is kept while it goes by, so that it can be examined in the end; a long one is not."""

KEPT_BYTES = 256 * 1024


class Kept:
    __slots__ = ("_parts", "_size_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size_bytes = 0

    def add(self, part: bytes) -> None:
        self._size_bytes += len(part)
        if self._size_bytes <= KEPT_BYTES:
            self._parts.append(part)
        else:
            self._parts.clear()

    def whole(self) -> bytes:
        """All of it; nothing when it was too long."""
        return b"".join(self._parts)
