"""Passkeys and an OpenID provider at a running hub, by its endpoints."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from autoglm.auth.people.settings import PeopleSettings
from autoglm.core.clock import now_ms
from fakes.authenticator import Authenticator
from fakes.oidc_provider import CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, OidcProvider
from gateway.browser import Browser, close_all, code_of, join
from gateway.inside import Inside, hub_inside, settings
from people_hub import CHEAP


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with OidcProvider(now_ms) as provider:
        yield provider


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[Inside]:
    oidc = {
        "issuer": provider.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uri": REDIRECT_URI,
    }  # fmt: skip
    people = PeopleSettings.model_validate({"password": CHEAP, "oidc": oidc})
    chosen = settings().model_copy(update={"people": people})
    with hub_inside(tmp_path_factory.mktemp("ways") / "data", chosen) as inside:
        yield inside


def add_passkey(browser: Browser) -> tuple[Authenticator, httpx2.Response]:
    options = browser.ask("POST", "/api/me/passkeys/options", {}).json()
    key = Authenticator(browser.origin)
    return key, browser.ask("POST", "/api/me/passkeys", {"answer": key.create(options), "label": "laptop"})


def enter_by_passkey(browser: Browser, key: Authenticator) -> httpx2.Response:
    options = browser.ask("POST", "/api/login/passkey/options", {}).json()
    return browser.ask("POST", "/api/login/passkey", {"answer": key.get(options)})


def grow_old(hub: Inside, name: str, minutes: int) -> None:
    """The person's sessions began so long ago."""

    async def back() -> None:
        sessions = hub.hub._trust.people.sessions
        for digest, session in sessions._kept.everything():
            if session.name == name:
                before_ms = session.created_ms - minutes * 60_000
                await sessions._kept.put(digest, msgspec.structs.replace(session, created_ms=before_ms))

    hub.ask(back())


def test_a_passkey_is_offered_where_browsers_allow_it(hub: Inside) -> None:
    assert Browser(hub).ask("GET", "/api/login").json()["passkey"] is True
    assert Browser(hub, "127.0.0.1").ask("GET", "/api/login").json()["passkey"] is False


def test_a_person_adds_a_passkey_and_logs_in_by_it(hub: Inside) -> None:
    browser = join(hub, "keeper")
    key, added = add_passkey(browser)
    assert (added.status_code, added.json()["label"]) == (201, "laptop")
    elsewhere = Browser(hub)
    assert enter_by_passkey(elsewhere, key).json()["address"] == "user:keeper"
    assert elsewhere.ask("GET", "/api/me").json()["session"]["method"] == "passkey"
    (listed,) = browser.ask("GET", "/api/me/passkeys").json()["passkeys"]
    assert browser.ask("DELETE", f"/api/me/passkeys/{listed['handle']}").status_code == 204
    assert code_of(enter_by_passkey(Browser(hub), key)) == (401, "login_refused")


@pytest.mark.attack("a passkey from a session that was left open")
def test_whoever_finds_an_open_session_makes_himself_no_passkey(hub: Inside) -> None:
    browser = join(hub, "left-open")
    key, _ = add_passkey(browser)
    (listed,) = browser.ask("GET", "/api/me/passkeys").json()["passkeys"]
    options = browser.ask("POST", "/api/me/passkeys/options", {}).json()
    grow_old(hub, "left-open", 16)
    assert browser.ask("GET", "/api/me").json()["session"]["is_fresh"] is False
    answer = {"answer": Authenticator(browser.origin).create(options)}
    assert code_of(browser.ask("POST", "/api/me/passkeys/options", {})) == (403, "fresh_login_wanted")
    assert code_of(browser.ask("POST", "/api/me/passkeys", answer)) == (403, "fresh_login_wanted")
    assert code_of(browser.ask("DELETE", f"/api/me/passkeys/{listed['handle']}")) == (403, "fresh_login_wanted")
    assert enter_by_passkey(browser, key).status_code == 200
    assert browser.ask("DELETE", f"/api/me/passkeys/{listed['handle']}").status_code == 204


