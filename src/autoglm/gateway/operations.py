"""Every endpoint, for the description: what it takes, what it answers, and which problems it reports."""

from typing import Any, Literal, NamedTuple, get_args

from autoglm.auth.settings import TENANT_PATTERN
from autoglm.channels.groups import Group
from autoglm.channels.questions import NewQuestion, Question
from autoglm.channels.routes.event import Event
from autoglm.channels.routes.notifier import EventAccount
from autoglm.channels.routes.silences import NewSilence, Silence
from autoglm.core.address import ADDRESS_PATTERN, GROUP_NAME_PATTERN, MAX_ADDRESS
from autoglm.core.envelope import ID_PATTERN, Envelope
from autoglm.core.preference import PreferenceName
from autoglm.gateway.budgets import BudgetList
from autoglm.gateway.channels import MAX_LETTERS, ChannelList, DeadLetterList, NewTry, OutboxState, Retried
from autoglm.gateway.decisions import MAX_LIMIT as MAX_DECISIONS
from autoglm.gateway.decisions import DecisionAccount, DecisionList, NewFeedback, NewReplay, Noted
from autoglm.gateway.events import MAX_EVENTS, AcceptedEvent, EventList, SilenceList, Trial
from autoglm.gateway.groups import GroupBody, GroupList
from autoglm.gateway.intents import IntentList, KnownIntent, NewExamples, TriedText
from autoglm.gateway.interop.apprise import Notified
from autoglm.gateway.interop.notification import KEY_PATTERN, NewNotification
from autoglm.gateway.interop.ntfy import WORDS
from autoglm.gateway.interop.publication import TOPIC_PATTERN, NewPublication, Published
from autoglm.gateway.messages import MAX_LIMIT, MAX_WAIT_S, Ack, Acked, Receipts
from autoglm.gateway.posting import Accepted
from autoglm.gateway.push import NewSubscription, PushBrowser, PushBrowsers, PushKey
from autoglm.gateway.state import Capabilities, Drained, Health, InstanceState, Me, Pool, Readiness
from autoglm.gateway.tasks import NewTask, SubmittedTask, Task, TaskList
from autoglm.inference.engine.whatif import WhatIf
from autoglm.inference.features import INTENT_PATTERN, Features

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
    is_open: bool = False
    """True when it needs no key."""


_JSON = "application/json"
_POSITION: Schema = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
_ADDRESS: Schema = {"type": "string", "pattern": ADDRESS_PATTERN, "maxLength": MAX_ADDRESS}

_ANY = ("too_many_connections", "head_too_large", "internal")
_KEY = (*_ANY, "unauthorized", "rate_limited")
_BODY = ("invalid_json", "invalid_field", "payload_too_large", "unsupported_media_type", "request_timeout")
_WRITE = ("storage_full", "queue_full", "draining", "store_broken")

_GROUP: Schema = {"type": "string", "pattern": GROUP_NAME_PATTERN}
_ID = Parameter(
    "id", "path", {"type": "string", "pattern": ID_PATTERN}, "Percent-encoded, a slash as %2F", example="order-17"
)
_NAME = Parameter("name", "path", _GROUP, "A group; percent-encoded", example="ops")
_TO = Parameter("to", "query", _ADDRESS, "Whose messages", is_required=True, example="user:alice")
_AFTER = Parameter("after", "query", {**_POSITION, "default": 0}, "Only what has a higher `seq`")
_LIMIT = Parameter(
    "limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}, "At most so many"
)
_WAIT = Parameter(
    "wait", "query", {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "multipleOf": 0.000001, "default": 0},
    "Seconds to wait when there is nothing yet",
)  # fmt: skip


def _ok(description: str, kind: Any, status: int = 200) -> Answer:
    return Answer(status, description, {_JSON: kind})


