"""Channels, their outbox, and the browsers that are notified."""

from autoglm.gateway.channels import MAX_LETTERS, ChannelList, DeadLetterList, NewTry, OutboxState, Retried
from autoglm.gateway.operations.operation import ANY, BODY, ID, KEY, WRITE, Answer, Operation, Parameter, ok
from autoglm.gateway.posting import Accepted
from autoglm.gateway.push import NewSubscription, PushBrowser, PushBrowsers, PushKey

_HOOK = ("invalid_field", "not_found", "unauthorized", "forbidden", "unknown_recipient", "duplicate_id")
_CHANNEL = Parameter("name", "path", {"type": "string", "minLength": 1}, "A channel of the settings", example="wecom")
CHANNELS = (
    Operation(
        "GET", "/api/channels", "channels", "channels", "The channels; with `check=1` whether each could send now",
        (ok("In their settings' order", ChannelList),), (*KEY, "invalid_field", "forbidden"),
        (
            Parameter("check", "query", {"type": "integer", "minimum": 0, "maximum": 1, "default": 0}, "Ask them"),
        ),
    ),
    Operation(
        "POST", "/api/channels/{name}/retry", "retryChannel", "channels", "Try now what waits for its next attempt",
        (ok("How many lanes that were", Retried),), (*KEY, "invalid_field", "forbidden", "not_found"), (_CHANNEL,),
    ),
    Operation(
        "GET", "/api/outbox", "outbox", "channels", "What waits to go out, and why",
        (ok("By channel and target", OutboxState),), (*KEY, *WRITE, "forbidden"),
    ),
    Operation(
        "GET", "/api/outbox/dead", "deadLetters", "channels", "Messages that could not be delivered",
        (ok("The newest first", DeadLetterList),), (*KEY, *WRITE, "invalid_field", "forbidden"),
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
            ok("It was sent again before", Accepted),
            ok("The new message is on disk", Accepted, 202),
        ),
        (*KEY, *BODY, *WRITE, "forbidden", "not_found", "unknown_recipient", "duplicate_id"), (ID,),
        request=NewTry, request_is_required=False,
    ),
    Operation(
        "DELETE", "/api/outbox/dead/{id}", "dropDeadLetter", "channels", "Forget a dead letter",
        (Answer(204, "It is gone; the message and its receipts stay", {}),),
        (*KEY, *WRITE, "invalid_field", "forbidden", "not_found"), (ID,),
    ),
    Operation(
        "GET", "/api/hooks/{name}", "checkHook", "channels", "A vendor verifies the address of a channel",
        (Answer(200, "As the vendor wants it", {"text/plain": {"type": "string"}}),),
        (*ANY, *WRITE, *_HOOK), (_CHANNEL,),
    ),
    Operation(
        "POST", "/api/hooks/{name}", "callHook", "channels", "A vendor brings a message or a receipt",
        (Answer(200, "As the vendor wants it", {"text/plain": {"type": "string"}}),),
        (*ANY, *BODY, *WRITE, *_HOOK, "too_many_bodies"), (_CHANNEL,), request={},
    ),
)  # fmt: skip

PUSH = (
    Operation(
        "GET", "/api/push/key", "pushKey", "push", "The key that a browser needs to subscribe",
        (ok("`applicationServerKey` for `PushManager.subscribe`", PushKey),), (*KEY, *WRITE, "not_found"),
    ),
    Operation(
        "GET", "/api/push/subscriptions", "listPushSubscriptions", "push", "The browsers of the key's own address",
        (ok("The oldest first; endpoints are secrets, and left out", PushBrowsers),), (*KEY, *WRITE),
    ),
    Operation(
        "POST", "/api/push/subscriptions", "subscribeToPush", "push", "Notifications go to this browser from now on",
        (ok("It is on disk; again is once", PushBrowser),), (*KEY, *BODY, *WRITE, "forbidden", "not_found"),
        request=NewSubscription,
    ),
    Operation(
        "DELETE", "/api/push/subscriptions/{id}", "unsubscribeFromPush", "push", "No more notifications there",
        (Answer(204, "It is gone", {}),), (*KEY, *WRITE, "invalid_field", "not_found"),
        (Parameter("id", "path", {"type": "string", "minLength": 1}, "As it was answered"),),
    ),
)  # fmt: skip
