"""Logging in by password: sessions, their ends, and what strangers cannot learn or fix beforehand."""

import statistics
import time
from pathlib import Path

import pytest

from autoglm.auth.people.logins import Caller
from autoglm.auth.people.sessions import PREFIX
from autoglm.core.errors import InvalidField, LoginRefused, LoginThrottled, NotFound, SessionEnded
from autoglm.core.tasks import one_task_group
from people_hub import PASSWORD, People, Time, files_with, people_hub

NEW = "purple monkeys juggle at dawn"


async def is_live(people: People, session: str) -> bool:
    try:
        await people.sessions.check(session)
    except SessionEnded:
        return False
    return True


async def test_a_session_outlives_a_restart_and_is_kept_as_a_hash(tmp_path: Path) -> None:
    async with people_hub(tmp_path) as people:
        await people.add("alice")
        entered = await people.log_in("Alice")
    assert files_with(tmp_path, entered.session) == files_with(tmp_path, entered.device) == []
    assert files_with(tmp_path, "alice") != []
    async with people_hub(tmp_path) as people:
        session, account = await people.sessions.check(entered.session)
        assert (session.name, session.method, account.address) == ("alice", "password", "user:alice")
        assert (session.client, session.agent) == ("192.0.2.1", "tests")
    assert entered.session not in repr(entered)
    assert entered.device not in repr(entered)


async def test_sessions_end_when_idle_and_when_old(tmp_path: Path) -> None:
    async with people_hub(tmp_path, session={"idle_min": 60, "absolute_h": 24}) as people:
        await people.add("alice")
        busy, idle = (await people.log_in("alice")).session, (await people.log_in("alice")).session
        for _ in range(47):
            people.time.pass_s(30 * 60)
            assert await is_live(people, busy)
        assert not await is_live(people, idle)
        people.time.pass_s(30 * 60)
        assert not await is_live(people, busy)
        await people.sessions.sweep()
        assert await people.store.keyvalue.list(PREFIX) == []


async def test_being_seen_is_remembered_over_a_restart(tmp_path: Path) -> None:
    clock = Time()
    async with people_hub(tmp_path, time=clock, session={"idle_min": 60}) as people:
        await people.add("alice")
        session = (await people.log_in("alice")).session
        clock.pass_s(50 * 60)
        assert await is_live(people, session)
    clock.pass_s(50 * 60)
    async with people_hub(tmp_path, time=clock, session={"idle_min": 60}) as people:
        assert await is_live(people, session)


async def test_sessions_of_a_person_are_bounded(tmp_path: Path) -> None:
    async with people_hub(tmp_path, session={"max_per_person": 3}) as people:
        await people.add("alice")
        sessions = []
        for _ in range(5):
            sessions.append((await people.log_in("alice")).session)
            people.time.pass_s(1)
        assert [await is_live(people, session) for session in sessions] == [False, False, True, True, True]
        assert len(people.sessions.of("alice")) == 3


async def test_a_person_ends_sessions_by_their_handles(people: People) -> None:
    await people.add("alice")
    await people.add("bob")
    here, there = (await people.log_in("alice")).session, (await people.log_in("alice")).session
    await people.log_in("bob")
    handle = (await people.sessions.check(there))[0].handle
    with pytest.raises(NotFound):
        await people.sessions.end_named("bob", handle)
    await people.sessions.end_named("alice", handle)
    assert [await is_live(people, here), await is_live(people, there)] == [True, False]
    await people.sessions.end(here)
    await people.sessions.end(here)
    assert people.sessions.of("alice") == []


async def test_a_new_password_ends_all_sessions_and_devices(people: People) -> None:
    await people.add("alice")
    former = [await people.log_in("alice") for _ in range(2)]
    now = await people.logins.change_password(people.accounts.get("alice"), PASSWORD, NEW, Caller("192.0.2.1"))
    assert [await is_live(people, entered.session) for entered in former] == [False, False]
    assert people.devices.known(former[0].device, people.accounts.get("alice")) is None
    assert await is_live(people, now.session)
    with pytest.raises(LoginRefused):
        await people.log_in("alice")
    assert (await people.log_in("alice", NEW)).account.name == "alice"


async def test_a_login_by_the_old_password_that_is_under_way_ends_with_it(people: People) -> None:
    alice = await people.add("alice")
    await people.logins.replace_password(alice, await people.passwords.hashed(NEW, "alice"))
    late = await people.logins.enter(alice, "password", Caller("192.0.2.1"))
    assert not await is_live(people, late.session)


async def test_changing_a_password_takes_the_old_one(people: People) -> None:
    alice = await people.add("alice")
    with pytest.raises(LoginRefused):
        await people.logins.change_password(alice, "wrong wrong wrong", NEW, Caller("192.0.2.1"))
    with pytest.raises(InvalidField):
        await people.logins.change_password(alice, PASSWORD, "password", Caller("192.0.2.1"))
    assert (await people.log_in("alice")).account == people.accounts.get("alice")


