"""No sequence of policies, cuts, restarts, tampering and clock moves raises a right."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from auth.policy.authority import DAY_MS, START_MS, Authority, policy_files
from autoglm.auth.policy.client import PolicyClient
from autoglm.auth.policy.decider import Decider, compile_policy
from autoglm.auth.policy.ladder import lets_through, rung
from autoglm.auth.policy.metadata import TopRole
from autoglm.auth.policy.settings import LadderSettings
from autoglm.auth.policy.sources import FolderSource, Source
from autoglm.core.errors import HubError, PolicyRefused, PolicyUnreachable

PEOPLE = ("alice", "bob", "carol")
LADDER = LadderSettings(read_only_after_s=86_400, deny_after_s=3 * 86_400)


@dataclass(frozen=True)
class Asker:
    address: str
    scopes: tuple[str, ...] = ("read:message", "send:message")
    credential: str = "key:x"


class HighWaterClock:
    """As the hub's own: never below a time that was signed or seen, also after a restart."""

    def __init__(self) -> None:
        self.raw_ms = self.mark_ms = START_MS

    def __call__(self) -> int:
        self.saw(self.raw_ms)
        return self.mark_ms

    def saw(self, at_ms: int) -> None:
        self.mark_ms = max(self.mark_ms, at_ms)


class CutSource:
    """A source whose line breaks after so many files."""

    def __init__(self, inner: Source, files: int) -> None:
        self._inner, self._left = inner, files

    def metadata(self, name: str, limit_bytes: int) -> bytes:
        self._count()
        return self._inner.metadata(name, limit_bytes)

    def target(self, path: str, limit_bytes: int) -> bytes:
        self._count()
        return self._inner.target(path, limit_bytes)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise PolicyUnreachable("the line", "it is cut")


