"""A server for Apprise's JSON service on loopback: a user, and one POST for each notification.

Source: github.com/caronc/apprise/wiki/Notify_Custom_JSON.
"""

import base64
import json
from typing import Any

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

USER, PASSWORD = "hub", "pass-word-of-the-service"


class JsonServer(Vendor):
    """`bodies` has what was taken, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[dict[str, Any]] = []

    @property
    def apprise_url(self) -> str:
        """As Apprise has it, with the password."""
        return f"json://{USER}:{PASSWORD}@{self.url.removeprefix('http://')}/hook"

    @property
    def texts(self) -> list[str]:
        return [body["message"] for body in self.bodies]

    def take(self, request: Request) -> bytes:
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("authorization") != wanted:
            return response(401, {})
        self.bodies.append(json.loads(request.body))
        return response(200, {})

    def refuse(self, fault: Fault) -> bytes:
        return response({"throttled": 429, "transient": 503, "auth": 401}.get(fault, 400), {})
