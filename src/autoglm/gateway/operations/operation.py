"""An endpoint, for the description: what it takes, what it answers, and which problems it reports."""

from typing import Any, Literal, NamedTuple

from autoglm.auth.settings import TENANT_PATTERN
from autoglm.core.address import ADDRESS_PATTERN, GROUP_NAME_PATTERN, MAX_ADDRESS
from autoglm.core.envelope import ID_PATTERN
from autoglm.gateway.messages import MAX_LIMIT, MAX_WAIT_S

Schema = dict[str, Any]


class Parameter(NamedTuple):
    name: str
    place: Literal["path", "query", "header"]
    schema: Schema
    description: str
    is_required: bool = False
    example: str | int | None = None


class Answer(NamedTuple):
    status: int
    description: str
    content: dict[str, Any]
    """Media type to a struct, the name of a component, or a schema."""


class Operation(NamedTuple):
    method: str
    path: str
    name: str
    tag: str
    summary: str
    answers: tuple[Answer, ...]
    problems: tuple[str, ...] = ()
    """Codes."""
    parameters: tuple[Parameter, ...] = ()
    request: Any = None
    """A struct or a schema."""
    request_is_required: bool = True
    request_type: str = "application/json"


JSON = "application/json"
POSITION: Schema = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
ADDRESS: Schema = {"type": "string", "pattern": ADDRESS_PATTERN, "maxLength": MAX_ADDRESS}

ANY = ("too_many_connections", "head_too_large", "internal")
KEY = (*ANY, "unauthorized", "rate_limited")
BODY = ("invalid_json", "invalid_field", "payload_too_large", "unsupported_media_type", "request_timeout")
WRITE = ("storage_full", "queue_full", "draining", "store_broken")

GROUP: Schema = {"type": "string", "pattern": GROUP_NAME_PATTERN}
ID = Parameter(
    "id", "path", {"type": "string", "pattern": ID_PATTERN}, "Percent-encoded, a slash as %2F", example="order-17"
)
NAME = Parameter("name", "path", GROUP, "A group; percent-encoded", example="ops")
TO = Parameter("to", "query", ADDRESS, "Whose messages", is_required=True, example="user:alice")
AFTER = Parameter("after", "query", {**POSITION, "default": 0}, "Only what has a higher `seq`")
LIMIT = Parameter(
    "limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}, "At most so many"
)
WAIT = Parameter(
    "wait", "query", {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "multipleOf": 0.000001, "default": 0},
    "Seconds to wait when there is nothing yet",
)  # fmt: skip


def ok(description: str, kind: Any, status: int = 200) -> Answer:
    return Answer(status, description, {JSON: kind})


TENANT = Parameter(
    "x-autoglm-tenant", "header", {"type": "string", "pattern": TENANT_PATTERN},
    "On whose account; needs the scope `tenant:NAME` unless it is the key's own",
)  # fmt: skip
