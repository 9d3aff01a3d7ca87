"""Access tokens over clocks that jump, tokens that are revoked and vendors that fail: a scripted `fetch`, our clock."""

from collections.abc import Callable
from typing import NamedTuple

import anyio
import anyio.lowlevel
import pytest

from autoglm.channels import access_tokens
from autoglm.channels.access_tokens import AccessTokens, NoToken, Token
from autoglm.channels.delivery import Words, transient
from eventually import until


class Vendor:
    """Gives t1, t2 ... each for `life_s`; `gate` holds a fetch up, `fails` has it refused. `revoked` are not taken."""

    def __init__(self) -> None:
        self.life_s = 7200.0
        self.fetches = 0
        self.fails = False
        self.now_s = 1000.0
        self.gate = anyio.Event()
        self.gate.set()
        self.waiting = 0
        self.revoked: set[str] = set()
        self.attempts: list[str] = []

    def tokens(self) -> AccessTokens:
        return AccessTokens(self.fetch)

    async def fetch(self) -> Token:
        self.fetches += 1
        self.waiting += 1
        await self.gate.wait()
        if self.fails:
            raise NoToken(transient("timeout", Words("no token in time", "获取超时")))
        return Token(f"t{self.fetches}", self.life_s)

    async def attempt(self, token: str) -> bool:
        """True where the vendor takes the token."""
        self.attempts.append(token)
        await anyio.lowlevel.checkpoint()
        return token not in self.revoked


class Used(NamedTuple):
    tokens: AccessTokens
    vendor: Vendor

    async def use(self) -> bool:
        return await self.tokens.use(self.vendor.attempt, lambda taken: not taken)


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Vendor:
    vendor = Vendor()
    monkeypatch.setattr(access_tokens, "monotonic_s", lambda: vendor.now_s)
    return vendor


async def test_one_token_serves_until_shortly_before_its_end(vendor: Vendor) -> None:
    tokens = vendor.tokens()
    assert await tokens.get() == "t1"
    vendor.now_s += 6899.0
    assert await tokens.get() == "t1"
    vendor.now_s += 2.0  # 299 s before its end
    assert await tokens.get() == "t2"


async def test_a_short_token_serves_for_nine_tenths_of_its_life(vendor: Vendor) -> None:
    vendor.life_s = 60.0
    tokens = vendor.tokens()
    assert [await tokens.get(), await tokens.get()] == ["t1", "t1"]
    vendor.now_s += 54.0
    assert await tokens.get() == "t2"


@pytest.mark.parametrize(("life_s", "fetches"), [(10**400, 1), (float("inf"), 1), (0, 2), (-1.0, 2), (-(10**400), 2)])
async def test_a_life_that_cannot_be_costs_a_fetch_at_most(vendor: Vendor, life_s: float, fetches: int) -> None:
    vendor.life_s = life_s
    tokens = vendor.tokens()
    await tokens.get()
    await tokens.get()
    assert vendor.fetches == fetches


async def test_a_new_one_is_fetched_on_request_and_serves_from_then_on(vendor: Vendor) -> None:
    tokens = vendor.tokens()
    assert [await tokens.get(), await tokens.renewed(), await tokens.get()] == ["t1", "t2", "t2"]
    vendor.fails = True
    with pytest.raises(NoToken):
        await tokens.renewed()
    assert await tokens.get() == "t2"


async def test_tasks_that_want_a_token_at_once_share_one_fetch(vendor: Vendor) -> None:
    tokens = vendor.tokens()
    vendor.gate = anyio.Event()
    found: list[str] = []

    async def get() -> None:
        found.append(await tokens.get())

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(get)
        await until(lambda: vendor.waiting)
        vendor.gate.set()
    assert (found, vendor.fetches) == (["t1"] * 20, 1)


async def test_a_failure_is_shared_by_those_who_waited_and_tried_again_by_the_next(vendor: Vendor) -> None:
    tokens = vendor.tokens()
    vendor.fails, vendor.gate = True, anyio.Event()
    failures: list[str] = []

    async def get() -> None:
        with pytest.raises(NoToken) as caught:
            await tokens.get()
        failures.append(caught.value.delivery.code)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(get)
        await until(lambda: vendor.waiting)
        vendor.gate.set()
    assert (failures, vendor.fetches) == (["timeout"] * 5, 1)
    vendor.fails = False
    assert await tokens.get() == "t2"


async def test_a_task_that_is_cancelled_while_it_fetches_leaves_the_others_their_token(vendor: Vendor) -> None:
    tokens = vendor.tokens()
    vendor.gate = anyio.Event()
    found: list[str] = []

    async def get() -> None:
        found.append(await tokens.get())

    async with anyio.create_task_group() as tasks, anyio.create_task_group() as given_up:
        given_up.start_soon(get)
        await until(lambda: vendor.waiting)
        tasks.start_soon(get)
        given_up.cancel_scope.cancel()
        vendor.gate.set()
    assert (found, vendor.fetches) == (["t2"], 2)


async def test_a_token_revoked_in_mid_flight_is_replaced_once(vendor: Vendor) -> None:
    used = Used(vendor.tokens(), vendor)
    assert await used.use()
    vendor.revoked.add("t1")
    assert await used.use()
    assert (vendor.attempts, vendor.fetches) == (["t1", "t1", "t2"], 2)


async def test_two_tasks_whose_token_is_revoked_fetch_one_new_one(vendor: Vendor) -> None:
    used = Used(vendor.tokens(), vendor)
    await used.use()
    vendor.revoked.add("t1")
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(used.use)
    assert vendor.fetches == 2
    assert vendor.attempts.count("t2") == 8


async def test_a_late_refusal_of_an_old_token_does_not_drop_the_new_one(vendor: Vendor) -> None:
    tokens = vendor.tokens()
    old = await tokens.get()
    tokens.drop(old)
    new = await tokens.get()
    tokens.drop(old)
    assert (await tokens.get(), vendor.fetches) == (new, 2)


async def test_a_vendor_that_takes_no_token_is_asked_twice_and_no_more(vendor: Vendor) -> None:
    used = Used(vendor.tokens(), vendor)
    vendor.revoked |= {"t1", "t2", "t3"}
    assert not await used.use()
    assert vendor.attempts == ["t1", "t2"]


async def test_a_refresh_that_fails_is_told_and_nothing_goes_out_with_the_old_token(vendor: Vendor) -> None:
    used = Used(vendor.tokens(), vendor)
    await used.use()
    vendor.revoked.add("t1")
    vendor.fails = True
    with pytest.raises(NoToken):
        await used.use()
    assert vendor.attempts == ["t1", "t1"]
    vendor.fails = False
    assert await used.use()


@pytest.mark.parametrize("jump", [lambda s: s + 10**9, lambda s: s - 10**6])
async def test_a_clock_that_jumps_costs_a_fetch_at_most(vendor: Vendor, jump: Callable[[float], float]) -> None:
    used = Used(vendor.tokens(), vendor)
    await used.use()
    vendor.now_s = jump(vendor.now_s)
    vendor.revoked.add("t1")  # it has ended, whatever our clock says
    assert await used.use()
    assert vendor.fetches == 2


def test_a_token_does_not_show() -> None:
    assert "secret" not in repr(Token("secret", 1.0))
