"""The only table from an error's `code` to an HTTP status, and the two forms in which errors leave the hub.

Sources: RFC 9457 (problem details); OpenAI's API reference, "error object" (under /v1).
"""

import math
from typing import Any, NamedTuple, get_args

import msgspec

from autoglm.core.errors import HubError, NonceWanted, TokenRefused
from autoglm.inference.call import Api


class Row(NamedTuple):
    status: int
    title: str
    openai_type: str
    """OpenAI's clients branch on it: invalid_request_error, authentication_error, rate_limit_error, server_error."""


_BAD = "invalid_request_error"
_SERVER = "server_error"

PROBLEMS: dict[str, Row] = {
    "internal": Row(500, "Internal error", _SERVER),
    "invalid_json": Row(400, "Body is not JSON", _BAD),
    "invalid_field": Row(400, "Invalid field", _BAD),
    "payload_too_large": Row(413, "Body too large", _BAD),
    "unsupported_media_type": Row(415, "Unsupported body", _BAD),
    "invalid_http": Row(400, "Not an HTTP request", _BAD),
    "head_too_large": Row(431, "Head too large", _BAD),
    "request_timeout": Row(408, "Request incomplete", _BAD),
    "too_many_connections": Row(503, "Too many clients", _SERVER),
    "too_many_bodies": Row(503, "Too many large bodies", _SERVER),
    "address_refused": Row(400, "Address refused", _BAD),
    "cross_origin": Row(403, "Page of another origin", "permission_error"),
    "wrong_host": Row(421, "Wrong host", _BAD),
    "unknown_path": Row(404, "Unknown path", _BAD),
    "method_not_allowed": Row(405, "Method not allowed", _BAD),
    "not_found": Row(404, "Not found", _BAD),
    "unknown_recipient": Row(404, "Unknown recipient", _BAD),
    "unknown_model": Row(404, "Unknown model", _BAD),
    "duplicate_id": Row(409, "Duplicate id", _BAD),
    "revision_mismatch": Row(409, "Changed meanwhile", _BAD),
    "range_not_satisfiable": Row(416, "Range not satisfiable", _BAD),
    "unauthorized": Row(401, "Unauthorized", "authentication_error"),
    "token_refused": Row(401, "Token refused", "authentication_error"),
    "use_nonce": Row(401, "Nonce wanted", "authentication_error"),
    "too_many_proofs": Row(503, "Too many proofs", _SERVER),
    "forbidden": Row(403, "Forbidden", "permission_error"),
    "policy_refused": Row(400, "Policy refused", _BAD),
    "policy_unreachable": Row(502, "Policy cannot be had", _SERVER),
    "rate_limited": Row(429, "Rate limited", "rate_limit_error"),
    "login_refused": Row(401, "Login refused", "authentication_error"),
    "login_throttled": Row(429, "Too many logins", "rate_limit_error"),
    "session_ended": Row(401, "Session ended", "authentication_error"),
    "login_wanted": Row(403, "Login wanted", "permission_error"),
    "fresh_login_wanted": Row(403, "Fresh login wanted", "permission_error"),
    "provider_unreachable": Row(502, "Login provider unreachable", _SERVER),
    "too_many_failures": Row(429, "Too many failures", "rate_limit_error"),
    "budget_exceeded": Row(429, "Budget exceeded", "insufficient_quota"),
    "no_instance_free": Row(503, "No instance free", _SERVER),
    "queue_full": Row(429, "Queue full", "rate_limit_error"),
    "overloaded": Row(503, "Overloaded", _SERVER),
    "not_offered": Row(400, "Not offered", _BAD),
    "upstream_failed": Row(502, "Instance failed", _SERVER),
    "upstream_refused": Row(502, "Instance refuses", _SERVER),
    "upstream_timeout": Row(504, "Instance timed out", _SERVER),
    "deadline_exceeded": Row(504, "Deadline exceeded", _SERVER),
    "draining": Row(503, "Shutting down", _SERVER),
    "storage_full": Row(507, "Storage full", _SERVER),
    "store_broken": Row(500, "Store broken", _SERVER),
    "backup_broken": Row(500, "Backup cannot be used", _SERVER),
    "state_broken": Row(500, "State cannot be used", _SERVER),
    "wrong_passphrase": Row(500, "Secrets are locked", _SERVER),
    "vault_broken": Row(500, "Secrets cannot be used", _SERVER),
    "authority_broken": Row(500, "Certificate authority cannot be used", _SERVER),
    "acme_failed": Row(502, "No certificate from the ACME server", _SERVER),
    "discovery_failed": Row(502, "Addresses cannot be had", _SERVER),
    "missing_extra": Row(501, "Package missing", _SERVER),
    "settings_error": Row(500, "Settings are wrong", _SERVER),
    "model_file_error": Row(500, "Model file cannot be used", _SERVER),
}

