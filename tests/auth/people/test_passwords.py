"""Passwords: what is taken, how it is kept, and that a flood of them leaves the machine to others."""

import hashlib
import string
import tempfile
from collections.abc import Iterable
from pathlib import Path

import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.auth.people import guessed_first
from autoglm.auth.people.common_passwords import is_common
from autoglm.auth.people.guessed_first import has_leaked
from autoglm.auth.people.passwords import PREFIX, check_password
from autoglm.auth.people.settings import PasswordSettings
from autoglm.core.errors import InvalidField, LoginThrottled, SettingsError
from autoglm.core.tasks import one_task_group
from eventually import until
from people_hub import CHEAP, PASSWORD, People, files_with, people_hub


@pytest.mark.parametrize(
    "password", ["x" * 7 + "é", "a b c d e f", "汉字密码本身就很长的", "🔑" * 3 + "tuvwxz", "Zq" + "7u!" * 84]
)
def test_long_and_strange_ones_are_welcome(password: str) -> None:
    """No composition rules: ASVS 5, 6.2.5."""
    check_password(password + "mnop", "alice") if len(password) < 250 else check_password(password, "alice")


@pytest.mark.parametrize(
    "password",
    [
        "", "short77", "y" * 257, "password", "Passw0rd!", "P@ssword2026", "12345678", "qwertyuiop", "asdf1234",
        "aaaaaaaa", "abcabcabc", "letmein123", "admin2024!", "AdminPassword1", "hello_world", "0987654321", "1qaz2wsx",
        "19840512", "13800138000", "woaini1314", "Welcome1!", "alice1234", "ALICE_alice", "autoglm-hub",
        "\ud800abcdefgh", "!@#$%^&*()", "iloveyou!!",
    ],
)  # fmt: skip
def test_ones_that_are_guessed_first_are_refused(password: str) -> None:
    with pytest.raises(InvalidField, match="password"):
        check_password(password, "alice")


@given(st.text(string.ascii_lowercase, min_size=14, max_size=40))
def test_most_others_are_not_common(text: str) -> None:
    words = [text[:5], text[5:]]
    assert not is_common("vk" + "-".join(words) + "zx", "alice") or len(set(text)) <= 3


@pytest.mark.parametrize("settings", [{"memory_kib": 7168, "passes": 4}, {"memory_kib": 19456, "passes": 1}])
def test_weaker_parameters_than_owasp_names_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="OWASP"):
        PasswordSettings.model_validate(settings)


async def test_the_store_has_an_argon2id_hash_only(tmp_path: Path) -> None:
    async with people_hub(tmp_path, password={}) as people:
        alice = await people.add("alice")
        entry = await people.store.keyvalue.get(PREFIX + "alice")
        assert entry is not None
        assert b"$argon2id$v=19$m=65536,t=3,p=4$" in entry.value
        assert await people.passwords.verify(alice, PASSWORD)
    assert files_with(tmp_path, PASSWORD) == []


async def test_right_and_wrong(people: People) -> None:
    alice = await people.add("alice")
    assert await people.passwords.verify(alice, PASSWORD)
    for wrong in (PASSWORD + " ", PASSWORD[:-1], PASSWORD.upper(), "", "x" * 1_000_000, "\ud800"):
        assert not await people.passwords.verify(alice, wrong)
    assert not await people.passwords.verify(None, PASSWORD)


async def test_one_accent_in_both_of_its_spellings(people: People) -> None:
    alice = await people.add("alice", password="Café au lait, froid")
    assert await people.passwords.verify(alice, "Cafe\u0301 au lait, froid")


async def test_a_login_hashes_anew_with_the_parameters_of_today(tmp_path: Path) -> None:
    async with people_hub(tmp_path) as people:
        await people.add("alice")
    async with people_hub(tmp_path, password={**CHEAP, "passes": 6}) as people:
        alice = people.accounts.get("alice")
        assert not await people.passwords.verify(alice, "wrong wrong wrong")
        assert b"t=5" in await stored(people)
        assert await people.passwords.verify(alice, PASSWORD)
        assert b"t=6" in await stored(people)
        assert await people.passwords.verify(alice, PASSWORD)


async def stored(people: People) -> bytes:
    entry = await people.store.keyvalue.get(PREFIX + "alice")
    assert entry is not None
    return entry.value


async def test_a_removed_accounts_password_is_not_its_successors(people: People) -> None:
    await people.add("alice")
    await people.accounts.remove("alice")
    assert not await people.passwords.verify(await people.accounts.create("alice", ["member"]), PASSWORD)


