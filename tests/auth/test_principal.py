"""Principals: what scopes cover and pass on, the rate limit, and for whom a principal may act."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.auth import principal as principals
from autoglm.auth import rate as rates
from autoglm.auth.principal import Principal
from autoglm.auth.scopes import any_covers, flaw, is_within
from autoglm.core.errors import Forbidden, InvalidField, RateLimited

names = st.text("abc:/.-", min_size=1, max_size=8)
patterns = st.one_of(names, names.map(lambda name: name + "*"), st.just("*"))
actions = st.sampled_from(["model:use", "send:message", "read:message"])


def covers(scope: str, action: str, resource: str) -> bool:
    """The rule in words: admin covers all; an action alone covers every resource; `*` covers what begins so."""
    if scope in ("admin:*", action):
        return True
    scope_action, _, pattern = scope.partition(":")[0] + ":" + scope.split(":")[1], "", scope.split(":", 2)[2:]
    if scope_action != action or not pattern:
        return False
    if pattern[0].endswith("*"):
        return resource[: len(pattern[0]) - 1] == pattern[0][:-1]
    return resource == pattern[0]


scopes = st.one_of(
    st.just("admin:*"),
    actions.filter(lambda action: action != "model:use"),
    st.builds("{}:{}".format, actions, patterns),
)


@given(st.lists(scopes, max_size=4), actions, names)
def test_a_principal_may_do_what_one_of_its_scopes_covers(granted: list[str], action: str, resource: str) -> None:
    principal = Principal("p", "user:p", granted)
    expected = any(covers(scope, action, resource) for scope in granted)
    assert principal.allows(action, resource) == expected
    assert principal.allows(action, resource) == expected  # from the cache
    assert principal.allows("admin") == ("admin:*" in granted)
    assert principal.allows("read:metrics") == ("admin:*" in granted)


@given(st.lists(scopes, max_size=4), st.lists(scopes, max_size=2), actions, names)
def test_more_scopes_never_allow_less(granted: list[str], more: list[str], action: str, resource: str) -> None:
    if Principal("p", "user:p", granted).allows(action, resource):
        assert Principal("p", "user:p", granted + more).allows(action, resource)


@pytest.mark.parametrize(
    ("scope", "action", "resource", "is_allowed"),
    [
        ("model:use:glm-*", "model:use", "glm-4", True), ("model:use:glm-*", "model:use", "qwen", False),
        ("model:use:glm-4", "model:use", "glm-4v", False), ("send:message", "send:message", "user:anyone", True),
        ("send:message:device:robot", "send:message", "device:robot", True),
        ("send:message:device:robot", "send:message", "device:robot-2", False),
        ("send:message:device:robot", "read:message", "device:robot", False),
        ("read:message:user:*", "read:message", "device:robot", False),
        ("read:message:user:*", "read:message", "", False),
        ("read:message", "read:message", "", True), ("model:use:*", "admin", "", False),
    ],
)  # fmt: skip
def test_scopes_by_example(scope: str, action: str, resource: str, is_allowed: bool) -> None:
    assert Principal("p", "user:p", [scope]).allows(action, resource) is is_allowed


def test_what_is_missing_is_named() -> None:
    principal = Principal("p", "user:p", [])
    missing = {
        ("admin", "pool"): "admin:pool",
        ("model:use", "glm-4"): "model:use:glm-4",
        ("read:message", ""): "read:message",
    }
    for (action, resource), scope in missing.items():
        with pytest.raises(Forbidden) as caught:
            principal.require(action, resource)
        assert caught.value.facts["scope"] == scope


def test_answers_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(principals, "_MAX_CACHED", 10)
    principal = Principal("p", "user:p", ["model:use:*"])
    assert all(principal.allows("model:use", f"m{number}") for number in range(100))
    assert len(principal._allowed) == 10


# --- rate limit ---


class Clock:
    """Monotonic seconds that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rates, "monotonic_s", clock)
    return clock


def refused(principal: Principal) -> float | None:
    """None when the request passes, else after how many seconds to try again."""
    try:
        principal.take()
    except RateLimited as error:
        return float(error.facts["retry_after_s"])  # type: ignore[arg-type]  # a number in this error
    return None


def test_a_bucket_holds_a_minute_s_worth_and_refills_steadily(clock: Clock) -> None:
    principal = Principal("p", "user:p", [], rate_per_minute=60)
    assert [refused(principal) for _ in range(60)] == [None] * 60
    assert refused(principal) == pytest.approx(1.0)
    clock.now_s += 0.5
    assert refused(principal) == pytest.approx(0.5)
    clock.now_s += 0.5
    assert refused(principal) is None
    clock.now_s += 3600
    assert [refused(principal) for _ in range(61)][59:] == [None, pytest.approx(1.0)]


@given(rate=st.integers(1, 1000), waits=st.lists(st.floats(0, 30), max_size=200))
def test_no_pattern_of_requests_gets_more_than_the_rate_and_one_bucket(rate: int, waits: list[float]) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "monotonic_s", clock)
        principal = Principal("p", "user:p", [], rate_per_minute=rate)
        passed = 0
        for wait_s in waits:
            clock.now_s += wait_s
            passed += refused(principal) is None
    assert passed <= rate + rate * (clock.now_s - 1000) / 60 + 1e-6


def test_without_a_limit_nothing_is_refused() -> None:
    principal = Principal("p", "user:p", [])
    assert [refused(principal) for _ in range(10_000)] == [None] * 10_000


# --- tenants ---


def test_a_key_acts_for_its_own_tenant_and_for_those_its_scopes_name() -> None:
    gate = Principal("gate", "device:gate", ["tenant:site-*"], tenant="house")
    assert (gate.tenant, Principal("robot", "device:robot", []).tenant) == ("house", "robot")
    assert gate.act_for(b"house") == "house"
    assert gate.act_for(b"site-9") == "site-9"
    with pytest.raises(Forbidden, match="tenant:hall-1"):
        gate.act_for(b"hall-1")
    for wrong in (b"", b"site 9", b"site-\xe4", b"-x", b"s" * 129, b"site-9\n"):
        with pytest.raises(InvalidField, match="x-autoglm-tenant"):
            gate.act_for(wrong)


# --- what may be passed on ---


@given(scopes, st.lists(scopes, max_size=3), actions, names)
def test_who_passes_on_what_is_within_its_own_scopes_gives_nothing_more(
    passed: str, own: list[str], action: str, resource: str
) -> None:
    if is_within(passed, own) and any_covers([passed], action, resource):
        assert any_covers(own, action, resource)


@pytest.mark.parametrize(
    ("scope", "own", "may"),
    [
        ("model:use:glm-4", "model:use:glm-*", True), ("model:use:glm-*", "model:use:*", True),
        ("model:use:*", "model:use:glm-*", False), ("send:message:user:a", "send:message", True),
        ("send:message", "send:message:*", False), ("admin:*", "admin:keys", False), ("admin:keys", "admin:*", True),
        ("read:metrics", "read:message", False), ("read:message:user:ab", "read:message:user:a", False),
    ],
)  # fmt: skip
def test_what_may_be_passed_on_by_example(scope: str, own: str, may: bool) -> None:
    assert is_within(scope, [own]) is may


def test_a_misspelt_scope_is_none() -> None:
    assert flaw(["admin:*", "admin:channels", "read:audit", "publish:topic:a/*", "read:sensor"]) is None
    for wrong in ("admin", "admin:chanels", "read:everything", "model:use", "publish:topic:", "a" * 600, "admin:*\n"):
        assert "unknown scope" in str(flaw(["send:message", wrong]))
