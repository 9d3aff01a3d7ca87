"""The trusted clock: what moves it, what does not, and what an untrusted one withholds."""

import json
import math
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from autoglm.auth.clock import ClockSettings, TrustedClock, boot_id_now, boottime_now_ms
from autoglm.auth.scopes import any_covers, flaw
from autoglm.core.errors import InvalidField

START_MS = 1_800_000_000_000
SECOND_MS, HOUR_MS, DAY_MS = 1000, 3_600_000, 86_400_000
SKEW_MS = 60_000


class Machine:
    """A computer whose clocks the test moves; the hub's clock runs on it."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.file = folder / "clock.json"
        self.settings = ClockSettings.model_validate(settings)
        self.wall_ms = START_MS
        self.boottime_ms = 5000
        self.boots = 0
        self.evidence_ms = 0
        self.clock = self.open()
        (folder / "site.key").write_text("made after the clock")

    def open(self) -> TrustedClock:
        self.clock = TrustedClock.open(
            self.file, self.settings, at_least_ms=self.evidence_ms, wall_ms=lambda: self.wall_ms,
            boottime_ms=lambda: self.boottime_ms, boot_id=lambda: f"boot-{self.boots}",
        )  # fmt: skip
        return self.clock

    def run(self, ms: int) -> None:
        self.wall_ms += ms
        self.boottime_ms += ms

    def reboot(self, off_ms: int = 0, *, wall_ms: int | None = None) -> TrustedClock:
        """A power cut: nothing is closed. wall_ms: what the wall clock says afterwards."""
        self.boots += 1
        self.boottime_ms = 2000
        self.wall_ms = self.wall_ms + off_ms if wall_ms is None else wall_ms
        return self.open()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_first_start_believes_the_wall_clock(machine: Machine) -> None:
    assert (machine.clock.now_ms(), machine.clock.is_trusted, machine.clock.boots) == (START_MS, True, 0)
    machine.run(HOUR_MS)
    assert machine.clock.now_ms() == START_MS + HOUR_MS
    assert machine.file.stat().st_mode & 0o777 == 0o600


def test_a_first_start_before_any_hub_ran_is_untrusted(tmp_path: Path) -> None:
    fresh = Machine(tmp_path)
    fresh.file.unlink()
    (tmp_path / "site.key").unlink()
    fresh.wall_ms = 0
    assert fresh.open().reason == "behind"


# --- back ---


@pytest.mark.attack("clock set back")
def test_a_clock_set_back_stops_nothing_from_expiring(machine: Machine) -> None:
    expires_ms = machine.clock.now_ms() + HOUR_MS
    machine.run(2 * HOUR_MS)
    assert machine.clock.now_ms() > expires_ms
    machine.wall_ms = START_MS
    assert machine.clock.now_ms() == START_MS + 2 * HOUR_MS
    assert machine.clock.reason == "behind"
    machine.run(HOUR_MS)
    assert machine.clock.now_ms() == START_MS + 3 * HOUR_MS


@pytest.mark.attack("clock set back")
def test_a_clock_set_back_by_less_than_the_skew_each_minute_does_not_stop_the_time(machine: Machine) -> None:
    for _ in range(60):
        machine.boottime_ms += 60_000  # the wall clock is set back by a minute, each minute
        machine.clock.now_ms()
    assert machine.clock.now_ms() >= START_MS + HOUR_MS - SKEW_MS
    assert machine.clock.reason == "behind"


@pytest.mark.attack("clock set back")
@pytest.mark.parametrize("is_closed", [True, False])
def test_a_restart_does_not_forget_the_mark(machine: Machine, is_closed: bool) -> None:
    machine.run(44 * SECOND_MS)
    before_ms = machine.clock.now_ms()
    if is_closed:
        machine.clock.close()
    machine.wall_ms = START_MS - DAY_MS
    assert machine.open().now_ms() >= before_ms
    assert not machine.clock.is_trusted


def test_a_run_of_crashes_does_not_carry_the_mark_away(machine: Machine) -> None:
    for _ in range(50):
        machine.reboot(5 * SECOND_MS)
    assert machine.clock.is_trusted
    assert machine.clock.now_ms() <= machine.wall_ms + SKEW_MS


def test_suspend_counts(machine: Machine) -> None:
    machine.boottime_ms += DAY_MS  # CLOCK_BOOTTIME went on; the wall clock stood still
    assert machine.clock.now_ms() == START_MS + DAY_MS


# --- forward ---


@pytest.mark.attack("clock set forward")
def test_a_step_of_years_poisons_nothing(machine: Machine) -> None:
    machine.wall_ms += 3650 * DAY_MS
    assert machine.clock.now_ms() == START_MS
    assert machine.clock.reason == "ahead"
    machine.clock.close()
    machine.wall_ms = START_MS + HOUR_MS
    assert (machine.open().now_ms(), machine.clock.is_trusted) == (START_MS + HOUR_MS, True)


@pytest.mark.attack("clock set forward")
def test_a_step_that_was_followed_is_taken_back_by_an_admin(machine: Machine) -> None:
    machine.wall_ms += 100 * DAY_MS
    assert machine.clock.now_ms() == START_MS + 100 * DAY_MS
    machine.wall_ms = START_MS + HOUR_MS
    assert machine.clock.reason == "behind"
    machine.clock.confirm(machine.wall_ms)
    assert (machine.clock.now_ms(), machine.clock.is_trusted) == (START_MS + HOUR_MS, True)
    assert machine.open().now_ms() < START_MS + 2 * HOUR_MS


@pytest.mark.attack("clock set forward")
def test_a_step_that_was_followed_is_taken_back_by_a_fresh_signed_time(machine: Machine) -> None:
    machine.wall_ms += 100 * DAY_MS
    machine.clock.now_ms()
    machine.clock.saw(START_MS + HOUR_MS, is_fresh=True)
    assert machine.clock.now_ms() == START_MS + HOUR_MS
    assert machine.clock.reason == "ahead"  # the wall clock is still wrong, and is not followed again
    assert machine.open().now_ms() < START_MS + 2 * HOUR_MS


@pytest.mark.attack("clock set forward")
def test_a_signed_time_that_was_kept_back_takes_nothing_back(machine: Machine) -> None:
    machine.run(30 * DAY_MS)
    machine.clock.now_ms()
    machine.wall_ms = START_MS + 5 * DAY_MS
    machine.clock.saw(START_MS + 5 * DAY_MS)
    assert machine.clock.now_ms() == START_MS + 30 * DAY_MS
    assert not machine.clock.is_trusted


def test_after_years_without_power_a_signed_time_settles_it(machine: Machine) -> None:
    machine.reboot(700 * DAY_MS)
    assert machine.clock.reason == "ahead"
    machine.clock.saw(machine.wall_ms - DAY_MS)
    assert (machine.clock.now_ms(), machine.clock.is_trusted) == (machine.wall_ms, True)


def test_no_act_takes_the_time_below_what_is_proven(machine: Machine) -> None:
    machine.clock.saw(START_MS + DAY_MS)
    machine.run(HOUR_MS)
    with pytest.raises(InvalidField, match="proven"):
        machine.clock.confirm(START_MS)
    machine.clock.saw(START_MS, is_fresh=True)
    assert machine.clock.now_ms() == START_MS + DAY_MS + HOUR_MS


# --- boots ---


@pytest.mark.attack("reboot without a clock")
def test_boots_without_a_signed_time_are_limited(tmp_path: Path) -> None:
    machine = Machine(tmp_path, max_boots=3)
    machine.clock.saw(START_MS)
    for boots in (1, 2, 3):
        assert machine.reboot(5 * SECOND_MS).is_trusted
        assert machine.clock.boots == boots
    assert machine.reboot(5 * SECOND_MS).reason == "boots"
    machine.clock.saw(START_MS)  # seen before
    assert machine.clock.reason == "boots"
    machine.clock.saw(machine.wall_ms)
    assert (machine.clock.is_trusted, machine.clock.boots) == (True, 0)


def test_a_restart_in_the_same_boot_is_no_boot(machine: Machine) -> None:
    for _ in range(5):
        machine.open()
    assert machine.clock.boots == 0


def test_a_hub_that_never_saw_a_signed_time_may_boot_as_often_as_it_likes(tmp_path: Path) -> None:
    machine = Machine(tmp_path, max_boots=1)
    for _ in range(5):
        machine.reboot(5 * SECOND_MS)
    assert machine.clock.is_trusted


@pytest.mark.attack("reboot without a clock")
def test_a_boot_without_a_battery_goes_on_from_the_mark(machine: Machine) -> None:
    machine.run(DAY_MS)
    before_ms = machine.clock.now_ms()
    machine.reboot(wall_ms=0)
    assert machine.clock.now_ms() >= before_ms
    machine.run(HOUR_MS)
    assert machine.clock.now_ms() >= before_ms + HOUR_MS
    assert machine.clock.reason == "behind"


# --- the file ---


@pytest.mark.attack("clock file deleted or damaged")
@pytest.mark.parametrize("left", [None, b"", b"{}", b"\xff", b'{"a":' + b"[" * 5000, "old", "negative"], ids=str)
def test_a_lost_file_is_no_fresh_start(machine: Machine, left: bytes | str | None) -> None:
    known = json.loads(machine.file.read_bytes())
    match left:
        case None:
            machine.file.unlink()
        case "old":
            machine.file.write_text(json.dumps(known | {"mark_ms": 5, "time_ms": 5}))
        case "negative":
            machine.file.write_text(json.dumps(known | {"boots": -5}))
        case bytes():
            machine.file.write_bytes(left)
    machine.evidence_ms = START_MS + DAY_MS
    assert machine.open().now_ms() >= START_MS + DAY_MS
    assert machine.open().reason == "lost"  # a restart launders nothing
    machine.clock.saw(START_MS + DAY_MS)  # nor does a signed time that may have been seen before
    assert machine.clock.reason == "lost"
    machine.wall_ms = START_MS + DAY_MS
    machine.clock.confirm(machine.wall_ms)
    assert machine.clock.is_trusted


def test_a_clock_that_cannot_write_is_untrusted_and_goes_on(machine: Machine) -> None:
    machine.file.with_name("clock.json.new").mkdir()
    machine.run(HOUR_MS)
    assert machine.clock.now_ms() == START_MS + HOUR_MS
    assert machine.clock.reason == "unwritable"
    machine.file.with_name("clock.json.new").rmdir()
    machine.run(HOUR_MS)
    machine.clock.now_ms()
    assert machine.clock.is_trusted


def test_the_file_is_written_at_most_every_30_s_of_running(machine: Machine) -> None:
    marks = set()
    for _ in range(3000):
        machine.run(100)
        now_ms = machine.clock.now_ms()
        marks.add(json.loads(machine.file.read_bytes())["mark_ms"])
        assert max(marks) >= now_ms
    assert len(marks) <= 300 / 30 + 1


# --- scopes ---


def test_an_untrusted_clock_withholds_what_administers(machine: Machine) -> None:
    scopes = ("admin:policy", "admin:clock", "send:message", "model:use:*")
    assert machine.clock.scopes_for(scopes) == scopes
    machine.wall_ms = 0
    assert machine.clock.scopes_for(scopes) == ("send:message", "model:use:*")
    assert machine.clock.scopes_for(scopes, has_expiry=False) == ("send:message", "model:use:*", "admin:clock")
    assert machine.clock.scopes_for(["admin:policy"], has_expiry=False) == ()


def test_an_admin_on_an_untrusted_clock_may_do_all_else(machine: Machine) -> None:
    machine.wall_ms = 0
    left = machine.clock.scopes_for(["admin:*", "send:message"])
    assert flaw(left) is None
    acts = ["model:use glm", "send:message user:a", "read:message user:a", "read:metrics", "read:audit", "tenant x"]
    assert all(any_covers(left, *act.split(" ")) for act in acts)
    assert not any_covers(left, "admin", "people")
    assert not any_covers(left, "admin", "clock")
    assert any_covers(machine.clock.scopes_for(["admin:*"], has_expiry=False), "admin", "clock")


def test_the_real_clocks(tmp_path: Path) -> None:
    clock = TrustedClock.open(tmp_path / "clock.json", ClockSettings())
    assert clock.is_trusted
    assert clock.now_ms() <= clock.now_ms()
    assert boot_id_now() == boot_id_now()
    assert boottime_now_ms() > 0


# --- any sequence ---


class AnySequence(RuleBasedStateMachine):
    """No sequence of steps, boots, suspends, restarts and lost files takes the time back or raises a right."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.machine = Machine(self.folder, max_boots=3)
        self.highest_ms = self.machine.clock.now_ms()
        self.floor_ms = 0
        self.is_lost = False
        self.boots = 0

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(ms=st.integers(0, 3 * HOUR_MS))
    def run(self, ms: int) -> None:
        self.machine.run(ms)
        if self.floor_ms:
            self.floor_ms += ms

    @rule(ms=st.integers(-400 * DAY_MS, 400 * DAY_MS) | st.integers(-2 * SKEW_MS, 2 * SKEW_MS))
    def step_the_wall_clock(self, ms: int) -> None:
        self.machine.wall_ms = max(0, self.machine.wall_ms + ms)

    @rule(ms=st.integers(0, DAY_MS), wall_counts=st.booleans())
    def suspend(self, ms: int, wall_counts: bool) -> None:
        self.machine.boottime_ms += ms
        self.machine.wall_ms += ms if wall_counts else 0
        if self.floor_ms:
            self.floor_ms += ms

    @rule(off_ms=st.integers(0, 10 * DAY_MS), has_battery=st.booleans())
    def cut_the_power(self, off_ms: int, has_battery: bool) -> None:
        self.machine.evidence_ms = self.highest_ms
        self.machine.reboot(off_ms, wall_ms=None if has_battery else 0)
        self.boots += 1

    @rule(is_closed=st.booleans())
    def restart(self, is_closed: bool) -> None:
        if is_closed:
            self.machine.clock.close()
        self.machine.evidence_ms = self.highest_ms
        self.machine.open()

    @rule(content=st.none() | st.binary(max_size=50))
    def lose_the_file(self, content: bytes | None) -> None:
        self.machine.file.unlink()
        if content is not None:
            self.machine.file.write_bytes(content)
        self.machine.evidence_ms = self.highest_ms  # what the store shows
        self.machine.open()
        self.is_lost = True
        self.floor_ms = self.boots = 0

    @rule(ahead_ms=st.integers(-30 * DAY_MS, 30 * DAY_MS))
    def see_a_signed_time(self, ahead_ms: int) -> None:
        signed_ms = START_MS + ahead_ms
        self.machine.clock.saw(signed_ms)
        if signed_ms > self.floor_ms:
            self.floor_ms = signed_ms
            self.boots = 0

    @precondition(lambda self: self.is_lost)
    @rule()
    def an_admin_confirms_what_is_later(self) -> None:
        self.machine.wall_ms = max(self.highest_ms, self.floor_ms)
        self.machine.clock.confirm(self.machine.wall_ms)
        self.is_lost = False
        self.boots = 0

    @invariant()
    def nothing_that_expired_is_valid_again(self) -> None:
        if not hasattr(self, "machine"):
            return
        now_ms = self.machine.clock.now_ms()
        assert now_ms >= self.highest_ms
        assert now_ms >= self.floor_ms
        self.highest_ms = now_ms

    @invariant()
    def nothing_is_trusted_that_should_not_be(self) -> None:
        if not hasattr(self, "machine"):
            return
        if self.is_lost:
            assert self.machine.clock.reason == "lost"
        if self.machine.wall_ms < self.highest_ms - max(SKEW_MS, 45_000) - 45_000:
            assert not self.machine.clock.is_trusted
        if self.floor_ms and self.boots > 3:
            assert not self.machine.clock.is_trusted


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = hypothesis_settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_the_skew_covers_the_reserve() -> None:
    """A crash must not make a right wall clock look set back."""
    assert math.isclose(ClockSettings.model_fields["skew_s"].metadata[0].ge * 1000, 45_000)
