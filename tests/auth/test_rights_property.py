"""Over all that trust is made of: no sequence of policies, clock moves, restarts, cuts and tampering raises a right.

A hub's trust is opened as the hub opens it, over a real store. Beside it runs a model of what may be allowed at most,
which knows what the authority has said, what the site has heard of it, and how late it has been here.

AUTOGLM_TEST_RIGHTS gives the number of sequences; `make soak` tries many, and others each time.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import anyio.from_thread
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from auth.policy.authority import DAY_MS, START_MS, Authority, policy_files
from autoglm.auth import clock as clock_module
from autoglm.auth import judge as judge_module
from autoglm.auth.clock import ClockSettings
from autoglm.auth.policy.ladder import lets_through, rung
from autoglm.auth.policy.settings import PolicySettings
from autoglm.auth.principal import Principal
from autoglm.auth.scopes import any_covers
from autoglm.auth.settings import KeySettings
from autoglm.auth.tokens.proof import make_proof
from autoglm.auth.tokens.settings import TrustSettings
from autoglm.auth.tokens.signing import SigningKey
from autoglm.auth.trust import CLOCK_FILE, POLICY_FOLDER, TRUST_FOLDER, Trust, TrustParts, open_trust
from autoglm.core.errors import HubError, NotFound, PolicyUnreachable, Unauthorized
from autoglm.store import StoreSettings, open_store

SEQUENCES = int(os.environ.get("AUTOGLM_TEST_RIGHTS", "0"))  # noqa: TID251  # tests only
HOUR_MS = 3_600_000
SKEW_MS = 60_000
RESERVE_MS = 45_000
"""By which the clock's file is ahead of the time that was given."""
IN_MEMORY = Path("/dev/shm")
"""Each restart and each act waits for the disk, else."""
ORIGIN = "http://127.0.0.1:1"
POLICY = PolicySettings(read_only_after_s=86_400, deny_after_s=3 * 86_400)
CLOCK = ClockSettings(max_jump_days=30)
KEYS = {"robot": ("device:robot", ("send:message", "read:message")), "boss": ("user:boss", ("admin:*",))}
DEVICE_SCOPES = ("send:message", "read:message", "admin:keys")
QUESTIONS = (
    ("send:message", "user:alice"), ("send:message", "user:bob"), ("read:message", "device:press"), ("admin", "keys"),
    ("admin", "policy"), ("admin", "clock"), ("model:use", "glm"),
)  # fmt: skip
ROLES = {"operator": ("model:use:glm",), "chief": ("admin:keys",)}
REVOKED = st.frozensets(st.sampled_from(["device:robot", "device:press"]), max_size=1)
GRANTED = st.lists(
    st.tuples(
        st.sampled_from(["device:robot", "device:press"]), st.sampled_from(sorted(ROLES)),
        st.sampled_from([None, -1, 1, 20]),
    ),
    max_size=3,
)  # fmt: skip
"""Who gets which role, for how many days."""
FORBIDDEN = st.frozensets(st.sampled_from(["alice", "bob"]), max_size=1)


class Said(NamedTuple):
    """A policy of the authority."""

    revoked: frozenset[str] = frozenset()
    """Addresses."""
    roles: tuple[tuple[str, str, int | None], ...] = ()
    """Who has which, until when."""
    forbidden: frozenset[str] = frozenset()
    """Users that nobody writes to."""

    def files(self) -> dict[str, bytes]:
        grants: dict[str, list[dict[str, object]]] = {}
        for address, role, end_ms in self.roles:
            grants.setdefault(address, []).append({"role": role, "not_after_ms": end_ms})
        return policy_files(
            "\n".join(
                f'forbid(principal, action == Action::"send:message", resource == User::"{name}");'
                for name in sorted(self.forbidden)
            ),
            roles={"roles": ROLES, "grants": grants},
            revocations={name: {"at_ms": 1} for name in sorted(self.revoked)},
        )


class Token(NamedTuple):
    text: str
    key: SigningKey
    jti: str
    scopes: tuple[str, ...]
    ends_ms: int


class Machine:
    """The computer under the hub: whoever owns it sets its wall clock."""

    wall_ms = START_MS
    running_ms = 1000
    boot = 1
    asked = 0

    def wall(self) -> int:
        return self.wall_ms

    def clock_gettime_ns(self, _: int) -> int:
        return self.running_ms * 1_000_000

    def monotonic_s(self) -> float:
        """Later each time: the judge asks for the time anew at most once in 20 ms."""
        self.asked += 1
        return float(self.asked)


