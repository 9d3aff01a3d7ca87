"""Learning takes a second of a thread; who waits for it takes none."""

import threading

import anyio
import anyio.to_thread

from autoglm.inference.intent.reader import IntentReader
from autoglm.inference.intent.taught import TaughtIntents
from inference.rows import Rows


class SlowReader(IntentReader):
    """Learns when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.times = 0

    def prepare(self) -> None:
        self.times += 1
        self.gate.wait()
        super().prepare()


async def test_fifty_who_wait_for_the_classifier_leave_the_threads_to_others() -> None:
    reader = SlowReader()
    taught = TaughtIntents(Rows(), reader)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(taught.learn)
        await anyio.wait_all_tasks_blocked()
        try:
            with anyio.fail_after(5):
                assert await anyio.to_thread.run_sync(lambda: "another's work") == "another's work"
        finally:
            reader.gate.set()
    assert reader.is_ready
    assert reader.times == 1, "the others found it learned"


async def test_what_was_taught_meanwhile_is_in_force_for_who_waits_for_it() -> None:
    reader = SlowReader()
    taught = TaughtIntents(Rows(), reader)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(taught.learn)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(taught.teach, "berth", ["which berth is ours", "where do we moor", "what pier do we take"])
        await anyio.wait_all_tasks_blocked()
        reader.gate.set()
    assert reader.is_current
    assert reader.read_text("where do we moor today").intent == "berth"
