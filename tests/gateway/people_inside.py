"""A hub in this process to which people log in: its settings, its admin, its OpenID provider and its policy."""

from typing import Any

import httpx2

from auth.policy.authority import Authority
from autoglm.auth.people.oidc import Oidc
from autoglm.auth.people.settings import PeopleSettings
from autoglm.auth.policy.settings import PolicySettings
from autoglm.core.clock import now_ms
from autoglm.settings import Settings
from fakes.oidc_provider import CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, OidcProvider
from gateway.browser import Browser
from gateway.inside import Inside, settings
from gateway.wire import Reply, call
from people_hub import CHEAP

TRANSACTION = "autoglm-oidc"


def people_settings(
    provider: OidcProvider | None = None, *, password: dict[str, int] | None = None, **others: object
) -> Settings:
    """password: in place of the cheapest parameters. others: other parts of the settings.

    The provider is asked again once its last yes is a minute old.
    """
    people: dict[str, Any] = {"password": password or CHEAP}
    if provider is not None:
        people["oidc"] = {
            "issuer": provider.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            "redirect_uri": REDIRECT_URI, "recheck_min": 1,
        }  # fmt: skip
    return settings().model_copy(update={"people": PeopleSettings.model_validate(people), **others})


def admin(hub: Inside, method: str, path: str, body: object = None) -> Reply:
    """As the hub's first key asks."""
    return call(hub.port, hub.key, method, path, body)


def oidc_of(hub: Inside) -> Oidc:
    oidc = hub.hub._trust.people.oidc
    assert oidc is not None
    return oidc


def go_to_provider(browser: Browser, provider: OidcProvider, subject: str = "4711") -> str:
    """The callback's query."""
    left = browser.ask("GET", "/api/login/oidc", sec_fetch_site="same-origin")
    assert left.status_code == 303
    assert {"SameSite=Lax", "HttpOnly"} <= set(left.headers["set-cookie"].split("; "))
    return str(httpx2.QueryParams(provider.authorize(left.headers["location"], subject)))


def come_back(browser: Browser, query: str) -> httpx2.Response:
    """As the provider leads a browser back, from another site: with the Lax cookie, while the Strict ones stay home."""
    lax = f"{TRANSACTION}={browser.http.cookies.get(TRANSACTION, '')}"
    path = f"/api/login/oidc/callback?{query}"
    return browser.ask("GET", path, origin="", sec_fetch_site="cross-site", cookie=lax)


def enter_by_provider(hub: Inside, provider: OidcProvider, name: str) -> tuple[Browser, str]:
    """Somebody whom the provider calls so. Also where the hub sent his browser then."""
    provider.people[name] = {"preferred_username": name}
    browser = Browser(hub)
    return browser, come_back(browser, go_to_provider(browser, provider, name)).headers["location"]


def policy_of(authority: Authority, files: dict[str, bytes]) -> PolicySettings:
    """Publishes them, and asks for them there; what is in force does not grow old."""
    authority.clock.now_ms = now_ms()
    authority.publish(files)
    return PolicySettings(
        root_file=authority.folder / "metadata" / "1.root.json", source=str(authority.folder),
        deny_after_s=10**9, read_only_after_s=10**9,
    )  # fmt: skip


def pull_policy(hub: Inside) -> None:
    hub.ask(hub.hub._trust.policy.pull())
