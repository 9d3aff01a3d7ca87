"""A local worker that hangs under a request is noticed within 2 s and replaced; one that works is left."""

import os
import signal
from pathlib import Path

import anyio
import pytest

from autoglm.core.clock import monotonic_s
from inference.local_pool import links, local, local_pool

pytestmark = pytest.mark.model


async def test_a_worker_that_hangs_under_a_request_is_replaced_and_the_request_answered(
    tmp_path: Path, small_model_path: Path
) -> None:
    async with local_pool(links(tmp_path, small_model_path, ["m"]), local("a", "m")) as pool:
        await pool.ask("m")
        worker = pool.scheduler.instances["a"].process
        assert worker is not None
        hung = worker.pid
        os.kill(hung, signal.SIGSTOP)
        began_s = monotonic_s()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool.ask, "m")  # raises when it gets no answer
            with anyio.fail_after(2.0):
                while pool.state("a") == "ready":  # noqa: ASYNC110  # a probe decides; there is no event to wait for
                    await anyio.sleep(0.01)
        assert monotonic_s() - began_s < 60
        assert pool.state("a") == "ready"
        assert worker.pid != hung


async def test_a_worker_that_is_busy_with_a_long_prompt_is_not_replaced(tmp_path: Path, small_model_path: Path) -> None:
    settings = local("a", "m", context_tokens=1024, slots=1)
    async with local_pool(links(tmp_path, small_model_path, ["m"]), settings) as pool:
        await pool.ask("m")
        instance = pool.scheduler.instances["a"]
        assert instance.process is not None
        pid, alarms = instance.process.pid, []
        alarm = instance._alarm
        assert alarm is not None
        instance._alarm = lambda: (alarms.append(monotonic_s()), alarm())  # type: ignore[assignment,func-returns-value]
        await pool.ask("m", prompt="word " * 700)
        assert alarms, "it was in doubt"
        assert instance.process.pid == pid
        with anyio.fail_after(2.0):
            while instance.is_suspect:  # noqa: ASYNC110  # as above
                await anyio.sleep(0.01)