# Error codes that OpenAI's own clients and tools look for.
_OPENAI_CODES = {
    "unknown_model": "model_not_found",
    "unauthorized": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "queue_full": "rate_limit_exceeded",
}
_OPENAI_PARAMS = {"unknown_model": "model"}

_WITHOUT_V1 = tuple(f"{path}/" for path in (*get_args(Api), "/models"))
_encode = msgspec.json.Encoder().encode


def lacks_v1(path: str) -> bool:
    """True for a path of OpenAI's API whose `/v1` was left out: a client has a base_url without it."""
    return f"{path}/".startswith(_WITHOUT_V1)


def problem(error: HubError, request_id: str = "") -> dict[str, Any]:
    """The members of a problem details object."""
    row = PROBLEMS[error.code]
    members = {
        "type": f"https://autoglm-hub.invalid/problems/{error.code}",
        "title": row.title,
        "status": row.status,
        "code": error.code,
        "detail": str(error),
    }
    if request_id:
        members["instance"] = f"urn:request:{request_id}"
    return members | {name: value for name, value in error.facts.items() if name not in members}


def problem_response(error: HubError, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """(status, headers, body) outside /v1."""
    headers = [(b"content-type", b"application/problem+json"), *_common_headers(error)]
    return PROBLEMS[error.code].status, headers, _encode(problem(error, request_id))


def openai_response(error: HubError, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """(status, headers, body) for clients of OpenAI's API."""
    headers = [(b"content-type", b"application/json"), *_common_headers(error)]
    return PROBLEMS[error.code].status, headers, _encode(openai_error(error, request_id))


def openai_error(error: HubError, request_id: str) -> dict[str, Any]:
    """OpenAI's error object, which is also what ends a stream that broke off."""
    row = PROBLEMS[error.code]
    param = error.facts.get("field", _OPENAI_PARAMS.get(error.code))
    code = _OPENAI_CODES.get(error.code, error.code)
    members = {"message": str(error), "type": row.openai_type, "param": param, "code": code, "request_id": request_id}
    return {"error": members}


def _common_headers(error: HubError) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    retry_after_s = error.facts.get("retry_after_s")
    if isinstance(retry_after_s, (int, float)):
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(retry_after_s))))
    allowed = error.facts.get("allowed")
    if error.code == "method_not_allowed" and isinstance(allowed, list):
        headers.append((b"allow", ", ".join(allowed).encode()))
    if error.code == "budget_exceeded":
        headers.append((b"x-should-retry", b"false"))  # OpenAI's clients would try again in seconds
    if error.code == "unauthorized":
        headers.append((b"www-authenticate", b'Bearer realm="autoglm"'))
    if isinstance(error, TokenRefused):  # RFC 9449, section 7.1
        name = b"invalid_dpop_proof" if error.what == "proof" else b"invalid_token"
        headers.append((b"www-authenticate", b'DPoP error="%b", algs="Ed25519"' % name))
    if isinstance(error, NonceWanted):  # RFC 9449, section 9
        headers.append((b"www-authenticate", b'DPoP error="use_dpop_nonce", algs="Ed25519"'))
        headers.append((b"dpop-nonce", error.nonce.encode()))
    return headers
