"""The table of problems is complete, and errors leave the hub in their two forms."""

import importlib
import pkgutil
import re
from collections import Counter

import pytest

import autoglm
from autoglm.core import errors
from autoglm.core.errors import (
    DuplicateId,
    HubError,
    InvalidField,
    MethodNotAllowed,
    NonceWanted,
    RateLimited,
    TokenRefused,
    Unauthorized,
)
from autoglm.gateway.problems import PROBLEMS, openai_error, openai_response, problem, problem_response


def subclasses(of: type[HubError]) -> set[type[HubError]]:
    found = set(of.__subclasses__())
    for kind in tuple(found):
        found |= subclasses(kind)
    return found


CLIENT_SIDE = ("autoglm.client", "autoglm.cli", "autoglm.hub", "autoglm.rendezvous")


def every_error() -> set[type[HubError]]:
    """Those that a hub may answer with, once all its modules are loaded; clients and tests have others of their own."""
    for module in pkgutil.walk_packages(autoglm.__path__, "autoglm."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {
        kind
        for kind in subclasses(HubError) | {HubError}
        if kind.__module__.startswith("autoglm.") and not kind.__module__.startswith(CLIENT_SIDE)
    }


def test_each_error_has_a_row_and_each_row_an_error() -> None:
    codes = {kind.code for kind in every_error()}
    assert codes == set(PROBLEMS)


def test_no_two_public_errors_share_a_code() -> None:
    public = [kind for kind in every_error() if not kind.__name__.startswith("_")]
    twice = [code for code, count in Counter(kind.code for kind in public).items() if count > 1]
    assert twice == []
    assert all(kind.__module__ == errors.__name__ for kind in public)


def test_rows_are_sound() -> None:
    for code, row in PROBLEMS.items():
        assert re.fullmatch(r"[a-z_]+", code)
        assert 400 <= row.status < 600
        assert row.title[0].isupper()
        assert (row.openai_type == "server_error") == (row.status >= 500), code


def test_errors_that_a_retry_can_help_say_so_by_their_status() -> None:
    retryable = {kind.code for kind in every_error() if kind.retryable}
    assert {PROBLEMS[code].status for code in retryable} <= {408, 409, 429, 502, 503, 504, 507}


def test_a_problem_has_the_members_of_rfc_9457_and_the_facts() -> None:
    status, headers, body = problem_response(DuplicateId("order-17"), "abc-1")
    assert status == 409
    assert (b"content-type", b"application/problem+json") in headers
    assert problem(DuplicateId("order-17"), "abc-1") == {
        "type": "https://autoglm-hub.invalid/problems/duplicate_id", "title": "Duplicate id", "status": 409,
        "code": "duplicate_id", "instance": "urn:request:abc-1", "id": "order-17",
        "detail": "id 'order-17' already belongs to a message with other content; choose a new id",
    }  # fmt: skip
    assert body.startswith(b'{"type":')


def test_a_fact_never_takes_the_place_of_a_member() -> None:
    assert problem(HubError("broken", status=1, code="x", title="y", more=2)) == {
        "type": "https://autoglm-hub.invalid/problems/internal", "title": "Internal error", "status": 500,
        "code": "internal", "detail": "broken", "more": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (RateLimited(0.2), (b"retry-after", b"1")),
        (RateLimited(2.1), (b"retry-after", b"3")),
        (MethodNotAllowed("PUT", "/x", ["GET", "HEAD"]), (b"allow", b"GET, HEAD")),
        (Unauthorized("no"), (b"www-authenticate", b'Bearer realm="autoglm"')),
        (TokenRefused("expired"), (b"www-authenticate", b'DPoP error="invalid_token", algs="Ed25519"')),
        (TokenRefused("expired", "proof"), (b"www-authenticate", b'DPoP error="invalid_dpop_proof", algs="Ed25519"')),
        (NonceWanted("abc"), (b"www-authenticate", b'DPoP error="use_dpop_nonce", algs="Ed25519"')),
        (NonceWanted("abc"), (b"dpop-nonce", b"abc")),
    ],
)
def test_headers_go_with_the_error(error: HubError, header: tuple[bytes, bytes]) -> None:
    assert header in problem_response(error, "")[1]
    assert header in openai_response(error, "")[1]


def test_under_v1_errors_have_openai_s_shape() -> None:
    for code, row in PROBLEMS.items():
        error = HubError("words")
        error.code = code
        members = openai_error(error, "abc-1")["error"]
        assert set(members) == {"message", "type", "param", "code", "request_id"}
        assert (members["message"], members["type"], members["request_id"]) == ("words", row.openai_type, "abc-1")
    assert openai_error(InvalidField("messages[0].role", "no"), "")["error"]["param"] == "messages[0].role"
