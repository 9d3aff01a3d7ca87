"""Makes the list of passwords that are guessed first: `python tools/common_passwords.py LIST`.

LIST: one password a line, the most frequent first, such as that of zxcvbn (MIT). The hub gets the beginning of each
one's sha256 instead of words that nobody wants to read; `guessed_first` compares with these.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from autoglm.auth.people.guessed_first import FILE, beginning_of
from autoglm.auth.people.passwords import MIN_CHARACTERS

SIZE = 10_000


def packed(passwords: Iterable[str]) -> bytes:
    """The first SIZE that a person could choose, sorted."""
    chosen = dict.fromkeys(found for password in passwords if len(found := password.strip()) >= MIN_CHARACTERS)
    return b"".join(sorted({beginning_of(password) for password in list(chosen)[:SIZE]}))


if __name__ == "__main__":
    FILE.write_bytes(packed(Path(sys.argv[1]).read_text().splitlines()))
