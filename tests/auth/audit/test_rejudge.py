"""What was allowed offline is judged again: exactly, once, whatever comes in between."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audited import ALICE, PRESS, Site
from autoglm.auth.audit.conflicts import Conflicts
from autoglm.auth.audit.rejudge import Conflict, ConflictKind, Judge, Operation, judge_revocation, rejudge
from autoglm.auth.principal import Principal
from autoglm.core.errors import InvalidField, NotFound


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def revoking(revoked_at_ms: dict[str, int]) -> Judge:
    def judge(operation: Operation) -> Conflict | None:
        at_ms = revoked_at_ms.get(operation.address)
        return None if at_ms is None else judge_revocation(operation, at_ms, operation.address)

    return judge


def operation(begins_ms: int, ends_ms: int, *, is_clock_trusted: bool = True) -> Operation:
    return Operation(
        seq=1, begins_ms=begins_ms, ends_ms=ends_ms, is_clock_trusted=is_clock_trusted, boot=0, policy_version=1,
        is_offline=True, count=2, address="device:press-7", name="press-7", credential="jkt:p", action="model:use",
        resource="glm",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("begins_ms", "ends_ms", "is_clock_trusted", "kind"),
    [
        (101, 101, True, "revoked_since"),
        (100, 100, True, "revoked_since"),
        (99, 99, True, None),
        (99, 100, True, "time_unsure"),
        (99, 200, True, "time_unsure"),
        (50, 99, True, None),
        (100, 200, True, "revoked_since"),
        (50, 60, False, "time_unsure"),
        (150, 160, False, "time_unsure"),
    ],
)
def test_what_a_revocation_at_100_means(
    begins_ms: int, ends_ms: int, is_clock_trusted: bool, kind: ConflictKind | None
) -> None:
    conflict = judge_revocation(operation(begins_ms, ends_ms, is_clock_trusted=is_clock_trusted), 100, "press-7")
    assert (None if conflict is None else conflict.kind) == kind


@pytest.mark.attack("a key is revoked while the site is offline")
async def test_what_a_revoked_device_did_after_is_listed_and_what_it_did_before_is_not(site: Site) -> None:
    revoked_at_ms = site.clock.ms + 5
    async with site.running() as (store, audit):
        audit.is_offline = True
        for n in range(10):
            site.clock.ms += 1
            audit.decision(PRESS, "send:message", f"user:{n}", is_allowed=True)
            audit.decision(ALICE, "send:message", f"user:{n}", is_allowed=True)
            audit.decision(PRESS, "admin", f"area-{n}", is_allowed=False)
        audit.policy_version = 2
        judged = await rejudge(audit, store.journal, store.keyvalue, revoking({PRESS.address: revoked_at_ms}))
        conflicts = (await Conflicts(store.journal, audit).list()).all()
    assert (judged.operations, judged.conflicts, judged.erased) == (20, 6, 0)
    assert [(conflict.who, conflict.resource) for conflict in conflicts] == [
        ("device:press-7", f"user:{n}") for n in range(4, 10)
    ]
    assert {(found.kind, found.why, found.policy_version) for found in conflicts} == {
        ("revoked_since", "device:press-7 had been revoked", 2)
    }
    by_seq = {entry.seq: personal for entry, personal in site.entries()}
    assert [by_seq[found.operation].resource for found in conflicts] == [f"user:{n}" for n in range(4, 10)]
    assert site.problems() == []


async def test_a_second_time_judges_only_what_is_new_and_repeats_nothing(site: Site) -> None:
    judge = revoking({PRESS.address: site.clock.ms})
    async with site.running() as (store, audit):
        for turn in range(3):
            audit.act("send", PRESS)
            audit.decision(ALICE, "send:message", "a", is_allowed=True)
            judged = await rejudge(audit, store.journal, store.keyvalue, judge)
            assert (judged.operations, judged.conflicts) == (2, 1), turn
        again = await rejudge(audit, store.journal, store.keyvalue, judge, after=0)
        assert (again.operations, again.conflicts) == (6, 0)
        both = revoking({PRESS.address: site.clock.ms, ALICE.address: site.clock.ms})
        earlier = await rejudge(audit, store.journal, store.keyvalue, both, after=0)
        assert (earlier.operations, earlier.conflicts) == (6, 3)
        later = await rejudge(audit, store.journal, store.keyvalue, both)
        assert (later.operations, later.conflicts) == (0, 0)


async def test_a_sum_counts_as_many_operations_but_has_one_conflict(site: Site) -> None:
    async with site.running() as (store, audit):
        for _ in range(6):
            audit.decision(PRESS, "model:use", "glm", is_allowed=True)
        audit.close_sums(older_than_s=0)
        judged = await rejudge(audit, store.journal, store.keyvalue, revoking({PRESS.address: 0}))
    assert (judged.operations, judged.conflicts) == (6, 2)  # the first one, and the sum of the others


async def test_what_was_erased_and_what_the_hub_did_is_nobodys_conflict(site: Site) -> None:
    async with site.running() as (store, audit):
        audit.act("send", PRESS)
        audit.act("hub:tidies-up", None)
        await audit.written()
        audit.act("audit:erase", ALICE, kind="erase", erases=((2, 2),))
        judged = await rejudge(
            audit, store.journal, store.keyvalue, lambda _: Conflict("scope_lost", "it may not do that any more")
        )
    assert (judged.operations, judged.conflicts, judged.erased) == (1, 1, 1)  # the one is Alice's erasing


async def test_settling_says_who_and_why_and_happens_once(site: Site) -> None:
    async with site.running() as (store, audit):
        for _ in range(2):
            audit.act("send", PRESS)
        await rejudge(audit, store.journal, store.keyvalue, revoking({PRESS.address: 0}))
        conflicts = Conflicts(store.journal, audit)
        first, second = (await conflicts.list()).all()
        settled = await conflicts.settle(first.operation, "accept", ALICE, "seen on camera")
        assert settled.settled is not None
        assert (settled.settled.verdict, settled.settled.who) == ("accept", "user:alice")
        assert settled.settled.why == "seen on camera"
        for verdict in ("accept", "reject"):
            with pytest.raises(InvalidField, match="settled already: accept"):
                await conflicts.settle(first.operation, verdict, ALICE, "again")
        with pytest.raises(InvalidField, match="say why"):
            await conflicts.settle(second.operation, "accept", ALICE, "  ")
        audit.act("audit:settle", PRESS, kind="settle", reason="reject", about=first.operation)  # past the check
        with pytest.raises(NotFound, match="conflict '999'"):
            await conflicts.settle(999, "accept", ALICE, "why not")
    async with site.running() as (store, audit):
        listed = await Conflicts(store.journal, audit).list()
        assert listed.all() == [second]
        assert listed.all(with_settled=True) == [settled, second]
    assert site.problems() == []


Step = tuple[int, int, bool, str, bool]
"""Milliseconds before it, who, is the clock trusted, what, and is it a repeat that is summed up."""
PEOPLE = [Principal(name, f"user:{name}", (), credential=f"session:{name}") for name in "abc"]
steps = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 2), st.booleans(), st.sampled_from(["send:message", "model:use"]),
        st.booleans(),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=40)
@given(steps, st.dictionaries(st.sampled_from(["user:a", "user:b"]), st.integers(0, 40)), st.lists(st.integers(0, 25)))
async def test_conflicts_are_those_of_a_naive_judge(
    steps: list[Step], revoked_after_ms: dict[str, int], cuts: list[int]
) -> None:
    """Judged in one go, or in any number of goes in between."""
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        begin_ms = site.clock.ms
        judge = revoking({who: begin_ms + after for who, after in revoked_after_ms.items()})
        async with site.running() as (store, audit):
            for index, (pause_ms, who, is_trusted, action, ends_sum) in enumerate(steps):
                site.clock.ms += pause_ms
                site.clock.is_trusted = is_trusted
                audit.decision(PEOPLE[who], action, "x", is_allowed=True)
                if ends_sum:
                    audit.close_sums(older_than_s=0)
                if index in cuts:
                    await rejudge(audit, store.journal, store.keyvalue, judge)
            audit.close_sums(older_than_s=0)
            await rejudge(audit, store.journal, store.keyvalue, judge)
            found = {c.operation: c.kind for c in (await Conflicts(store.journal, audit).list()).all()}
        expected = {}
        done = 0
        for entry, personal in site.entries():
            if entry.kind != "decision":
                continue
            done += entry.count
            revoked_ms = begin_ms + revoked_after_ms.get(personal.who, 10**9)
            if personal.who in revoked_after_ms and not entry.is_clock_trusted:
                expected[entry.seq] = "time_unsure"
            elif entry.begins_ms >= revoked_ms:
                expected[entry.seq] = "revoked_since"
            elif entry.ends_ms >= revoked_ms:
                expected[entry.seq] = "time_unsure"
        assert done == len(steps)
        assert found == expected


TESTS = Path(__file__).resolve().parents[2]
CHILD = """
import asyncio, sys
from pathlib import Path
from audited import Site
from autoglm.auth.audit.rejudge import Conflict, rejudge

