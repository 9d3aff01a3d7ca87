"""Turns a text into numbers that stand for its pieces: runs of 1 to 4 characters, words, and pairs of words.

Runs of characters need no word boundaries, so they serve Chinese, and they survive spelling mistakes. Words and pairs
are worth 1 to 2 points of accuracy in English (`benchmarks/intent.py`).
"""

import re
import unicodedata
from zlib import crc32

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint64]

LONGEST = 4
"""Characters of the longest run."""
_WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]+|0+|[^\w\s]")
"""A word, a number, or a sign. Chinese and Japanese have no blanks between words: there the runs do the work."""
_DIGITS = str.maketrans("123456789", "000000000")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, Knuth, TAOCP 6.4: spreads sequences well
_LENGTHS = tuple(np.uint64(length) for length in range(1, LONGEST + 1))
WORDS_FROM = 1 << 63
"""Codes of words and pairs have the highest bit, those of runs have not: sorted codes fall into two blocks."""
_RUNS = np.uint64(WORDS_FROM - 1)


def normalized(text: str) -> str:
    """One form of each sign (full width, ligatures), small letters, single blanks, every digit a 0."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().translate(_DIGITS).split())


def codes_of(text: str) -> Codes:
    """The pieces of a text, as often as they occur in it, as 64-bit hashes that are the same in every process.

    An empty text has the runs of its two borders, so that there always is one.
    """
    text = normalized(text)
    framed = f" {text} ".encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(framed, dtype=np.uint32).astype(np.uint64)
    rolled = np.zeros(len(points), dtype=np.uint64)
    pieces = []
    for length in _LENGTHS[: len(points)]:
        reach = int(length) - 1
        rolled = rolled[: len(points) - reach] * _MULTIPLIER + points[reach:] + length
        pieces.append((rolled ^ (rolled >> np.uint64(29))) & _RUNS)
    words = [crc32(word.encode("utf-8", "surrogatepass")) for word in _WORD.findall(text)]
    pairs = [first * 31 + second * 17 + 7 for first, second in zip([1, *words], [*words, 2], strict=True)]
    pieces.append(np.array([WORDS_FROM + code for code in (*words, *pairs)], dtype=np.uint64))
    return np.concatenate(pieces)
