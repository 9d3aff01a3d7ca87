"""The child of `sandbox.py`: gives up all it may do, then runs the code. Reads one JSON order from stdin.

In this order, for each step needs a right that a later one gives away: imports, another user (nobody, when we are
root), own namespaces (user, network, IPC, mounts), an empty folder as the root, no capabilities and none to be had
again, limits. After that there is no file to open, no address to reach, no program to execute and no process to start.
Imports nothing of the project: it runs as `python -I -S`.
"""

import bisect  # noqa: F401  what the code may import must be loaded before the files are out of reach
import collections  # noqa: F401
import copy  # noqa: F401
import ctypes
import datetime  # noqa: F401
import functools  # noqa: F401
import heapq  # noqa: F401
import io
import itertools  # noqa: F401
import json
import math  # noqa: F401
import operator  # noqa: F401
import os
import random  # noqa: F401
import re  # noqa: F401
import resource
import signal
import string  # noqa: F401
import struct
import sys
import typing  # noqa: F401

_NOBODY = 65534
_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x20000, 0x08000000, 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_PDEATHSIG = 1
_CAPABILITY_VERSION_3 = 0x20080522
_VALUE_LIMIT = 1_000


def main() -> None:
    order = json.loads(sys.stdin.buffer.read())
    out = os.dup(1)
    held = confine(order["root"], **order["limits"])
    sys.stdin = io.StringIO()
    sys.stdout = sys.stderr = open_nothing()
    answer: dict[str, object] = {"confinement": held}
    names: dict[str, object] = {"__name__": "answer"}
    exec(compile(order["code"], "answer", "exec"), names)
    answer["values"] = [repr(eval(call, names))[:_VALUE_LIMIT] for call in order["calls"]]
    os.write(out, json.dumps(answer).encode())
    os._exit(0)


def confine(root: str, cpu_s: int, memory_bytes: int, file_bytes: int) -> list[str]:
    """What was given up. Only limits cannot be refused; the rest depends on the machine."""
    held = []
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        held.append("user")
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWNS) == 0:
        held.append("namespaces")
        os.chroot(root)
        os.chdir("/")
        held.append("root")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    head = struct.pack("=II", _CAPABILITY_VERSION_3, 0)
    if libc.capset(head, b"\0" * 24) == 0:
        held.append("capabilities")
    for limit, value in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 8),
    ):
        resource.setrlimit(limit, (value, value))
    held.append("limits")
    return held


def open_nothing() -> io.TextIOBase:
    """Where what the code prints goes."""

    class Nothing(io.TextIOBase):
        def write(self, text: str) -> int:
            return len(text)

    return Nothing()


if __name__ == "__main__":
    main()
