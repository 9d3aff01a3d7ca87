"""Settings of a gateway: what its requests, answers and reports look like."""

import json
import re
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from autoglm.channels.adapters.http_sms.template import check_template
from autoglm.channels.delivery import Failure
from autoglm.channels.settings import is_url
from autoglm.channels.sms import PushedSmsSettings

_is_header_name = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_is_header_value = re.compile(r"[\x20-\x7e]*").fullmatch
_PATH = r"^([^.\s]+(\.[^.\s]+)*)?$"


class HttpSmsSettings(PushedSmsSettings, frozen=True):
    """A `[[channel]]` of the kind http-sms."""

    kind: Literal["http-sms"]
    url: SecretStr
    """Where requests go; its query may have {to}, {text} and {id}."""
    method: Literal["POST", "GET"] = "POST"
    """GET has no body: everything is in the url."""
    headers: dict[str, SecretStr] = Field(default={}, max_length=32)
    """Further headers; their values may have {to} and {id}."""
    format: Literal["json", "form"] = "json"
    """What the body is."""
    body: SecretStr | None = None
    """Its template, with {to}, {text} and {id}: JSON, whose strings are filled, or name={text}&... for a form."""
    text_limit: int = Field(default=500, ge=64, le=10_000)
    """Longest text in characters, one outside the basic plane (an emoji) counting two; more goes in pieces."""
    code_path: str = Field(default="", pattern=_PATH)
    """Where the gateway's code is in its JSON answer, such as "data.code"; empty: each 2xx is a success."""
    success: tuple[str, ...] = ("0",)
    """Codes that mean that the message was taken."""
    failures: dict[str, Failure] = Field(default={}, max_length=1_000)
    """Class of each further code: throttled, transient, auth, permanent or too_large; permanent when not named."""
    ticket_path: str = Field(default="", pattern=_PATH)
    """Where the gateway's id of the message is in its answer, for reports."""
    check_url: SecretStr | None = None
    """Asked by GET to see whether messages could be sent, such as the balance; its answer is judged like the others."""
    receipt_ticket_path: str = Field(default="", pattern=_PATH)
    """Where a report has the id of the message; a report is JSON (one, or a list of them), a form or a query."""
    receipt_status_path: str = Field(default="", pattern=_PATH)
    """Where it has the status."""
    receipts: dict[str, Literal["delivered", "permanent"]] = Field(default={}, max_length=1_000)
    """What each status means; one that is not named means nothing yet."""
    hook_answer: str = Field(default="ok", max_length=1_000)
    """What the gateway wants to hear when it calls."""

    @field_validator("url", "check_url")
    @classmethod
    def _is_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            text = url.get_secret_value()
            check_template(text)
            if not is_url(text, "http", "https"):
                raise ValueError("must be an address such as https://gateway.example/send, its port at most 65535")
            if "{" in text.partition("?")[0]:  # a value of ".." would lead elsewhere
                raise ValueError("placeholders may stand in the query only, behind the ?")
        return url

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            check_template(value.get_secret_value(), ("to", "id"))
            if _is_header_name(name) is None or _is_header_value(value.get_secret_value()) is None:
                raise ValueError(f"{name!r} is no header with a value in visible ASCII characters")
        return headers

    @model_validator(mode="after")
    def _has_a_body(self) -> Self:
        if (self.method == "POST") is (self.body is None):
            raise ValueError("body is needed for POST, and there is none for GET")
        if self.body is not None:
            template = self.body.get_secret_value()
            check_template(template)
            if self.format == "json":
                try:
                    json.loads(template)
                except (ValueError, RecursionError):
                    raise ValueError('body must be JSON, with placeholders inside strings: {"to": "{to}"}') from None
        if bool(self.receipt_ticket_path) is not bool(self.receipt_status_path):
            raise ValueError("receipt_ticket_path and receipt_status_path go together")
        return self