@pytest.mark.attack("password flood")
async def test_a_flood_is_hashed_one_at_a_time_and_the_rest_is_refused_at_once(tmp_path: Path) -> None:
    async with people_hub(tmp_path, password={**CHEAP, "max_waiting": 3}) as people:
        refused: list[float] = []
        most = 0

        async def guess() -> None:
            nonlocal most
            try:
                await people.passwords.verify(None, "guess guess guess")
            except LoginThrottled as error:
                refused.append(float(str(error.facts["retry_after_s"])))
            most = max(most, people.passwords._limiter.borrowed_tokens)

        async with one_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(guess)
        assert len(refused) == 47
        assert most <= 1
        assert all(wait_s > 0 for wait_s in refused)


@pytest.mark.attack("password flood")
async def test_a_flood_of_strangers_leaves_places_for_known_devices(tmp_path: Path) -> None:
    async with people_hub(tmp_path, password={**CHEAP, "max_waiting": 2}) as people:
        await people.add("alice")
        known = await people.log_in("alice")
        async with one_task_group() as tasks:
            for number in range(2):
                tasks.start_soon(people.passwords.verify, None, f"guess {number}")
            await until(lambda: people.passwords._waiting == 2)
            with pytest.raises(LoginThrottled):
                await people.log_in("alice", client="192.0.2.9")
            assert (await people.log_in("alice", device=known.device)).account.name == "alice"


@pytest.mark.attack("password flood")
async def test_the_event_loop_goes_on_while_passwords_are_hashed(people: People) -> None:
    turns = 0
    async with one_task_group() as tasks:

        async def turn() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        tasks.start_soon(turn)
        await people.passwords.verify(None, "guess guess guess")
        tasks.cancel_scope.cancel()
    assert turns > 10


# --- words of the site, the list, and what leaked ---


@pytest.mark.parametrize(
    "password", ["WardLinde2026!", "linde-ward", "press-hall 7!", "Zentrifuge1", "example.org1", "hospitallinde"]
)
def test_words_of_the_site_are_guessed_first_there(password: str) -> None:
    """ASVS 5, 6.1.2 and 6.2.11."""
    check_password(password, "alice")
    with pytest.raises(InvalidField, match="guessed first"):
        check_password(password, "alice", ["ward-linde", "press-hall", "Zentrifuge", "hub.example.org"])


@pytest.mark.parametrize("password", ["samantha", "Maverick", "marlboro12", "12qwaszx", "rush2112"])
def test_the_most_frequent_ones_are_refused_though_no_rule_makes_them(password: str) -> None:
    """ASVS 5, 6.2.4: those that the rules let through are on the list."""
    with pytest.raises(InvalidField, match="guessed first"):
        check_password(password, "alice")


def test_the_list_has_more_than_the_3000_that_the_asvs_asks_for() -> None:
    packed = guessed_first.FILE.read_bytes()
    entries = [packed[place : place + 4] for place in range(0, len(packed), 4)]
    assert len(entries) > 9990
    assert entries == sorted(set(entries))


def lines_of(passwords: Iterable[str]) -> bytes:
    digests = sorted(hashlib.sha1(password.encode()).hexdigest().upper() for password in passwords)
    return "".join(f"{digest}:{number * 7919}\r\n" for number, digest in enumerate(digests)).encode()


@given(st.sets(st.text(string.ascii_lowercase, min_size=1, max_size=3), max_size=40), st.text(string.digits))
def test_a_leaked_one_is_found_wherever_it_stands(leaked: set[str], other: str) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(lines_of(leaked))
        file.flush()
        assert all(has_leaked(password, Path(file.name)) for password in leaked)
        assert not has_leaked(other, Path(file.name))


async def test_what_leaked_is_not_taken_where_the_settings_name_a_list(tmp_path: Path) -> None:
    """ASVS 5, 6.2.12."""
    file = tmp_path / "pwned.txt"
    file.write_bytes(lines_of([PASSWORD, "something else"]))
    async with people_hub(tmp_path, password={**CHEAP, "breached_file": str(file)}) as people:
        with pytest.raises(InvalidField, match="leaked"):
            await people.passwords.hashed(PASSWORD, "alice")
        assert await people.passwords.hashed("another one that nobody has", "alice")
        file.unlink()
        with pytest.raises(SettingsError, match="breached_file"):
            await people.passwords.hashed("another one that nobody has", "alice")
