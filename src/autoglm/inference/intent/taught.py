"""Examples that were taught while the hub ran: kept in the store, in force after each start."""

import anyio
import msgspec
import structlog
from anyio import to_thread

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import InvalidField, NotFound, StateBroken
from autoglm.core.ports import KeyValue
from autoglm.inference.features import Features
from autoglm.inference.intent.examples import MIN_EXAMPLES, Examples, cleaned, is_intent_name
from autoglm.inference.intent.reader import IntentReader

log = structlog.get_logger()

MAX_TAUGHT = 2_000
"""Examples over all intents; the hub's own are as many. Learning takes 0.5 ms for each."""
_PREFIX = "intents/"


class TaughtIntents:
    """Few and small, so all of them are in memory, too, once `open` has read them."""

    def __init__(self, keyvalue: KeyValue, reader: IntentReader) -> None:
        self._keyvalue = keyvalue
        self._reader = reader
        self._taught: dict[str, tuple[str, ...]] = {}
        self._wanted = anyio.Event()
        self._changing = anyio.Lock()  # a change reads what was taught before
        self._learning = anyio.Lock()

    async def open(self) -> None:
        """Raises StateBroken."""
        for entry in await self._keyvalue.list(_PREFIX):
            name = entry.key.removeprefix(_PREFIX)
            try:
                self._taught[name] = msgspec.json.decode(entry.value, type=tuple[str, ...])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StateBroken(f"the taught intent {name!r}", str(error)) from error
        self._reader.teach(dict(self._taught))

    async def examples(self) -> Examples:
        """By name, of all intents, wherever they come from."""
        return await to_thread.run_sync(self._reader.examples)

    def count(self, name: str) -> int:
        """How many examples of an intent were taught."""
        return len(self._taught.get(name, ()))

    async def learn(self) -> None:
        """Put all examples in force, unless they are; returns then. Raises MissingExtra."""
        # Who waits does so here: threads are few, and each that waited in one would keep others' work from it.
        async with self._learning:
            if self._reader.is_current:
                return
            started_s = monotonic_s()
            await to_thread.run_sync(self._reader.prepare)
            log.debug("intents_learned", took_s=round(monotonic_s() - started_s, 3))

    def understand(self, body: bytes, api: str, hint: str) -> Features:
        """`IntentReader.read`; the first one has `run` learn, and goes without the classifier itself."""
        self._wanted.set()
        return self._reader.read(body, api, hint)

    async def run(self) -> None:
        """`learn` once a request wants it: a hub that serves named models only need not.

        A task of its own: a hub that cannot learn its intents serves without them.
        """
        await self._wanted.wait()
        try:
            await self.learn()
        except Exception:  # the task's edge
            log.exception("intents_not_learned")

    async def teach(self, name: str, examples: list[str]) -> None:
        """Add examples to an intent, or make one; they are on disk and in force when it returns.

        An example that another intent has moves to this one. Raises InvalidField: for a name that is none, for fewer
        than 3 examples of a new intent, for more than MAX_TAUGHT over all.
        """
        if is_intent_name(name) is None:
            raise InvalidField("name", "must be 1 to 64 of a-z, 0-9, - and _")
        async with self._changing:
            texts = cleaned((*self._taught.get(name, ()), *examples))
            known = await self.examples()
            if len({*known.get(name, ()), *texts}) < MIN_EXAMPLES:
                raise InvalidField("examples", f"a new intent needs {MIN_EXAMPLES} examples that differ")
            if sum(map(len, self._taught.values())) - self.count(name) + len(texts) > MAX_TAUGHT:
                raise InvalidField("examples", f"the hub keeps {MAX_TAUGHT} taught examples at most")
            await self._keyvalue.put(_PREFIX + name, msgspec.json.encode(texts))
            self._taught[name] = texts
            self._reader.teach(dict(self._taught))
        await self.learn()

    async def forget(self, name: str) -> None:
        """Take back what was taught of an intent; what the hub or the settings know of it stays. Raises NotFound."""
        async with self._changing:
            if name not in self._taught:
                raise NotFound("taught intent", name)
            await self._keyvalue.delete(_PREFIX + name)
            del self._taught[name]
            self._reader.teach(dict(self._taught))
        await self.learn()
