"""Runs one target under atheris: python -m fuzzing.by_coverage TARGET CORPUS [libFuzzer's options]. Never returns."""

import logging
import random
import sys

import atheris
import structlog


def main() -> None:
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["autoglm", "email", "html", "tools"]):
        from fuzzing.mutation import mutant
        from fuzzing.table import targets
        from fuzzing.target import try_on

    def run(data: bytes) -> None:
        try_on(target, data)

    def changed(data: bytes, max_bytes: int, seed: int) -> bytes:
        """libFuzzer's way, or by the grammar's words and tokens: it sees nothing of parsers that are written in C."""
        if seed % 2:
            made: bytes = atheris.Mutate(data, max_bytes)
            return made
        return mutant(target, data, random.Random(seed))[:max_bytes]

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    target = targets()[name]
    atheris.Setup(sys.argv, run, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
