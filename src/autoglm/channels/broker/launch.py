"""Becomes another program that the kernel ends when our parent does: `python launch.py PARENT_PID PROGRAM ARGUMENT...`.

A hub that is killed leaves no broker behind. Imports nothing of the package: it must start fast.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):  # it ended before we asked to be told
        sys.exit(1)
    os.umask(0o077)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