class CutOffSite(RuleBasedStateMachine):
    """The site may know less than the authority has said, and never less than it has heard itself."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="policy-"))
        self.authority = Authority(self.folder / "authority")
        self.clock = HighWaterClock()
        self.client = self._client()
        self.revoked: dict[int, frozenset[str]] = {}
        """By version, what the authority said."""
        self.heard = 0
        self.heard_ends_ms = 0
        self.copies = 0
        self.publish(frozenset())
        self.client.init(self.authority.repository.first_root())
        self.decider = Decider(self.clock, LADDER)
        self.pull()
        self.copy_all()  # from before somebody was revoked
        self.publish(frozenset({"alice"}))
        self.pull()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def _client(self) -> PolicyClient:
        return PolicyClient(self.folder / "trust", self.folder / "cache", self.clock, self.clock.saw)

    # --- the authority ---

    @rule(revoked=st.frozensets(st.sampled_from(PEOPLE)))
    def publish(self, revoked: frozenset[str]) -> None:
        names = {f"user:{name}": {"at_ms": 1} for name in revoked}
        version = self.authority.publish(policy_files(revocations=names))["targets"]
        self.revoked[version] = revoked

    @rule()
    def renew(self) -> None:
        self.authority.publish()

    @rule(role=st.sampled_from(["targets", "snapshot", "timestamp"]))
    def rotate(self, role: Any) -> None:
        """The key that goes is taken to be stolen: the authority signs all anew."""
        fresh = type(self.authority.online).generate_ed25519()
        old, _ = self.authority.repository.holders()[role]
        self.authority.repository.rotate(role, old[0], fresh.public_key)
        self.authority.sign_root()
        if role == "targets":
            self.authority.targets = fresh
            self.publish(self.revoked[max(self.revoked)])
            return
        keys = [self.authority.online, fresh]
        self.authority.repository.publish(keys)
        other: TopRole = "snapshot" if role == "timestamp" else "timestamp"
        gone = self.authority.online.public_key.keyid
        if gone in self.authority.repository.holders()[other][0]:
            self.authority.repository.rotate(other, gone, fresh.public_key)
            self.authority.sign_root()
            self.authority.repository.publish([fresh])
        self.authority.online = fresh

    # --- the line ---

    @rule()
    def pull(self) -> None:
        self._pull(self.authority.source())

    @rule(files=st.integers(0, 8))
    def pull_with_a_cut(self, files: int) -> None:
        self._pull(CutSource(self.authority.source(), files))

    @rule(number=st.integers(0, 9))
    def pull_an_older_repository(self, number: int) -> None:
        self._pull(FolderSource(self.folder / f"repository-{number % self.copies}"))

    def _pull(self, source: Source) -> None:
        try:
            pulled = self.client.pull(source)
        except HubError:
            return
        assert pulled.version >= self.heard
        self.heard, self.heard_ends_ms = pulled.version, pulled.expires_ms
        self.decider.swap(compile_policy(pulled))

    # --- whoever can write to the cache, or owns the machine's clock ---

    @rule()
    def restart(self) -> None:
        self.client = self._client()
        self.decider = Decider(self.clock, LADDER)
        try:
            loaded = self.client.load()
        except PolicyRefused as error:
            self.decider.swap(None, str(error))
            return
        self.decider.swap(compile_policy(loaded) if loaded else None)

    @rule()
    def copy_all(self) -> None:
        shutil.copytree(self.authority.folder, self.folder / f"repository-{self.copies}")
        shutil.copytree(self.folder / "cache", self.folder / f"cache-{self.copies}")
        self.copies += 1

    @rule(number=st.integers(0, 9))
    def put_an_older_cache_back(self, number: int) -> None:
        shutil.rmtree(self.folder / "cache")
        shutil.copytree(self.folder / f"cache-{number % self.copies}", self.folder / "cache")

    @rule(number=st.integers(0, 9))
    def put_older_files_under_the_names_of_newer_ones(self, number: int) -> None:
        """All of them well signed."""
        older = self.folder / f"cache-{number % self.copies}" / "metadata"
        for role in ("timestamp", "snapshot", "targets"):
            for file in (self.folder / "cache" / "metadata").glob(f"*.{role}.json"):
                for old in older.glob(f"*.{role}.json"):
                    shutil.copy(old, file)
        for file in (older.parent / "targets").iterdir():
            shutil.copy(file, self.folder / "cache" / "targets" / file.name)

    @rule(number=st.integers(0, 99), data=st.sampled_from([None, b"", b"{}", b"x" * 999]))
    def tamper(self, number: int, data: bytes | None) -> None:
        files = sorted(file for file in (self.folder / "cache").rglob("*") if file.is_file())
        if files:
            file = files[number % len(files)]
            file.unlink() if data is None else file.write_bytes(data)

    @rule(one=st.integers(0, 99), two=st.integers(0, 99))
    def swap_two_files(self, one: int, two: int) -> None:
        files = sorted(file for file in (self.folder / "cache").rglob("*") if file.is_file())
        if files:
            a, b = files[one % len(files)], files[two % len(files)]
            first, second = a.read_bytes(), b.read_bytes()
            a.write_bytes(second)
            b.write_bytes(first)

    @rule(days=st.integers(-30, 3))
    def move_the_clock(self, days: int) -> None:
        self.clock.raw_ms = max(0, self.clock.raw_ms + days * DAY_MS)
        self.authority.clock.now_ms = max(self.authority.clock.now_ms, self.clock.mark_ms)

    # --- what must hold ---

    @invariant()
    def nobody_may_more_than_the_newest_that_was_heard_says(self) -> None:
        if not hasattr(self, "decider"):
            return
        stage = rung(self.heard_ends_ms, self.clock(), LADDER).stage
        for name in PEOPLE:
            for action in ("read:message", "send:message", "admin"):
                may = name not in self.revoked[self.heard] and action != "admin"
                may = may and lets_through(stage, action, frozenset(), LADDER)
                verdict = self.decider.decide(Asker(f"user:{name}"), action, "user:alice")
                assert may or not verdict.allowed, (name, action, verdict, self.heard, stage)


@pytest.mark.attack("a key revoked while offline")
@pytest.mark.attack("cache tampering")
@pytest.mark.attack("snapshot rollback")
class TestRights(CutOffSite.TestCase):  # type: ignore[valid-type, misc]  # hypothesis makes it at run time
    settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
