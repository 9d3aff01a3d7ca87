"""What is said of an operation later: by the rights of now, under the circumstances of then."""

import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import PropertyMock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.policy.authority import DAY_MS, START_MS, Authority, Clock, policy_files
from auth.test_judge import HOUR_MS, Wall, site
from autoglm.auth.audit.conflicts import Conflicts
from autoglm.auth.audit.entry import label_digest
from autoglm.auth.audit.rejudge import Operation, rejudge
from autoglm.auth.hindsight import Hindsight
from autoglm.auth.occasion import Occasion, occasion
from autoglm.auth.policy.decider import Decider, compile_policy
from autoglm.auth.policy.snapshot import parse_snapshot
from autoglm.auth.principal import Principal, labels_of
from autoglm.auth.revocations import Revocations
from autoglm.auth.trust import Trust
from autoglm.store import StoreSettings, open_store

NOON_MS = START_MS - START_MS % DAY_MS + 12 * HOUR_MS
PUBLISHED_MS = NOON_MS
NIGHT = "forbid(principal, action, resource) when { context.hour >= 22 || context.hour < 6 };"
READS = ("read:message", "model:use")


def operation(**changes: Any) -> Operation:
    """Alice's key sends at noon, by policy 1."""
    at_ms = changes.pop("at_ms", NOON_MS)
    fields: dict[str, Any] = {
        "seq": 7, "begins_ms": at_ms, "ends_ms": at_ms, "is_clock_trusted": True, "boot": 0, "policy_version": 1,
        "is_offline": False, "count": 1, "address": "user:alice", "name": "alice", "credential": "key:alice",
        "action": "send:message", "resource": "user:alice", "scope": "send:message",
    }  # fmt: skip
    return Operation(**{**fields, **changes})


def judged(
    done: Operation,
    cedar: str = "",
    *,
    now: tuple[str, ...] | None = ("send:message",),
    published_ms: int = 0,
    **files: Any,
) -> str | None:
    """The conflict's kind. now: the scopes of the credential; None where it is not here any more."""
    clock = Clock()
    clock.now_ms = NOON_MS + 40 * DAY_MS  # long after; the policy is not believed any more
    decider = Decider(clock)
    decider.swap(
        compile_policy(
            parse_snapshot(
                policy_files(cedar, **files), version=3, issued_ms=0, published_ms=published_ms,
                expires_ms=NOON_MS + DAY_MS,
            )
        )
    )  # fmt: skip
    revocations = Revocations(None, clock)  # type: ignore[arg-type]  # nothing was revoked at this hub
    found = Hindsight(decider, revocations, lambda _: now, read_actions=READS)(done)
    return None if found is None else found.kind


@pytest.mark.parametrize(
    ("hour", "kind"), [(12, None), (21, None), (22, "policy_denies"), (5, "policy_denies"), (6, None)]
)
def test_it_is_judged_at_its_own_hour(hour: int, kind: str | None) -> None:
    assert judged(operation(at_ms=NOON_MS + (hour - 12) * HOUR_MS), NIGHT) == kind


def test_a_sum_over_the_hour_at_which_a_policy_turns_is_in_doubt() -> None:
    ten_ms = NOON_MS + 10 * HOUR_MS
    assert judged(operation(begins_ms=ten_ms - 500, ends_ms=ten_ms + 500, count=9), NIGHT) == "time_unsure"
    assert judged(operation(begins_ms=ten_ms, ends_ms=ten_ms + 500, count=9), NIGHT) == "policy_denies"


@pytest.mark.parametrize(("is_offline", "is_clock_trusted"), list(itertools.product((False, True), repeat=2)))
def test_whether_the_site_was_cut_off_and_its_clock_believed_is_that_of_then(
    is_offline: bool, is_clock_trusted: bool
) -> None:
    done = operation(is_offline=is_offline, is_clock_trusted=is_clock_trusted)
    for name, holds in (("is_offline", is_offline), ("clock_trusted", is_clock_trusted)):
        text = f"forbid(principal, action, resource) when {{ context.{name} }};"
        assert judged(done, text) == ("policy_denies" if holds else None), name


