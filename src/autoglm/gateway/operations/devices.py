"""Devices, their tokens, and what was revoked."""

from autoglm.gateway.devices import DeviceList, Enrolled, Enrolling, EnrolmentCode, NewEnrolment
from autoglm.gateway.operations.operation import BODY, GROUP, KEY, WRITE, Answer, Operation, Parameter, ok
from autoglm.gateway.tokens import (
    IssuedToken,
    KnownRevocation,
    NewRevocation,
    NewToken,
    RevocationList,
    RotatedKey,
    TokenText,
    VerifiedToken,
)

_PROOF = (*KEY, "token_refused", "use_nonce", "too_many_proofs")
_DPOP = Parameter(
    "dpop", "header", {"type": "string", "maxLength": 8192},
    "RFC 9449: a proof by the device's key; `ath` is over the code, or, to renew, over nothing",
)  # fmt: skip

DEVICES = (
    Operation(
        "GET", "/api/devices", "listDevices", "devices", "The devices that have enrolled",
        (ok("By name", DeviceList),), (*KEY, "forbidden"),
    ),
    Operation(
        "POST", "/api/devices/enrolments", "inviteDevice", "devices", "A code by which a device enrols, once",
        (ok("The code, this once", EnrolmentCode, 201),), (*KEY, *BODY, *WRITE, "forbidden"), request=NewEnrolment,
    ),
    Operation(
        "POST", "/api/devices/enrol", "enrolDevice", "devices", "A device enrols by its code, with a key that it made",
        (ok("What it is here, and its first token", Enrolled, 201),), (*_PROOF, *BODY, *WRITE), (_DPOP,),
        request=Enrolling,
    ),
    Operation(
        "DELETE", "/api/devices/{name}", "removeDevice", "devices", "Its key and its tokens count no more",
        (Answer(204, "It is gone", {}),), (*KEY, *WRITE, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", GROUP, "A device", example="press-7"),),
    ),
    Operation(
        "POST", "/api/tokens", "issueToken", "devices", "Make a token for a device that has enrolled",
        (ok("It is bound to the device's key", IssuedToken, 201),), (*KEY, *BODY, "forbidden", "not_found"),
        request=NewToken,
    ),
    Operation(
        "POST", "/api/tokens/renew", "renewToken", "devices", "A device gets its next token by a proof of its key",
        (ok("The next one", IssuedToken, 201),), (*_PROOF, *BODY, "forbidden"), (_DPOP,), request=NewToken,
    ),
    Operation(
        "POST", "/api/tokens/verify", "verifyToken", "devices", "Would this token count here, and for what?",
        (ok("Apart from the proof, without which it opens nothing", VerifiedToken),), (*KEY, *BODY, "forbidden"),
        request=TokenText,
    ),
    Operation(
        "POST", "/api/tokens/rotate", "rotateSiteKey", "devices", "A new key signs this site's tokens from now on",
        (ok("Tokens that are out go on to count", RotatedKey),), (*KEY, *WRITE, "forbidden", "invalid_field"),
    ),
    Operation(
        "GET", "/api/revocations", "listRevocations", "devices", "What was revoked at this hub",
        (ok("The oldest first", RevocationList),), (*KEY, "forbidden"),
    ),
    Operation(
        "POST", "/api/revocations", "revoke", "devices", "Revoke a token, a key, or whoever bears an address",
        (ok("It counts no more; again is once", KnownRevocation),), (*KEY, *BODY, *WRITE, "forbidden"),
        request=NewRevocation,
    ),
    Operation(
        "DELETE", "/api/revocations/{id}", "takeBackRevocation", "devices", "Take a revocation back",
        (Answer(204, "It counts again, where it has not ended", {}),),
        (*KEY, *WRITE, "invalid_field", "forbidden", "not_found"),
        (Parameter("id", "path", {"type": "string", "minLength": 1}, "As it was revoked", example="device:press-7"),),
    ),
)  # fmt: skip
