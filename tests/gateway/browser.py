"""What a browser does for a person who logs in to a hub: it keeps cookies, and says which page asks."""

from typing import Any

import httpx2

from gateway.inside import Inside
from gateway.wire import call
from people_hub import PASSWORD

SESSION = "autoglm-session"


class Browser:
    """What a browser does with cookies, and the headers that it adds to what its page asks."""

    def __init__(self, hub: Inside, host: str = "localhost", *, scheme: str = "http") -> None:
        self.origin = f"{scheme}://{host}:{hub.port}"
        # Its person has clicked the warning away: a hub's own certificates are looked at in test_tls_certificates.
        self.http = httpx2.Client(base_url=self.origin, timeout=20, trust_env=False, verify=False)
        opened.append(self.http)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        page = {"origin": self.origin, "sec-fetch-site": "same-origin"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        return self.http.request(method, path, json=body, headers={k: v for k, v in page.items() if v})

    def log_in(self, name: str, password: str = PASSWORD) -> httpx2.Response:
        return self.ask("POST", "/api/login/password", {"name": name, "password": password})

    @property
    def session(self) -> str | None:
        return self.http.cookies.get(SESSION)


opened: list[httpx2.Client] = []
"""To be closed at the end of a test: see `close_all`."""


def close_all() -> None:
    while opened:
        opened.pop().close()


def invite(hub: Inside, name: str, *roles: str, key: str = "") -> str:
    made = call(hub.port, key or hub.key, "POST", "/api/invitations", {"name": name, "roles": roles})
    assert made.status == 201, made.body
    token: str = made.json()["token"]
    return token


def join(hub: Inside, name: str, *roles: str) -> Browser:
    browser = Browser(hub)
    token = invite(hub, name, *(roles or ("member",)))
    accepted = browser.ask("POST", "/api/login/invitation", {"token": token, "password": PASSWORD})
    assert accepted.status_code == 200, accepted.text
    return browser


def code_of(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]
