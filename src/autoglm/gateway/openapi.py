"""`/openapi.json`: describes every endpoint, with schemas made from the types that the handlers use.

Source: OpenAPI Specification 3.1.1.
"""

import copy
from functools import cache
from typing import Any

import msgspec

from autoglm.core.envelope import Envelope, envelope_schema
from autoglm.gateway.operations import KNOWN, OPEN, OPERATIONS, PROOF, SESSION, Operation, Parameter, rule_of
from autoglm.gateway.problems import PROBLEMS
from autoglm.version import __version__

_REFERENCE = "#/components/schemas/{name}"
_DESCRIPTION = """The hub carries messages between people, devices, programs and models, and speaks OpenAI's API.
`docs/api.md` says how the endpoints play together. There is one more: the WebSocket `/api/ws`, which OpenAPI cannot
describe. Every reply has the header `x-request-id`."""
_ENVELOPE_EXAMPLE = {
    "id": "order-17", "from": "user:bob", "to": "user:alice", "content": "The press is down.",
    "timestamp": 1790000000000,
}  # fmt: skip


@cache
def openapi() -> dict[str, Any]:
    """The description. Treat it as constant."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AutoGLM Hub",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The first key is in admin.key in the hub's data folder.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "autoglm-session",
                    "description": "Of a person who has logged in; `__Host-autoglm-session` by https. What changes "
                    "something must come from the hub's own page (Origin, Sec-Fetch-Site).",
                },
                "proof": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "DPoP",
                    "description": "RFC 9449: a proof by the key that the request is about.",
                },
            },
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(operation),
    }
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.request is not None:
        content = {operation.request_type: {"schema": _schema(operation.request)}}
        described["requestBody"] = {"required": operation.request_is_required, "content": content}
    rule = rule_of(operation)
    # Of a scheme that has no scopes of its own, the list names what the caller must be allowed (OpenAPI 3.1, "Security
    # Requirement Object").
    if rule == PROOF:
        described["security"] = [{"proof": []}]
    elif rule == SESSION:
        described["security"] = [{"session": []}]
    else:
        needs = [] if rule == KNOWN else [rule]
        # What other programs' clients call knows no cookies.
        ways = ("key",) if operation.tag == "interop" else ("key", "session")
        described["security"] = [] if rule == OPEN else [{way: needs} for way in ways]
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path" or parameter.is_required,
        "description": parameter.description,
        "schema": parameter.schema,
        **({"example": parameter.example} if parameter.example is not None else {}),
    }


def _problems_by_cookie(operation: Operation) -> tuple[str, ...]:
    if operation.tag == "interop" or rule_of(operation) in (OPEN, PROOF):
        return ()
    return ("session_ended",) if operation.method == "GET" else ("session_ended", "cross_origin")


def _responses(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for answer in operation.answers:
        content = {media_type: {"schema": _schema(kind)} for media_type, kind in answer.content.items()}
        responses[str(answer.status)] = {
            "description": answer.description, **({"content": content} if content else {})
        }  # fmt: skip
    is_openai = operation.path.startswith("/v1/")
    media_type, name = ("application/json", "OpenAIError") if is_openai else ("application/problem+json", "Problem")
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*operation.problems, *_problems_by_cookie(operation))):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    for status, codes in sorted(by_status.items()):
        titles = "; ".join(f"{PROBLEMS[code].title} (`{code}`)" for code in codes)
        content = {media_type: {"schema": {"$ref": _REFERENCE.format(name=name)}}}
        response = responses.setdefault(str(status), {"description": titles})
        response.setdefault("content", {}).update(content)
    return responses


def _schema(kind: Any) -> dict[str, Any]:
    """A schema as it is, or a reference to the type's component."""
    return kind if isinstance(kind, dict) else {"$ref": _REFERENCE.format(name=_name(kind))}


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) else str(kind.__name__)


def _schemas() -> dict[str, Any]:
    used: list[Any] = [Envelope]
    for operation in OPERATIONS:
        used += [operation.request, *(kind for answer in operation.answers for kind in answer.content.values())]
    types = {kind for kind in used if isinstance(kind, type)}
    _, schemas = msgspec.json.schema_components(sorted(types, key=_name), ref_template=_REFERENCE)
    envelope = schemas["Envelope"]
    published = envelope_schema()["$defs"]["Envelope"]["properties"]
    for name in ("id", "from", "timestamp"):  # what the hub fills in has no default (see envelope_schema)
        schemas["Envelope"]["properties"][name] = published[name]
    envelope["examples"] = [_ENVELOPE_EXAMPLE]
    message = copy.deepcopy(envelope)
    message["title"] = "Message"
    message["description"] = "An envelope as it is read: the hub has filled in what the sender left out."
    message["properties"]["seq"] = {"type": "integer", "minimum": 1, "description": "Its place in the log."}
    message["required"] = ["id", "from", "to", "content", "timestamp", "seq"]
    message["examples"] = [{**_ENVELOPE_EXAMPLE, "seq": 17}]
    schemas["Message"] = message
    schemas["Messages"] = {
        "type": "object",
        "properties": {
            "messages": {"type": "array", "items": {"$ref": _REFERENCE.format(name="Message")}},
            "next": {"type": "integer", "minimum": 0, "description": "Go on with `after=next`."},
        },
        "required": ["messages", "next"],
    }
    schemas["Problem"] = _PROBLEM
    schemas["OpenAIError"] = _OPENAI_ERROR
    return schemas


_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. Further members name the facts: `field`, `id`, `scope`, `retry_after_s`.",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": list(PROBLEMS)},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "`urn:request:` and the request's id."},
        "field": {"type": "string", "description": "The field, parameter or header that is wrong."},
    },
    "required": ["type", "title", "status", "code", "detail", "instance"],
}
_OPENAI_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "request_id": {"type": "string"},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
