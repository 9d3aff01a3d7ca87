"""Pulls policy snapshots, and reads the last one again with no network.

Source: The Update Framework Specification 1.0.34, section 5; the numbers in comments are its steps. Where python-tuf's
own client takes its cache for good, this one checks it from the pinned root at each start, against marks kept apart.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import msgspec
from tuf.api.metadata import MetaFile, Root, TargetFile, Targets, Timestamp
from tuf.api.metadata import Snapshot as SnapshotRole

from autoglm.auth.policy import snapshot as content
from autoglm.auth.policy.cache import Cache
from autoglm.auth.policy.chain import (
    Chain,
    check_time,
    check_version,
    fits,
    has_new_keys,
    located,
    policy_target,
)  # fmt: skip
from autoglm.auth.policy.delegation import find_target
from autoglm.auth.policy.metadata import (
    ED25519_ONLY,
    MAX_BYTES,
    check_content,
    issued_ms,
    limit_of,
    read_metadata,
    sha256,
    verify,
)  # fmt: skip
from autoglm.auth.policy.seen import Mark, Seen, SeenFile, Taken, write_durably
from autoglm.auth.policy.snapshot import Snapshot, parse_snapshot
from autoglm.auth.policy.sources import Carrier, Source
from autoglm.core.errors import NotFound, PolicyRefused, SettingsError

ROOT_FILE = "root.json"
"""In the trusted folder: the pinned one."""
MAX_ROOTS = 1024
"""How many new roots one refresh follows (step 5.3.3)."""

S = TypeVar("S", Timestamp, SnapshotRole, Targets)


def read_root(data: bytes, key_types: frozenset[str] = ED25519_ONLY) -> Root:
    """A root that signs itself. Raises PolicyRefused."""
    metadata = read_metadata("root.json", data, Root, MAX_BYTES["root"])
    verify("root.json", "root", metadata.signed, metadata, key_types)
    return metadata.signed


def carried(source: Source, root: bytes) -> bytes:
    """As a zip file, what a hub needs of the source that pins this root or a later one of the same authority.

    Verified, save for times and for what the hub has seen before: that is the hub's to judge, by its own clock. Blocks.
    Raises PolicyRefused, PolicyUnreachable, NotFound.
    """
    carrier = Carrier(source)
    with TemporaryDirectory() as folder:
        client = PolicyClient(Path(folder) / "trust", Path(folder) / "policy", lambda: 0)
        client.init(root)
        client.pull(carrier)
    return carrier.archive()


class PolicyClient:
    """Blocks, on the disk and on its source: call it in a thread. What it raises leaves what held before in place.

    trust: the folder of the pinned root and the marks, which only the hub may write. cache: the hostile one.
    now_ms: the trusted clock. saw: is told of signed times, so that the clock never goes below them.
    """

    def __init__(
        self, trust: Path, cache: Path, now_ms: Callable[[], int], saw: Callable[[int], None] = lambda at_ms: None,
        *, key_types: frozenset[str] = ED25519_ONLY,
    ) -> None:  # fmt: skip
        self._root_file = trust / ROOT_FILE
        self._seen_file = SeenFile(trust)
        self._cache = Cache(cache)
        self._now_ms = now_ms
        self._saw = saw
        self._key_types = key_types
        self.verified: dict[str, bytes] = {}
        """By role, the newest that was verified by this object, be the whole set complete or not."""

    @property
    def is_initialised(self) -> bool:
        """False for a hub without policy snapshots. Whoever can delete the root can replace it as well."""
        return self._root_file.exists()

    def init(self, root: bytes) -> None:
        """Pin a root, from a hand that is trusted; all later ones follow from it. A second time, begin anew.

        Raises PolicyRefused. The marks of an earlier root are dropped with it, so only an administrator does this.
        """
        found = read_root(root, self._key_types)
        self._root_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._seen_file.locked():
            # The marks first: a root without marks is refused, marks of no root do nothing.
            self._seen_file.write(Seen(root=found.version))
            write_durably(self._root_file, root)

    # --- with no network ---

    def load(self) -> Snapshot | None:
        """The set that was taken last, verified from the pinned root; however old it is: the ladder sees to that.

        None where none was taken yet. Raises PolicyRefused when the cache has another or none.
        """
        taken = self._seen_file.read().taken
        if taken is None:
            return None
        root = self._pinned()
        while root.version < taken.root:
            name = f"{root.version + 1}.root.json"
            root = self._next_root(root, name, self._had(name, self._cache.metadata(name, MAX_BYTES["root"])))
        chain = self._cached_chain(root, taken)
        files = {}
        for name in content.MAX_BYTES:
            target, path = policy_target(chain, name)
            data = self._had(path, self._cache.target(path, target.length))
            check_content(name, data, target)
            files[name] = data
        return _parsed(chain, files)

    def _cached_chain(self, root: Root, taken: Taken) -> Chain:
        """By the marks alone: the hash of each file is known from when it was taken, so versions need no look."""

        def role(name: str, form: type[S], mark: Mark) -> S:
            file = f"{mark.version}.{name}.json"
            data = self._had(file, self._cache.metadata(file, MAX_BYTES[name]))
            if sha256(data) != mark.sha256:
                raise PolicyRefused(file, "it is not the one that was taken; the cache was put back or changed: pull")
            return self._verified(file, name, root, data, form)

        timestamp = role("timestamp", Timestamp, taken.timestamp)
        snapshot = role("snapshot", SnapshotRole, taken.snapshot)
        targets = role("targets", Targets, taken.targets)
        return Chain(root, timestamp, snapshot, targets, (taken.timestamp, taken.snapshot, taken.targets))

    @staticmethod
    def _had(name: str, data: bytes | None) -> bytes:
        if data is None:
            raise PolicyRefused(name, "it is missing in the cache, or cannot be read; pull the policy again")
        return data

    # --- from a source ---

    def pull(self, source: Source) -> Snapshot:
        """The newest, on the disk with all its files. Raises PolicyRefused, PolicyUnreachable, NotFound."""
        with self._seen_file.locked():
            chain = self._refresh(source)
            files = {name: self._fetch_target(source, chain, name) for name in content.MAX_BYTES}
            found = _parsed(chain, files)
            timestamp, snapshot, targets = chain.marks
            taken = Taken(root=chain.root.version, timestamp=timestamp, snapshot=snapshot, targets=targets)
            self._seen_file.write(msgspec.structs.replace(self._seen_file.read(), taken=taken))
            names = zip(("timestamp", "snapshot", "targets"), chain.marks, strict=True)
            self._cache.keep_only(
                (f"{mark.version}.{role}.json" for role, mark in names),
                (policy_target(chain, name)[1] for name in content.MAX_BYTES),
            )
            return found

    def refresh(self, source: Source) -> Chain:
        """The newest metadata alone (sections 5.1 to 5.6). Raises PolicyRefused, PolicyUnreachable, NotFound."""
        with self._seen_file.locked():
            return self._refresh(source)

    def find(self, source: Source, chain: Chain, name: str) -> TargetFile:
        """What was signed for it, by the top-level role or one that it delegates to. Raises PolicyRefused."""
        started_ms = self._now_ms()

        def load(role: str, delegator: Targets) -> Targets:
            said = chain.snapshot.meta.get(f"{role}.json")
            if said is None:
                raise PolicyRefused("snapshot.json", f"it has no '{role[:80]}.json'")
            file = f"{said.version}.{role}.json" if chain.root.consistent_snapshot else f"{role}.json"
            data = source.metadata(file, limit_of(role, said))
            check_content(file, data, said)
            metadata = read_metadata(file, data, Targets, MAX_BYTES["targets"])
            verify(file, role, delegator, metadata, self._key_types)
            if metadata.signed.version != said.version:
                raise PolicyRefused(file, f"it has version {metadata.signed.version}")
            check_time(file, metadata.signed, started_ms)
            self.verified[role] = data
            return metadata.signed

        return find_target(chain.targets, name, load)

    def fetch(self, source: Source, chain: Chain, target: TargetFile) -> bytes:
        """Its content, checked and not kept (section 5.7). Raises PolicyRefused, PolicyUnreachable, NotFound."""
        target, path = located(chain, target.path, target)
        data = source.target(path, target.length)
        check_content(target.path, data, target)
        return data

    def _refresh(self, source: Source) -> Chain:
        started_ms = self._now_ms()  # 5.1
        root = self._newest_root(source)
        check_time("root.json", root, started_ms)  # 5.3.10
        timestamp, timestamp_mark = self._newest_timestamp(source, root, started_ms)
        snapshot, snapshot_mark = self._newest_snapshot(source, root, timestamp, started_ms)
        targets, targets_mark = self._newest_targets(source, root, snapshot, started_ms)
        return Chain(root, timestamp, snapshot, targets, (timestamp_mark, snapshot_mark, targets_mark))

    def _pinned(self) -> Root:
        try:
            data = self._root_file.read_bytes()
        except OSError as error:
            raise SettingsError([f"{self._root_file} cannot be read: {error.strerror}"]) from error
        root = read_root(data, self._key_types)
        self.verified["root"] = data
        return root

    def _newest_root(self, source: Source) -> Root:
        """5.2 and 5.3. A root in the cache saves the way to the source, if it is good."""
        root = self._pinned()
        seen = self._seen_file.read()
        for _ in range(MAX_ROOTS):
            name = f"{root.version + 1}.root.json"
            following = self._cached_root(root, name) if root.version < seen.root else None
            if following is None:
                try:
                    data = source.metadata(name, MAX_BYTES["root"])
                except NotFound:
                    break
                following = self._next_root(root, name, data)
                self._cache.keep_metadata(name, data)
            if following.version > seen.root:
                seen = msgspec.structs.replace(seen, root=following.version)
                if has_new_keys(root, following):  # 5.3.11: recovery from a fast-forward attack
                    seen = Seen(root=following.version, taken=seen.taken)
                self._seen_file.write(seen)
            root = following
        if root.version < seen.root:
            raise PolicyRefused("root.json", f"version {root.version} is all there is, and {seen.root} was seen before")
        return root

    def _cached_root(self, root: Root, name: str) -> Root | None:
        data = self._cache.metadata(name, MAX_BYTES["root"])
        try:
            return None if data is None else self._next_root(root, name, data)
        except PolicyRefused:
            return None

    def _next_root(self, root: Root, name: str, data: bytes) -> Root:
        metadata = read_metadata(name, data, Root, MAX_BYTES["root"])
        verify(name, "root", root, metadata, self._key_types)  # 5.3.4, by the keys of the one before
        verify(name, "root", metadata.signed, metadata, self._key_types)  # and by its own
        if metadata.signed.version != root.version + 1:  # 5.3.5
            raise PolicyRefused(name, f"it has version {metadata.signed.version}")
        self.verified["root"] = data
        return metadata.signed

    def _newest_timestamp(self, source: Source, root: Root, started_ms: int) -> tuple[Timestamp, Mark]:
        """5.4."""
        name, limit_bytes = "timestamp.json", MAX_BYTES["timestamp"]
        seen = self._seen_file.read()
        data = source.metadata(name, limit_bytes)
        timestamp = self._verified(name, "timestamp", root, data, Timestamp)
        mark = Mark(timestamp.version, sha256(data))
        if seen.timestamp is not None and mark.version == seen.timestamp.version and mark != seen.timestamp:
            # 5.4.3.1: of the same version the one that came first counts
            data = self._had(name, self._cache.metadata(f"{mark.version}.{name}", limit_bytes))
            mark = Mark(mark.version, sha256(data))
            timestamp = self._verified(name, "timestamp", root, data, Timestamp)
            if mark != seen.timestamp:
                raise PolicyRefused(name, f"two of version {mark.version} were signed, and the first is lost")
        check_version(name, mark.version, 0 if seen.timestamp is None else seen.timestamp.version)
        check_version(name, timestamp.snapshot_meta.version, seen.snapshot_floor, "the snapshot's version in it")
        check_time(name, timestamp, started_ms)
        said_ms = issued_ms(timestamp)
        floor = timestamp.snapshot_meta.version
        self._keep("timestamp", data, mark, msgspec.structs.replace(seen, timestamp=mark, snapshot_floor=floor))
        if said_ms:
            self._saw(said_ms)
        return timestamp, mark

    def _newest_snapshot(
        self, source: Source, root: Root, timestamp: Timestamp, started_ms: int
    ) -> tuple[SnapshotRole, Mark]:
        """5.5."""
        seen = self._seen_file.read()
        said = timestamp.snapshot_meta
        data, snapshot = self._role(source, "snapshot", root, said, seen.snapshot, form=SnapshotRole)
        for name, version in seen.versions.items():  # 5.5.5
            if name not in snapshot.meta:
                raise PolicyRefused("snapshot.json", f"it has no {name[:80]!r} any more")
            check_version("snapshot.json", snapshot.meta[name].version, version, f"the version of {name[:80]!r} in it")
        check_time("snapshot.json", snapshot, started_ms)
        mark = Mark(snapshot.version, sha256(data))
        versions = {name: meta.version for name, meta in snapshot.meta.items()}
        self._keep("snapshot", data, mark, msgspec.structs.replace(seen, snapshot=mark, versions=versions))
        return snapshot, mark

    def _newest_targets(
        self, source: Source, root: Root, snapshot: SnapshotRole, started_ms: int
    ) -> tuple[Targets, Mark]:
        """5.6.1 to 5.6.6."""
        seen = self._seen_file.read()
        said = snapshot.meta.get("targets.json")
        if said is None:
            raise PolicyRefused("snapshot.json", "it has no 'targets.json'")
        data, targets = self._role(source, "targets", root, said, seen.targets, form=Targets)
        check_time("targets.json", targets, started_ms)
        mark = Mark(targets.version, sha256(data))
        self._keep("targets", data, mark, msgspec.structs.replace(seen, targets=mark))
        return targets, mark

    def _role(
        self, source: Source, role: str, root: Root, said: MetaFile, seen: Mark | None, *, form: type[S]
    ) -> tuple[bytes, S]:
        """Of the version and with the hash that the role before has signed; from the cache where that has it."""
        name, limit_bytes = f"{said.version}.{role}.json", limit_of(role, said)
        data = None
        if seen is not None and seen.version == said.version:
            data = self._cache.metadata(name, limit_bytes)
            if data is not None and sha256(data) != seen.sha256:
                data = None
        if data is None:
            data = source.metadata(name if root.consistent_snapshot else f"{role}.json", limit_bytes)
        check_content(name, data, said)
        signed = self._verified(name, role, root, data, form)
        if signed.version != said.version:
            raise PolicyRefused(name, f"it has version {signed.version}")
        return data, signed

    def _verified(self, name: str, role: str, root: Root, data: bytes, form: type[S]) -> S:
        metadata = read_metadata(name, data, form, MAX_BYTES[role])
        verify(name, role, root, metadata, self._key_types)
        return metadata.signed

    def _keep(self, role: str, data: bytes, mark: Mark, seen: Seen) -> None:
        self._cache.keep_metadata(f"{mark.version}.{role}.json", data)
        self._seen_file.write(seen)
        self.verified[role] = data

    def _fetch_target(self, source: Source, chain: Chain, name: str) -> bytes:
        target, path = policy_target(chain, name)
        data = self._cache.target(path, target.length)
        if data is None or not fits(name, data, target):
            data = source.target(path, target.length)
            check_content(name, data, target)
            self._cache.keep_target(path, data)
        return data


def _parsed(chain: Chain, files: dict[str, bytes]) -> Snapshot:
    """Raises PolicyRefused, for Cedar that cannot be read as well: the policy that held before goes on."""
    from autoglm.auth.policy.cedar import check_readable

    found = parse_snapshot(
        files, version=chain.targets.version, issued_ms=issued_ms(chain.timestamp),
        published_ms=issued_ms(chain.snapshot), expires_ms=chain.expires_ms,
    )  # fmt: skip
    check_readable(found.cedar)
    return found
