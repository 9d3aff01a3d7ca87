"""Who may do what: each step takes away, and only roles add."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import pytest

from auth.policy.authority import DAY_MS, START_MS, Clock, policy_files
from autoglm.auth.policy.decider import Decider, Verdict, compile_policy
from autoglm.auth.policy.settings import LadderSettings
from autoglm.auth.policy.snapshot import Snapshot, parse_snapshot
from autoglm.auth.principal import Principal


@dataclass(frozen=True)
class Asker:
    address: str = "user:alice"
    scopes: tuple[str, ...] = ()
    credential: str = "key:alice"


EVERYTHING = "permit(principal, action, resource);"
SENDER = Asker(scopes=("send:message",))
NURSE = {
    "roles": {"nurse": ["model:use:glm-*"]},
    "groups": {"group:nurses": ["user:alice"]},
    "grants": {"group:nurses": [{"role": "nurse", "not_after_ms": START_MS + 1000}]},
}


def snapshot(cedar: str = "", *, version: int = 1, expires_ms: int = START_MS + DAY_MS, **files: Any) -> Snapshot:
    return parse_snapshot(policy_files(cedar, **files), version=version, issued_ms=0, expires_ms=expires_ms)


def deciding(cedar: str = "", clock: Clock | None = None, **files: Any) -> Decider:
    decider = Decider(clock or Clock(), LadderSettings(read_only_after_s=60, deny_after_s=120))
    decider.swap(compile_policy(snapshot(cedar, **files)))
    return decider


def brief(verdict: Verdict) -> tuple[bool, str]:
    return verdict.allowed, verdict.reason


def test_without_a_policy_scopes_decide() -> None:
    decider = Decider(Clock())
    assert decider.decide(SENDER, "send:message", "user:alice") == Verdict(
        True, "scope", "the scopes of the credential cover it", (), 0, "none"
    )
    assert brief(decider.decide(SENDER, "model:use", "glm-4")) == (False, "no_scope")


def test_a_principal_of_the_hub_can_be_asked_about() -> None:
    principal = Principal("robot", "device:robot", ["model:use:*"])
    assert deciding().decide(principal, "model:use", "glm-4").allowed
    revoked = deciding(revocations={"key:robot": {"at_ms": 1}})
    assert brief(revoked.decide(principal, "model:use", "glm-4")) == (False, "revoked")


@pytest.mark.attack("a key revoked while offline")
@pytest.mark.parametrize("name", ["user:alice", "key:alice"])
def test_whoever_is_revoked_may_nothing(name: str) -> None:
    """Whatever he has else, the administration of the policy included."""
    decider = deciding(EVERYTHING, revocations={name: {"at_ms": 9, "reason": "left"}})
    for action, resource in (("send:message", ""), ("admin", "policy")):
        verdict = decider.decide(Asker(scopes=("admin:*",)), action, resource)
        assert (verdict.allowed, verdict.reason, verdict.detail) == (False, "revoked", f"{name} is revoked: left")
    assert decider.is_revoked(name)
    assert not decider.is_revoked("user:bob")


def test_with_a_site_all_of_it_is_revoked() -> None:
    decider = deciding(revocations={"site:north": {"at_ms": 1}})
    assert not decider.decide(Asker("site:north/user:bob", ("admin:*",)), "admin", "people").allowed
    assert decider.decide(Asker("site:northern/user:bob", ("admin:*",)), "admin", "people").allowed


def test_roles_add_what_they_say_and_nothing_else() -> None:
    clock = Clock()
    decider = deciding(clock=clock, roles=NURSE)
    assert decider.decide(Asker(), "model:use", "glm-4").detail == "the role nurse covers it"
    assert not decider.decide(Asker(), "model:use", "gpt").allowed
    assert not decider.decide(Asker(), "send:message", "user:alice").allowed
    assert not decider.decide(Asker("user:bob"), "model:use", "glm-4").allowed
    clock.now_ms += 1000
    assert brief(decider.decide(Asker(), "model:use", "glm-4")) == (False, "no_scope")


def test_a_forbid_wins_over_all_scopes_and_permits() -> None:
    cedar = """@id("all") permit(principal, action, resource);
    @id("quiet") forbid(principal == User::"alice", action == Action::"send:message", resource in Group::"all");"""
    decider = deciding(cedar, roles={"groups": {"group:all": ["user:bob"]}})
    everything = Asker(scopes=("admin:*",))
    for resource in ("group:all", "user:bob"):
        verdict = decider.decide(everything, "send:message", resource)
        assert (verdict.allowed, verdict.reason, verdict.policy_ids) == (False, "forbidden", ("quiet",))
    verdict = decider.decide(everything, "send:message", "user:carol")
    assert (verdict.allowed, verdict.reason, verdict.policy_ids) == (True, "permitted", ("all",))


def test_a_permit_is_no_scope() -> None:
    """Cedar narrows what scopes and roles leave; it hands out nothing."""
    decider = deciding(EVERYTHING)
    assert brief(decider.decide(Asker(), "send:message", "user:bob")) == (False, "no_scope")


def test_where_policies_permit_one_must() -> None:
    permits = deciding('permit(principal in Role::"lead", action, resource);')
    assert brief(permits.decide(SENDER, "send:message", "user:bob")) == (False, "not_permitted")
    forbids = deciding('forbid(principal in Role::"guest", action, resource);')
    assert brief(forbids.decide(SENDER, "send:message", "user:bob")) == (True, "scope")


def test_a_policy_that_fails_denies() -> None:
    decider = deciding(
        "permit(principal, action, resource); forbid(principal, action, resource) when {context.x == 1};"
    )
    verdict = decider.decide(SENDER, "send:message", "user:bob")
    assert brief(verdict) == (False, "policy_error")
    assert "attribute `x`" in verdict.detail


def test_the_policy_can_always_be_replaced_by_whoever_administers_it() -> None:
    """Also one that forbids everything, is years old, or cannot be read. Roles of that policy are no such right."""
    lockout = "forbid(principal, action, resource);"
    admin, by_role = Asker(scopes=("admin:policy",)), Asker("user:eve")
    clock = Clock()
    decider = deciding(
        lockout, clock, roles={"roles": {"a": ["admin:policy"]}, "grants": {"user:eve": [{"role": "a"}]}}
    )
    for _ in range(3):
        assert brief(decider.decide(admin, "admin", "policy")) == (True, "policy_admin")
        assert not decider.decide(admin, "admin", "people").allowed
        assert not decider.decide(by_role, "admin", "policy").allowed
        clock.now_ms += 1000 * DAY_MS
    decider.swap(None, "the cache was put back")
    assert brief(decider.decide(admin, "admin", "policy")) == (True, "policy_admin")


@pytest.mark.attack("cache tampering")
def test_a_policy_that_cannot_be_read_leaves_nobody_anything() -> None:
    """By scopes alone everybody who was revoked would be back."""
    decider = deciding(revocations={"user:mallory": {"at_ms": 1}})
    decider.swap(None, "targets.json: the cache was put back")
    verdict = decider.decide(Asker("user:mallory", ("admin:*",)), "read:message", "")
    assert (verdict.allowed, verdict.reason, verdict.stage) == (False, "stale", "deny")
    assert verdict.detail == "targets.json: the cache was put back"


def test_rights_shrink_as_time_passes() -> None:
    clock = Clock()
    decider = deciding(clock=clock, expires_ms=START_MS + 1000)
    asker, alarm = Asker(scopes=("admin:*",)), frozenset({"kind=alert"})
    found = []
    for step_ms in (0, 1000, 60_000, 60_000):
        clock.now_ms += step_ms
        found.append(
            (
                decider.stage,
                decider.decide(asker, "send:message", "user:bob").allowed,
                decider.decide(asker, "send:message", "user:bob", labels=alarm).allowed,
                decider.decide(asker, "read:message", "user:bob").allowed,
            )
        )
    assert found == [
        ("fresh", True, True, True), ("warn", True, True, True), ("read_only", False, True, True),
        ("deny", False, False, False),
    ]  # fmt: skip


def test_time_that_is_put_right_counts_again() -> None:
    """The clock was days ahead, and an administrator said so."""
    clock = Clock()
    clock.now_ms += 90 * DAY_MS
    decider = deciding(clock=clock)
    assert brief(decider.decide(SENDER, "send:message", "")) == (False, "stale")
    clock.now_ms = START_MS
    assert brief(decider.decide(SENDER, "send:message", "")) == (True, "scope")


def test_a_new_policy_counts_at_once() -> None:
    decider = deciding()
    epoch = decider.epoch
    assert decider.decide(SENDER, "send:message", "").allowed
    decider.swap(compile_policy(snapshot(version=2, revocations={"user:alice": {"at_ms": 1}})))
    assert brief(decider.decide(SENDER, "send:message", "")) == (False, "revoked")
    assert decider.epoch > epoch
    assert decider.version == 2


def test_circumstances_count_again_when_they_change() -> None:
    clock = Clock()
    flags = {"offline": False, "trusted": True}
    decider = Decider(
        clock, time_zone="Asia/Shanghai", is_offline=lambda: flags["offline"], is_clock_trusted=lambda: flags["trusted"]
    )
    clock.now_ms = 1_790_006_400_000 - 10_001  # Monday 2026-09-21, 23:59:49.999 in Shanghai
    cedar = """permit(principal, action, resource) when {context.weekday == 1 && context.hour == 23 &&
        context.minute == 59 && !context.is_offline && context.clock_trusted};"""
    decider.swap(compile_policy(snapshot(cedar, expires_ms=START_MS + 9 * DAY_MS)))
    assert decider.decide(SENDER, "send:message", "").allowed
    for name in ("offline", "trusted"):
        flags[name] = not flags[name]
        assert not decider.decide(SENDER, "send:message", "").allowed
        flags[name] = not flags[name]
    epoch = decider.epoch
    clock.now_ms += 10_000
    assert decider.decide(SENDER, "send:message", "").allowed
    assert decider.epoch == epoch
    clock.now_ms += 1
    assert not decider.decide(SENDER, "send:message", "").allowed
    assert decider.epoch > epoch


def test_ten_thousand_policies_take_milliseconds_cold_and_microseconds_warm() -> None:
    """CPU time, so that a busy machine does not count; cold is the median of a hundred first decisions."""
    lines = [
        f'permit(principal == User::"u{n % 500}", action == Action::"send:message", resource == Device::"d{n}");'
        for n in range(9900)
    ]
    lines += [f'forbid(principal, action in Action::"write", resource in Group::"g{n}");' for n in range(100)]
    decider = deciding("\n".join(lines))
    cold_ms = []
    for number in range(100):
        asker = Asker(f"user:u{number}", ("send:message",))
        started_s = time.process_time()
        assert decider.decide(asker, "send:message", f"device:d{number}").allowed
        cold_ms.append((time.process_time() - started_s) * 1000)
    assert statistics.median(cold_ms) < 3
    asker = Asker("user:u1", ("send:message",))
    started_s = time.process_time()
    for _ in range(10_000):
        decider.decide(asker, "send:message", "device:d1")
    assert (time.process_time() - started_s) * 1e6 / 10_000 < 20


@pytest.mark.attack("huge")
def test_names_from_outside_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoglm.auth.policy.decider._MAX_CACHED", 10)
    decider = deciding()
    for number in range(25):
        decider.decide(SENDER, "send:message", f"user:{number}")
    assert len(decider._cached) == 5