def test_labels_are_known_to_policies_that_name_them() -> None:
    labels = frozenset({label_digest("ward=3"), label_digest("kind=alert")})
    forbid = "forbid(principal, action, resource) when {{ {} }};"
    for condition, holds in (
        ('context.labels.contains("ward=3")', True), ('context.labels.contains("ward=4")', False),
        ('context.labels.containsAny(["ward=4", "kind=alert"])', True), ("context.labels.isEmpty()", False),
        ('context.labels == ["ward=3", "kind=alert"]', True), ('context.labels == ["ward=3"]', False),
    ):  # fmt: skip
        done = operation(labels=labels)
        assert judged(done, forbid.format(condition)) == ("policy_denies" if holds else None), condition
    assert judged(operation(), forbid.format("context.labels.isEmpty()")) == "policy_denies"


def test_policies_look_at_whom_a_message_went_to() -> None:
    text = 'forbid(principal, action, resource == User::"boss");'
    assert judged(operation(about="user:boss"), text) == "policy_denies"
    assert judged(operation(about="user:bob"), text) is None


@pytest.mark.attack("a key revoked while offline")
@pytest.mark.parametrize("name", ["user:alice", "key:alice", "jti:0123456789abcdef", "kid:K", "site:north"])
def test_revoked_is_by_all_that_was_shown(name: str) -> None:
    address = "site:north/user:alice" if name.startswith("site:") else "user:alice"
    done = operation(address=address, token=("jti:0123456789abcdef", "kid:K"))
    revoked = {name: {"at_ms": NOON_MS}}
    assert judged(done, revocations=revoked) == "revoked_since"
    before = operation(address=address, token=done.token, at_ms=NOON_MS - 1)
    assert judged(before, revocations=revoked) is None
    unsure = operation(address=address, token=done.token, is_clock_trusted=False)
    assert judged(unsure, revocations=revoked) == "time_unsure"


def test_who_was_revoked_later_is_judged_like_all_else_for_before() -> None:
    early = operation(at_ms=NOON_MS - 1, about="user:boss")
    text = 'forbid(principal, action, resource == User::"boss");'
    assert judged(early, text, revocations={"user:alice": {"at_ms": NOON_MS}}) == "policy_denies"


def test_scopes_are_those_of_now_and_of_a_key_that_is_gone_those_of_then() -> None:
    assert judged(operation(), now=()) == "scope_lost"
    assert judged(operation(), now=("send:message:user:*",)) is None
    assert judged(operation(), now=None) is None
    assert judged(operation(about="user:boss"), 'forbid(principal, action, resource == User::"boss");', now=None) == (
        "policy_denies"
    )


def test_roles_are_those_of_the_policy_at_that_time() -> None:
    done = operation(scope="", role="nurse")
    roles = {"roles": {"nurse": ["send:message"]}}
    for grant, kind in (
        ({"role": "nurse"}, None), ({"role": "nurse", "not_after_ms": NOON_MS + 1}, None),
        ({"role": "nurse", "not_after_ms": NOON_MS}, "scope_lost"),
    ):  # fmt: skip
        assert judged(done, now=None, roles={**roles, "grants": {"user:alice": [grant]}}) == kind, grant
    assert judged(done, now=None) == "scope_lost"


def test_what_everybody_may_do_with_his_own_and_acts_need_no_right() -> None:
    assert judged(operation(scope="", role=""), now=()) is None
    assert judged(operation(action="issueKey"), now=()) is None
    gone = {"user:alice": {"at_ms": 0}}
    assert judged(operation(scope="", role=""), revocations=gone) == "revoked_since"
    assert judged(operation(action="issueKey"), revocations=gone) == "revoked_since"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "stale_version"),
        ({"at_ms": PUBLISHED_MS - 1}, None),
        ({"begins_ms": PUBLISHED_MS - 1}, "stale_version"),
        ({"is_offline": False}, None),
        ({"is_clock_trusted": False}, None),
        ({"policy_version": 3}, None),
        ({"policy_version": 0}, None),
        ({"action": "model:use", "scope": "model:use:*"}, None),
        ({"action": "admin", "resource": "policy", "scope": "admin:*"}, None),
    ],
)
def test_by_an_older_policy_than_the_one_that_was_out(changes: dict[str, Any], kind: str | None) -> None:
    done = operation(**{"is_offline": True, "policy_version": 2, **changes})
    scopes = ("send:message", "model:use:*", "admin:*")
    assert judged(done, now=scopes, published_ms=PUBLISHED_MS) == kind
    assert judged(done, now=scopes) is None  # an authority that does not say when


