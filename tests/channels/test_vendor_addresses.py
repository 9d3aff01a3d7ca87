"""An address that no request can go to is told by the settings, not when a message is sent."""

from typing import Any

import pytest
from pydantic import ValidationError

from autoglm.channels.kinds import KINDS, settings_of

FIELDS = [
    (kind, field)
    for kind in KINDS
    if (settings := settings_of(kind)) is not None
    for field in ("base_url", "url", "check_url")
    if field in settings.model_fields and kind != "mqtt"  # its addresses have schemes of their own
]


def reasons(kind: str, field: str, address: str) -> list[str]:
    """Why an address is refused; what else is missing does not matter."""
    settings = settings_of(kind)
    assert settings is not None
    with pytest.raises(ValidationError) as caught:
        settings.model_validate({"name": "x", "kind": kind, "unknown": 0, field: address})
    return [error["msg"] for error in caught.value.errors() if error["loc"] == (field,)]


def scheme_of(kind: str) -> str:
    return "wss" if kind == "wecom-aibot" else "https"


def test_most_kinds_have_an_address() -> None:
    assert len(FIELDS) >= 15


@pytest.mark.parametrize(("kind", "field"), FIELDS)
@pytest.mark.parametrize(
    "rest", ["host:99999", "host:0", "host:port", "", "[::1", "..", "a b", "a\x01b", "x" * 64 + ".example"]
)
def test_an_address_that_nobody_can_be_asked_at_is_refused(kind: str, field: str, rest: str) -> None:
    assert reasons(kind, field, f"{scheme_of(kind)}://{rest}")


@pytest.mark.parametrize(("kind", "field"), FIELDS)
@pytest.mark.parametrize("rest", ["host:65535", "10.0.0.7", "[::1]:8443", "压机.example"])
def test_an_address_of_any_host_is_taken(kind: str, field: str, rest: str) -> None:
    assert reasons(kind, field, f"{scheme_of(kind)}://{rest}") == []


@pytest.mark.parametrize("kind", [kind for kind, field in FIELDS if field == "base_url"])
@pytest.mark.parametrize("rest", ["host/?key=1", "host/#top", "user:pw@host"])
def test_an_address_that_no_path_can_be_put_behind_is_refused_and_not_shown(kind: str, rest: str) -> None:
    (reason,) = reasons(kind, "base_url", f"https://{rest}")
    assert rest not in reason


@pytest.mark.parametrize("kind", [kind for kind, field in FIELDS if field == "base_url"])
def test_a_slash_at_the_end_of_any_is_taken(kind: str) -> None:
    assert reasons(kind, "base_url", "https://proxy/") == []


def test_a_slash_at_the_end_does_no_harm() -> None:
    settings = settings_of("wecom-robot")
    assert settings is not None
    known: dict[str, Any] = {"name": "x", "kind": "wecom-robot", "robots": {"ops": {"key": "k"}}}
    assert settings.model_validate({**known, "base_url": "https://proxy/wecom/"}).base_url == "https://proxy/wecom"  # type: ignore[attr-defined]  # of this kind
