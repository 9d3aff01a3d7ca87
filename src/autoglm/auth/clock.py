"""The clock by which expiry is judged: it never goes back, and says when it cannot be believed.

Three sources: the wall clock, which anyone who may set it can move; CLOCK_BOOTTIME, which nobody can move but which
starts anew with each boot; and signed times, which prove that it is not earlier. The rules:

1. The floor is the highest signed time seen plus what has run since. It never falls, and no wall clock moves it.
2. The mark is the highest time given. A wall clock below what has run since, less the skew, is not believed: the time
   is then the mark plus what has run. So an expired thing stays expired.
3. A wall clock that steps ahead by more than `max_jump_days` at once is not followed: a battery, a receiver or a typing
   error of years poisons nothing. A signed time near it settles the matter, for then the step is small.
4. A smaller step ahead is followed, as powered-off time looks the same. Where it was wrong, the mark is ahead, and the
   clock is untrusted once the wall clock is put right. Two acts, and no other, may then take the time back, never below
   the floor: `confirm`, by an admin, and `saw(..., is_fresh=True)`, for a time that was signed in answer to our own
   nonce. Other signed times are lower bounds only: whoever keeps one back and sets the wall clock could else bring
   expired tokens to life. After such an act the time is known, and for the rest of this boot a wall clock off by more
   than the skew is wrong.
5. A boot without a clock cannot be told from a long pause. Boots since the last new signed time are counted; after
   `max_boots` the clock is untrusted. This holds for hubs that have seen a signed time: others have nobody to ask.
6. A lost or damaged file in a folder that is not new is not a fresh start, until rule 4's acts say what time it is.

A signer is believed: one that signs a time years ahead stops the hub until an admin deletes the file and confirms.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Literal, Self
from uuid import uuid4

import anyio
import anyio.to_thread
import msgspec
import structlog
from pydantic import BaseModel, Field

from autoglm.auth.scopes import ALL, any_covers
from autoglm.core.clock import now_ms as wall_now_ms
from autoglm.core.errors import InvalidField
from autoglm.core.private_file import write_private

log = structlog.get_logger(part="auth")

Reason = Literal["ok", "behind", "ahead", "boots", "lost", "unwritable"]
"""Why the clock is (not) trusted. behind, ahead: the wall clock against what has run. boots: too many without a signed
time. lost: the file was. unwritable: what is given now would be forgotten by a crash."""

RECOVERY_SCOPE = "admin:clock"
_ALL_BUT_ADMIN = (
    "model:use:*", "send:message", "read:message", "publish:topic", "subscribe:topic", "read:sensor", "read:metrics",
    "read:audit", "tenant:*",
)  # fmt: skip
"""What admin:* covers beside administering."""
_EARLIEST_MS = 1_767_225_600_000  # 2026-01-01: no hub ran before, so an earlier wall clock is wrong
_RESERVE_MS = 45_000
"""The file is this far ahead of what was given, so that a crash forgets nothing; the skew has to cover it."""
_WRITE_EVERY_S = 30.0
_DAY_MS = 86_400_000
_MAX_FILE_BYTES = 4096
_DRAFT = ".new"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ClockSettings(BaseModel, frozen=True, extra="forbid"):
    """`[clock]`: when the time is not believed, and what is withheld then."""

    skew_s: float = Field(default=60.0, ge=45, le=3600, description="How far the wall clock may be set back")
    max_jump_days: int = Field(default=180, ge=1, le=3650, description="A longer step ahead is not followed")
    max_boots: int | None = Field(
        default=50, ge=1, le=100_000, description="Boots since the last signed time, where there ever was one"
    )
    withheld_actions: tuple[str, ...] = Field(
        default=("admin",), description="First words of the scopes that an untrusted clock withholds"
    )


class _State(msgspec.Struct, frozen=True, kw_only=True, tag="clock", tag_field="type"):
    """clock.json."""

    version: int = 1
    mark_ms: int
    """Nothing later was given."""
    time_ms: int
    """What the time was at `boottime_ms`."""
    floor_ms: int
    """The proven time at `boottime_ms`; 0 where no signed time was seen."""
    boottime_ms: int
    boot_id: str
    boots: int
    is_known: bool = False
    """In this boot, an admin or a fresh signed time said what time it is."""
    is_lost: bool = False


def boottime_now_ms() -> int:
    """Milliseconds since the machine started, suspend included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def boot_id_now() -> str:
    """Differs between boots. Where the kernel does not tell, each start counts as a boot."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return str(uuid4())


class TrustedClock:
    """Use `open`. Safe from several threads. All times are milliseconds of the Unix epoch."""

    def __init__(
        self, file: Path, settings: ClockSettings, state: _State, *, is_new_boot: bool, wall_ms: Callable[[], int],
        boottime_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        self._file, self._settings = file, settings
        self._wall_ms, self._boottime_ms = wall_ms, boottime_ms
        self._boot_id, self._boots = state.boot_id, state.boots
        self._is_known, self._is_lost = state.is_known, state.is_lost
        self._last_ms = self._reserved_ms = state.mark_ms
        # In a new boot, all of its uptime has passed since the file was written.
        since_ms = 0 if is_new_boot else state.boottime_ms
        self._offset_ms = state.time_ms - since_ms
        """The time less the boottime. NTP slews both clocks alike, so only steps change it."""
        self._floor_offset_ms = state.floor_ms - since_ms if state.floor_ms else None
        self._is_first_of_boot = is_new_boot
        self._reason: Reason = "ok"
        self._is_written = True
        self._lock = Lock()

    @classmethod
    def open(
        cls, file: Path, settings: ClockSettings, *, at_least_ms: int = 0, wall_ms: Callable[[], int] = wall_now_ms,
        boottime_ms: Callable[[], int] = boottime_now_ms, boot_id: Callable[[], str] = boot_id_now,
    ) -> Self:  # fmt: skip
        """Read (or begin) the file, whose folder must exist, and count the boot. `close` it.

        Open the clock before anything else is written to a new trust folder: a folder with other files is not new.
        at_least_ms: what else shows that time has passed, such as the newest audit entry; asked only when the file is
        lost. Never raises for what the file holds.
        """
        here, running_ms = boot_id(), boottime_ms()
        state = _read(file)
        is_new_boot = state is not None and (state.boot_id != here or running_ms < state.boottime_ms)
        if state is None:
            is_lost = any(other.name != file.name + _DRAFT for other in file.parent.iterdir())
            if is_lost:
                log.warning("clock_file_lost", file=str(file))
            start_ms = max(_EARLIEST_MS, at_least_ms, wall_ms())
            state = _State(
                mark_ms=start_ms, time_ms=start_ms, floor_ms=0, boottime_ms=running_ms, boot_id=here, boots=0,
                is_lost=is_lost,
            )  # fmt: skip
        elif is_new_boot:
            state = msgspec.structs.replace(state, boot_id=here, boots=state.boots + 1, is_known=False)
        clock = cls(file, settings, state, is_new_boot=is_new_boot, wall_ms=wall_ms, boottime_ms=boottime_ms)
        clock.save()
        return clock

    def close(self) -> None:
        """Write what was given, without the reserve: the next run goes on from there."""
        with self._lock:
            self._write(is_last=True)

    def now_ms(self) -> int:
        """Never lower than before, in this run or another, except by `confirm` or a fresh signed time.

        Writes the file (and waits for the disk) when `keep` is late or the wall clock stepped ahead.
        """
        with self._lock:
            now_ms = self._read_now()
            if now_ms > self._reserved_ms:
                self._write()
            return now_ms

    @property
    def reason(self) -> Reason:
        with self._lock:
            self._read_now()
            return self._verdict()

    @property
    def is_trusted(self) -> bool:
        return self.reason == "ok"

    @property
    def boots(self) -> int:
        """Since the last new signed time, or since an admin confirmed the time."""
        return self._boots

    def scopes_for(self, scopes: Iterable[str], *, has_expiry: bool = True) -> tuple[str, ...]:
        """Those that remain now. has_expiry: of the credential; one without may still set the clock right."""
        held = tuple(scopes)
        if self.is_trusted:
            return held
        withheld = self._settings.withheld_actions
        spelled_out = _ALL_BUT_ADMIN if ALL in held and "admin" in withheld else ()
        left = [scope for scope in (*held, *spelled_out) if scope.split(":", 1)[0] not in withheld]
        if not has_expiry and any_covers(held, *RECOVERY_SCOPE.split(":")):
            # Never for one that expires: a lost file may have made its time come again.
            left.append(RECOVERY_SCOPE)
        return tuple(dict.fromkeys(left))

    def saw(self, signed_ms: int, *, is_fresh: bool = False) -> None:
        """A time whose signature the caller has checked: it is not earlier. On the disk when this returns.

        is_fresh: signed in answer to a nonce that the caller gave just now, so it is not later either. Then it settles
        all doubt, and may take the time back (rule 4). One that is not above the floor was seen before: it changes
        nothing, or replaying it would reset the boots.
        """
        with self._lock:
            boottime_ms = self._boottime_ms()
            is_new = self._floor_offset_ms is None or signed_ms > boottime_ms + self._floor_offset_ms
            if is_new:
                self._floor_offset_ms = signed_ms - boottime_ms
                self._boots = 0
            if is_fresh:
                self._set(signed_ms, boottime_ms)
            elif is_new:
                self._read_now()
            else:
                return
            self._write()

    def confirm(self, now_ms: int) -> None:
        """An admin says what time it is. May take the time back, never below the floor; raises InvalidField.

        Let it be audited, and done only with a credential that does not expire.
        """
        with self._lock:
            boottime_ms = self._boottime_ms()
            floor_ms = max(self._floor_now(boottime_ms), _EARLIEST_MS)
            if now_ms < floor_ms - self._skew_ms:
                raise InvalidField("now_ms", f"{now_ms} is before {floor_ms}, which is proven to have passed")
            self._boots = 0
            self._set(now_ms, boottime_ms)
            self._write()

    async def keep(self) -> None:
        """Keep the file ahead of what is given, every 30 s until cancelled, so that `now_ms` need not."""
        while True:
            await anyio.sleep(_WRITE_EVERY_S)
            await anyio.to_thread.run_sync(self.save)

    def save(self) -> None:
        with self._lock:
            self._read_now()
            self._write()

    # --- with the lock held ---

    @property
    def _skew_ms(self) -> int:
        return int(self._settings.skew_s * 1000)

    def _floor_now(self, boottime_ms: int) -> int:
        return 0 if self._floor_offset_ms is None else boottime_ms + self._floor_offset_ms

    def _set(self, now_ms: int, boottime_ms: int) -> None:
        """Where the floor is above, the next reading says so."""
        self._last_ms = now_ms
        self._offset_ms = now_ms - boottime_ms
        self._is_known = True
        self._is_lost = self._is_first_of_boot = False

    def _read_now(self) -> int:
        wall_ms, boottime_ms = self._wall_ms(), self._boottime_ms()
        floor_ms = self._floor_now(boottime_ms)
        expected_ms = max(boottime_ms + self._offset_ms, floor_ms)
        if self._is_first_of_boot:
            expected_ms = max(expected_ms, self._last_ms)
        jump_ms = self._skew_ms if self._is_known else self._settings.max_jump_days * _DAY_MS
        if wall_ms < expected_ms - self._skew_ms:
            self._reason, now_ms = "behind", expected_ms
        elif wall_ms > max(expected_ms, self._last_ms) + jump_ms:
            self._reason, now_ms = "ahead", expected_ms
        else:
            self._reason, now_ms = "ok", max(wall_ms, floor_ms)
        # The mark is a little ahead of what was given: in a new boot a wall clock that is believed sets the pace.
        pace_ms = now_ms if self._is_first_of_boot else max(now_ms, expected_ms)
        self._offset_ms = pace_ms - boottime_ms
        self._is_first_of_boot = False
        self._last_ms = max(self._last_ms, now_ms)
        return self._last_ms

    def _verdict(self) -> Reason:
        if self._is_lost:
            return "lost"
        if self._reason != "ok":
            return self._reason
        limit = self._settings.max_boots
        if limit is not None and self._floor_offset_ms is not None and self._boots > limit:
            return "boots"
        return "ok" if self._is_written else "unwritable"

    def _write(self, *, is_last: bool = False) -> None:
        boottime_ms = self._boottime_ms()
        time_ms = boottime_ms + self._offset_ms
        state = _State(
            # From the time and not from the last mark: a run of crashes would else carry the mark away.
            mark_ms=self._last_ms if is_last else max(self._last_ms, time_ms + _RESERVE_MS), time_ms=time_ms,
            floor_ms=self._floor_now(boottime_ms), boottime_ms=boottime_ms, boot_id=self._boot_id, boots=self._boots,
            is_known=self._is_known, is_lost=self._is_lost,
        )  # fmt: skip
        try:
            write_private(self._file, msgspec.json.encode(state))
        except OSError as error:
            if self._is_written:
                log.warning("clock_file_unwritable", file=str(self._file), reason=error.strerror)
            self._is_written = False
            self._reserved_ms = self._last_ms + 1000  # when to try again
        else:
            self._is_written = True
            self._reserved_ms = state.mark_ms


def _read(file: Path) -> _State | None:
    """None for one that is not there, or that no clock has written."""
    try:
        with file.open("rb") as opened:
            state = msgspec.json.decode(opened.read(_MAX_FILE_BYTES), type=_State)
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    is_sound = (
        state.version == 1
        and _EARLIEST_MS <= state.time_ms <= state.mark_ms + _DAY_MS < 1 << 62
        and min(state.floor_ms, state.boottime_ms, state.boots) >= 0
    )
    return state if is_sound else None