def test_what_the_newer_policy_forbids_is_more_than_stale() -> None:
    done = operation(is_offline=True)
    assert judged(done, "forbid(principal, action, resource);", published_ms=PUBLISHED_MS) == "policy_denies"


async def test_what_was_revoked_at_this_hub_counts_as_well(tmp_path: Path) -> None:
    clock = Clock()
    async with open_store(tmp_path, StoreSettings()) as store:
        revocations = Revocations(store.keyvalue, lambda: NOON_MS)
        await revocations.add("jti:0123456789abcdef", by="user:boss")
        judge = Hindsight(Decider(clock), revocations, lambda _: ("send:message",))
        found = judge(operation(token=("jti:0123456789abcdef",)))
        assert found is not None
        assert found.kind == "revoked_since"
        assert judge(operation(token=("jti:another-token-0001",))) is None


# --- through the hub's own judge and record --------------------------------------------------------------


@asynccontextmanager
async def cut_off(folder: Path, wall: Wall, authority: Authority) -> AsyncIterator[Trust]:
    async with site(folder, authority, wall=wall, read_only_after_s=90 * 86_400, deny_after_s=90 * 86_400) as trust:
        await trust.policy.pull()
        trust.audit.is_offline = True
        yield trust


async def found_by(trust: Trust) -> dict[int, str]:
    await rejudge(trust.audit, trust.journal, trust._keyvalue, trust.hindsight, after=0)
    return {found.operation: found.kind for found in (await Conflicts(trust.journal, trust.audit).list()).all()}


async def test_whoever_worked_by_an_older_policy_is_listed_once(tmp_path: Path) -> None:
    authority, wall = Authority(tmp_path / "authority"), Wall()
    authority.publish(policy_files())
    async with cut_off(tmp_path, wall, authority) as trust:
        robot, boss = trust.keys.by_key(b"sk-robot"), trust.keys.by_key(b"sk-boss")
        robot.require("send:message", "user:early")
        wall.now_ms += HOUR_MS
        authority.clock.now_ms = wall.now_ms
        authority.publish(policy_files("permit(principal, action, resource);"))
        wall.now_ms += HOUR_MS
        authority.clock.now_ms = wall.now_ms
        authority.publish()  # renewed: that does not make it younger
        for _ in range(3):
            robot.require("send:message", "user:late")
            boss.require("admin", "keys")
        await trust.policy.pull()
        trust.audit.is_offline = True
        robot.require("send:message", "user:now")
        found = await found_by(trust)
        assert await found_by(trust) == found
        listed = (await Conflicts(trust.journal, trust.audit).list()).all()
    assert [(entry.kind, entry.who, entry.resource) for entry in listed] == [
        ("stale_version", "device:robot", "user:late"), ("stale_version", "user:boss", "keys"),
    ]  # fmt: skip


async def test_a_key_that_was_removed_and_another_of_its_name(tmp_path: Path) -> None:
    """It is judged by the scope that it had, and not by what its successor may do."""
    authority, wall = Authority(tmp_path / "authority"), Wall()
    authority.publish(policy_files())
    async with cut_off(tmp_path, wall, authority) as trust:
        await trust.keys.issue("temp", ["send:message"], created_by="user:boss")
        trust.keys.named("temp").require("send:message", "device:temp", about="user:a")  # type: ignore[union-attr]
        await trust.keys.revoke("temp")
        wall.now_ms += HOUR_MS
        assert await found_by(trust) == {}
        await trust.keys.issue("temp", ["read:message"], created_by="user:boss")
        assert await found_by(trust) == {}


class Step(NamedTuple):
    who: int
    pause_h: int
    about: str
    ward: int
    """0: no label."""
    is_trusted: bool
    jti: str


SENDERS = ("site:other/device:x", "user:carol", "device:robot")
steps = st.lists(
    st.builds(
        Step, st.integers(0, 2), st.integers(0, 9), st.sampled_from(["user:boss", "user:bob"]), st.integers(0, 2),
        st.booleans(), st.sampled_from(["", "jti:aaaaaaaaaaaaaaaa", "jti:bbbbbbbbbbbbbbbb"]),
    ),
    max_size=12,
)  # fmt: skip
REVOCABLE = ["site:other", "user:carol", "key:robot", "jti:aaaaaaaaaaaaaaaa"]


