"""What can go wrong between a client and its hub. The hub's own errors arrive as HubProblem, with their `code`."""

import json
from typing import Any

from autoglm.core.errors import HubError

_RETRYABLE_STATUSES = frozenset({429, 502, 503, 504, 507})


class ConnectionLost(HubError):
    """The connection broke off in the middle: whether the hub has done what was asked is not known."""

    code = "connection_lost"
    retryable = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"the connection to the hub at {url} broke off: {reason}")


class BrokenAnswer(HubError):
    """The answer stopped before its end; what had come by then was handed out already."""

    code = "broken_answer"
    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"the answer broke off: {reason}")


class HubProblem(HubError):
    """The hub said no. `code` is the hub's own (docs/api.md), `status` the HTTP status."""

    def __init__(self, status: int, code: str, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retryable = retry_after_s is not None or status in _RETRYABLE_STATUSES
        self.retry_after_s = retry_after_s


def problem_from(status: int, body: bytes, retry_after: str | None, url: str) -> HubProblem:
    """Read problem details (RFC 9457) or OpenAI's error object; whatever else comes is shown as it is, cut short."""
    members = _members(body)
    inner = members.get("error")
    if isinstance(inner, dict):
        members = {"detail": inner.get("message"), "code": inner.get("code")}
    detail = members.get("detail")
    if not isinstance(detail, str):
        text = " ".join(body[:200].decode("utf-8", "replace").split())
        detail = f"{url} answered HTTP {status}{f': {text}' if text else ''}; is this a hub?"
    code = members.get("code")
    if status == 401 and code in (
        "unauthorized",
        "invalid_api_key",
    ):  # the hub's own words are about HTTP, which the caller does not see
        detail = (
            f"the hub at {url} does not know the key; was it copied whole? "
            "'autoglm console --print' on the hub's machine shows the first key"
        )
    retry_after_s = float(retry_after) if retry_after and retry_after.isdigit() else None
    return HubProblem(status, code if isinstance(code, str) else "not_a_hub", detail, retry_after_s=retry_after_s)


def _members(body: bytes) -> dict[str, Any]:
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}
