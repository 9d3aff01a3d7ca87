"""Runs model files on this machine: one supervised child process per instance."""

from autoglm.inference.local.backoff import BackOff
from autoglm.inference.local.child import LocalChild, run_child
from autoglm.inference.local.cores import share_threads, usable_cores
from autoglm.inference.local.provider import LocalProvider
from autoglm.inference.local.spec import Down, LocalSpec, LocalState, Mode, Ready, Starting

__all__ = [
    "BackOff",
    "Down",
    "LocalChild",
    "LocalProvider",
    "LocalSpec",
    "LocalState",
    "Mode",
    "Ready",
    "Starting",
    "run_child",
    "share_threads",
    "usable_cores",
]
