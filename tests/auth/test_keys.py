"""Keys: how the first one is made and kept, what scopes cover, and the rate limit."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.auth import keys as module
from autoglm.auth.keys import PREFIX, KeyRing, Principal, StoredKey
from autoglm.auth.settings import KeySettings
from autoglm.core.errors import Forbidden, InvalidField, RateLimited, SettingsError, Unauthorized
from autoglm.store import Store, StoreSettings, open_store


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Store, KeyRing, str | None]]:
    """The store, its keys, and the admin key if this start made it."""
    async with open_store(folder, StoreSettings()) as store:
        ring = KeyRing(store.keyvalue)
        yield store, ring, await ring.open(folder / "admin.key")


def files_that_hold(folder: Path, text: str) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"hub.db", "hub.db-wal"}
    return [path.name for path in files if text.encode() in path.read_bytes()]


# --- the first key ---


async def test_the_first_start_makes_a_key_that_only_its_owner_may_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, ring, made):
        file = tmp_path / "admin.key"
        assert made is not None
        assert file.read_text() == f"{made}\n"
        assert file.stat().st_mode & 0o777 == 0o600
        assert len(made) >= 46
        assert ring.by_key(made.encode()).allows("admin")
    async with opened(tmp_path) as (_, ring, again):
        assert again is None
        assert ring.by_key(made.encode()).name == "admin"


async def test_the_store_has_the_hash_only(tmp_path: Path) -> None:
    async with opened(tmp_path) as (store, _, made):
        assert made is not None
        (entry,) = await store.keyvalue.list(PREFIX)
        assert entry.key == PREFIX + hashlib.sha256(made.encode()).hexdigest()
        assert files_that_hold(tmp_path, made) == ["admin.key"]


@pytest.mark.parametrize("left", [None, "", "ag-of-another-hub\n"], ids=["lost", "emptied", "foreign"])
async def test_a_lost_key_is_replaced_at_the_next_start_and_is_void(tmp_path: Path, left: str | None) -> None:
    async with opened(tmp_path) as (_, _, lost):
        assert lost is not None
    file = tmp_path / "admin.key"
    file.unlink() if left is None else file.write_text(left)
    async with opened(tmp_path) as (store, ring, made):
        assert made not in (None, lost, left)
        assert file.read_text() == f"{made}\n"
        with pytest.raises(Unauthorized):
            ring.by_key(lost.encode())
        assert len(await store.keyvalue.list(PREFIX)) == 1
    async with opened(tmp_path) as (_, ring, again):
        assert again is None
        with pytest.raises(Unauthorized):
            ring.by_key(lost.encode())


async def test_a_key_of_another_name_outlives_the_admin_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, ring, _):
        await ring.add("sk-alice", StoredKey(name="alice", address="user:alice", scopes=("admin:*",)))
    (tmp_path / "admin.key").unlink()
    async with opened(tmp_path) as (_, ring, made):
        assert made is not None
        assert ring.by_key(b"sk-alice").address == "user:alice"


async def test_an_unreadable_key_file_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "admin.key").mkdir()
    with pytest.raises(SettingsError, match=r"admin\.key cannot be read"):
        async with opened(tmp_path):
            pass


# --- fixed keys ---


def fixed(name: str, value: str, *scopes: str, **fields: object) -> KeySettings:
    return KeySettings.model_validate({"name": name, "value": value, "scopes": scopes, **fields})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path, StoreSettings()) as store:
        yield store


async def test_fixed_keys_come_from_the_settings(store: Store) -> None:
    ring = KeyRing(store.keyvalue, [fixed("robot", "sk-1", "model:use:*"), fixed("press", "sk-2", address="device:p7")])
    assert ring.by_header(b"Bearer sk-1").address == "device:robot"
    assert ring.by_header(b"bearer   sk-2 ").address == "device:p7"
    assert await store.keyvalue.list(PREFIX) == []


async def test_two_fixed_keys_of_one_value_are_a_mistake(store: Store) -> None:
    with pytest.raises(SettingsError, match=r"'a' and 'b' have the same value.*'a' and 'c' have the same value"):
        KeyRing(store.keyvalue, [fixed("a", "sk-1"), fixed("b", "sk-1"), fixed("c", "sk-1")])


@pytest.mark.parametrize(
    "fields",
    [
        {"scopes": ["admin"]}, {"scopes": ["model:use"]}, {"scopes": ["model:use:"]}, {"scopes": ["send:message:"]},
        {"scopes": ["read:message:user:*:x"]}, {"scopes": ["read:message\n"]}, {"scopes": ["everything"]},
        {"address": "robot"}, {"address": "user:a\n"}, {"value": None}, {"value": ""}, {"rate_per_minute": 0},
        {"value_file": "also.key"}, {"name": "a b"},
    ],
    ids=str,
)  # fmt: skip
def test_settings_of_a_key_are_checked(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        KeySettings.model_validate({"name": "robot", "value": "sk-1", **fields})


@pytest.mark.parametrize("header", [None, b"", b"Bearer", b"Bearer ", b"Bearer nope", b"Basic sk-1", b"sk-1", b"\xff"])
async def test_what_is_no_known_key_is_unauthorized(store: Store, header: bytes | None) -> None:
    with pytest.raises(Unauthorized):
        KeyRing(store.keyvalue, [fixed("a", "sk-1")]).by_header(header)


async def test_headers_that_are_remembered_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CACHED", 10)
    ring = KeyRing(store.keyvalue, [fixed("a", "sk-1")])
    for blanks in range(30):
        ring.by_header(b"Bearer " + b" " * blanks + b"sk-1")
        ring.by_header(b"Bearer " + b" " * (600 + blanks) + b"sk-1")
    assert len(ring._by_header) <= 10
    assert max(map(len, ring._by_header)) <= 512


# --- scopes ---

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
        ("admin", ""): "admin:*",
        ("model:use", "glm-4"): "model:use:glm-4",
        ("read:message", ""): "read:message",
    }
    for (action, resource), scope in missing.items():
        with pytest.raises(Forbidden) as caught:
            principal.require(action, resource)
        assert caught.value.facts["scope"] == scope


def test_answers_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CACHED", 10)
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
    monkeypatch.setattr(module, "monotonic_s", clock)
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
        patch.setattr(module, "monotonic_s", clock)
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


async def test_a_sender_answers_by_its_own_key_or_by_the_first_that_may_send_as_it(
    store: Store, tmp_path: Path
) -> None:
    ring = KeyRing(
        store.keyvalue,
        [fixed("page", "sk-1", "send:message:user:*"), fixed("bob", "sk-2", address="user:bob")],
    )
    await ring.open(tmp_path / "admin.key")
    names = [(sender := ring.sender(address)) and sender.name for address in ("user:bob", "user:eve", "device:x")]
    assert names == ["bob", "page", "admin"]
    await ring.add("sk-3", StoredKey(name="x", address="device:x", scopes=(), tenant="ward-3"))
    sender = ring.sender("device:x")
    assert sender is not None
    assert (sender.name, sender.tenant) == ("x", "ward-3")


@pytest.mark.parametrize("scope", ["tenant:", "tenant", "tenant:a b"])
def test_a_scope_for_a_tenant_names_it(scope: str) -> None:
    with pytest.raises(ValueError, match="unknown scope"):
        fixed("robot", "sk-1", scope)
