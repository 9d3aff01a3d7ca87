"""Keys for programs."""

from autoglm.auth.settings import KEY_NAME_PATTERN
from autoglm.gateway.keys import IssuedKey, KeyList, NewKey
from autoglm.gateway.operations.operation import BODY, KEY, WRITE, Answer, Operation, Parameter, ok

KEYS = (
    Operation(
        "GET", "/api/keys", "listKeys", "keys", "The keys that were issued, without their values",
        (ok("By name; those of the settings are not among them", KeyList),), (*KEY, "forbidden"),
    ),
    Operation(
        "POST", "/api/keys", "issueKey", "keys", "Issue a bearer key, for a program that can do no better",
        (ok("Its value, this once", IssuedKey, 201),), (*KEY, *BODY, *WRITE, "forbidden"), request=NewKey,
    ),
    Operation(
        "DELETE", "/api/keys/{name}", "revokeKey", "keys", "Revoke a key",
        (Answer(204, "It counts no more", {}),),
        (*KEY, *WRITE, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", {"type": "string", "pattern": KEY_NAME_PATTERN}, "A key", example="robot-7"),),
    ),
)  # fmt: skip
