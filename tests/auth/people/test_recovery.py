"""The first admin, and links that work once."""

from pathlib import Path

import pytest

from autoglm.auth.people.logins import Caller
from autoglm.auth.people.recovery import PREFIX
from autoglm.core.errors import HubError, InvalidField, LoginRefused, NotFound, SessionEnded
from autoglm.core.tasks import one_task_group
from people_hub import PASSWORD, People, files_with, people_hub

HERE = Caller("192.0.2.1")
NEW = "purple monkeys juggle at dawn"


async def test_an_invitation_outlives_a_restart_works_once_and_is_kept_as_a_hash(tmp_path: Path) -> None:
    async with people_hub(tmp_path) as people:
        token, made = await people.invitations.invite("Bob", ["operator"], made_by="user:alice")
        assert people.invitations.look(token) == made
    assert files_with(tmp_path, token) == []
    async with people_hub(tmp_path) as people:
        with pytest.raises(InvalidField):
            await people.invitations.accept(token, "short", HERE)  # and may be typed again
        entered = await people.invitations.accept(token, PASSWORD, HERE)
        assert (entered.account.name, entered.account.roles) == ("bob", ("operator",))
        assert (await people.log_in("bob")).account == entered.account
        with pytest.raises(LoginRefused):
            await people.invitations.accept(token, NEW, HERE)
        assert await people.store.keyvalue.list(PREFIX) == []


@pytest.mark.attack("replay of an invitation")
async def test_of_two_that_come_by_one_link_one_gets_in(people: People) -> None:
    token, _ = await people.invitations.invite("bob", ["member"], made_by="user:alice")
    codes: list[str] = []

    async def come(password: str) -> None:
        try:
            await people.invitations.accept(token, password, HERE)
        except HubError as error:
            codes.append(error.code)

    async with one_task_group() as tasks:
        tasks.start_soon(come, PASSWORD)
        tasks.start_soon(come, NEW)
    assert codes == ["login_refused"]


async def test_invitations_expire_and_are_withdrawn(people: People) -> None:
    token, made = await people.invitations.invite("bob", ["member"], made_by="user:alice")
    other, _ = await people.invitations.invite("carol", ["member"], made_by="user:alice")
    await people.invitations.withdraw(made.handle)
    with pytest.raises(NotFound):
        await people.invitations.withdraw(made.handle)
    assert [kept.name for kept in people.invitations.all()] == ["carol"]
    people.time.pass_s(72 * 3600)
    assert people.invitations.all() == []
    for void in (token, other, "", "x" * 10_000, "\ud800"):
        with pytest.raises(LoginRefused):
            await people.invitations.accept(void, PASSWORD, HERE)
    assert people.accounts.all() == []


async def test_who_exists_is_not_invited_nor_taken_over(people: People) -> None:
    token, _ = await people.invitations.invite("bob", ["admin"], made_by="user:alice")
    await people.add("bob")
    with pytest.raises(InvalidField, match="taken"):
        await people.invitations.invite("BOB", ["member"], made_by="user:alice")
    with pytest.raises(LoginRefused):
        await people.invitations.accept(token, NEW, HERE)
    assert people.accounts.get("bob").roles == ("member",)


async def test_a_reset_sets_a_new_password_and_ends_all_sessions(people: People) -> None:
    await people.add("bob")
    session = (await people.log_in("bob")).session
    token, _ = await people.invitations.reset("bob", made_by="user:alice")
    second, _ = await people.invitations.reset("bob", made_by="user:alice")
    await people.invitations.accept(token, NEW, HERE)
    with pytest.raises(SessionEnded):
        await people.sessions.check(session)
    with pytest.raises(LoginRefused):
        await people.log_in("bob")
    with pytest.raises(LoginRefused):  # void with the password that it was to replace
        await people.invitations.accept(second, PASSWORD, HERE)
    with pytest.raises(NotFound):
        await people.invitations.reset("nobody", made_by="user:alice")


async def test_a_reset_opens_no_disabled_account(people: People) -> None:
    await people.add("bob")
    token, _ = await people.invitations.reset("bob", made_by="user:alice")
    await people.accounts.change("bob", is_disabled=True)
    with pytest.raises(LoginRefused):
        await people.invitations.accept(token, NEW, HERE)