_MESSAGES = (
    Operation(
        "POST", "/api/messages", "sendMessage", "messages", "Send a message",
        (
            _ok("It was accepted before, with equal content", Accepted),
            _ok("It is on disk", Accepted, 202),
        ),
        (*_KEY, *_BODY, *_WRITE, "forbidden", "unknown_recipient", "duplicate_id"),
        request=Envelope,
    ),
    Operation(
        "GET", "/api/messages", "readMessages", "messages", "Read an address's messages; wait for them with `wait`",
        (_ok("In the order of `seq`", "Messages"),),
        (*_KEY, *_WRITE, "invalid_field", "forbidden"),
        (
            _TO, _AFTER, _LIMIT, _WAIT,
            Parameter(
                "reader", "query", {"type": "string", "pattern": "^[\\x21-\\x7e]{1,64}$"},
                "The hub remembers where this reader is: `after` may be left out, and confirms what came before",
                example="phone",
            ),
        ),
    ),
    Operation(
        "GET", "/api/messages/stream", "streamMessages", "messages", "Messages, answers in the making, and receipts",
        (Answer(200, "Server-sent events: `message`, `delta`, `receipt`", {"text/event-stream": {"type": "string"}}),),
        (*_KEY, "invalid_field", "forbidden"),
        (
            _TO, _AFTER,
            Parameter("last-event-id", "header", _POSITION, "Goes before `after`"),
        ),
    ),
    Operation(
        "GET", "/api/messages/{id}", "getMessage", "messages", "One message",
        (_ok("The message", "Message"),), (*_KEY, "invalid_field", "not_found"), (_ID,),
    ),
    Operation(
        "GET", "/api/messages/{id}/receipts", "getReceipts", "messages", "What became of a message",
        (_ok("Oldest first; `accepted` is the first", Receipts),),
        (*_KEY, *_WRITE, "invalid_field", "not_found"), (_ID,),
    ),
    Operation(
        "POST", "/api/messages/{id}/ack", "acknowledgeMessage", "messages", "Report that a message was read",
        (_ok("The step is on disk; a repeat changes nothing", Acked),),
        (*_KEY, *_BODY, *_WRITE, "forbidden", "not_found"), (_ID,), request=Ack, request_is_required=False,
    ),
    Operation(
        "GET", "/api/groups", "listGroups", "groups", "The groups whose messages the key may read",
        (_ok("By name", GroupList),), _KEY,
    ),
    Operation(
        "GET", "/api/groups/{name}", "getGroup", "groups", "A group's members",
        (_ok("The group", Group),), (*_KEY, "invalid_field", "forbidden", "not_found"), (_NAME,),
    ),
    Operation(
        "PUT", "/api/groups/{name}", "putGroup", "groups", "Make a group, or replace its members",
        (_ok("The group", Group),), (*_KEY, *_BODY, *_WRITE, "forbidden"), (_NAME,), request=GroupBody,
    ),
    Operation(
        "DELETE", "/api/groups/{name}", "deleteGroup", "groups", "Delete a group; its messages stay",
        (Answer(204, "It is gone", {}),), (*_KEY, *_WRITE, "invalid_field", "forbidden", "not_found"), (_NAME,),
    ),
)  # fmt: skip

_TASKS = (
    Operation(
        "POST", "/api/tasks", "submitTask", "tasks", "Have a chat completion worked on in the background",
        (
            _ok("It was submitted before", SubmittedTask),
            _ok("It is on disk", SubmittedTask, 202),
        ),
        (*_KEY, *_BODY, *_WRITE, "forbidden", "unknown_model", "duplicate_id"), request=NewTask,
    ),
    Operation(
        "GET", "/api/tasks", "listTasks", "tasks", "The key's own tasks, oldest first",
        (_ok("Without their results", TaskList),), (*_KEY, *_WRITE, "invalid_field"), (_AFTER, _LIMIT),
    ),
    Operation(
        "GET", "/api/tasks/{id}", "getTask", "tasks", "State and result of a task",
        (_ok("The task", Task),), (*_KEY, *_WRITE, "invalid_field", "not_found"), (_ID, _WAIT),
    ),
    Operation(
        "DELETE", "/api/tasks/{id}", "cancelTask", "tasks", "Cancel a task that has not ended",
        (_ok("The task as it is now", Task),), (*_KEY, *_WRITE, "invalid_field", "not_found"), (_ID,),
    ),
)  # fmt: skip

