"""Keys: how the first one is made and kept, and how others are issued, end, and are revoked."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from autoglm.auth import keys as module
from autoglm.auth.keys import PREFIX, KeyRing, StoredKey
from autoglm.auth.settings import KeySettings
from autoglm.core.errors import InvalidField, NotFound, SettingsError, Unauthorized
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


# --- whose account ---


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


# --- keys that are issued ---


class Clock:
    """Milliseconds that the test moves."""

    now_ms = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now_ms


async def test_an_issued_key_is_kept_as_its_hash_and_outlives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, ring, _):
        value = await ring.issue("robot", ["model:use:glm-*"], tenant="ward-3", created_by="user:admin")
        assert files_that_hold(tmp_path, value) == []
    async with opened(tmp_path) as (_, ring, _):
        principal = ring.by_key(value.encode())
        assert (principal.name, principal.address, principal.tenant) == ("robot", "device:robot", "ward-3")
        assert principal.allows("model:use", "glm-4")
        assert not principal.allows("model:use", "qwen")
        (_, robot) = ring.stored()
        assert (robot.created_by, robot.ends_at_ms) == ("user:admin", None)


async def test_a_key_ends_when_it_was_to_end_also_where_it_was_seen_before(store: Store) -> None:
    clock = Clock()
    ring = KeyRing(store.keyvalue, now_ms=clock)
    ends_at_ms = clock.now_ms + 1000
    value = (await ring.issue("robot", ["send:message"], ends_at_ms=ends_at_ms, created_by="user:admin")).encode()
    assert ring.by_header(b"Bearer " + value) is ring.by_header(b"Bearer " + value)
    clock.now_ms = ends_at_ms - 1
    assert ring.by_key(value).name == "robot"
    clock.now_ms = ends_at_ms
    with pytest.raises(Unauthorized, match="has ended"):
        ring.by_header(b"Bearer " + value)
    with pytest.raises(Unauthorized, match="has ended"):
        ring.by_key(value)


async def test_a_revoked_key_counts_no_more_now_and_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, ring, _):
        value = (await ring.issue("robot", ["send:message"], created_by="user:admin")).encode()
        assert ring.by_header(b"Bearer " + value).name == "robot"
        await ring.revoke("robot")
        with pytest.raises(Unauthorized):
            ring.by_header(b"Bearer " + value)
    async with opened(tmp_path) as (_, ring, _):
        with pytest.raises(Unauthorized):
            ring.by_key(value)
        assert (await ring.issue("robot", ["send:message"], created_by="user:admin")).encode() != value


async def test_names_of_keys_are_unique_and_those_of_the_settings_stay_there(store: Store, tmp_path: Path) -> None:
    ring = KeyRing(store.keyvalue, [fixed("fixed", "sk-1")])
    await ring.open(tmp_path / "admin.key")
    for name in ("fixed", "admin"):
        with pytest.raises(InvalidField, match="is the name of a key already"):
            await ring.issue(name, ["send:message"], created_by="user:admin")
        with pytest.raises(InvalidField, match=r"in the settings|delete the file"):
            await ring.revoke(name)
    with pytest.raises(NotFound):
        await ring.revoke("nobody")