class Line:
    """Between the site and the authority: it may break after so many files, or lead to an older copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left = 1000

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        def fetch(url: str, limit_bytes: int) -> bytes:
            self.left -= 1
            if self.left < 0:
                raise PolicyUnreachable(url, "the line is cut")
            file = self.folder / url.removeprefix("http://authority/")
            if not file.is_file():
                raise NotFound("file", url)
            return file.read_bytes()[: limit_bytes + 1]

        yield fetch


class CutOffHub(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack: AsyncExitStack | None = None

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.folder = Path(tempfile.mkdtemp(prefix="rights-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        self.machine, self.data = Machine(), self.folder / "data"
        boot_id = self.folder / "boot_id"
        boot_id.write_text("1")
        self.patch.setattr(clock_module, "_BOOT_ID", boot_id)
        self.patch.setattr(
            clock_module, "time", SimpleNamespace(clock_gettime_ns=self.machine.clock_gettime_ns, CLOCK_BOOTTIME=7)
        )
        self.patch.setattr(judge_module, "monotonic_s", self.machine.monotonic_s)
        self.authority = Authority(self.folder / "authority")
        self.line = Line(self.authority.folder)
        self.portal_context = anyio.from_thread.start_blocking_portal()
        self.portal = self.portal_context.__enter__()
        self.said: dict[int, Said] = {}
        """By version, what the authority said."""
        self.heard = 0
        self.heard_ends_ms = self.late_ms = 0
        """late_ms: the latest time that this hub has given."""
        self.revoked: set[str] = set()
        """At this hub."""
        self.device: SigningKey | None = None
        self.tokens: list[Token] = []
        self.used: list[tuple[str, str]] = []
        """Tokens with proofs that were taken."""
        self.copies = 0
        self.publish(Said())
        self.open()
        self.enrol()
        self.issue(90, DEVICE_SCOPES)
        self.pull()
        self.copy_all()  # from before somebody was revoked
        self.publish(Said(frozenset({"device:robot"}), (("device:press", "operator", None),), frozenset({"bob"})))
        self.pull()
        assert self.heard == 2

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        self.close()
        self.portal_context.__exit__(None, None, None)
        self.patch.undo()
        shutil.rmtree(self.folder)

    def open(self) -> None:
        self.trust: Trust = self.portal.call(self._open)
        self.trust.listens_at(ORIGIN)

    async def _open(self) -> Trust:
        where = {"root_file": self.authority.folder / "metadata" / "1.root.json", "source": "http://authority"}
        parts = TrustParts(
            trust=TrustSettings(max_token_ttl_s=90 * 86_400), clock=CLOCK, policy=POLICY.model_copy(update=where),
            keys=[
                KeySettings.model_validate({"name": name, "value": f"sk-{name}", "scopes": scopes, "address": address})
                for name, (address, scopes) in KEYS.items()
            ],
        )  # fmt: skip
        self.stack = AsyncExitStack()
        store = await self.stack.enter_async_context(open_store(self.data, StoreSettings()))
        return await self.stack.enter_async_context(
            open_trust(
                self.data, parts, store.keyvalue, store.journal, fetching=self.line, wall_ms=self.machine.wall
            )
        )  # fmt: skip

    def close(self) -> None:
        if self.stack is not None:
            self.portal.call(self.stack.aclose)
            self.stack = None

    # --- the authority, and the line to it ---

    @rule(revoked=REVOKED, roles=GRANTED, forbidden=FORBIDDEN, is_pulled=st.booleans())
    def change_the_policy(
        self, revoked: frozenset[str], roles: list[tuple[str, str, int | None]], forbidden: frozenset[str],
        is_pulled: bool,
    ) -> None:  # fmt: skip
        now_ms = self.authority.clock.now_ms
        ends = tuple((who, role, None if days is None else now_ms + days * DAY_MS) for who, role, days in roles)
        self.publish(Said(revoked, ends, forbidden))
        if is_pulled:
            self.pull()

    def publish(self, said: Said) -> None:
        self.said[self.authority.publish(said.files())["targets"]] = said

    @rule()
    def renew(self) -> None:
        self.authority.publish()

    @rule()
    def pull(self) -> None:
        self._pull()

    @rule(files=st.integers(0, 8))
    def pull_with_a_cut(self, files: int) -> None:
        self.line.left = files
        self._pull()
        self.line.left = 1000

    @rule(number=st.integers(0, 9))
    def pull_an_older_repository(self, number: int) -> None:
        self.line.folder = self.folder / f"repository-{number % self.copies}"
        self._pull()
        self.line.folder = self.authority.folder

    def _pull(self) -> None:
        try:
            snapshot = self.portal.call(self.trust.policy.pull)
        except HubError:
            return
        assert snapshot.version >= self.heard
        self.heard, self.heard_ends_ms = snapshot.version, snapshot.expires_ms
        self.check(is_exact=self.trust.clock.is_trusted)

    # --- whoever owns the machine ---

    @rule(days=st.integers(-40, 40))
    def set_the_wall_clock(self, days: int) -> None:
        self.machine.wall_ms = max(0, self.machine.wall_ms + days * DAY_MS)

    @rule()
    def set_the_wall_clock_right(self) -> None:
        self.machine.wall_ms = self.authority.clock.now_ms

    @rule(hours=st.sampled_from([0.001, 1, 20, 24 * 4]))
    def wait(self, hours: float) -> None:
        passed_ms = int(hours * HOUR_MS)
        self.machine.wall_ms += passed_ms
        self.machine.running_ms += passed_ms
        self.authority.clock.now_ms += passed_ms

    @rule(is_killed=st.booleans(), is_new_boot=st.booleans(), hours=st.sampled_from([0, 1, 50]))
    def restart(self, is_killed: bool, is_new_boot: bool, hours: int) -> None:
        file = self.data / TRUST_FOLDER / CLOCK_FILE
        before = file.read_bytes()
        self.close()
        if is_killed:  # its last words were not written
            file.write_bytes(before)
        if is_new_boot:
            self.machine.boot += 1
            (self.folder / "boot_id").write_text(str(self.machine.boot))
            self.machine.running_ms = 1000
        self.wait(hours)
        if is_new_boot:
            self.machine.running_ms = 1000
        self.open()

    @rule()
    def lose_the_clock_s_file(self) -> None:
        """A disk that was damaged, not whoever may write there."""
        self.close()
        (self.data / TRUST_FOLDER / CLOCK_FILE).write_bytes(b"\0" * 100)
        self.open()

    @rule()
    def copy_all(self) -> None:
        shutil.copytree(self.authority.folder, self.folder / f"repository-{self.copies}")
        shutil.copytree(self.data / POLICY_FOLDER, self.folder / f"cache-{self.copies}")
        self.copies += 1

    @rule(number=st.integers(0, 9), hours=st.sampled_from([0, 1]))
    def put_an_older_cache_back(self, number: int, hours: int) -> None:
        shutil.rmtree(self.data / POLICY_FOLDER)
        shutil.copytree(self.folder / f"cache-{number % self.copies}", self.data / POLICY_FOLDER)
        self.restart(is_killed=False, is_new_boot=False, hours=hours)

    @rule(number=st.integers(0, 99), data=st.sampled_from([None, b"", b"{}"]))
    def tamper_with_the_cache(self, number: int, data: bytes | None) -> None:
        files = sorted(file for file in (self.data / POLICY_FOLDER).rglob("*") if file.is_file())
        if files:
            file = files[number % len(files)]
            file.unlink() if data is None else file.write_bytes(data)

    # --- whoever administers the hub ---

    @precondition(lambda self: self.device is None)
    @rule()
    def enrol(self) -> None:
        key = SigningKey.generate()

        async def enrolled() -> None:
            code, _ = await self.trust.devices.invite(
                "press", DEVICE_SCOPES, token_ttl_s=90 * 86_400, ends_in_s=600, created_by="user:boss"
            )
            await self.trust.devices.redeem(code, jkt=key.kid, public_key=key.public.x)

        self.portal.call(enrolled)
        self.device = key

    @precondition(lambda self: self.device is not None)
    @rule()
    def send_the_device_away(self) -> None:
        self.portal.call(self.trust.devices.remove, "press")
        self.device = None

    @precondition(lambda self: self.device is not None)
    @rule(days=st.sampled_from([0.01, 1, 10, 90]), scopes=st.sampled_from([DEVICE_SCOPES, DEVICE_SCOPES[:1]]))
    def issue(self, days: float, scopes: tuple[str, ...]) -> None:
        assert self.device is not None
        text, claims = self.trust.issuer.token_for(
            self.trust.devices.get("press"), scopes=scopes, ttl_s=int(days * 86_400)
        )
        self.tokens = [*self.tokens[-4:], Token(text, self.device, claims.jti, scopes, claims.ends_at_ms)]

    @rule(what=st.sampled_from(["device:press", "device:robot", "jti", "jkt"]))
    def revoke(self, what: str) -> None:
        if what in ("jti", "jkt") and not self.tokens:
            return
        id = {"jti": lambda: f"jti:{self.tokens[-1].jti}", "jkt": lambda: f"jkt:{self.tokens[-1].key.kid}"}.get(
            what, lambda: what
        )()

        async def added() -> None:
            await self.trust.revocations.add(id, by="user:boss")

        self.portal.call(added)
        self.revoked.add(id)

    @rule()
    def rotate_the_key(self) -> None:
        try:
            self.portal.call(self.trust.rotate)
        except HubError:
            return  # too often

    # --- what must hold ---

    @invariant()
    def nobody_may_more_than_the_model_says(self) -> None:
        if hasattr(self, "trust"):
            self.check()

    def check(self, *, is_exact: bool = False) -> None:
        """is_exact: nothing is in doubt, so what may be allowed is."""
        self.late_ms = max(self.late_ms, self.trust.clock.now_ms())
        self.trust.judge.look()
        for name, (address, scopes) in KEYS.items():
            may = self.may(address, scopes, {address, f"key:{name}"}, ends_ms=None)
            self.compare(name, self.by_key(name), may, is_exact=is_exact)
        for token in self.tokens:
            names = {"device:press", f"jti:{token.jti}", f"jkt:{token.key.kid}"}
            is_known = self.device is not None and self.device.kid == token.key.kid
            may = self.may("device:press", token.scopes, names, token.ends_ms) if is_known else set()
            principal = self.by_proof(token, token.key)
            assert principal is None or (is_known and self.late_ms - SKEW_MS < token.ends_ms)
            self.compare(token.jti, principal, may, is_exact=is_exact)
            assert self.by_proof(token, SigningKey.generate()) is None
        for text, proof in self.used[-5:]:
            with pytest.raises(Unauthorized):
                self.trust.authenticator.by_proof(f"DPoP {text}".encode(), proof.encode(), "GET", "/")

    def compare(self, name: str, principal: Principal | None, may: set[tuple[str, str]], *, is_exact: bool) -> None:
        allowed = set() if principal is None else {question for question in QUESTIONS if self.asks(principal, question)}
        circumstances = (name, self.heard, self.trust.clock.reason, self.trust.decider.stage)
        assert allowed <= may, circumstances
        if is_exact:
            assert allowed == may, circumstances

    def asks(self, principal: Principal, question: tuple[str, str]) -> bool:
        action, resource = question
        if action == "send:message":  # its scope is about the sender, a policy about whom it goes to
            return principal.allows(action, principal.address, about=resource)
        return principal.allows(action, resource)

    def by_key(self, name: str) -> Principal | None:
        try:
            return self.trust.authenticator.by_key(f"sk-{name}".encode(), "")
        except Unauthorized:
            return None

    def by_proof(self, token: Token, key: SigningKey) -> Principal | None:
        """A proof of now, with the nonce of the run."""
        trust = self.trust
        proof = make_proof(
            key, method="GET", url=f"{ORIGIN}/", token=token.text, now_ms=trust.clock.now_ms(),
            nonce=trust.authenticator.requests.nonces.current(),
        )  # fmt: skip
        try:
            shown = trust.authenticator.by_proof(f"DPoP {token.text}".encode(), proof.encode(), "GET", "/")
        except Unauthorized:
            return None
        self.used.append((token.text, proof))
        return shown.principal

    def may(
        self, address: str, scopes: tuple[str, ...], names: set[str], ends_ms: int | None
    ) -> set[tuple[str, str]]:  # fmt: skip
        """What may be allowed at most to whoever has this credential."""
        said = self.said[self.heard]
        if names & (self.revoked | said.revoked) or (ends_ms is not None and self.late_ms - SKEW_MS >= ends_ms):
            return set()
        stage = rung(self.heard_ends_ms, self.late_ms, POLICY).stage
        by_roles = tuple(
            scope
            for holder, role, end_ms in said.roles
            if holder == address and (end_ms is None or self.late_ms < end_ms)
            for scope in ROLES[role]
        )
        # Surely behind: what was given last may have been ahead by the reserve.
        is_clock_wrong = self.machine.wall_ms < self.late_ms - SKEW_MS - RESERVE_MS
        found = set()
        for action, resource in QUESTIONS:
            about = address if action == "send:message" else resource
            is_own = any_covers(scopes, action, about)
            if (action, resource) == ("admin", "policy") and is_own:
                is_allowed = True
            else:
                is_allowed = lets_through(stage, action, frozenset(), POLICY) and any_covers(
                    (*scopes, *by_roles), action, about
                )
            if action == "send:message" and resource.removeprefix("user:") in said.forbidden:
                is_allowed = False
            if action == "admin" and is_clock_wrong and not (resource == "clock" and ends_ms is None and is_own):
                is_allowed = False
            if is_allowed:
                found.add((action, resource))
        return found


@pytest.mark.attack("a right that grows in any sequence of policies, clocks, restarts and cuts")
@pytest.mark.attack("snapshot rollback")
@pytest.mark.attack("freeze")
@pytest.mark.attack("clock back and forward")
@pytest.mark.attack("replay across a restart")
@pytest.mark.attack("cache tampering")
@pytest.mark.timeout(1800)  # of `make soak`
class TestRights(CutOffHub.TestCase):  # type: ignore[valid-type, misc]  # hypothesis makes it at run time
    settings = settings(
        max_examples=SEQUENCES or 20, stateful_step_count=60, deadline=None,
        derandomize=not SEQUENCES, database=None,
    )  # fmt: skip
