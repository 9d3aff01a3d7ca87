"""What the pool knows of an instance that is a process of its own on this machine."""

import asyncio
import os

import msgspec


class WorkerProcess(msgspec.Struct, kw_only=True):
    """Kept true by the provider that starts and stops it."""

    group: str
    """The [[instance]] it belongs to; its replicas have names of their own."""
    load_s: float
    """What a start takes: as the last ones did, or by the size of the file before the first."""
    comes_back_s: float | None = None
    """While it is not up: how long until it takes a request that waits for it; None when it will not."""
    pid: int = 0
    """0 while there is no process."""
    memory_bytes: int = 0
    """Resident, when last looked at; 0 while there is no process."""
    is_asleep: bool = False
    """The model is out of memory; the next request brings it back."""

    async def ends_within(self, timeout_s: float) -> bool:
        """True when there is no process, or it ends now: its connections close before it is gone.

        Known before its supervisor has looked. Source: pidfd_open(2), which is readable once the process has ended.
        """
        try:
            descriptor = os.pidfd_open(self.pid) if self.pid else -1
        except ProcessLookupError:
            descriptor = -1
        if descriptor < 0:
            return True
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            async with asyncio.timeout(timeout_s):
                await ended.wait()
            return True
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
