"""The Log against a model: a plain list."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.core.errors import DuplicateId
from autoglm.core.ports import Appended, NewRecord
from autoglm.store import Store, StoreSettings, open_store

SUBJECTS = ("x", "y", "z")
FAR_FUTURE_MS = 2**52

new_records = st.builds(
    NewRecord,
    id=st.sampled_from([f"id-{n}" for n in range(12)]),
    digest=st.sampled_from([b"1", b"1", b"1", b"2"]),
    subjects=st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=4).map(tuple),
    body=st.binary(max_size=20),
    expires_at_ms=st.sampled_from([None, None, FAR_FUTURE_MS, 1]),
)
operations = st.lists(new_records, min_size=1, max_size=3)
"""One item is `append`, more are `append_all`."""
bursts = st.lists(operations, min_size=1, max_size=6)
"""Operations that run at the same time, and so end up in the same transactions."""


class Model:
    def __init__(self) -> None:
        self.kept: list[NewRecord] = []

    def append_all(self, records: Sequence[NewRecord]) -> list[tuple[str, bool]] | None:
        """The id and whether it is new, for each; None when the operation is refused."""
        kept = list(self.kept)
        outcome = []
        for record in records:
            known = next((other for other in kept if other.id == record.id), None)
            if known is None:
                kept.append(record)
            elif known.digest != record.digest:
                return None
            outcome.append((record.id, known is None))
        self.kept = kept
        return outcome

    def read(self, subjects: Sequence[str]) -> list[tuple[str, bytes]]:
        return [
            (record.id, record.body)
            for record in self.kept
            if record.expires_at_ms != 1 and set(subjects) & set(record.subjects)
        ]


async def append(store: Store, records: Sequence[NewRecord]) -> list[Appended]:
    return [await store.log.append(records[0])] if len(records) == 1 else await store.log.append_all(records)


async def check_burst(store: Store, model: Model, burst: Sequence[Sequence[NewRecord]]) -> None:
    results = await asyncio.gather(*(append(store, records) for records in burst), return_exceptions=True)
    for records, result in zip(burst, results, strict=True):
        wanted = model.append_all(records)
        if wanted is None:
            assert isinstance(result, DuplicateId)
            continue
        assert isinstance(result, list), result
        assert [(record.id, r.is_new) for record, r in zip(records, result, strict=True)] == wanted


async def check_reads(store: Store, model: Model, position: int, limit: int) -> None:
    """Every read starts somewhere in the log and gives what a slice of the list gives."""
    for subjects in (("x",), ("y",), ("z", "x")):
        wanted = model.read(subjects)
        found = await store.log.next(*subjects, after=0, limit=1000, timeout_s=0)
        assert [(record.id, record.body) for record in found] == wanted
        seqs = [0, *(record.seq for record in found)]
        assert seqs == sorted(set(seqs))
        start = min(position, len(wanted))
        page = await store.log.next(*subjects, after=seqs[start], limit=limit, timeout_s=0)
        assert page == found[start : start + limit]
        if len(subjects) == 1:
            assert await store.log.read(subjects[0], after=seqs[start], limit=limit) == page
            assert await store.log.read_last(subjects[0], limit=limit) == found[-limit:]


@settings(max_examples=40, deadline=None)
@given(
    lives=st.lists(st.lists(bursts, min_size=1, max_size=3), min_size=1, max_size=2),
    tail_max_records=st.sampled_from([1, 4, 1000]),
    position=st.integers(0, 12),
    limit=st.integers(1, 5),
)
async def test_the_log_is_a_list(
    lives: list[list[list[list[NewRecord]]]], tail_max_records: int, position: int, limit: int
) -> None:
    """Each life opens the store anew; the tail is sometimes too short for what is read."""
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        for life in lives:
            async with open_store(Path(folder), StoreSettings(tail_max_records=tail_max_records)) as store:
                await check_reads(store, model, position, limit)
                for burst in life:
                    await check_burst(store, model, burst)
                    await check_reads(store, model, position, limit)
