"""Elasticsearch or OpenSearch as a second place: an entry is a document whose _id is the site and the seq.

Sources: elastic.co/docs/api, Bulk (create, update, items) and Multi get; elastic.co/docs/reference/ecs (fields, 8.11).
"""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from autoglm.auth.audit.line import time_of
from autoglm.auth.audit.places import PlaceFailed, Trouble
from autoglm.auth.audit.settings import ElasticsearchPlaceSettings
from autoglm.core.ports import Journal, JournalEntry

_OUTCOMES = {"allowed": "success", "denied": "failure", "failed": "failure"}
_PAGE_DOCUMENTS = 500
_NDJSON, _JSON = "application/x-ndjson", "application/json"

Request = Callable[[str, str, bytes, str], Awaitable[tuple[int, bytes]]]
"""Method, path, body and media type to status and body. Raises OSError when there is no answer. Whoever gives it adds
the address and the credentials, and bounds the time and the answer."""


class ElasticsearchPlace:
    """Implements `Place`."""

    def __init__(self, settings: ElasticsearchPlaceSettings, site: str, request: Request) -> None:
        self.name = settings.name
        self._index, self._site, self._request = settings.index, site, request

    async def open(self, position: int, journal: Journal) -> tuple[int, Trouble | None]:
        """What is there already answers 409 when it comes again."""
        return position, None

    async def put(self, rows: Sequence[JournalEntry]) -> Trouble | None:
        """What is there under the same _id with another hash stays; what the store has now is put beside it."""
        taken = await self._create({self._id(row.seq): row for row in rows})
        if not taken:
            return None
        hashes = await self._hashes(list(taken))
        differing = {name: row for name, row in taken.items() if hashes.get(name) != row.digest.hex()}
        others = {f"{name}-{row.digest.hex()[:16]}": row for name, row in differing.items()}
        if others:
            await self._create(others)
        return "place_ahead" if others else None

    async def erase(self, runs: Sequence[tuple[int, int]]) -> None:
        document = {"doc": {"autoglm": {"audit": {"salt": None, "personal": None}}, "user": {"id": None}}}
        change = json.dumps(document)
        names = [self._id(seq) for first, last in runs for seq in range(first, last + 1)]
        for page in _pages(names):
            lines = "".join(
                f"{json.dumps({'update': {'_index': self._index, '_id': name}})}\n{change}\n" for name in page
            )
            for name, status, kind in await self._bulk("update", lines.encode()):
                if status not in (200, 201, 404):  # 404: it never came there
                    raise PlaceFailed(f"Elasticsearch does not erase {name}: {kind}")

    async def aclose(self) -> None:
        """Whoever gave the means to ask closes them."""

    def _id(self, seq: int) -> str:
        return f"{self._site}-{seq}"

    async def _create(self, documents: dict[str, JournalEntry]) -> dict[str, JournalEntry]:
        """Returns those whose _id is taken."""
        lines: list[str] = []
        for name, row in documents.items():
            lines += (json.dumps({"create": {"_index": self._index, "_id": name}}), json.dumps(document_of(row)))
        taken = {}
        for name, status, kind in await self._bulk("create", ("\n".join(lines) + "\n").encode()):
            if status == 409:
                taken[name] = documents[name]
            elif status not in (200, 201):
                raise PlaceFailed(f"Elasticsearch does not take {name}: {kind}")
        return taken

    async def _bulk(self, action: str, body: bytes) -> list[tuple[str, int, str]]:
        """_id, status and type of error of each item."""
        answer = await self._asked("/_bulk", body, _NDJSON)
        try:
            items = [item[action] for item in answer["items"]]
            found = [(str(item["_id"]), int(item["status"]), _kind(item)) for item in items]
        except (KeyError, TypeError, ValueError) as error:
            raise PlaceFailed("Elasticsearch's answer cannot be read") from error
        if len(found) != body.count(b"\n") // 2:
            raise PlaceFailed("Elasticsearch does not answer for each document")
        return found

    async def _hashes(self, names: list[str]) -> dict[str, str]:
        query = json.dumps({"ids": names}).encode()
        answer = await self._asked(f"/{self._index}/_mget?_source_includes=autoglm.audit.hash", query, _JSON)
        try:
            found = [document for document in answer["docs"] if document.get("found")]
            return {document["_id"]: str(document["_source"]["autoglm"]["audit"]["hash"]) for document in found}
        except (KeyError, TypeError, AttributeError) as error:
            raise PlaceFailed("Elasticsearch's answer cannot be read") from error

    async def _asked(self, path: str, body: bytes, media_type: str) -> Any:
        try:
            status, answer = await self._request("POST", path, body, media_type)
        except OSError as error:
            raise PlaceFailed(str(error) or type(error).__name__) from error
        if status != 200:
            raise PlaceFailed(f"Elasticsearch answers {status}")
        try:
            return json.loads(answer)
        except ValueError as error:
            raise PlaceFailed("Elasticsearch's answer is no JSON") from error


def document_of(row: JournalEntry) -> dict[str, Any]:
    """In ECS's fields; the chained bytes themselves and what they commit to are under `autoglm.audit`."""
    own: dict[str, Any] = {
        "kind": row.kind, "seq": row.seq, "hash": row.digest.hex(), "entry": row.body.decode("utf-8", "replace")
    }  # fmt: skip
    document: dict[str, Any] = {
        "@timestamp": time_of(row),
        "ecs": {"version": "8.11.0"},
        "event": {"kind": "event", "action": row.action, "outcome": _OUTCOMES.get(row.outcome, "unknown"),
                  "sequence": row.seq},
        "service": {"name": "autoglm-hub", "type": "autoglm"},
        "autoglm": {"audit": own},
    }  # fmt: skip
    if row.personal is not None and row.salt is not None:
        own |= {"salt": row.salt.hex(), "personal": row.personal.decode("utf-8", "replace")}
        document["user"] = {"id": row.who or ""}
    return document


def _kind(item: Any) -> str:
    error = item.get("error")
    return str(error.get("type", "refused"))[:100] if isinstance(error, dict) else "refused"


def _pages(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _PAGE_DOCUMENTS):
        yield names[start : start + _PAGE_DOCUMENTS]
