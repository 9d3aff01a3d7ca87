"""The four roles of a repository, each verified by the one before, and what is asked of them. Plain functions."""

import re
from dataclasses import dataclass

from tuf.api.metadata import Root, TargetFile, Targets, Timestamp
from tuf.api.metadata import Snapshot as SnapshotRole

from autoglm.auth.policy import snapshot as content
from autoglm.auth.policy.metadata import check_content, expires_ms, identity
from autoglm.auth.policy.seen import Mark
from autoglm.core.errors import PolicyRefused

_STRONG_HASHES = ("sha256", "sha512")
_is_digest = re.compile(r"[0-9a-f]{64,128}").fullmatch


@dataclass(frozen=True)
class Chain:
    """The four roles, each verified by the one before. `marks` are of timestamp, snapshot, targets."""

    root: Root
    timestamp: Timestamp
    snapshot: SnapshotRole
    targets: Targets
    marks: tuple[Mark, Mark, Mark]

    @property
    def expires_ms(self) -> int:
        return min(expires_ms(signed) for signed in (self.root, self.timestamp, self.snapshot, self.targets))


def policy_target(chain: Chain, name: str) -> tuple[TargetFile, str]:
    """A file of the policy: the top-level role alone signs those. Raises PolicyRefused."""
    target = chain.targets.targets.get(name)
    if target is None:
        raise PolicyRefused("targets.json", f"it has no {name!r}")
    return located(chain, name, target)


def located(chain: Chain, name: str, target: TargetFile) -> tuple[TargetFile, str]:
    """With its path in a repository. Raises PolicyRefused for one that is too large or has no strong hash."""
    limit = content.MAX_BYTES.get(name, max(content.MAX_BYTES.values()))
    if target.length > limit:
        raise PolicyRefused(name, f"it is announced with {target.length} bytes, and {limit} are the limit")
    digest = next((target.hashes[algorithm] for algorithm in _STRONG_HASHES if algorithm in target.hashes), "")
    if _is_digest(digest) is None:
        raise PolicyRefused(name, f"it is announced with none of {', '.join(_STRONG_HASHES)}")
    if not chain.root.consistent_snapshot:
        return target, name
    folder, slash, file = name.rpartition("/")
    return target, f"{folder}{slash}{digest}.{file}"


def fits(name: str, data: bytes, target: TargetFile) -> bool:
    """Whether it is the content that was signed for."""
    try:
        check_content(name, data, target)
    except PolicyRefused:
        return False
    return True


def check_version(name: str, version: int, floor: int, what: str = "its version") -> None:
    """Against rollback. Raises PolicyRefused."""
    if version < floor:
        raise PolicyRefused(name, f"{what} is {version}, and {floor} was seen before: somebody puts an older one back")


def check_time(name: str, signed: Root | Timestamp | SnapshotRole | Targets, now_ms: int) -> None:
    """Against freezing: it has not ended. Raises PolicyRefused."""
    if expires_ms(signed) <= now_ms:
        raise PolicyRefused(
            name, f"version {signed.version} ended at {signed.expires:%Y-%m-%d %H:%M} UTC; no newer one"
        )


def has_new_keys(root: Root, following: Root) -> bool:
    """Whether a key of timestamps or snapshots was taken away. One that was only added says nothing against the old."""
    return any(_keys(root, role) - _keys(following, role) for role in ("timestamp", "snapshot"))


def _keys(root: Root, role: str) -> set[str]:
    return {identity(root.keys[keyid]) for keyid in root.roles[role].keyids if keyid in root.keys}
