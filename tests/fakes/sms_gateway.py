"""An SMS gateway as there are many: HTTP 200 for everything, and a code in the body that says what happened."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

ACCOUNT = "acme"
PASSWORD = "s3cret-pa55"


class SmsGateway(Vendor):
    """`sent` has (number, text, reference) of what was taken. /json, /form and /query take the same in three forms."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, str, str]] = []

    @property
    def texts(self) -> list[str]:
        return [text for _, text, _ in self.sent]

    def take(self, request: Request) -> bytes:
        place = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(place.query, strict_parsing=bool(place.query)).items()}
        if request.method == "OPTIONS":
            return response(405, b"")
        if request.headers.get("x-password") != PASSWORD:
            return _answer(101)
        if place.path == "/balance":
            return _answer(0)
        fields: dict[str, Any] = query
        if place.path == "/json":
            if request.headers.get("content-type") != "application/json":
                return _answer(110)
            fields = json.loads(request.body)
        elif place.path == "/form":
            if request.headers.get("content-type") != "application/x-www-form-urlencoded":
                return _answer(110)
            fields = {name: values[0] for name, values in parse_qs(request.body.decode(), strict_parsing=True).items()}
        if set(fields) != {"account", "mobile", "content", "ref"} or fields["account"] != ACCOUNT:
            return _answer(110)
        if len(fields["content"].encode("utf-16-le")) > 1000:
            return _answer(111)
        self.sent.append((fields["mobile"], fields["content"], fields["ref"]))
        return response(200, {"result": {"code": 0}, "data": [{"id": len(self.sent)}]})

    def refuse(self, fault: Fault) -> bytes:
        return _answer({"throttled": 105, "transient": 500, "auth": 101, "permanent": 999}[fault])


def _answer(code: int) -> bytes:
    return response(200, {"result": {"code": code}, "message": f"told to: {PASSWORD}"})
