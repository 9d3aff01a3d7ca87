"""Counts how questions to people end, for the metrics."""

from collections import Counter

import anyio
import structlog
from anyio.abc import TaskGroup

from autoglm.channels.questions import QUESTIONS, Questions, State, begun
from autoglm.core.clock import now_ms
from autoglm.core.errors import HubError
from autoglm.core.ports import Log, Record

MOST_WATCHED = 2_000
"""Each open one costs a task; what is asked while there are so many is not counted."""
_PAGE = 100
_LONGEST_WAIT_S = 3_600.0
_AGAIN_S = 5.0

log = structlog.get_logger()


class QuestionCounts:
    """`run` in a task. What ended before that is not counted."""

    def __init__(self, store: Log, questions: Questions) -> None:
        self._log = store
        self._questions = questions
        self.open = 0
        self.ended: Counter[State] = Counter()

    async def run(self) -> None:
        """Until cancelled."""
        start_seq = await self._log.last_seq()
        after = 0
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    records = await self._log.next(QUESTIONS, after=after, limit=_PAGE, timeout_s=_LONGEST_WAIT_S)
                except HubError as error:  # counting must not end the hub
                    log.warning("questions_not_counted", reason=str(error))
                    await anyio.sleep(_AGAIN_S)
                    continue
                for record in records:
                    after = record.seq
                    self._begin(record, tasks, is_old=record.seq <= start_seq)

    def _begin(self, record: Record, tasks: TaskGroup, *, is_old: bool) -> None:
        id, expires_at = begun(record)
        if self.open < MOST_WATCHED and not (is_old and expires_at <= now_ms()):
            self.open += 1
            tasks.start_soon(self._watch, id, is_old)

    async def _watch(self, id: str, is_old: bool) -> None:
        """is_old: it may have been answered before the hub's start."""
        try:
            if not is_old or (await self._questions.get(id)).state == "open":
                self.ended[(await self._questions.wait_end(id)).state] += 1
        except HubError as error:  # such as retention, which took it
            log.info("question_not_counted", reason=str(error))
        finally:
            self.open -= 1