async def test_a_password_does_not_end_by_its_age(people: People) -> None:
    """ASVS 5, 6.2.10."""
    await people.add("alice")
    people.time.pass_s(20 * 365 * 86_400)
    assert (await people.log_in("alice")).account.name == "alice"


async def test_a_disabled_person_is_out_at_once_and_for_good(people: People) -> None:
    await people.add("alice")
    session = (await people.log_in("alice")).session
    await people.accounts.change("alice", is_disabled=True)
    assert not await is_live(people, session)
    with pytest.raises(LoginRefused):
        await people.log_in("alice")
    await people.accounts.change("alice", is_disabled=False)
    assert not await is_live(people, session)
    assert (await people.log_in("alice")).account.name == "alice"


async def test_roles_count_in_sessions_that_are_open(people: People) -> None:
    await people.add("alice", "admin")
    session = (await people.log_in("alice")).session
    await people.accounts.change("alice", roles=["observer"])
    assert (await people.sessions.check(session))[1].roles == ("observer",)


@pytest.mark.parametrize("leaves_traces", [False, True])
async def test_nothing_of_a_removed_person_fits_a_new_one_of_the_name(people: People, leaves_traces: bool) -> None:
    await people.add("alice")
    entered = await people.log_in("alice")
    await (people.accounts if leaves_traces else people.logins).remove("alice")
    if not leaves_traces:
        left = [entry.key for entry in await people.store.keyvalue.list("auth/")]
        assert left == ["auth/removed-person/alice"]  # so that no provider gives the name to another
    again = await people.accounts.create("alice", ["admin"])
    assert not await is_live(people, entered.session)
    assert people.devices.known(entered.device, again) is None


# --- attacks ---


@pytest.mark.attack("session fixation")
async def test_a_login_never_takes_over_a_session_that_the_browser_brought(people: People) -> None:
    await people.add("alice")
    await people.add("mallory")
    planted = (await people.log_in("mallory")).session
    entered = await people.log_in("alice", session=planted)
    assert entered.session != planted
    assert not await is_live(people, planted)
    made_up = await people.log_in("alice", session="chosen-by-mallory")
    assert made_up.session != "chosen-by-mallory"
    assert not await is_live(people, "chosen-by-mallory")


@pytest.mark.attack("user enumeration")
async def test_unknown_disabled_and_wrong_look_the_same(people: People) -> None:
    await people.add("alice")
    await people.add("carol")
    await people.accounts.create("passkey-only", ["member"])
    await people.accounts.change("carol", is_disabled=True)
    answers = set()
    for name in ("alice", "nobody", "passkey-only", "not a name*", ""):
        with pytest.raises(LoginRefused) as raised:
            await people.log_in(name, "wrong wrong wrong", client=f"10.0.0.{len(name)}")
        answers.add((str(raised.value), raised.value.code, str(raised.value.facts)))
    with pytest.raises(LoginRefused) as raised:
        await people.log_in("carol")
    assert answers == {(str(raised.value), raised.value.code, str(raised.value.facts))}


@pytest.mark.attack("user enumeration")
async def test_unknown_accounts_cost_the_same_time(people: People) -> None:
    """One argon2 hash each; measured in turns, so that a busy machine slows both."""
    await people.add("alice")
    took: dict[str, list[float]] = {"alice": [], "nobody": [], "not a name*": []}
    for turn in range(15):
        for name, times in took.items():
            began_s = time.perf_counter()
            with pytest.raises(LoginRefused):
                await people.log_in(name, "wrong wrong wrong", client=f"10.1.{turn}.{len(name)}")
            times.append(time.perf_counter() - began_s)
    fastest_s = {name: min(times) for name, times in took.items()}
    middle_s = statistics.median(fastest_s.values())
    assert all(0.5 < value_s / middle_s < 2 for value_s in fastest_s.values()), fastest_s


@pytest.mark.attack("user enumeration")
async def test_the_throttle_does_not_tell_which_names_there_are(people: People) -> None:
    """Spellings of a name share one count, whether anybody has it or not."""
    await people.add("alice")

    async def tries(spellings: list[str], client: str) -> int:
        for number, name in enumerate(spellings):
            try:
                await people.log_in(name, "wrong wrong wrong", client=client)
            except LoginThrottled:
                return number
            except LoginRefused:
                pass
        return len(spellings)

    known = await tries(["alice", "ALICE", "Alice", "aLice"] * 3, "10.0.0.1")
    assert known == await tries(["nobody", "NOBODY", "Nobody", "nObody"] * 3, "10.0.0.2")


@pytest.mark.attack("password flood")
async def test_one_address_does_not_fill_the_queue(people: People) -> None:
    await people.add("alice")
    codes: list[str] = []

    async def guess(number: int) -> None:
        try:
            await people.log_in(f"person{number}", "wrong wrong wrong", client="198.51.100.7")
        except (LoginRefused, LoginThrottled) as error:
            codes.append(error.code)

    async with one_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(guess, number)
    assert codes.count("login_refused") == 4
    assert (await people.log_in("alice")).account.name == "alice"
