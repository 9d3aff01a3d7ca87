"""A proxy in front of the real Alertmanager: it forwards all, and can misbehave on the way."""

import json
import urllib.error
import urllib.request

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response


class FaultyFront(Vendor):
    """`texts` has the descriptions of alerts that the real Alertmanager took by this front, in order."""

    def __init__(self, behind: str) -> None:
        super().__init__()
        self._behind = behind
        self.texts: list[str] = []

    def take(self, request: Request) -> bytes:
        onward = urllib.request.Request(
            self._behind + request.path,
            data=request.body if request.method == "POST" else None,
            headers={name: value for name, value in request.headers.items() if name in ("content-type", "accept")},
        )
        try:
            with urllib.request.urlopen(onward, timeout=10) as answer:
                if request.method == "POST":
                    self.texts += [alert["annotations"]["description"] for alert in json.loads(request.body)]
                return response(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return response(error.code, error.read())

    def refuse(self, fault: Fault) -> bytes:
        """Proxies throttle and authenticate; 400 is Alertmanager's own."""
        status = {"throttled": 429, "transient": 503, "auth": 401, "permanent": 400}[fault]
        return response(status, b"told to\n", {"Retry-After": "7"} if fault == "throttled" else None)

    def _get(self, request: Request) -> bytes:
        """The health check is a GET: a credential that was revoked shows there, too."""
        if self.faults and self.faults[0] == "auth":
            self.faults.popleft()
            return self.refuse("auth")
        return self.take(request)
