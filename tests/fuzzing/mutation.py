"""Changes inputs at random, always in the same way for the same seed: for machines that have no atheris."""

import random
import re
from collections.abc import Iterator, Sequence

from fuzzing.target import Target

MAX_BYTES = 64 * 1024
_NUMBERS = (b"0", b"-1", b"65536", b"4294967296", b"18446744073709551616", b"1e999", b"NaN", b"9" * 400)
_BYTES = (b"\x00", b"\xff", b"\r\n", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf4\x90\x80\x80", "中".encode(), b'"', b"\\")

_tokens = re.compile(rb'"(?:[^"\\]|\\.)*"|[0-9][0-9.eE+-]*|[A-Za-z_][\w-]*|<[^<>]*>').finditer
"""What grammars treat as one: texts, numbers, names, tags."""


def mutants(target: Target, count: int, seed: int | str = 0) -> Iterator[bytes]:
    """`count` inputs of at most MAX_BYTES, made from the seeds by one to eight changes each."""
    chance = random.Random(f"{target.name} {seed}")  # repeatable is what is wanted
    for _ in range(count):
        yield mutant(target, chance.choice(target.seeds), chance)[:MAX_BYTES]


def mutant(target: Target, data: bytes, chance: random.Random) -> bytes:
    """Mostly one change, so that what comes out is nearly right."""
    pieces = (*target.words, *_NUMBERS, *_BYTES)
    for _ in range(1 + min(7, int(chance.expovariate(1.2)))):
        data = _changed(data, chance, pieces, target.seeds)
    return data


def _changed(data: bytes, chance: random.Random, pieces: Sequence[bytes], seeds: Sequence[bytes]) -> bytes:
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice((1, 1, 1, 2, 4, 8, 32, 256)))
    match chance.randrange(9):
        case 0:  # one byte is another
            return data[:start] + chance.randbytes(1) + data[start + 1 :]
        case 1:  # a stretch is gone
            return data[:start] + data[end:]
        case 2:  # a stretch is there again and again
            return data[:end] + data[start:end] * chance.choice((1, 2, 8, 200)) + data[end:]
        case 3:  # a word stands in the way
            return data[:start] + chance.choice(pieces) + data[start:]
        case 4:  # a word stands in place of a stretch
            return data[:start] + chance.choice(pieces) + data[end:]
        case 5 | 6 | 7 if tokens := list(_tokens(data)):  # a token is another, of this input or not
            token = chance.choice(tokens)
            new = chance.choice(pieces) if chance.random() < 0.7 else chance.choice(tokens)[0]
            return data[: token.start()] + new + data[token.end() :]
        case _:  # the end is that of another
            other = chance.choice(seeds)
            return data[:start] + other[chance.randint(0, len(other)) :]
