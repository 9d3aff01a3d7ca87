"""Models, and what they are asked in the background."""

from typing import Any, get_args

from autoglm.core.preference import PreferenceName
from autoglm.gateway.operations.operation import (
    AFTER,
    BODY,
    ID,
    JSON,
    KEY,
    LIMIT,
    TENANT,
    WAIT,
    WRITE,
    Answer,
    Operation,
    Parameter,
    Schema,
    ok,
)
from autoglm.gateway.tasks import NewTask, SubmittedTask, Task, TaskList
from autoglm.inference.features import INTENT_PATTERN

_MODEL: Schema = {
    "type": "string", "minLength": 1, "maxLength": 256, "examples": ["auto"],
    "description": "`auto` lets the hub choose",
}  # fmt: skip
_ASK = (
    *KEY, *BODY, "forbidden", "unknown_model", "not_offered", "budget_exceeded", "storage_full", "store_broken",
    "queue_full", "overloaded", "no_instance_free", "upstream_failed", "upstream_refused",
    "upstream_timeout", "deadline_exceeded", "draining",
)  # fmt: skip
_HINTS = (
    Parameter(
        "x-autoglm-priority", "header", {"type": "integer", "minimum": 0, "maximum": 9, "default": 5},
        "9 is the most urgent",
    ),
    Parameter(
        "x-autoglm-deadline", "header", {"type": "number", "exclusiveMinimum": 0, "maximum": 86_400},
        "Seconds; give up (504) when the answer is not complete by then",
    ),
    Parameter(
        "x-autoglm-first-token", "header", {"type": "number", "exclusiveMinimum": 0, "maximum": 86_400},
        "Seconds; refuse (503) rather than start when the answer would not begin by then",
    ),
    Parameter(
        "x-autoglm-prefer", "header", {"type": "string", "enum": list(get_args(PreferenceName))},
        "What matters where the hub chooses the model; `engine.prefer` when absent",
    ),
    Parameter(
        "x-autoglm-intent", "header", {"type": "string", "pattern": INTENT_PATTERN},
        "What the request is about, for the choice; the hub finds out when absent", example="translate",
    ),
    TENANT,
    Parameter(
        "x-autoglm-cache", "header", {"type": "string", "enum": ["on", "off", "refresh"]},
        "Whether a kept answer will do, where the hub keeps answers",
    ),
)  # fmt: skip


def _openai(path: str, name: str, summary: str, required: Schema, *, can_stream: bool = True) -> Operation:
    """required: the fields without which there is nothing to ask; all others travel untouched."""
    properties = {"model": _MODEL, **required}
    if can_stream:
        properties["stream"] = {"type": ["boolean", "null"]}
    content: dict[str, Any] = {JSON: {"type": "object"}}
    if can_stream:
        content["text/event-stream"] = {"type": "string"}
    return Operation(
        "POST", path, name, "models", summary,
        (Answer(200, "As OpenAI's API answers, from the instance that was chosen", content),),
        _ASK, _HINTS,
        {"type": "object", "properties": properties, "required": ["model"], "additionalProperties": True},
    )  # fmt: skip


MODELS = (
    _openai(
        "/v1/chat/completions", "createChatCompletion", "Ask a model",
        {
            "messages": {
                "type": "array", "items": {"type": "object"}, "examples": [[{"role": "user", "content": "Hello"}]]
            }
        },
    ),
    _openai("/v1/completions", "createCompletion", "Have a text continued", {"prompt": {}}),
    _openai("/v1/embeddings", "createEmbedding", "Turn text into vectors", {"input": {}}, can_stream=False),
    _openai("/v1/responses", "createResponse", "Ask a model, by the newer API", {"input": {}}),
    Operation(
        "GET", "/v1/models", "listModels", "models", "The models that the key may use",
        (ok("As OpenAI's API answers", {"type": "object", "required": ["object", "data"]}),), KEY,
    ),
    Operation(
        "GET", "/v1/models/{id}", "getModel", "models", "One of them",
        (ok("As OpenAI's API answers", {"type": "object", "required": ["id", "object"]}),),
        (*KEY, "invalid_field", "unknown_model"),
        (
            Parameter(
                "id", "path", {"type": "string", "minLength": 1, "maxLength": 256},
                "A model's name; slashes may be percent-encoded or not", example="auto",
            ),
        ),
    ),
)  # fmt: skip

TASKS = (
    Operation(
        "POST", "/api/tasks", "submitTask", "tasks", "Have a chat completion worked on in the background",
        (
            ok("It was submitted before", SubmittedTask),
            ok("It is on disk", SubmittedTask, 202),
        ),
        (*KEY, *BODY, *WRITE, "forbidden", "unknown_model", "duplicate_id"), request=NewTask,
    ),
    Operation(
        "GET", "/api/tasks", "listTasks", "tasks", "The key's own tasks, oldest first",
        (ok("Without their results", TaskList),), (*KEY, *WRITE, "invalid_field"), (AFTER, LIMIT),
    ),
    Operation(
        "GET", "/api/tasks/{id}", "getTask", "tasks", "State and result of a task",
        (ok("The task", Task),), (*KEY, *WRITE, "invalid_field", "not_found"), (ID, WAIT),
    ),
    Operation(
        "DELETE", "/api/tasks/{id}", "cancelTask", "tasks", "Cancel a task that has not ended",
        (ok("The task as it is now", Task),), (*KEY, *WRITE, "invalid_field", "not_found"), (ID,),
    ),
)  # fmt: skip