@settings(max_examples=30, deadline=None)
@given(
    steps, st.dictionaries(st.sampled_from(REVOCABLE), st.integers(0, 60), max_size=2), st.integers(0, 23),
    st.sampled_from(["user:boss", "user:nobody"]), st.integers(0, 3), st.booleans(), st.integers(0, 60),
)  # fmt: skip
async def test_conflicts_are_exactly_those_of_a_naive_judge(
    steps: list[Step], revoked_h: dict[str, int], closed_hour: int, boss: str, ward: int, keeps_role: bool,
    published_h: int,
) -> None:  # fmt: skip
    """The judge knows what the steps were, and reads no audit."""
    with tempfile.TemporaryDirectory() as name:
        folder, wall = Path(name), Wall()
        wall.now_ms = begin_ms = NOON_MS
        authority = Authority(folder / "authority")
        authority.clock.now_ms = begin_ms
        role = {"roles": {"nurse": ["send:message"]}, "grants": {"user:carol": [{"role": "nurse"}]}}
        authority.publish(policy_files(roles=role))
        done_ms: list[int] = []
        async with cut_off(folder, wall, authority) as trust:
            people = [
                Principal("x", SENDERS[0], ("send:message",), credential="jkt:of-another-site", judge=trust.judge),
                Principal("carol", SENDERS[1], (), credential="session:ended", judge=trust.judge),
                trust.keys.by_key(b"sk-robot"),
            ]
            for step in steps:
                wall.now_ms += step.pause_h * HOUR_MS
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(type(trust.clock), "is_trusted", PropertyMock(return_value=step.is_trusted))
                    trust.judge.renew()
                    moment = occasion.set(Occasion("r", "", ids=(step.jti,) if step.jti else ()))
                    labels = labels_of("chat", {"ward": str(step.ward)} if step.ward else None)
                    people[step.who].require("send:message", SENDERS[step.who], labels, about=step.about)
                    occasion.reset(moment)
                done_ms.append(wall.now_ms - begin_ms)
            published_ms = authority.clock.now_ms = min(begin_ms + published_h * HOUR_MS, wall.now_ms)
            cedar = (
                f"forbid(principal, action, resource) when {{ context.hour == {closed_hour} }};"
                f'forbid(principal, action, resource == User::"{boss[5:]}");'
                f'forbid(principal, action, resource) when {{ context.labels.contains("ward={ward}") }};'
            )
            revocations = {who: {"at_ms": begin_ms + after * HOUR_MS} for who, after in revoked_h.items()}
            if not keeps_role:
                role["grants"] = {}
            authority.publish(policy_files(cedar, roles=role, revocations=revocations))
            authority.clock.now_ms = wall.now_ms
            authority.publish()
            await trust.audit.written()
            done = [row.seq for row in await trust.journal.read() if row.kind == "decision"]
            await trust.policy.pull()
            found = await found_by(trust)
        stale: set[int] = set()
        expected = [
            naive(step, after_ms, revoked_h, closed_hour, boss, ward, keeps_role)
            or stale_kind(step, begin_ms + after_ms >= published_ms, stale)
            for step, after_ms in zip(steps, done_ms, strict=True)
        ]
        assert len(done) == len(steps)
        assert [found.get(seq, "") for seq in done] == expected


def naive(
    step: Step, after_ms: int, revoked_h: dict[str, int], closed_hour: int, boss: str, ward: int, keeps_role: bool
) -> str:
    names = (("site:other",), ("user:carol",), ("key:robot",))[step.who] + ((step.jti,) if step.jti else ())
    for name in names:
        if name in revoked_h and not step.is_trusted:
            return "time_unsure"
        if name in revoked_h and after_ms >= revoked_h[name] * HOUR_MS:
            return "revoked_since"
    if step.who == 1 and not keeps_role:
        return "scope_lost"
    is_closed = (12 + after_ms // HOUR_MS) % 24 == closed_hour
    return "policy_denies" if is_closed or step.about == boss or 0 != step.ward == ward else ""


def stale_kind(step: Step, is_after: bool, stale: set[int]) -> str:
    if not is_after or not step.is_trusted or step.who in stale:
        return ""
    stale.add(step.who)
    return "stale_version"
