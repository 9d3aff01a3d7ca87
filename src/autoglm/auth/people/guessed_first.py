"""Whether a password is one of the 10,000 that are tried first, or of those that leaked: looked up in files, offline.

Sources: OWASP ASVS 5, 6.2.4 and 6.2.12; the list's order is that of zxcvbn (Wheeler 2016, MIT), see
tools/common_passwords.py; haveibeenpwned.com, "Pwned Passwords" (the files of its downloader).
"""

import hashlib
from bisect import bisect_left
from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).with_name("guessed_first.bin")
_SIZE_BYTES = 4
_LINE_BYTES = 64
"""`SHA1:COUNT` and a line's end: 40 digits, a colon, and at most 20 more."""


def beginning_of(password: str) -> bytes:
    """What the list has of it. Of a million others, about two share one of these by chance."""
    return hashlib.sha256(password.casefold().encode("utf-8", "surrogatepass")).digest()[:_SIZE_BYTES]


def is_guessed_first(password: str) -> bool:
    """In any mixture of upper and lower case."""
    wanted, packed = beginning_of(password), _packed()

    def entry(place: int) -> bytes:
        return packed[place * _SIZE_BYTES : (place + 1) * _SIZE_BYTES]

    places = range(len(packed) // _SIZE_BYTES)
    return entry(bisect_left(places, wanted, key=entry)) == wanted


def has_leaked(password: str, file: Path) -> bool:
    """file: lines `SHA1:COUNT` in the order of the digests, of any length: a search reads some forty lines.

    Raises OSError.
    """
    digest = hashlib.sha1(password.encode("utf-8", "surrogatepass"), usedforsecurity=False)
    wanted = digest.hexdigest().upper().encode()
    with file.open("rb") as lines:
        low, high = 0, lines.seek(0, 2)
        while low < high:  # a line that begins in [low, high) has it, or none
            middle = (low + high) // 2
            lines.seek(max(0, middle - 1))
            if middle:
                lines.readline(_LINE_BYTES)  # the rest of the line that lies across
            begin = lines.tell()
            found = lines.readline(_LINE_BYTES)[: len(wanted)].upper()
            if found == wanted:
                return True
            if not found or found > wanted or begin >= high:
                high = middle
            else:
                low = begin + 1
    return False


@lru_cache(1)
def _packed() -> bytes:
    return FILE.read_bytes()
