"""A hub in this process, on an event loop in a thread of its own, for tests that look inside while they talk to it."""

import asyncio
import io
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from autoglm.app import Hub
from autoglm.gateway.settings import GatewaySettings
from autoglm.inference.settings import EngineSettings
from autoglm.settings import Settings
from eventually import wait_until

T = TypeVar("T")


class Inside:
    """The hub and its loop. `port` and `key` are for clients, `ask` runs something on the loop."""

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop, access_log: io.StringIO) -> None:
        self.hub = hub
        self.loop = loop
        self.access_log = access_log
        self.port = int(hub.url.rsplit(":", 1)[1])
        self.key = hub.admin_key_file.read_text().strip()
        self.stop: Callable[[], object] = lambda: None
        """Begins the shutdown, without waiting for its end."""

    def ask(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def count(self, read: Callable[[], int]) -> int:
        """A number, read on the loop."""

        async def on_loop() -> int:
            return read()

        return self.ask(on_loop())

    def tasks(self) -> int:
        """How many tasks there are, but for the one that counts."""
        return self.count(lambda: len(asyncio.all_tasks())) - 1

    def has_task(self, name: str) -> bool:
        """True while a task of that function runs."""
        return self.count(lambda: sum(name in task.get_name() for task in asyncio.all_tasks())) > 0

    @property
    def listeners(self) -> int:
        """Who listens for the words of answers."""
        return sum(len(listeners) for listeners in self.hub._messages._deltas._listeners.values())

    @property
    def readers(self) -> int:
        """Who waits for the next record, but for the hub itself."""
        tail = self.hub._mailbox._log._tail  # type: ignore[attr-defined]  # the port does not show it
        own = ("work", "outbox", "events", "questions")
        return sum(len(waiting) for subject, waiting in tail._waiting.items() if subject not in own)


def settings(**gateway: Any) -> Settings:
    """`auto` goes by the order of the instances, without exploring."""
    engine = EngineSettings(explore_share=0.0)
    return Settings(gateway=GatewaySettings(port=0, drain_s=5.0, **gateway), engine=engine)


@contextmanager
def hub_inside(data_dir: Path, chosen: Settings | None = None) -> Iterator[Inside]:
    ready = threading.Event()
    opened: list[Inside] = []
    failed: list[BaseException] = []

    async def serve() -> None:
        stopped = asyncio.Event()
        access_log = io.StringIO()
        async with Hub(chosen or settings(), data_dir, access_log=access_log) as hub:
            inside = Inside(hub, asyncio.get_running_loop(), access_log)
            inside.stop = lambda: inside.loop.call_soon_threadsafe(stopped.set)
            opened.append(inside)
            ready.set()
            await stopped.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        except BaseException as error:  # noqa: BLE001  # the test's thread raises it
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20)
    if failed:
        raise failed[0]
    try:
        # The last of its own tasks; whoever counts them before and after would else find it among his own.
        wait_until(lambda: opened[0].has_task("Correspondent._retry"))
        yield opened[0]
    finally:
        if thread.is_alive() and not opened[0].loop.is_closed():
            opened[0].stop()
        thread.join(30)
        assert not thread.is_alive()
    if failed:
        raise failed[0]
