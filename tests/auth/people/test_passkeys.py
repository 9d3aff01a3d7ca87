"""Passkeys, with a software authenticator that can misbehave."""

import copy
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from autoglm.auth.people.challenges import Challenges
from autoglm.auth.people.logins import Caller
from autoglm.auth.people.settings import PasskeySettings
from autoglm.core.errors import InvalidField, LoginRefused, LoginThrottled, NotFound, SessionEnded
from autoglm.core.tasks import one_task_group
from fakes.authenticator import Authenticator, b64
from people_hub import ORIGIN, People, Time, people_hub

HERE = Caller("192.0.2.1")


async def registered(people: People, name: str = "alice", **lies: Any) -> Authenticator:
    if people.accounts.find(name) is None:
        await people.accounts.create(name, ["member"])
    account = people.accounts.get(name)
    key = Authenticator(ORIGIN, **lies)
    await people.passkeys.finish_registration(
        account, key.create(await people.passkeys.begin_registration(account)), "phone"
    )
    return key


async def log_in(people: People, key: Authenticator) -> str:
    entered = await people.logins.with_passkey(key.get(await people.passkeys.begin_login()), HERE)
    return entered.account.name


async def test_a_person_logs_in_by_passkey_without_typing_a_name(tmp_path: Path) -> None:
    async with people_hub(tmp_path) as people:
        key = await registered(people)
        assert await log_in(people, key) == "alice"
    async with people_hub(tmp_path) as people:  # keys outlive a restart
        entered = await people.logins.with_passkey(key.get(await people.passkeys.begin_login()), HERE)
        assert (await people.sessions.check(entered.session))[0].method == "passkey"
        (kept,) = people.passkeys.of(entered.account)
        assert (kept.sign_count, kept.label) == (2, "phone")


async def test_the_options_ask_for_a_discoverable_key_and_a_verified_user(people: People) -> None:
    alice = await people.accounts.create("alice", ["member"])
    creation, request = await people.passkeys.begin_registration(alice), await people.passkeys.begin_login()
    assert creation["authenticatorSelection"]["residentKey"] == "required"
    assert creation["authenticatorSelection"]["userVerification"] == request["userVerification"] == "required"
    assert (creation["rp"]["id"], request["rpId"], creation["attestation"]) == ("localhost", "localhost", "none")
    assert "alice" not in str(creation["user"]["id"])


async def test_several_keys_of_a_person_and_no_more_than_there_may_be(tmp_path: Path) -> None:
    origins = {"origins": [ORIGIN], "max_per_person": 2}
    async with people_hub(tmp_path, passkey=origins) as people:
        keys = [await registered(people), await registered(people)]
        assert [await log_in(people, key) for key in keys] == ["alice", "alice"]
        alice = people.accounts.get("alice")
        with pytest.raises(InvalidField, match="has 2 already"):
            await people.passkeys.begin_registration(alice)
        await people.passkeys.remove(alice, people.passkeys.of(alice)[0].handle)
        with pytest.raises(NotFound):
            await people.passkeys.remove(alice, "0" * 16)
        assert len((await people.passkeys.begin_registration(alice))["excludeCredentials"]) == 1


async def test_a_key_that_is_removed_or_whose_person_is_disabled_opens_nothing(people: People) -> None:
    key, other = await registered(people), await registered(people, "bob")
    alice = people.accounts.get("alice")
    await people.passkeys.remove(alice, people.passkeys.of(alice)[0].handle)
    await people.accounts.change("bob", is_disabled=True)
    for lost in (key, other):
        with pytest.raises(LoginRefused):
            await log_in(people, lost)


async def test_a_key_without_a_counter_works(people: People) -> None:
    key = await registered(people, counts=False)
    assert [await log_in(people, key) for _ in range(3)] == ["alice"] * 3


