"""`/api/intents`: what the hub understands of requests, and how it is taught more."""

from typing import Annotated

import msgspec

from autoglm.auth.authenticator import Authenticator
from autoglm.gateway import fields
from autoglm.gateway.exchange import Exchange
from autoglm.gateway.router import Route
from autoglm.gateway.wishes import check_intent_name
from autoglm.inference.features import INTENT_PATTERN
from autoglm.inference.intent.examples import MAX_EXAMPLE_CHARACTERS
from autoglm.inference.intent.reader import IntentReader
from autoglm.inference.intent.taught import TaughtIntents

MAX_EXAMPLES = 100
"""In one request."""
MAX_TEXT = 100_000

# The pattern is for the schema alone: `check_intent_name` says in words what is wrong.
_name = {"pattern": INTENT_PATTERN, "examples": ["shift_handover"]}
IntentName = Annotated[str, msgspec.Meta(extra_json_schema=_name)]
Example = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EXAMPLE_CHARACTERS)]


class NewExamples(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: IntentName
    """A new intent, or one that is known."""
    examples: Annotated[list[Example], msgspec.Meta(min_length=1, max_length=MAX_EXAMPLES)]
    """What users would write; a new intent needs 3."""


class TriedText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    text: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]


class KnownIntent(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    examples: int
    """How many the hub has, all sources together."""
    taught: int
    """How many of them it was taught while it ran."""


class IntentList(msgspec.Struct, frozen=True):
    intents: list[KnownIntent]


class IntentsGateway:
    def __init__(
        self, auth: Authenticator, reader: IntentReader, taught: TaughtIntents, *, max_body_bytes: int
    ) -> None:
        self._auth = auth
        self._reader = reader
        self._taught = taught
        self._max_body_bytes = max_body_bytes

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/intents", self.all),
            Route("POST", "/api/intents", self.teach),
            Route("POST", "/api/intents/try", self.attempt),
            Route("DELETE", "/api/intents/{name}", self.forget),
        ]

    async def all(self, exchange: Exchange, _: dict[str, str]) -> None:
        exchange.identify(self._auth)
        known = await self._taught.examples()
        intents = [self._known(name, len(known[name])) for name in sorted(known)]
        exchange.respond_json(200, IntentList(intents))

    async def teach(self, exchange: Exchange, _: dict[str, str]) -> None:
        """Answers when the examples are on disk and in force: a second or two."""
        exchange.identify(self._auth).require("admin", "intents")
        body = fields.decode(await exchange.body(self._max_body_bytes), NewExamples)
        check_intent_name(body.name, field="name")
        exchange.acted_on = body.name
        await self._taught.teach(body.name, body.examples)
        known = await self._taught.examples()
        exchange.respond_json(200, self._known(body.name, len(known.get(body.name, ()))))

    async def attempt(self, exchange: Exchange, _: dict[str, str]) -> None:
        """What would be understood of a text. Right after a start it waits until the intents are learned."""
        exchange.identify(self._auth)
        body = fields.decode(await exchange.body(self._max_body_bytes), TriedText)
        await self._taught.learn()
        exchange.respond_json(200, self._reader.read_text(body.text))

    async def forget(self, exchange: Exchange, variables: dict[str, str]) -> None:
        exchange.identify(self._auth).require("admin", "intents")
        await self._taught.forget(variables["name"])
        exchange.respond(204, b"")

    def _known(self, name: str, examples: int) -> KnownIntent:
        return KnownIntent(name=name, examples=examples, taught=self._taught.count(name))
