"""Becomes another program, fenced in: `python launch.py PARENT_PID SIGNAL OPEN_FILES PROGRAM ARGUMENT...`.

`child.open_child` runs it between fork and the program, because code of ours between a fork and an exec of a process
with threads may deadlock (subprocess, preexec_fn). Imports nothing of the package: it must start fast.
"""

import ctypes
import os
import resource
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    parent_pid, death_signal, open_files = map(int, sys.argv[1:4])
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        # A hole in the program then gains nothing by sudo, su or another set-user-ID program.
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            sys.exit("prctl(PR_SET_NO_NEW_PRIVS) was refused")
    if os.getppid() != parent_pid:  # it ended before we asked to be told
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold prompts, messages and keys
    if open_files:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        bound = open_files if most == resource.RLIM_INFINITY else min(open_files, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (bound, bound))
    os.umask(0o077)
    os.execv(sys.argv[4], sys.argv[4:])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
