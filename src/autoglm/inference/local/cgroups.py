"""Finds the folders of this process's control groups, where limits stand. Source: cgroups(7), versions 1 and 2."""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def membership() -> str:
    """The text of /proc/self/cgroup; empty where there is none."""
    return read(Path("/proc/self/cgroup"))


def folders(membership: str, controller: str, root: Path) -> list[tuple[int, Path]]:
    """(version, folder) of the process's group for `controller` and of those above it."""
    found: list[tuple[int, Path]] = []
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            found += [(2, folder) for folder in _upwards(root, group)]
        elif controller in controllers.split(","):
            found += [(1, folder) for folder in _upwards(root / controller, group)]
    return found


def read(path: Path) -> str:
    """Stripped; empty when it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _upwards(root: Path, group: str) -> list[Path]:
    """Inside a container the path may be the host's; then only the root exists here, and is ours."""
    folder = root / group.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
