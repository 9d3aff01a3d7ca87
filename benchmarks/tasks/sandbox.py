"""Runs code that a model wrote, which nobody has read, against tests, and believes none of what it says of itself.

The code gets a process of its own (`confined.py`): another user where we are root, no network, no file to open, no way
to start a process or a thread, 2 s of processor, 256 MiB of memory, 64 KiB to answer, 5 s of wall time. It gets the
left sides of the tests to evaluate; the right sides stay here, so that it cannot claim to have passed. What the kernel
refuses to give (user namespaces are off on some machines) is missing from `confinement()`.
"""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

WALL_LIMIT_S = 5.0
CPU_LIMIT_S = 2
MEMORY_LIMIT_BYTES = 256 << 20
REPLY_LIMIT_BYTES = 64 << 10

_PROGRAM = Path(__file__).with_name("confined.py")


def holds(code: str, tests: Sequence[str]) -> bool:
    """Whether each test, such as `add(2, 3) == 5`, is true after `code` was run."""
    pairs = [_sides(test) for test in tests]
    values = run_confined(code, [call for call, _ in pairs])
    if values is None:
        return False
    return all(_value(text) == wanted for text, (_, wanted) in zip(values, pairs, strict=True))


def run_confined(code: str, calls: Sequence[str]) -> list[str] | None:
    """The `repr` of each call's value; None when the code failed, was killed, or answered in another shape."""
    document = _run(code, calls)
    try:
        answer = json.loads(document)["values"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    is_sound = isinstance(answer, list) and len(answer) == len(calls) and all(isinstance(x, str) for x in answer)
    return answer if is_sound else None


@cache
def confinement() -> tuple[str, ...]:
    """What holds the code here: `user`, `namespaces`, `root`, `capabilities`, `limits`; see `confined.py`."""
    return tuple(json.loads(_run("", []))["confinement"])


def _run(code: str, calls: Sequence[str]) -> bytes:
    """What the child wrote within the limits; nothing of ours but its order and a file to answer in reaches it."""
    folder = tempfile.mkdtemp(prefix="confined-")
    Path(folder).chmod(0o755)  # the child is another user and may only look, and nothing is in it
    limits = {"cpu_s": CPU_LIMIT_S, "memory_bytes": MEMORY_LIMIT_BYTES, "file_bytes": REPLY_LIMIT_BYTES}
    order = json.dumps({"code": code, "calls": list(calls), "root": folder, "limits": limits})
    try:
        with (
            tempfile.TemporaryFile() as answer,
            subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM)], stdin=subprocess.PIPE, stdout=answer,
                stderr=subprocess.DEVNULL, cwd="/", env={"PYTHONHASHSEED": "0"}, start_new_session=True,
            ) as child,
        ):  # fmt: skip
            try:
                child.communicate(order.encode(), timeout=WALL_LIMIT_S)
            except subprocess.TimeoutExpired:
                return b""
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            answer.seek(0)
            return answer.read(REPLY_LIMIT_BYTES)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sides(test: str) -> tuple[str, object]:
    """The call as text and the value that it shall have. Raises ValueError for a test of another form."""
    match ast.parse(test, mode="eval").body:
        case ast.Compare(left=call, ops=[ast.Eq()], comparators=[wanted]):
            return ast.unparse(call), ast.literal_eval(wanted)
    raise ValueError(f"{test!r} is not of the form CALL == LITERAL")


def _value(text: str) -> object:
    """Of a literal; of anything else, what equals nothing."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return object()