async def main(folder):
    async with Site(Path(folder)).running() as (store, audit):
        def judge(operation):
            print(operation.seq, flush=True)
            return Conflict("scope_lost", "no") if operation.seq % 3 == 0 else None
        await rejudge(audit, store.journal, store.keyvalue, judge)

asyncio.run(main(sys.argv[1]))
"""


def killed_after(lines: int, site: Site) -> None:
    """Judge in a process of its own, and kill it after so many operations."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(site.folder)], stdout=subprocess.PIPE, text=True, cwd=TESTS
    ) as child:
        assert child.stdout is not None
        for _ in range(lines):
            assert child.stdout.readline()
        child.kill()
    assert child.returncode == -signal.SIGKILL


async def test_a_kill_in_the_middle_loses_and_doubles_nothing(site: Site) -> None:
    async with site.running() as (_, audit):
        for n in range(3000):
            audit.act(f"a{n}", ALICE)
    for lines in (40, 700, 1300):
        killed_after(lines, site)
    async with site.running() as (store, audit):
        await rejudge(
            audit, store.journal, store.keyvalue, lambda o: Conflict("scope_lost", "no") if o.seq % 3 == 0 else None
        )
    acts = [entry.seq for entry, _ in site.entries() if entry.kind == "act"]
    assert [entry.about for entry, _ in site.entries() if entry.kind == "conflict"] == [
        seq for seq in acts if seq % 3 == 0
    ]
