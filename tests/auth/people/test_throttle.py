"""Failed logins are slowed down, and nobody is locked out by others."""

from pathlib import Path

import pytest

from autoglm.auth.people import throttle as module
from autoglm.auth.people.settings import ThrottleSettings
from autoglm.auth.people.throttle import Throttle, block_of
from autoglm.core.errors import LoginRefused, LoginThrottled
from autoglm.core.tasks import one_task_group
from people_hub import PASSWORD, People, Time, people_hub

HOME, ELSEWHERE = "192.0.2.1", "198.51.100.7"


async def fail(people: People, name: str, times: int, client: str = ELSEWHERE, device: str | None = None) -> int:
    """How many of these logins were tried before the throttle stopped them."""
    for tried in range(times):
        try:
            await people.log_in(name, "wrong wrong wrong", client=client, device=device)
        except LoginThrottled:
            return tried
        except LoginRefused:
            pass
    return times


def wait_of(throttle: Throttle, account: str, client: str) -> float:
    with pytest.raises(LoginThrottled) as raised:
        throttle.begin(account, client)
    return float(str(raised.value.facts["retry_after_s"]))


def test_waits_double_and_have_an_end() -> None:
    time = Time()
    throttle = Throttle(ThrottleSettings(max_wait_s=60, free_failures_per_address=1000), time.now_s)
    for _ in range(5):
        throttle.begin("alice", ELSEWHERE)
    waits = []
    for _ in range(9):
        waits.append(wait_of(throttle, "alice", ELSEWHERE))
        time.pass_s(waits[-1])
        throttle.begin("alice", ELSEWHERE)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_trying_too_early_makes_no_wait_longer() -> None:
    time = Time()
    throttle = Throttle(ThrottleSettings(), time.now_s)
    for _ in range(5):
        throttle.begin("alice", ELSEWHERE)
    for _ in range(100):
        assert wait_of(throttle, "alice", ELSEWHERE) == 1
    time.pass_s(1)
    throttle.begin("alice", ELSEWHERE)


def test_all_is_forgotten_in_time() -> None:
    time = Time()
    throttle = Throttle(ThrottleSettings(), time.now_s)
    for _ in range(5):
        throttle.begin("alice", ELSEWHERE)
    time.pass_s(ThrottleSettings().forget_after_s + 1)
    for _ in range(5):
        throttle.begin("alice", ELSEWHERE)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ENTRIES", 100)
    throttle = Throttle(ThrottleSettings(), Time().now_s)
    for number in range(500):
        throttle.begin("x" * 10_000 + str(number), f"10.0.{number % 256}.{number // 256}")
    assert len(throttle._failures) <= 100
    assert max(map(len, throttle._failures)) <= 16


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True), ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True), ("192.0.2.1", "192.0.2.2", False), ("fe80::1%eth0", "fe80::2", True),
    ],
)  # fmt: skip
def test_what_one_subscriber_has_is_one_caller(one: str, other: str, is_same: bool) -> None:
    assert (block_of(one) == block_of(other)) is is_same


# --- attacks ---


@pytest.mark.attack("guessing passwords online")
async def test_guesses_at_one_account_are_slowed_down(people: People) -> None:
    await people.add("alice")
    assert await fail(people, "alice", 50) == 5
    with pytest.raises(LoginThrottled):
        await people.log_in("alice", client=ELSEWHERE)  # not even the right one


@pytest.mark.attack("guessing passwords online")
async def test_one_password_at_many_accounts_is_slowed_down(people: People) -> None:
    tried = 0
    for number in range(40):
        tried += await fail(people, f"person{number}", 1)
    assert tried == 30


@pytest.mark.attack("guessing passwords online")
async def test_guessing_in_parallel_gains_nothing(people: People) -> None:
    await people.add("alice")
    outcomes: list[str] = []

    async def guess() -> None:
        try:
            await people.log_in("alice", "wrong wrong wrong", client=ELSEWHERE)
        except (LoginRefused, LoginThrottled) as error:
            outcomes.append(error.code)

    async with one_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(guess)
    assert outcomes.count("login_refused") <= 5


@pytest.mark.attack("guessing passwords online")
async def test_logging_in_to_ones_own_account_buys_no_guesses_at_others(tmp_path: Path) -> None:
    async with people_hub(tmp_path, throttle={"free_failures_per_address": 6}) as people:
        await people.add("mallory")
        await people.add("alice")
        tried = 0
        for number in range(12):
            try:
                await people.log_in("mallory", client=ELSEWHERE)
            except LoginThrottled:
                break
            tried += await fail(people, f"person{number}", 1)
        assert tried <= 6


@pytest.mark.attack("locking others out")
async def test_failures_elsewhere_hold_nobody_up(people: People) -> None:
    await people.add("alice")
    for number in range(30):
        await fail(people, "alice", 20, client=f"203.0.113.{number}")
    assert (await people.log_in("alice", client=HOME)).account.name == "alice"


@pytest.mark.attack("locking others out")
async def test_a_known_device_gets_in_from_an_address_where_others_fail(people: People) -> None:
    """A ward behind one address, and one of them guesses."""
    await people.add("alice")
    known = await people.log_in("alice", client=HOME)
    await fail(people, "alice", 20, client=HOME)
    for number in range(60):
        await fail(people, f"person{number}", 1, client=HOME)
    with pytest.raises(LoginThrottled):
        await people.log_in("alice", client=HOME)
    assert (await people.log_in("alice", client=HOME, device=known.device)).account.name == "alice"


@pytest.mark.attack("locking others out")
async def test_a_device_has_a_budget_of_its_own_and_for_its_own_account_only(people: People) -> None:
    await people.add("alice")
    await people.add("bob")
    known = await people.log_in("alice", client=HOME)
    assert await fail(people, "alice", 50, device=known.device) == 10
    assert await fail(people, "bob", 50, device=known.device) == 5
    people.time.pass_s(1)
    assert (await people.log_in("alice", device=known.device, client=HOME)).device != known.device


async def test_a_device_is_known_after_a_restart_and_not_for_ever(tmp_path: Path) -> None:
    time = Time()
    async with people_hub(tmp_path, time=time) as people:
        await people.add("alice")
        token = (await people.log_in("alice")).device
    async with people_hub(tmp_path, time=time) as people:
        assert people.devices.known(token, people.accounts.get("alice")) is not None
        time.pass_s(181 * 86_400)
        assert people.devices.known(token, people.accounts.get("alice")) is None


async def test_devices_of_a_person_are_bounded(people: People) -> None:
    await people.add("alice")
    tokens = [(await people.log_in("alice")).device for _ in range(12)]
    known = [token for token in tokens if people.devices.known(token, people.accounts.get("alice"))]
    assert len(known) == 10
    assert tokens[-1] in known


async def test_what_was_too_busy_to_try_is_no_failure(tmp_path: Path) -> None:
    async with people_hub(tmp_path, password={"memory_kib": 7168, "passes": 5, "max_waiting": 1}) as people:
        await people.add("alice")
        people.passwords._waiting = 1
        for _ in range(50):
            with pytest.raises(LoginThrottled):
                await people.log_in("alice")
        people.passwords._waiting = 0
        assert (await people.log_in("alice", PASSWORD)).account.name == "alice"