_INTENTS = (
    Operation(
        "GET", "/api/intents", "listIntents", "intents", "The intents that the hub knows",
        (_ok("By name", IntentList),), _KEY,
    ),
    Operation(
        "POST", "/api/intents", "teachIntent", "intents", "Teach an intent by examples",
        (_ok("The examples are on disk, and learned", KnownIntent),), (*_KEY, *_BODY, *_WRITE, "forbidden"),
        request=NewExamples,
    ),
    Operation(
        "POST", "/api/intents/try", "tryIntent", "intents", "What would be understood of a text?",
        (_ok("Its features", Features),), (*_KEY, *_BODY), request=TriedText,
    ),
    Operation(
        "DELETE", "/api/intents/{name}", "forgetIntent", "intents", "Take back what was taught of an intent",
        (Answer(204, "What the hub or the settings know of it stays", {}),),
        (*_KEY, *_WRITE, "invalid_field", "forbidden", "not_found"),
        (
            Parameter(
                "name", "path", {"type": "string", "minLength": 1, "maxLength": 64}, "An intent",
                example="shift_handover",
            ),
        ),
    ),
)  # fmt: skip

_STATE = (
    Operation(
        "GET", "/healthz", "health", "hub", "Does the process live?",
        (_ok("It does", Health),), _ANY, is_open=True,
    ),
    Operation(
        "GET", "/readyz", "readiness", "hub", "Can the store be written to, and does the hub take requests?",
        (_ok("Yes", Readiness), _ok("No, for these reasons", Readiness, 503)), _ANY, is_open=True,
    ),
    Operation(
        "GET", "/metrics", "metrics", "hub", "For Prometheus; needs the scope `read:metrics` or `admin:*`",
        (Answer(200, "Prometheus' text format 0.0.4", {"text/plain": {"type": "string"}}),), (*_KEY, "forbidden"),
    ),
    Operation(
        "GET", "/openapi.json", "description", "hub", "This description",
        (_ok("OpenAPI 3.1", {"type": "object"}),), _ANY, is_open=True,
    ),
    Operation(
        "GET", "/api/schemas/envelope.json", "envelopeSchema", "hub", "JSON Schema of the envelope",
        (Answer(200, "Draft 2020-12", {"application/schema+json": {"type": "object"}}),), _ANY, is_open=True,
    ),
    Operation(
        "GET", "/api/me", "me", "hub", "Whose key is this, and what may it do?", (_ok("The key's own", Me),), _KEY,
    ),
    Operation(
        "GET", "/api/pool", "pool", "hub", "The instances that answer", (_ok("In their settings' order", Pool),), _KEY,
    ),
    Operation(
        "POST", "/api/pool/{name}/resume", "resumeInstance", "hub", "Say that what blocked an instance is gone",
        (_ok("Its state now", InstanceState),), (*_KEY, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", {"type": "string", "minLength": 1}, "An instance", example="glm-a"),),
    ),
    Operation(
        "POST", "/api/pool/{name}/drain", "drainInstance", "hub", "Take an instance out; what runs there ends",
        (_ok("How far that is; it ends with `drained`", Drained),), (*_KEY, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", {"type": "string", "minLength": 1}, "An instance", example="glm-a"),),
    ),
    Operation(
        "GET", "/api/budgets", "budgets", "hub", "What is used of the budgets that the key's own requests count in",
        (_ok("All budgets for a key with `admin:*`", BudgetList),), (*_KEY, "budget_exceeded"),
    ),
    Operation(
        "POST", "/api/budgets/{name}/reset", "resetBudget", "hub", "Let a budget begin anew",
        (_ok("The budgets that did", BudgetList),),
        (*_KEY, *_WRITE, "invalid_field", "forbidden", "not_found"),
        (
            Parameter("name", "path", {"type": "string", "minLength": 1}, "A budget", example="wards"),
            Parameter("subject", "query", {"type": "string"}, "Of this key or tenant only", example="ward-3"),
        ),
    ),
    Operation(
        "POST", "/api/pool/{name}/start", "startInstance", "hub", "Start a worker of a local instance now",
        (_ok("Its state now", InstanceState),), (*_KEY, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", {"type": "string", "minLength": 1}, "A local instance", example="small"),),
    ),
    Operation(
        "POST", "/api/pool/{name}/stop", "stopInstance", "hub", "Stop a local instance; what runs ends first",
        (_ok("Its state now", InstanceState),), (*_KEY, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", {"type": "string", "minLength": 1}, "A local instance", example="small"),),
    ),
    Operation(
        "GET", "/api/capabilities", "capabilities", "hub", "What works here, what does not, why, and what replaces it",
        (_ok("In English and Chinese", Capabilities),), _KEY,
    ),
)  # fmt: skip

_TENANT = Parameter(
    "x-autoglm-tenant", "header", {"type": "string", "pattern": TENANT_PATTERN},
    "On whose account; needs the scope `tenant:NAME` unless it is the key's own",
)  # fmt: skip
_DECISIONS = (
    Operation(
        "GET", "/api/decisions", "listDecisions", "decisions", "The last choices for `auto`, the newest first",
        (_ok("Those of the key's tenant, or of the one that is named; else all for an admin's key", DecisionList),),
        (*_KEY, *_WRITE, "invalid_field", "forbidden"),
        (
            _TENANT,
            Parameter(
                "limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_DECISIONS, "default": 20},
                "At most so many",
            ),
        ),
    ),
    Operation(
        "GET", "/api/decisions/{id}", "getDecision", "decisions", "Why a request went where it went",
        (_ok("Candidates, predictions, propensities, the choice, the outcome, judgements", DecisionAccount),),
        (*_KEY, *_WRITE, "invalid_field", "not_found", "forbidden"),
        (
            _TENANT,
            Parameter(
                "id", "path", {"type": "string", "minLength": 1, "maxLength": 64},
                "From the answer's header `x-autoglm-decision`", example="019a0000-0000-7000-8000-000000000000",
            ),
        ),
    ),
    Operation(
        "POST", "/api/decisions/replay", "replayDecisions", "decisions", "What another policy would have brought",
        (_ok("For each measure what came out, and the doubly robust estimate with its 95% interval", WhatIf),),
        (*_KEY, *_BODY, *_WRITE, "forbidden"), request=NewReplay,
    ),
    Operation(
        "POST", "/api/feedback", "giveFeedback", "decisions", "Say how good an answer was",
        (_ok("It is on disk, and learned", Noted),), (*_KEY, *_BODY, *_WRITE, "not_found", "forbidden"), (_TENANT,),
        request=NewFeedback,
    ),
)  # fmt: skip

_EVENTS = (
    Operation(
        "POST", "/api/events", "sendEvent", "events", "Tell of an event; the routes decide whom it reaches",
        (
            _ok("It was accepted before, with equal content", AcceptedEvent),
            _ok("It is on disk", AcceptedEvent, 202),
        ),
        (*_KEY, *_BODY, *_WRITE, "forbidden", "duplicate_id"), request=Event,
    ),
    Operation(
        "GET", "/api/events", "listEvents", "events", "The last events, the newest first",
        (_ok("Whom each reached, and who has noticed", EventList),), (*_KEY, *_WRITE, "invalid_field", "forbidden"),
        (
            Parameter(
                "limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_EVENTS, "default": 20},
                "At most so many",
            ),
        ),
    ),
    Operation(
        "GET", "/api/events/{id}", "getEvent", "events", "Whom it reached, and who has noticed; wait for that",
        (_ok("With each message and its steps", EventAccount),), (*_KEY, *_WRITE, "invalid_field", "not_found"),
        (_ID, _WAIT),
    ),
    Operation(
        "POST", "/api/events/{id}/ack", "acknowledgeEvent", "events", "Somebody has noticed: nobody is told any more",
        (_ok("The event as it is now", EventAccount),), (*_KEY, *_WRITE, "invalid_field", "not_found"), (_ID,),
    ),
    Operation(
        "POST", "/api/routes/test", "testRoutes", "events", "Where would an event go, and why? Sends nothing",
        (_ok("What each route makes of it", Trial),), (*_KEY, *_BODY, "forbidden"), request=Event,
    ),
    Operation(
        "GET", "/api/silences", "listSilences", "events", "The silences in force",
        (_ok("By their end", SilenceList),), (*_KEY, "forbidden"),
    ),
    Operation(
        "POST", "/api/silences", "addSilence", "events", "For a while, events like these go nowhere",
        (_ok("It is in force", Silence),), (*_KEY, *_BODY, *_WRITE, "forbidden"), request=NewSilence,
    ),
    Operation(
        "DELETE", "/api/silences/{id}", "endSilence", "events", "End a silence before its time",
        (Answer(204, "It is gone", {}),), (*_KEY, *_WRITE, "invalid_field", "forbidden", "not_found"), (_ID,),
    ),
)  # fmt: skip

_QUESTIONS = (
    Operation(
        "POST", "/api/questions", "askPerson", "questions", "Ask a person, by each way that leads there",
        (
            _ok("It was asked before, with equal content", Accepted),
            _ok("It is on disk", Accepted, 202),
        ),
        (*_KEY, *_BODY, *_WRITE, "forbidden", "unknown_recipient", "duplicate_id"), request=NewQuestion,
    ),
    Operation(
        "GET", "/api/questions/{id}", "getQuestion", "questions", "The answer, or what became of the question",
        (_ok("With each message and its steps; `wait` for the answer", Question),),
        (*_KEY, *_WRITE, "invalid_field", "not_found"), (_ID, _WAIT),
    ),
)  # fmt: skip

_TELL = (*_KEY, *_BODY, *_WRITE, "forbidden", "unknown_path", "method_not_allowed")
_TOPIC = Parameter("name", "path", {"type": "string", "pattern": TOPIC_PATTERN}, "A topic", example="backups")
_PUBLISHED = (_ok("ntfy's answer; `x-autoglm-warning: no-route` where no route takes it", Published),)


def _apprise(path: str, operation_id: str) -> Operation:
    name = Parameter(
        "name", "path", {"type": "string", "pattern": KEY_PATTERN}, "A configuration of Apprise's API; here a label",
        example="ops",
    )  # fmt: skip
    return Operation(
        "POST", path, operation_id, "interop", "Apprise API's call: an event, for the routes",
        (
            _ok("It is on disk, and a route takes it", Notified),
            _ok("It is on disk, and no route takes it: nobody is told", Notified, 424),
        ),
        _TELL, (name,) if "{" in path else (), request=NewNotification,
    )  # fmt: skip


_INTEROP = (
    _apprise("/api/notify", "notify"),
    _apprise("/api/notify/{name}", "notifyByKey"),
    _apprise("/notify", "notifyAtRoot"),
    _apprise("/notify/{name}", "notifyAtRootByKey"),
    *(
        Operation(
            method, "/", f"publishJson{'' if method == 'POST' else 'ByPut'}", "interop",
            "ntfy's publication as JSON: an event, for the routes", _PUBLISHED, _TELL, request=NewPublication,
        )
        for method in ("POST", "PUT")
    ),
    *(
        Operation(
            method, "/{name}", f"publish{'' if method == 'POST' else 'ByPut'}", "interop",
            "ntfy's publication: the body is the text, headers or parameters say the rest", _PUBLISHED, _TELL,
            (_TOPIC,), request={}, request_is_required=False,
        )
        for method in ("PUT", "POST")
    ),
    *(
        Operation(
            "GET", f"/{{name}}/{word}", f"{word}ByGet", "interop", "ntfy's publication by parameters alone",
            _PUBLISHED, _TELL, (_TOPIC,),
        )
        for word in WORDS
    ),
)  # fmt: skip

_HOOK = ("invalid_field", "not_found", "unauthorized", "forbidden", "unknown_recipient", "duplicate_id")
_CHANNEL = Parameter("name", "path", {"type": "string", "minLength": 1}, "A channel of the settings", example="wecom")
_CHANNELS = (
    Operation(
        "GET", "/api/channels", "channels", "channels", "The channels; with `check=1` whether each could send now",
        (_ok("In their settings' order", ChannelList),), (*_KEY, "invalid_field", "forbidden"),
        (
            Parameter("check", "query", {"type": "integer", "minimum": 0, "maximum": 1, "default": 0}, "Ask them"),
        ),
    ),
    Operation(
        "POST", "/api/channels/{name}/retry", "retryChannel", "channels", "Try now what waits for its next attempt",
        (_ok("How many lanes that were", Retried),), (*_KEY, "invalid_field", "forbidden", "not_found"), (_CHANNEL,),
    ),
    Operation(
        "GET", "/api/outbox", "outbox", "channels", "What waits to go out, and why",
        (_ok("By channel and target", OutboxState),), (*_KEY, *_WRITE, "forbidden"),
    ),
    Operation(
        "GET", "/api/outbox/dead", "deadLetters", "channels", "Messages that could not be delivered",
        (_ok("The newest first", DeadLetterList),), (*_KEY, *_WRITE, "invalid_field", "forbidden"),
        (
            Parameter(
                "limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_LETTERS, "default": 100},
                "At most so many",
            ),
        ),
    ),
    Operation(
        "POST", "/api/outbox/dead/{id}/resend", "resendDeadLetter", "channels", "Send a dead letter again",
        (
            _ok("It was sent again before", Accepted),
            _ok("The new message is on disk", Accepted, 202),
        ),
        (*_KEY, *_BODY, *_WRITE, "forbidden", "not_found", "unknown_recipient", "duplicate_id"), (_ID,),
        request=NewTry, request_is_required=False,
    ),
    Operation(
        "DELETE", "/api/outbox/dead/{id}", "dropDeadLetter", "channels", "Forget a dead letter",
        (Answer(204, "It is gone; the message and its receipts stay", {}),),
        (*_KEY, *_WRITE, "invalid_field", "forbidden", "not_found"), (_ID,),
    ),
    Operation(
        "GET", "/api/hooks/{name}", "checkHook", "channels", "A vendor verifies the address of a channel",
        (Answer(200, "As the vendor wants it", {"text/plain": {"type": "string"}}),),
        (*_ANY, *_WRITE, *_HOOK), (_CHANNEL,), is_open=True,
    ),
    Operation(
        "POST", "/api/hooks/{name}", "callHook", "channels", "A vendor brings a message or a receipt",
        (Answer(200, "As the vendor wants it", {"text/plain": {"type": "string"}}),),
        (*_ANY, *_BODY, *_WRITE, *_HOOK, "too_many_bodies"), (_CHANNEL,), request={}, is_open=True,
    ),
)  # fmt: skip

_PUSH = (
    Operation(
        "GET", "/api/push/key", "pushKey", "push", "The key that a browser needs to subscribe",
        (_ok("`applicationServerKey` for `PushManager.subscribe`", PushKey),), (*_KEY, *_WRITE, "not_found"),
    ),
    Operation(
        "GET", "/api/push/subscriptions", "listPushSubscriptions", "push", "The browsers of the key's own address",
        (_ok("The oldest first; endpoints are secrets, and left out", PushBrowsers),), (*_KEY, *_WRITE),
    ),
    Operation(
        "POST", "/api/push/subscriptions", "subscribeToPush", "push", "Notifications go to this browser from now on",
        (_ok("It is on disk; again is once", PushBrowser),), (*_KEY, *_BODY, *_WRITE, "forbidden", "not_found"),
        request=NewSubscription,
    ),
    Operation(
        "DELETE", "/api/push/subscriptions/{id}", "unsubscribeFromPush", "push", "No more notifications there",
        (Answer(204, "It is gone", {}),), (*_KEY, *_WRITE, "invalid_field", "not_found"),
        (Parameter("id", "path", {"type": "string", "minLength": 1}, "As it was answered"),),
    ),
)  # fmt: skip

_MODEL: Schema = {
    "type": "string", "minLength": 1, "maxLength": 256, "examples": ["auto"],
    "description": "`auto` lets the hub choose",
}  # fmt: skip
_ASK = (
    *_KEY, *_BODY, "forbidden", "unknown_model", "not_offered", "budget_exceeded", "storage_full", "store_broken",
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
    _TENANT,
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
    content: dict[str, Any] = {_JSON: {"type": "object"}}
    if can_stream:
        content["text/event-stream"] = {"type": "string"}
    return Operation(
        "POST", path, name, "models", summary,
        (Answer(200, "As OpenAI's API answers, from the instance that was chosen", content),),
        _ASK, _HINTS,
        {"type": "object", "properties": properties, "required": ["model"], "additionalProperties": True},
    )  # fmt: skip


_MODELS = (
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
        (_ok("As OpenAI's API answers", {"type": "object", "required": ["object", "data"]}),), _KEY,
    ),
    Operation(
        "GET", "/v1/models/{id}", "getModel", "models", "One of them",
        (_ok("As OpenAI's API answers", {"type": "object", "required": ["id", "object"]}),),
        (*_KEY, "invalid_field", "unknown_model"),
        (
            Parameter(
                "id", "path", {"type": "string", "minLength": 1, "maxLength": 256},
                "A model's name; slashes may be percent-encoded or not", example="auto",
            ),
        ),
    ),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    *_MODELS,
    *_MESSAGES,
    *_EVENTS,
    *_QUESTIONS,
    *_INTEROP,
    *_CHANNELS,
    *_PUSH,
    *_TASKS,
    *_DECISIONS,
    *_INTENTS,
    *_STATE,
)
