"""Enrolment: a code counts once, in time, for one device; what has enrolled outlives a restart and can be removed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from autoglm.auth.devices import DEVICES, ENROLMENTS, Device, Devices
from autoglm.core.errors import InvalidField, NotFound, StorageFull, Unauthorized
from autoglm.store import Store, StoreSettings, open_store


class Clock:
    """Milliseconds that the test moves."""

    now_ms = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@asynccontextmanager
async def opened(folder: Path, clock: Clock) -> AsyncIterator[tuple[Store, Devices]]:
    async with open_store(folder, StoreSettings()) as store:
        devices = Devices(store.keyvalue, clock)
        await devices.open()
        yield store, devices


async def invite(devices: Devices, name: str = "press-7") -> str:
    code, _ = await devices.invite(name, ["send:message"], token_ttl_s=900, ends_in_s=600, created_by="user:admin")
    return code


async def redeem(devices: Devices, code: str, jkt: str = "thumb") -> Device | None:
    try:
        return await devices.redeem(code, jkt=jkt, public_key="key")
    except Unauthorized:
        return None


async def test_a_device_enrols_and_is_known_by_its_key_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, Clock()) as (store, devices):
        code = await invite(devices)
        assert all(code not in entry.key for entry in await store.keyvalue.list(ENROLMENTS))
        device = await devices.redeem(code, jkt="thumb", public_key="key")
        assert (device.address, device.scopes, device.enrolled_by) == (
            "device:press-7",
            ("send:message",),
            "user:admin",
        )
        assert await store.keyvalue.list(ENROLMENTS) == []
    async with opened(tmp_path, Clock()) as (_, devices):
        assert devices.by_jkt("thumb") == device == devices.get("press-7")
        await devices.remove("press-7")
        assert devices.by_jkt("thumb") is None
    async with opened(tmp_path, Clock()) as (_, devices):
        with pytest.raises(NotFound):
            devices.get("press-7")


async def test_a_code_is_made_of_letters_and_digits_that_nobody_mixes_up(tmp_path: Path) -> None:
    async with opened(tmp_path, Clock()) as (_, devices):
        codes = {await invite(devices, f"press-{number}") for number in range(100)}
    assert len(codes) == 100
    assert all(len(code) == 26 and set(code) <= set("abcdefghijklmnopqrstuvwxyz234567") for code in codes)


@pytest.mark.attack("an enrolment code used twice")
async def test_a_code_counts_once_also_for_two_at_the_same_moment(tmp_path: Path) -> None:
    async with opened(tmp_path, Clock()) as (store, devices):
        code = await invite(devices)
        found = await asyncio.gather(*(redeem(devices, code, f"thumb-{number}") for number in range(5)))
        assert sum(device is not None for device in found) == 1
        assert await redeem(devices, code, "thumb-late") is None
        assert len(await store.keyvalue.list(DEVICES)) == 1


async def test_a_code_ends_and_a_guess_is_none(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as (store, devices):
        code = await invite(devices)
        assert await redeem(devices, code + "x") is None
        clock.now_ms += 600_000
        assert await redeem(devices, code) is None
        await invite(devices)  # makes room
        assert len(await store.keyvalue.list(ENROLMENTS)) == 1


async def test_a_name_and_a_key_belong_to_one_device(tmp_path: Path) -> None:
    async with opened(tmp_path, Clock()) as (_, devices):
        first, again, other = await invite(devices), await invite(devices), await invite(devices, "press-8")
        assert await redeem(devices, first) is not None
        assert await redeem(devices, again, "thumb-2") is None
        assert await redeem(devices, other) is None
        with pytest.raises(InvalidField, match="has enrolled already"):
            await invite(devices)
        assert await redeem(devices, other, "thumb-2") is not None


async def test_a_device_that_could_not_be_written_down_has_not_enrolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, Clock()) as (store, devices):
        code = await invite(devices)

        async def full(*_: object) -> int:
            raise StorageFull("hub.db")

        with monkeypatch.context() as patch:
            patch.setattr(store.keyvalue, "put", full)
            with pytest.raises(StorageFull):
                await devices.redeem(code, jkt="thumb", public_key="key")
        assert devices.by_jkt("thumb") is None
        assert await redeem(devices, code) is not None
