"""Accounts and what their roles may do."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.auth.people.accounts import normal_name
from autoglm.auth.people.roles import ROLES, scopes_of
from autoglm.auth.principal import Principal
from autoglm.auth.scopes import flaw
from autoglm.core.address import check_address
from autoglm.core.errors import InvalidField, NotFound, RevisionMismatch
from people_hub import People, people_hub


async def test_accounts_outlive_a_restart(tmp_path: Path) -> None:
    async with people_hub(tmp_path) as people:
        made = await people.accounts.create("Alice", ["operator", "auditor", "operator"])
        assert made.roles == ("operator", "auditor")
        assert made.address == "user:alice"
    async with people_hub(tmp_path) as people:
        assert people.accounts.all() == [made]


async def test_a_name_is_taken_in_every_spelling(people: People) -> None:
    await people.accounts.create("alice", ["member"])
    for spelling in ("ALICE", "Ａｌｉｃｅ", "alice"):
        with pytest.raises(InvalidField, match="taken"):
            await people.accounts.create(spelling, ["member"])
    assert people.accounts.find("ALICE") == people.accounts.get("alice")


@pytest.mark.parametrize(
    "name", ["", "a*", "*", "a:b", "a/b", "-a", ".", "a b", "a\n", "a\u200b", "a" * 65, "a\0", "\ud800", "ﬁ" * 60]
)
async def test_what_is_no_name_is_refused(people: People, name: str) -> None:
    with pytest.raises(InvalidField):
        await people.accounts.create(name, ["member"])
    assert people.accounts.find(name) is None


@given(st.text(max_size=70))
def test_a_normal_name_stays_itself_and_is_an_address(text: str) -> None:
    try:
        name = normal_name(text)
    except InvalidField:
        return
    assert normal_name(name) == name
    assert "*" not in name
    check_address(f"user:{name}")


def test_names_of_all_scripts() -> None:
    assert [normal_name(name) for name in ("张三", "Müller", "Ольга.1")] == ["张三", "müller", "ольга.1"]


@pytest.mark.parametrize("roles", [[], ["root"], ["admin", "x"]])
async def test_roles_that_do_not_exist_are_refused(people: People, roles: list[str]) -> None:
    with pytest.raises(InvalidField, match="roles"):
        await people.accounts.create("alice", roles)


async def test_a_change_counts_at_once(people: People) -> None:
    await people.accounts.create("alice", ["member"])
    people.time.pass_s(5)
    changed = await people.accounts.change("alice", roles=["observer"])
    assert people.accounts.get("alice") == changed
    assert changed.changed_ms == changed.created_ms + 5000
    with pytest.raises(NotFound):
        await people.accounts.change("bob", roles=["observer"])


async def test_two_changes_at_a_time_do_not_undo_each_other(people: People) -> None:
    await people.accounts.create("alice", ["member"])
    entry = await people.store.keyvalue.get("auth/person/alice")
    assert entry is not None
    await people.store.keyvalue.put("auth/person/alice", entry.value)  # another hub's
    with pytest.raises(RevisionMismatch):
        await people.accounts.change("alice", roles=["admin"])
    assert people.accounts.get("alice").roles == ("member",)


# --- roles ---


def person(name: str, *roles: str) -> Principal:
    known = [role for role in ROLES if role in roles]
    return Principal(name, f"user:{name}", scopes_of(known, name))


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("admin", ["admin", "send:message user:bob", "admin audit"], []),
        ("operator", ["admin channels", "send:message user:eve"], ["admin people", "read:message user:b"]),
        ("auditor", ["read:audit", "read:metrics"], ["admin audit", "model:use x", "send:message user:eve"]),
        ("member", ["model:use x", "read:message user:eve"], ["admin audit", "read:message user:bob", "read:metrics"]),
        ("observer", ["read:message user:eve", "read:metrics"], ["model:use x", "send:message user:eve"]),
    ],
)  # fmt: skip
def test_what_a_role_may(role: str, may: list[str], may_not: list[str]) -> None:
    eve = person("eve", role)

    def allows(act: str) -> bool:
        action, _, resource = act.partition(" ")
        return eve.allows(action, resource)

    assert [act for act in may if not allows(act)] == []
    assert [act for act in may_not if allows(act)] == []


def test_all_scopes_of_roles_are_scopes() -> None:
    assert flaw(scopes_of(ROLES, "eve")) is None


def test_roles_add_up_and_make_no_pattern_of_a_name() -> None:
    both = person("eve", "auditor", "member")
    assert both.allows("read:audit")
    assert both.allows("model:use", "x")
    assert not person("eve", "member").allows("read:message", "user:evelyn")
