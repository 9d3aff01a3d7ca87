"""Devices that have enrolled: which key is whose, and what it may do.

An administrator makes an enrolment, a code that counts once and for minutes. The device makes its own key, keeps the
private half, and redeems the code with the public one. From then on it is known by the key's thumbprint (RFC 7638).
"""

import base64
import hashlib
import secrets
from collections.abc import Callable, Sequence

import msgspec

from autoglm.core.errors import InvalidField, NotFound, Unauthorized
from autoglm.core.ports import KeyValue

DEVICES = "auth/device/"
ENROLMENTS = "auth/enrolment/"
MAX_DEVICES = 100_000
MAX_ENROLMENTS = 1000
_CODE_BYTES = 16


class Device(msgspec.Struct, frozen=True, kw_only=True, tag="device", tag_field="type"):
    """Its place in the store is its name."""

    version: int = 1
    name: str
    jkt: str
    """Thumbprint of its public key."""
    public_key: str
    """The 32 bytes of Ed25519 as base64url."""
    scopes: tuple[str, ...]
    token_ttl_s: int
    """How long its tokens live; long for one that works while it cannot reach the hub."""
    rate_per_minute: int | None = None
    tenant: str | None = None
    enrolled_at_ms: int
    enrolled_by: str
    """The address of whoever made the enrolment."""

    @property
    def address(self) -> str:
        return f"device:{self.name}"


class Enrolment(msgspec.Struct, frozen=True, kw_only=True, tag="enrolment", tag_field="type"):
    """Its place in the store is the sha256 of its code."""

    version: int = 1
    name: str
    scopes: tuple[str, ...]
    token_ttl_s: int
    rate_per_minute: int | None = None
    tenant: str | None = None
    ends_at_ms: int
    created_by: str


class Devices:
    """`open` before use."""

    def __init__(self, keyvalue: KeyValue, now_ms: Callable[[], int]) -> None:
        self._keyvalue = keyvalue
        self._now_ms = now_ms
        self._by_name: dict[str, Device] = {}
        self._by_jkt: dict[str, Device] = {}

    async def open(self) -> None:
        for entry in await self._keyvalue.list(DEVICES):
            self._keep(msgspec.json.decode(entry.value, type=Device))

    def all(self) -> list[Device]:
        return sorted(self._by_name.values(), key=lambda device: device.name)

    def get(self, name: str) -> Device:
        """Raises NotFound."""
        device = self._by_name.get(name)
        if device is None:
            raise NotFound("device", name)
        return device

    def by_jkt(self, jkt: str) -> Device | None:
        return self._by_jkt.get(jkt)

    async def invite(
        self, name: str, scopes: Sequence[str], *, token_ttl_s: int, ends_in_s: int, created_by: str,
        rate_per_minute: int | None = None, tenant: str | None = None,
    ) -> tuple[str, Enrolment]:  # fmt: skip
        """A code by which whoever has it enrols as `device:NAME`, once. Raises InvalidField when the name is taken."""
        if name in self._by_name:
            raise InvalidField("name", f"{name!r} has enrolled already; remove it first, or choose another name")
        await self._drop_ended()
        # Base32: it can be read aloud, and is never taken for an option of the command line, as one with a dash would.
        code = base64.b32encode(secrets.token_bytes(_CODE_BYTES)).rstrip(b"=").decode().lower()
        enrolment = Enrolment(
            name=name, scopes=tuple(scopes), token_ttl_s=token_ttl_s, rate_per_minute=rate_per_minute, tenant=tenant,
            ends_at_ms=self._now_ms() + ends_in_s * 1000, created_by=created_by,
        )  # fmt: skip
        await self._keyvalue.put(_place(code), msgspec.json.encode(enrolment))
        return code, enrolment

    async def is_open(self, code: str) -> bool:
        """Whether somebody may still enrol by it."""
        entry = await self._keyvalue.get(_place(code))
        return entry is not None and self._now_ms() < msgspec.json.decode(entry.value, type=Enrolment).ends_at_ms

    async def redeem(self, code: str, *, jkt: str, public_key: str) -> Device:
        """The device of that key, once that is on the disk. The caller has checked that it holds the private half.

        Raises Unauthorized for a code that is unknown, used or over; one reason for all.
        """
        entry = await self._keyvalue.get(_place(code))
        enrolment = None if entry is None else msgspec.json.decode(entry.value, type=Enrolment)
        if entry is None or enrolment is None or self._now_ms() >= enrolment.ends_at_ms:
            raise Unauthorized("this enrolment is not known, was used, or has ended")
        if enrolment.name in self._by_name or jkt in self._by_jkt:
            raise Unauthorized("a device of this name or with this key has enrolled already")
        if len(self._by_name) >= MAX_DEVICES:
            raise InvalidField("name", f"{MAX_DEVICES} devices have enrolled already; remove some first")
        device = Device(
            name=enrolment.name, jkt=jkt, public_key=public_key, scopes=enrolment.scopes,
            token_ttl_s=enrolment.token_ttl_s, rate_per_minute=enrolment.rate_per_minute, tenant=enrolment.tenant,
            enrolled_at_ms=self._now_ms(), enrolled_by=enrolment.created_by,
        )  # fmt: skip
        # At once: of two who redeem it together one gets in. The code goes last: a kill in between leaves the device.
        self._keep(device)
        try:
            await self._keyvalue.put(DEVICES + device.name, msgspec.json.encode(device))
        except BaseException:
            self._drop(device)
            raise
        await self._keyvalue.delete(entry.key)
        return device

    async def remove(self, name: str) -> Device:
        """It is known no more when this returns. Raises NotFound."""
        device = self.get(name)
        self._drop(device)
        for entry in await self._keyvalue.list(ENROLMENTS):  # or a second code would bring it back
            if msgspec.json.decode(entry.value, type=Enrolment).name == name:
                await self._keyvalue.delete(entry.key)
        await self._keyvalue.delete(DEVICES + name)
        return device

    def _keep(self, device: Device) -> None:
        self._by_name[device.name] = device
        self._by_jkt[device.jkt] = device

    def _drop(self, device: Device) -> None:
        self._by_name.pop(device.name, None)
        self._by_jkt.pop(device.jkt, None)

    async def _drop_ended(self) -> None:
        """Raises InvalidField when there are too many that have not."""
        entries = await self._keyvalue.list(ENROLMENTS)
        now_ms = self._now_ms()
        open_ = 0
        for entry in entries:
            if now_ms >= msgspec.json.decode(entry.value, type=Enrolment).ends_at_ms:
                await self._keyvalue.delete(entry.key)
            else:
                open_ += 1
        if open_ >= MAX_ENROLMENTS:
            raise InvalidField("name", f"{MAX_ENROLMENTS} enrolments wait already; let some be used or end")


def _place(code: str) -> str:
    return ENROLMENTS + hashlib.sha256(code.encode()).hexdigest()