@pytest.mark.parametrize(
    "lie",
    [
        {"origin": "http://localhost:8601"}, {"origin": "https://hub.evil.example"}, {"rp_id": "evil.example"},
        {"is_verifying": False}, {"is_present": False}, {"is_framed": True}, {"type": "webauthn.get"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_registration_that_lies_is_refused(people: People, lie: dict[str, Any]) -> None:
    alice = await people.accounts.create("alice", ["member"])
    key = Authenticator(**{"origin": ORIGIN, **lie})
    with pytest.raises(LoginRefused):
        await people.passkeys.finish_registration(
            alice, key.create(await people.passkeys.begin_registration(alice))
        )  # fmt: skip
    assert people.passkeys.of(alice) == []


@pytest.mark.parametrize("format", ["tpm", "android-safetynet", "android-key", "apple", "fido-u2f", "x"])
async def test_attestation_that_nobody_asked_for_is_not_parsed(people: People, format: str) -> None:
    alice = await people.accounts.create("alice", ["member"])
    key = Authenticator(ORIGIN, format=format)
    with capture_logs() as logs, pytest.raises(LoginRefused):
        await people.passkeys.finish_registration(alice, key.create(await people.passkeys.begin_registration(alice)))
    assert logs[-1]["reason"] == "attestation format"


@pytest.mark.parametrize(
    "lie",
    [
        {"origin": "http://localhost:8601"}, {"origin": "https://localhost:8600"}, {"rp_id": "evil.example"},
        {"is_verifying": False}, {"is_present": False}, {"is_framed": True}, {"type": "webauthn.create"},
        {"user_handle": b"another person!!"},
        {"credential_id": b"unknown"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_login_that_lies_is_refused(people: People, lie: dict[str, Any]) -> None:
    key = await registered(people)
    for name, value in lie.items():
        setattr(key, name, value)
    with pytest.raises(LoginRefused):
        await log_in(people, key)


@pytest.mark.attack("copied passkey")
async def test_a_counter_that_goes_back_is_refused_and_logged(people: People) -> None:
    key = await registered(people)
    copied = copy.copy(key)
    await log_in(people, key)
    await log_in(people, key)
    with capture_logs() as logs, pytest.raises(LoginRefused):
        await log_in(people, copied)
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["passkey_counter_went_back"]


@pytest.mark.attack("replay of a passkey challenge")
@pytest.mark.parametrize("counts", [False, True])
async def test_an_answer_opens_once(people: People, counts: bool) -> None:
    key = await registered(people, counts=counts)
    answer = key.get(await people.passkeys.begin_login())
    await people.logins.with_passkey(answer, HERE)
    with capture_logs() as logs, pytest.raises(LoginRefused):
        await people.logins.with_passkey(answer, HERE)
    assert logs == []  # a replay is no copied key


@pytest.mark.attack("replay of a passkey challenge")
async def test_of_two_answers_at_once_one_opens(people: People) -> None:
    key = await registered(people, counts=False)
    answer = key.get(await people.passkeys.begin_login())
    outcomes: list[str] = []

    async def enter() -> None:
        try:
            outcomes.append((await people.passkeys.finish_login(answer)).name)
        except LoginRefused as error:
            outcomes.append(error.code)

    async with one_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(enter)
    assert sorted(outcomes) == ["alice"] + ["login_refused"] * 3


@pytest.mark.attack("replay of a passkey challenge")
async def test_a_challenge_of_yesterday_of_another_run_or_of_nobody_opens_nothing(tmp_path: Path) -> None:
    async with people_hub(tmp_path) as people:
        key = await registered(people)
        late, old_run = key.get(await people.passkeys.begin_login()), key.get(await people.passkeys.begin_login())
        people.time.pass_s(301)
        made_up = key.get({"challenge": b64(bytes(56)), "rpId": "localhost"})
        for answer in (late, made_up):
            with pytest.raises(LoginRefused):
                await people.passkeys.finish_login(answer)
    async with people_hub(tmp_path) as people:
        with pytest.raises(LoginRefused):
            await people.passkeys.finish_login(old_run)


@pytest.mark.attack("replay of a passkey challenge")
async def test_a_challenge_is_for_one_purpose_and_person(people: People) -> None:
    key = await registered(people)
    alice, bob = people.accounts.get("alice"), await people.accounts.create("bob", ["admin"])
    creation = await people.passkeys.begin_registration(alice)
    with pytest.raises(LoginRefused):
        await people.passkeys.finish_registration(bob, Authenticator(ORIGIN).create(creation))
    with pytest.raises(LoginRefused):
        await people.passkeys.finish_login(key.get({**creation, "rpId": "localhost"}))
    await people.passkeys.finish_registration(alice, Authenticator(ORIGIN).create(creation))
    with pytest.raises(LoginRefused):
        await people.passkeys.finish_registration(alice, Authenticator(ORIGIN).create(creation))


async def test_a_key_belongs_to_one_person(people: People) -> None:
    key = await registered(people)
    bob = await people.accounts.create("bob", ["admin"])
    with pytest.raises(LoginRefused):
        await people.passkeys.finish_registration(bob, key.create(await people.passkeys.begin_registration(bob)))


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"response": []}, {"response": {"clientDataJSON": 5}}, {"response": {"clientDataJSON": "é"}},
        {"response": {"clientDataJSON": b64(b"[]")}}, {"response": {"clientDataJSON": b64(b'{"challenge":7}')}},
        {"response": {"clientDataJSON": "A" * 20_000}}, {"response": {"clientDataJSON": b64(b"[" * 9000)}},
    ],
    ids=lambda answer: str(answer)[:50],
)  # fmt: skip
async def test_rubbish_is_refused(people: People, answer: dict[str, Any]) -> None:
    alice = await people.accounts.create("alice", ["member"])
    with pytest.raises(LoginRefused):
        await people.passkeys.finish_login(answer)
    with pytest.raises(LoginRefused):
        await people.passkeys.finish_registration(alice, answer)


@pytest.mark.parametrize("field", ["authenticatorData", "signature", "clientDataJSON", "userHandle"])
@pytest.mark.parametrize("value", ["", "AAAA", "A" * 400, None, 7, "=", "AB=="], ids=str)
async def test_any_field_that_is_not_the_keys_is_refused(people: People, field: str, value: object) -> None:
    key = await registered(people)
    answer = key.get(await people.passkeys.begin_login())
    answer["response"][field] = value
    if field == "userHandle" and value is None:
        assert (await people.passkeys.finish_login(answer)).name == "alice"  # security keys send none
        return
    with pytest.raises(LoginRefused):
        await people.passkeys.finish_login(answer)


@pytest.mark.attack("user enumeration")
async def test_options_of_a_login_tell_nothing_of_accounts(people: People) -> None:
    before = await people.passkeys.begin_login()
    await registered(people)
    after = await people.passkeys.begin_login()
    assert {**before, "challenge": ""} == {**after, "challenge": ""}
    assert before["challenge"] != after["challenge"]


@pytest.mark.attack("locking others out")
async def test_a_flood_of_ceremonies_crowds_nobody_out(people: People) -> None:
    key = await registered(people)
    mine = await people.passkeys.begin_login()
    kept = dict(people.passkeys._challenges._used)
    for _ in range(2000):
        people.passkeys._challenges.make("get")
    assert people.passkeys._challenges._used == kept
    assert (await people.passkeys.finish_login(key.get(mine))).name == "alice"


async def test_failures_slow_their_address_down(people: People) -> None:
    key = await registered(people)
    stranger = Authenticator(ORIGIN)
    for _ in range(5):
        with pytest.raises(LoginRefused):
            await log_in(people, stranger)
    with pytest.raises(LoginThrottled):
        await log_in(people, key)
    people.time.pass_s(1)
    assert await log_in(people, key) == "alice"


async def test_a_planted_session_is_not_taken_over(people: People) -> None:
    key = await registered(people)
    answer = key.get(await people.passkeys.begin_login())
    entered = await people.logins.with_passkey(answer, Caller("192.0.2.1", session="planted"))
    assert entered.session != "planted"
    with pytest.raises(SessionEnded):
        await people.sessions.check("planted")


def test_used_challenges_are_forgotten_at_their_end() -> None:
    time = Time()
    challenges = Challenges(60, time.now_s)
    for _ in range(100):
        assert challenges.use(challenges.make("get"), "get")
        time.pass_s(30)
    assert len(challenges._used) <= 3


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"origins": ["http://localhost:8600"]}, "localhost"),
        ({"origins": ["https://hub.ward.example", "https://hub.ward.example:8443"]}, "hub.ward.example"),
        ({"origins": ["https://hub.ward.example", "https://a.example"], "rp_id": "example"}, None),
        ({"origins": ["https://hub.ward.example", "https://b.ward.example"], "rp_id": "ward.example"}, "ward.example"),
        ({"origins": ["https://hub.ward.example", "https://b.ward.example"]}, None),
        ({"origins": ["https://evilward.example"], "rp_id": "ward.example"}, None),
        ({"origins": ["http://hub.ward.example"]}, None),
        ({"origins": ["http://127.0.0.1:8600"]}, None),
        ({"origins": ["https://[::1]:8600"]}, None),
        ({"origins": ["https://127.1"]}, None),
        ({"origins": ["https://hub.example/"]}, None),
        ({"origins": ["https://hub.example:443"]}, None),
        ({"origins": ["https://HUB.example"]}, None),
        ({"origins": ["https://user@hub.example"]}, None),
        ({"origins": [], "rp_id": "10.0.0.1"}, None),
    ],
)
def test_rules_of_the_rp_id(settings: dict[str, Any], name: str | None) -> None:
    if name is None:
        with pytest.raises(ValueError, match=r"origin|rp_id"):
            PasskeySettings.model_validate(settings)
    else:
        assert PasskeySettings.model_validate(settings).name == name
