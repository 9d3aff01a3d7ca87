"""What the audit costs: an entry with the writer's share, a repeat, verifying, judging again."""

import asyncio
import time
from pathlib import Path

from autoglm.auth.audit.heads import HEAD_FILE_NAME, HeadFile, HeadKeys
from autoglm.auth.audit.inspection import verify
from autoglm.auth.audit.recorder import Audit
from autoglm.auth.audit.rejudge import Conflict, Operation, judge_revocation, rejudge
from autoglm.auth.audit.settings import AuditSettings
from autoglm.auth.principal import Principal
from autoglm.auth.tokens.signing import SigningKey
from autoglm.store import StoreSettings, open_journal, open_store

PEOPLE = [Principal(f"p{n}", f"user:p{n}", ("admin:*",)) for n in range(100)]
OPERATIONS = 100_000


class CountedClock:
    """A millisecond passes with each decision, so that the number of conflicts is known."""

    is_trusted = True
    boots = 0
    ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms


async def measure(folder: Path, entries: int) -> dict[str, float]:
    clock, key = CountedClock(), SigningKey.generate()
    begin_ms = clock.ms
    heads = HeadFile(folder / HEAD_FILE_NAME)

    def judge(operation: Operation) -> Conflict | None:
        is_revoked = operation.address.endswith("7")
        return judge_revocation(operation, begin_ms + OPERATIONS // 2, operation.address) if is_revoked else None

    async with open_store(folder, StoreSettings()) as store:
        audit = Audit(store.journal, clock, site="bench", signer=key, heads=heads, settings=AuditSettings())
        await audit.start()

        async def decide(count: int) -> None:
            for n in range(count):
                clock.ms += 1
                audit.decision(PEOPLE[n % 100], "send:message", "user:bob", is_allowed=True)
                if n % 64 == 63:
                    await asyncio.sleep(0)
                if n % 4096 == 4095:
                    await audit.written()
            await audit.written()

        began_s = time.process_time()
        await decide(OPERATIONS)
        entry_us = (time.process_time() - began_s) / OPERATIONS * 1e6
        began_s = time.process_time()
        for _ in range(OPERATIONS):
            audit.decision(PEOPLE[0], "model:use", "glm", is_allowed=True)
        repeat_us = (time.process_time() - began_s) / OPERATIONS * 1e6
        began_s = time.perf_counter()
        judged = await rejudge(audit, store.journal, store.keyvalue, judge)
        rejudge_s = time.perf_counter() - began_s
        # One more than half of those ten people's: that of the moment itself.
        assert judged.conflicts in (OPERATIONS // 20, OPERATIONS // 20 + 1), judged
        for _ in range((entries - store.journal.last().seq) // 1000):
            await decide(999)
            await audit.sign()
        await audit.stop()
    kept = heads.load()
    began_s = time.perf_counter()
    with open_journal(folder) as journal:
        report = verify(journal, HeadKeys([key.public]), () if kept is None else kept.all())
    verify_s = time.perf_counter() - began_s
    assert report.is_right, report.findings[:3]
    return {
        "entry_us": entry_us, "repeat_us": repeat_us, "rejudge_s": rejudge_s,
        "verify_s_per_million": verify_s / report.summary.entries * 1e6,
        "conflicts": judged.conflicts, "bytes_per_entry": (folder / "hub.db").stat().st_size / report.summary.entries,
    }  # fmt: skip
