"""The part of Elasticsearch that an index of audit entries needs beside `create`: `update` and `_mget`.

Source: elastic.co/docs/api, Bulk and Multi get.
"""

import json
from typing import Any

from fakes.elasticsearch import FakeElasticsearch
from scripted_model import Request, response


class AuditIndex(FakeElasticsearch):
    """With one index, `autoglm-audit`."""

    def __init__(self, *, port: int = 0) -> None:
        super().__init__(("autoglm-audit",), port=port)

    def take(self, request: Request) -> bytes:
        if request.path.startswith("/autoglm-audit/_mget?_source_includes=autoglm.audit.hash"):
            return response(200, {"docs": [self._found(identity) for identity in request.json()["ids"]]})
        if request.path == "/_bulk" and b'{"update"' in request.body:
            lines = [json.loads(line) for line in request.body[:-1].split(b"\n")]
            items = [
                {"update": self._updated(action["update"], change["doc"])}
                for action, change in zip(lines[::2], lines[1::2], strict=True)
            ]
            return response(200, {"took": 1, "errors": any("error" in i["update"] for i in items), "items": items})
        return super().take(request)

    def _found(self, identity: str) -> dict[str, Any]:
        document = self.documents.get(identity)
        if document is None:
            return {"_index": "autoglm-audit", "_id": identity, "found": False}
        source = {"autoglm": {"audit": {"hash": document["autoglm"]["audit"]["hash"]}}}
        return {"_index": "autoglm-audit", "_id": identity, "found": True, "_source": source}

    def _updated(self, action: dict[str, str], change: dict[str, Any]) -> dict[str, Any]:
        identity = action["_id"]
        if identity not in self.documents:
            return {"_index": action["_index"], "_id": identity, "status": 404,
                    "error": {"type": "document_missing_exception", "reason": "missing"}}  # fmt: skip
        _merge(self.documents[identity], change)
        return {"_index": action["_index"], "_id": identity, "result": "updated", "status": 200}


def _merge(document: dict[str, Any], change: dict[str, Any]) -> None:
    """Objects are merged, all else is replaced."""
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(document.get(name), dict):
            _merge(document[name], value)
        else:
            document[name] = value
