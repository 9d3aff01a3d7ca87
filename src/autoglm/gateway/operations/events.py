"""Events, routes and silences; the calls of Apprise's API and of ntfy."""

from autoglm.channels.routes.event import Event
from autoglm.channels.routes.notifier import EventAccount
from autoglm.channels.routes.silences import NewSilence, Silence
from autoglm.gateway.events import MAX_EVENTS, AcceptedEvent, EventList, SilenceList, Trial
from autoglm.gateway.interop.apprise import Notified
from autoglm.gateway.interop.notification import KEY_PATTERN, NewNotification
from autoglm.gateway.interop.ntfy import WORDS
from autoglm.gateway.interop.publication import TOPIC_PATTERN, NewPublication, Published
from autoglm.gateway.operations.operation import BODY, ID, KEY, WAIT, WRITE, Answer, Operation, Parameter, ok

EVENTS = (
    Operation(
        "POST", "/api/events", "sendEvent", "events", "Tell of an event; the routes decide whom it reaches",
        (
            ok("It was accepted before, with equal content", AcceptedEvent),
            ok("It is on disk", AcceptedEvent, 202),
        ),
        (*KEY, *BODY, *WRITE, "forbidden", "duplicate_id"), request=Event,
    ),
    Operation(
        "GET", "/api/events", "listEvents", "events", "The last events, the newest first",
        (ok("Whom each reached, and who has noticed", EventList),), (*KEY, *WRITE, "invalid_field", "forbidden"),
        (
            Parameter(
                "limit", "query", {"type": "integer", "minimum": 1, "maximum": MAX_EVENTS, "default": 20},
                "At most so many",
            ),
        ),
    ),
    Operation(
        "GET", "/api/events/{id}", "getEvent", "events", "Whom it reached, and who has noticed; wait for that",
        (ok("With each message and its steps", EventAccount),), (*KEY, *WRITE, "invalid_field", "not_found"),
        (ID, WAIT),
    ),
    Operation(
        "POST", "/api/events/{id}/ack", "acknowledgeEvent", "events", "Somebody has noticed: nobody is told any more",
        (ok("The event as it is now", EventAccount),), (*KEY, *WRITE, "invalid_field", "not_found"), (ID,),
    ),
    Operation(
        "POST", "/api/routes/test", "testRoutes", "events", "Where would an event go, and why? Sends nothing",
        (ok("What each route makes of it", Trial),), (*KEY, *BODY, "forbidden"), request=Event,
    ),
    Operation(
        "GET", "/api/silences", "listSilences", "events", "The silences in force",
        (ok("By their end", SilenceList),), (*KEY, "forbidden"),
    ),
    Operation(
        "POST", "/api/silences", "addSilence", "events", "For a while, events like these go nowhere",
        (ok("It is in force", Silence),), (*KEY, *BODY, *WRITE, "forbidden"), request=NewSilence,
    ),
    Operation(
        "DELETE", "/api/silences/{id}", "endSilence", "events", "End a silence before its time",
        (Answer(204, "It is gone", {}),), (*KEY, *WRITE, "invalid_field", "forbidden", "not_found"), (ID,),
    ),
)  # fmt: skip

_TELL = (*KEY, *BODY, *WRITE, "forbidden", "unknown_path", "method_not_allowed")
_TOPIC = Parameter("name", "path", {"type": "string", "pattern": TOPIC_PATTERN}, "A topic", example="backups")
_PUBLISHED = (ok("ntfy's answer; `x-autoglm-warning: no-route` where no route takes it", Published),)


def _apprise(path: str, operation_id: str) -> Operation:
    name = Parameter(
        "name", "path", {"type": "string", "pattern": KEY_PATTERN}, "A configuration of Apprise's API; here a label",
        example="ops",
    )  # fmt: skip
    return Operation(
        "POST", path, operation_id, "interop", "Apprise API's call: an event, for the routes",
        (
            ok("It is on disk, and a route takes it", Notified),
            ok("It is on disk, and no route takes it: nobody is told", Notified, 424),
        ),
        _TELL, (name,) if "{" in path else (), request=NewNotification,
    )  # fmt: skip


INTEROP = (
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
