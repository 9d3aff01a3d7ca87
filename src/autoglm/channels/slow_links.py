"""Slow links: a ship's share of a satellite takes minutes for a file, and that is no failure."""

SLOWEST_BYTES_S = 16 * 1024
"""128 kbit/s. A link that is slower carries texts, and no files."""


def time_for_s(size_bytes: int) -> float:
    """What a request may take longer for so many bytes in it: 20 MiB get 21 minutes, a text next to nothing."""
    return size_bytes / SLOWEST_BYTES_S
