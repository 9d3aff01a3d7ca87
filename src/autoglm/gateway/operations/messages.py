"""Messages, groups, and questions to people."""

from autoglm.channels.groups import Group
from autoglm.channels.questions import NewQuestion, Question
from autoglm.core.envelope import Envelope
from autoglm.gateway.groups import GroupBody, GroupList
from autoglm.gateway.messages import Ack, Acked, Receipts
from autoglm.gateway.operations.operation import (
    AFTER,
    BODY,
    ID,
    KEY,
    LIMIT,
    NAME,
    POSITION,
    TO,
    WAIT,
    WRITE,
    Answer,
    Operation,
    Parameter,
    ok,
)
from autoglm.gateway.posting import Accepted

MESSAGES = (
    Operation(
        "POST", "/api/messages", "sendMessage", "messages", "Send a message",
        (
            ok("It was accepted before, with equal content", Accepted),
            ok("It is on disk", Accepted, 202),
        ),
        (*KEY, *BODY, *WRITE, "forbidden", "unknown_recipient", "duplicate_id"),
        request=Envelope,
    ),
    Operation(
        "GET", "/api/messages", "readMessages", "messages", "Read an address's messages; wait for them with `wait`",
        (ok("In the order of `seq`", "Messages"),),
        (*KEY, *WRITE, "invalid_field", "forbidden"),
        (
            TO, AFTER, LIMIT, WAIT,
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
        (*KEY, "invalid_field", "forbidden"),
        (
            TO, AFTER,
            Parameter("last-event-id", "header", POSITION, "Goes before `after`"),
        ),
    ),
    Operation(
        "GET", "/api/messages/{id}", "getMessage", "messages", "One message",
        (ok("The message", "Message"),), (*KEY, "invalid_field", "not_found"), (ID,),
    ),
    Operation(
        "GET", "/api/messages/{id}/receipts", "getReceipts", "messages", "What became of a message",
        (ok("Oldest first; `accepted` is the first", Receipts),),
        (*KEY, *WRITE, "invalid_field", "not_found"), (ID,),
    ),
    Operation(
        "POST", "/api/messages/{id}/ack", "acknowledgeMessage", "messages", "Report that a message was read",
        (ok("The step is on disk; a repeat changes nothing", Acked),),
        (*KEY, *BODY, *WRITE, "forbidden", "not_found"), (ID,), request=Ack, request_is_required=False,
    ),
    Operation(
        "GET", "/api/groups", "listGroups", "groups", "The groups whose messages the key may read",
        (ok("By name", GroupList),), KEY,
    ),
    Operation(
        "GET", "/api/groups/{name}", "getGroup", "groups", "A group's members",
        (ok("The group", Group),), (*KEY, "invalid_field", "forbidden", "not_found"), (NAME,),
    ),
    Operation(
        "PUT", "/api/groups/{name}", "putGroup", "groups", "Make a group, or replace its members",
        (ok("The group", Group),), (*KEY, *BODY, *WRITE, "forbidden"), (NAME,), request=GroupBody,
    ),
    Operation(
        "DELETE", "/api/groups/{name}", "deleteGroup", "groups", "Delete a group; its messages stay",
        (Answer(204, "It is gone", {}),), (*KEY, *WRITE, "invalid_field", "forbidden", "not_found"), (NAME,),
    ),
)  # fmt: skip

QUESTIONS = (
    Operation(
        "POST", "/api/questions", "askPerson", "questions", "Ask a person, by each way that leads there",
        (
            ok("It was asked before, with equal content", Accepted),
            ok("It is on disk", Accepted, 202),
        ),
        (*KEY, *BODY, *WRITE, "forbidden", "unknown_recipient", "duplicate_id"), request=NewQuestion,
    ),
    Operation(
        "GET", "/api/questions/{id}", "getQuestion", "questions", "The answer, or what became of the question",
        (ok("With each message and its steps; `wait` for the answer", Question),),
        (*KEY, *WRITE, "invalid_field", "not_found"), (ID, WAIT),
    ),
)  # fmt: skip
