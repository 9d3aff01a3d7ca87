"""Who has signed for a target: the top-level role, or one that it has delegated a part of the names to.

Our own repositories do not delegate; those of others may. Source: The Update Framework Specification, step 5.6.7.
"""

from collections.abc import Callable

from tuf.api.metadata import TargetFile, Targets

from autoglm.core.errors import PolicyRefused

MAX_ROLES = 32
"""How many delegated roles one search looks at."""

Load = Callable[[str, Targets], Targets]
"""(role, delegator) -> the role's metadata, verified by that delegator. Raises PolicyRefused."""


def find_target(top: Targets, path: str, load: Load) -> TargetFile:
    """In pre-order, depth first; a role is looked at once. Raises PolicyRefused where nobody has signed for `path`."""
    waiting: list[tuple[str, Targets | None]] = [("targets", None)]
    visited: set[str] = set()
    while waiting and len(visited) <= MAX_ROLES:
        role, delegator = waiting.pop()
        if role in visited:
            continue
        visited.add(role)
        targets = top if delegator is None else load(role, delegator)
        if path in targets.targets:
            return targets.targets[path]
        following: list[tuple[str, Targets | None]] = []
        for name, is_terminating in targets.delegations.get_roles_for_target(path) if targets.delegations else ():
            following.append((name, targets))
            if is_terminating:
                waiting.clear()  # and nobody after it either
                break
        waiting.extend(reversed(following))
    raise PolicyRefused("targets.json", f"nobody has signed for {path[:80]!r}")