@pytest.mark.attack("a passkey answer that is replayed over HTTP")
def test_a_passkeys_answer_opens_once(hub: Inside) -> None:
    key, _ = add_passkey(join(hub, "once"))
    options = Browser(hub).ask("POST", "/api/login/passkey/options", {}).json()
    answer = {"answer": key.get(options)}
    assert Browser(hub).ask("POST", "/api/login/passkey", answer).status_code == 200
    assert code_of(Browser(hub).ask("POST", "/api/login/passkey", answer)) == (401, "login_refused")


@pytest.mark.parametrize(
    "answer", [{}, {"rawId": 1}, {"rawId": "AA", "response": []}, {"response": {"a": {}}}], ids=str
)
def test_rubbish_as_a_passkey_is_refused(hub: Inside, answer: Any) -> None:
    assert code_of(Browser(hub).ask("POST", "/api/login/passkey", {"answer": answer})) == (401, "login_refused")


def go_to_provider(browser: Browser, provider: OidcProvider, subject: str = "4711") -> tuple[str, str]:
    """(the callback's query, the cookie that the browser keeps meanwhile)."""
    left = browser.ask("GET", "/api/login/oidc", sec_fetch_site="same-origin")
    assert left.status_code == 303
    cookie = left.headers["set-cookie"]
    assert {"SameSite=Lax", "HttpOnly"} <= set(cookie.split("; "))
    query = str(httpx2.QueryParams(provider.authorize(left.headers["location"], subject)))
    return query, cookie.split(";")[0]


def come_back(browser: Browser, query: str) -> httpx2.Response:
    return browser.ask("GET", f"/api/login/oidc/callback?{query}", origin="", sec_fetch_site="cross-site")


def test_a_person_logs_in_at_the_provider(hub: Inside, provider: OidcProvider) -> None:
    browser = Browser(hub)
    query, _ = go_to_provider(browser, provider)
    back = come_back(browser, query)
    assert (back.status_code, back.headers["location"]) == (303, "/")
    me = browser.ask("GET", "/api/me").json()
    assert (me["address"], me["session"]["method"]) == ("user:alice", "oidc")


@pytest.mark.attack("an OIDC callback in another browser, over HTTP")
def test_a_callback_that_another_browser_began_opens_nothing(hub: Inside, provider: OidcProvider) -> None:
    query, _ = go_to_provider(Browser(hub), provider)
    victim = Browser(hub)
    back = come_back(victim, query)
    assert (back.status_code, back.headers["location"]) == (303, "/#login=refused")
    assert victim.session is None


def test_a_provider_that_is_away_is_told_and_passwords_go_on(tmp_path: Path) -> None:
    oidc = {"issuer": "http://127.0.0.1:9", "client_id": "x", "redirect_uri": REDIRECT_URI, "timeout_s": 2}
    people = PeopleSettings.model_validate({"password": CHEAP, "oidc": oidc})
    chosen = settings().model_copy(update={"people": people})
    with hub_inside(tmp_path / "data", chosen) as hub:
        assert code_of(Browser(hub).ask("GET", "/api/login/oidc")) == (502, "provider_unreachable")
        assert join(hub, "local").ask("GET", "/api/me").status_code == 200


@pytest.mark.attack("SSRF by a provider's metadata")
def test_metadata_leads_nowhere_but_to_the_issuers_host(hub: Inside, provider: OidcProvider) -> None:
    """The issuer is on 127.0.0.1, which the settings name; it has no business naming another host of the intranet."""
    people = hub.hub._trust.people
    assert people.oidc is not None
    with socket.create_server(("127.0.0.2", 0)) as inside:
        inside.setblocking(False)
        provider.metadata = {"token_endpoint": f"https://127.0.0.2:{inside.getsockname()[1]}/token"}
        people.oidc._provider._metadata = None
        browser = Browser(hub)
        query, _ = go_to_provider(browser, provider)
        back = come_back(browser, query)
        provider.metadata, people.oidc._provider._metadata = {}, None
        assert (back.headers["location"], browser.session) == ("/#login=unreachable", None)
        with pytest.raises(BlockingIOError):  # nobody called
            inside.accept()
