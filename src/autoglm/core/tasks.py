"""A task group that lets a lone failure out bare, so that callers can catch one HubError."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def one_task_group() -> AsyncIterator[TaskGroup]:
    """Like anyio's task group; if exactly one task failed, its own exception comes out instead of a group.

    Enter streams before the group, so that they close after its tasks.
    """
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        if isinstance(alone, BaseExceptionGroup):
            raise
        raise alone from None
