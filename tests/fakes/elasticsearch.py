"""Elasticsearch's `_bulk` on loopback: ndjson, `create`, an item for each document, a mapping that grows.

It answers 200 whatever became of the documents, as the real one does.
Source: elastic.co/docs/api, Bulk; the errors' types as Elasticsearch 8 names them.
"""

import base64
import json
import re
from collections import deque
from typing import Any

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

API_KEY = "VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw=="
USER, PASSWORD = "hub", "pass-word-1"
_CREDENTIALS = (f"ApiKey {API_KEY}", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
_is_date = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z").fullmatch
_MAX_ID_BYTES = 512


class FakeElasticsearch(Vendor):
    """`documents` has what is in the index, by _id, in order."""

    def __init__(self, indexes: tuple[str, ...] = ("logs-autoglm-default",), *, port: int = 0) -> None:
        super().__init__(port=port)
        self.indexes = indexes
        self.documents: dict[str, dict[str, Any]] = {}
        self.item_faults: deque[tuple[int, str] | None] = deque()
        """(status, type) for the next documents; None: this one is taken."""
        self.may_look_around = True
        self.most_bytes = 100 << 20
        """Of a request, as `http.max_content_length`."""
        self._mapping: dict[str, str] = {"event.severity": "number"}

    @property
    def texts(self) -> list[str]:
        return [document["message"] for document in self.documents.values()]

    def take(self, request: Request) -> bytes:
        if request.headers.get("authorization") not in _CREDENTIALS:
            return _failure(401, "security_exception")
        if request.method == "GET" and request.path == "/":
            if not self.may_look_around:
                return _failure(403, "security_exception")
            return response(200, {"name": "n", "version": {"number": "8.17.0"}, "tagline": "You Know, for Search"})
        if request.path != "/_bulk":
            return _failure(405, "method_not_allowed")
        if request.headers.get("content-type") != "application/x-ndjson":
            return _failure(406, "media_type_header_exception")
        if len(request.body) > self.most_bytes:
            return response(413, b"")
        if not request.body.endswith(b"\n"):
            return _failure(400, "illegal_argument_exception")
        try:
            lines = [json.loads(line) for line in request.body[:-1].split(b"\n")]
            pairs = [(action["create"], document) for action, document in zip(lines[::2], lines[1::2], strict=True)]
        except (ValueError, KeyError):
            return _failure(400, "illegal_argument_exception")
        items = [self._created(action, document) for action, document in pairs]
        body = {"took": 3, "errors": any("error" in item for item in items), "items": [{"create": i} for i in items]}
        return response(200, body)

    def refuse(self, fault: Fault) -> bytes:
        match fault:
            case "auth":
                return _failure(401, "security_exception")
            case "permanent":
                return self._item_failure(400, "document_parsing_exception")
            case "throttled":
                return self._item_failure(429, "es_rejected_execution_exception")
            case _:
                return self._item_failure(503, "unavailable_shards_exception")

    def _get(self, request: Request) -> bytes:
        """A key that was revoked shows in a GET, too."""
        if self.faults and self.faults[0] == "auth":
            self.faults.popleft()
            return _failure(401, "security_exception")
        return self.take(request)

    def _item_failure(self, status: int, kind: str) -> bytes:
        """Of the request that came last, in all its items."""
        actions = [json.loads(line)["create"] for line in self.requests[-1].body[:-1].split(b"\n")[::2]]
        items = [{"create": _refused(action, status, kind)} for action in actions]
        return response(200, {"took": 3, "errors": True, "items": items})

    def _created(self, action: dict[str, str], document: dict[str, Any]) -> dict[str, Any]:
        index, identity = action["_index"], action["_id"]
        if self.item_faults and (fault := self.item_faults.popleft()) is not None:
            return _refused(action, *fault)
        if index not in self.indexes:
            return _refused(action, 404, "index_not_found_exception")
        if not 0 < len(identity.encode()) <= _MAX_ID_BYTES:
            return _refused(action, 400, "illegal_argument_exception")
        if identity in self.documents:
            return _refused(action, 409, "version_conflict_engine_exception")
        try:
            self._map(document, "")
        except ValueError:
            return _refused(action, 400, "document_parsing_exception")
        self.documents[identity] = document
        return {"_index": index, "_id": identity, "_version": 1, "result": "created", "status": 201,
                "_shards": {"total": 2, "successful": 1, "failed": 0}}  # fmt: skip

    def _map(self, value: Any, path: str) -> None:
        """Raises ValueError where a field has another type than before. A dot in a name is a level."""
        if path == "@timestamp" and _is_date(str(value)) is None:
            raise ValueError("no date")
        kind = {dict: "object", str: "keyword", int: "number", float: "number", bool: "boolean"}[type(value)]
        if path and self._mapping.setdefault(path, kind) != kind:
            raise ValueError(path)
        if isinstance(value, dict):
            for name, inner in value.items():
                if not name.strip("."):
                    raise ValueError("a field has no name")
                *above, _ = steps = (f"{path}.{name}" if path else name).split(".")
                for depth in range(1, len(above) + 1):
                    if self._mapping.setdefault(".".join(steps[:depth]), "object") != "object":
                        raise ValueError(name)
                self._map(inner, ".".join(steps))


def _refused(action: dict[str, str], status: int, kind: str) -> dict[str, Any]:
    error = {"type": kind, "reason": f"told to: {API_KEY}"}
    return {"_index": action["_index"], "_id": action["_id"], "status": status, "error": error}


def _failure(status: int, kind: str) -> bytes:
    return response(status, {"error": {"type": kind, "reason": f"told to: {API_KEY}"}, "status": status})
