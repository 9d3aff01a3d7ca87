"""Policy, audit and clock."""

from autoglm.auth.audit.conflicts import KnownConflict
from autoglm.auth.audit.entry import KINDS
from autoglm.gateway.audit import MAX_LIMIT, AuditPage, AuditReport, ConflictReport, Settling
from autoglm.gateway.clock import ClockState, ConfirmedTime
from autoglm.gateway.operations.operation import BODY, KEY, POSITION, WRITE, Operation, Parameter, Schema, ok
from autoglm.gateway.policy import AccessQuestion, Explanation, PolicyState

_TEXT: Schema = {"type": "string", "maxLength": 512}


def _filter(name: str, description: str, schema: Schema = _TEXT) -> Parameter:
    return Parameter(name, "query", schema, description)


TRUST = (
    Operation(
        "GET", "/api/policy", "policyState", "policy", "Which policy is in force, and how far it is believed",
        (ok("Version 0 where scopes decide alone", PolicyState),), (*KEY, "forbidden"),
    ),
    Operation(
        "POST", "/api/policy/pull", "pullPolicy", "policy", "Bring the newest policy from its source into force",
        (ok("What is in force now", PolicyState),),
        (*KEY, *WRITE, "forbidden", "not_found", "policy_refused", "policy_unreachable"),
    ),
    Operation(
        "POST", "/api/policy/snapshot", "bringPolicy", "policy", "Bring a policy into force that somebody carries here",
        (ok("What is in force now", PolicyState),), (*KEY, *BODY, *WRITE, "forbidden", "not_found", "policy_refused"),
        request={
            "type": "string", "format": "binary",
            "description": "A zip file with `metadata/` and `targets/`, as an authority publishes them",
        },
        request_type="application/octet-stream",
    ),
    Operation(
        "POST", "/api/policy/explain", "explainPolicy", "policy", "Might somebody do something, and what decides it?",
        (ok("Which revocation, role or policy", Explanation),), (*KEY, *BODY, "forbidden"), request=AccessQuestion,
    ),
    Operation(
        "GET", "/api/clock", "clockState", "policy", "What time the hub goes by, and whether it can be believed",
        (ok("With the reason", ClockState),), (*KEY, "forbidden"),
    ),
    Operation(
        "POST", "/api/clock/confirm", "confirmTime", "policy", "An administrator says what time it is",
        (ok("The time now", ClockState),), (*KEY, *BODY, *WRITE, "forbidden"), request=ConfirmedTime,
    ),
    Operation(
        "GET", "/api/audit", "searchAudit", "audit", "What was decided and done, the newest first",
        (ok("Entries that fit all filters", AuditPage),), (*KEY, *WRITE, "invalid_field", "forbidden"),
        (
            _filter("kind", f"Of these kinds: `{','.join(KINDS)}`"),
            _filter("action", "Of these actions, with commas between them"),
            _filter("outcome", "Of these outcomes: `allowed,denied,failed`"),
            _filter("who", "Of this address"),
            _filter("since", "Not before this moment, in milliseconds", POSITION),
            _filter("until", "Before this moment, in milliseconds", POSITION),
            _filter("text", "With this text anywhere", {"type": "string", "maxLength": 200}),
            _filter("before", "Only what has a lower `seq`; 0 for all", POSITION),
            _filter("limit", "At most so many", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT}),
        ),
    ),
    Operation(
        "GET", "/api/audit/verify", "verifyAudit", "audit", "Is the whole record as it was written?",
        (ok("What is wrong with which entry", AuditReport),), (*KEY, *WRITE, "forbidden"),
    ),
    Operation(
        "GET", "/api/audit/conflicts", "listConflicts", "audit", "What was allowed offline, and would not be now",
        (ok("By operation", ConflictReport),), (*KEY, *WRITE, "invalid_field", "forbidden"),
        (_filter("settled", "1: also those that were settled", {"type": "integer", "minimum": 0, "maximum": 1}),),
    ),
    Operation(
        "POST", "/api/audit/conflicts/{id}", "settleConflict", "audit", "Settle a conflict; the operation stays",
        (ok("The conflict as it is now", KnownConflict),), (*KEY, *BODY, *WRITE, "forbidden", "not_found"),
        (Parameter("id", "path", POSITION, "The `operation` of the conflict", example=17),), request=Settling,
    ),
)  # fmt: skip
