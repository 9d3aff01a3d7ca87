"""How much memory there is for us, what a worker will need, and what it has taken."""

import os
from pathlib import Path

from autoglm.inference.local import cgroups
from autoglm.inference.local.spec import LocalSpec
from autoglm.inference.models.gguf import GgufHeader

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_OVERHEAD_BYTES = 256 << 20
"""The interpreter and llama.cpp's buffers for a batch. Measured beside file and context: 81 to 150 MB (135M, 0.5B)."""
_UNTOLD_SHARE = 0.5
"""Of the file's size, for the context of a model whose file does not tell what a token takes."""


def total_bytes() -> int:
    """All memory that this process may use: the machine's, or the limit of its cgroups."""
    limits = [limit for limit, _ in _groups(cgroups.membership(), cgroups.ROOT)]
    return min([*limits, _system("MemTotal:")])


def available_bytes() -> int:
    """Memory that could be taken now: the system's own estimate, and what the cgroups leave of their limits."""
    left = [max(0, limit - used) for limit, used in _groups(cgroups.membership(), cgroups.ROOT)]
    return min([*left, _system("MemAvailable:")])


def needed_bytes(spec: LocalSpec, header: GgufHeader, file_bytes: int) -> int:
    """What a worker takes at most: the file, the context of all slots, the prompts kept beside them, and buffers.

    llama.cpp writes the whole context when it starts, so most of it is taken from the first moment.
    """
    context_tokens = min(spec.context_tokens, header.context_tokens or spec.context_tokens)
    if header.kv_bytes_per_token is None:
        context_bytes = int(file_bytes * _UNTOLD_SHARE)
    else:
        context_bytes = header.kv_bytes_per_token * context_tokens * spec.slots
    kept_bytes = 0 if spec.mode == "embedding" else spec.prompt_cache_bytes
    return file_bytes + context_bytes + kept_bytes + _OVERHEAD_BYTES


def resident_bytes(pid: int) -> int:
    """What the process holds of the memory, the file's mapped pages included; 0 when it is gone. proc(5), statm."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def _system(name: str) -> int:
    """A line of /proc/meminfo; all of the machine's memory where there is none."""
    meminfo = cgroups.read(Path("/proc/meminfo"))
    return _field(meminfo, name) if name in meminfo else os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES


def _groups(membership: str, root: Path) -> list[tuple[int, int]]:
    """(limit, used) of a process's cgroup and those above it that have a limit. membership: of /proc/PID/cgroup."""
    found = [
        _limit(folder, "memory.max", "memory.current", "inactive_file")
        if version == 2
        else _limit(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for version, folder in cgroups.folders(membership, "memory", root)
    ]
    return [figures for figures in found if figures is not None]


def _limit(folder: Path, limit_file: str, usage_file: str, reclaimable: str) -> tuple[int, int] | None:
    """None without a limit. Cached file pages that nobody uses count as free: the kernel drops them first."""
    limit, usage = cgroups.read(folder / limit_file), cgroups.read(folder / usage_file)
    if not limit.isdigit() or not usage.isdigit() or int(limit) >= 1 << 60:  # "max", or version 1's way to say so
        return None
    return int(limit), max(0, int(usage) - _field(cgroups.read(folder / "memory.stat"), reclaimable))


def _field(text: str, name: str) -> int:
    """The bytes of a line `NAME 123` or `NAME 123 kB`; 0 when there is none."""
    for line in text.splitlines():
        key, *figures = line.split()
        if key == name and figures and figures[0].isdigit():
            return int(figures[0]) * (1024 if figures[-1] == "kB" else 1)
    return 0
