"""A receiver of webhooks on loopback that verifies with the reference library, `standardwebhooks`."""

import json
from typing import Any

import standardwebhooks

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response


class WebhookReceiver(Vendor):
    """`bodies` has what was taken, `ids` and `times` the headers of each POST, in order."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.secret = secret
        self.status = 204
        """Of the answer to what is right."""
        self.headers: dict[str, str] = {}
        self.bodies: list[dict[str, Any]] = []

    @property
    def texts(self) -> list[str]:
        return [body["content"] for body in self.bodies]

    @property
    def posts(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def take(self, request: Request) -> bytes:
        try:
            standardwebhooks.Webhook(self.secret).verify(request.body, request.headers, json_parse=False)
        except standardwebhooks.WebhookVerificationError as error:
            return response(401, {"error": str(error)})
        if request.method == "OPTIONS":
            return response(405, b"", {"Allow": "POST"})
        if request.headers.get("content-type") != "application/json":
            return response(415, b"")
        if self.status < 300:
            self.bodies.append(json.loads(request.body))
        return response(self.status, b"", self.headers)

    def refuse(self, fault: Fault) -> bytes:
        statuses = {"throttled": 429, "transient": 503, "auth": 401, "permanent": 400}
        return response(statuses[fault], {"error": f"told to: {self.secret}"}, {"Retry-After": "7"})
