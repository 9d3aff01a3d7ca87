"""What the pool knows of an instance that is a process of its own on this machine."""

from pathlib import Path

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

    def has_ended(self) -> bool:
        """True when there is no process, or only its remains: known before its supervisor has looked."""
        if not self.pid:
            return True
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_bytes()
        except OSError:
            return True
        return stat.rpartition(b")")[2].split()[0] in (b"Z", b"X")  # proc(5): zombie, dead
