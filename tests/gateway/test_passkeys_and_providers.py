"""Passkeys and an OpenID provider at a running hub, by its endpoints."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from websockets.sync.client import connect

from autoglm.auth.people.settings import PeopleSettings
from autoglm.core.clock import now_ms
from fakes.authenticator import Authenticator
from fakes.oidc_provider import REDIRECT_URI, OidcProvider
from gateway.browser import SESSION, Browser, code_of, join
from gateway.inside import Inside, hub_inside, settings
from gateway.people_inside import come_back, go_to_provider, oidc_of, people_settings
from gateway.wire import call
from people_hub import CHEAP

pytestmark = pytest.mark.usefixtures("closed_browsers")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("ways") / "data", people_settings(provider)) as inside:
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
                before_ms = session.proven_ms - minutes * 60_000
                await sessions._kept.put(digest, msgspec.structs.replace(session, proven_ms=before_ms))

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


def test_a_person_logs_in_at_the_provider(hub: Inside, provider: OidcProvider) -> None:
    browser = Browser(hub)
    query = go_to_provider(browser, provider)
    back = come_back(browser, query)
    assert (back.status_code, back.headers["location"]) == (303, "/")
    me = browser.ask("GET", "/api/me").json()
    assert (me["address"], me["session"]["method"]) == ("user:alice", "oidc")


@pytest.mark.attack("an OIDC callback in another browser, over HTTP")
def test_a_callback_that_another_browser_began_opens_nothing(hub: Inside, provider: OidcProvider) -> None:
    query = go_to_provider(Browser(hub), provider)
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
    provides = oidc_of(hub)._provider
    with socket.create_server(("127.0.0.2", 0)) as inside:
        inside.setblocking(False)
        provider.metadata = {"token_endpoint": f"https://127.0.0.2:{inside.getsockname()[1]}/token"}
        provides._metadata = None
        browser = Browser(hub)
        query = go_to_provider(browser, provider)
        back = come_back(browser, query)
        provider.metadata, provides._metadata = {}, None
        assert (back.headers["location"], browser.session) == ("/#login=unreachable", None)
        with pytest.raises(BlockingIOError):  # nobody called
            inside.accept()


# --- when and how strongly a person was proven ---


def is_fresh(browser: Browser) -> bool:
    fresh: bool = browser.ask("GET", "/api/me").json()["session"]["is_fresh"]
    return fresh


@pytest.mark.attack("a passkey by the provider's open session")
@pytest.mark.parametrize(("age_s", "expected"), [(None, False), (3600, False), (30, True), (-30, True)], ids=str)
def test_a_login_by_the_provider_is_as_old_as_it_says(
    hub: Inside, provider: OidcProvider, age_s: int | None, expected: bool
) -> None:
    """The provider lets in whoever sits at an open browser: that is no proof of today. ASVS 5, 6.8.4."""
    provider.claims = {"auth_time": None if age_s is None else now_ms() // 1000 - age_s}
    browser = Browser(hub)
    query = go_to_provider(browser, provider)
    come_back(browser, query)
    provider.claims = {}
    assert is_fresh(browser) is expected
    wanted = (200, "") if expected else (403, "fresh_login_wanted")
    answer = browser.ask("POST", "/api/me/passkeys/options", {})
    assert (answer.status_code, answer.json().get("code", "")) == wanted


def test_a_person_can_be_made_to_log_in_anew_at_the_provider(hub: Inside) -> None:
    browser = Browser(hub)
    for path, asked in (("/api/login/oidc", (None, None)), ("/api/login/oidc?fresh=1", ("login", "0"))):
        sent = httpx2.URL(browser.ask("GET", path).headers["location"]).params
        assert (sent.get("prompt"), sent.get("max_age")) == asked


@pytest.mark.attack("a session that another page begins")
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_page_of_others_begins_a_login_by_the_provider(hub: Inside, site: str) -> None:
    """ASVS 5, 7.6.2: the provider would let its person in without a question."""
    refused = Browser(hub).ask("GET", "/api/login/oidc", origin="", sec_fetch_site=site)
    assert code_of(refused) == (403, "cross_origin")
    assert "set-cookie" not in refused.headers
    assert Browser(hub).ask("GET", "/api/login/oidc", origin="", sec_fetch_site="none").status_code == 303


@pytest.mark.attack("ending the sessions of others from one that was left open")
def test_another_session_is_ended_by_who_has_just_logged_in(hub: Inside) -> None:
    browser, elsewhere = join(hub, "ender"), Browser(hub)
    elsewhere.log_in("ender")
    listed = browser.ask("GET", "/api/me/sessions").json()["sessions"]
    mine, theirs = (next(one["handle"] for one in listed if one["is_this"] is own) for own in (True, False))
    grow_old(hub, "ender", 16)
    assert code_of(browser.ask("DELETE", f"/api/me/sessions/{theirs}")) == (403, "fresh_login_wanted")
    assert browser.ask("DELETE", f"/api/me/sessions/{mine}").status_code == 204
    assert browser.log_in("ender").status_code == 200
    assert browser.ask("DELETE", f"/api/me/sessions/{theirs}").status_code == 204
    assert elsewhere.ask("GET", "/api/me").status_code == 401


@pytest.fixture
def strict_hub(tmp_path: Path) -> Iterator[Inside]:
    people = PeopleSettings.model_validate({"password": CHEAP, "passkey_roles": ["admin"]})
    with hub_inside(tmp_path / "data", settings().model_copy(update={"people": people})) as inside:
        yield inside


def roles_of(browser: Browser) -> tuple[list[str], list[str]]:
    session = browser.ask("GET", "/api/me").json()["session"]
    return session["roles"], session["passkey_roles"]


@pytest.mark.attack("a password alone, where a passkey is wanted")
def test_a_role_that_wants_a_passkey_counts_after_one(strict_hub: Inside) -> None:
    """ASVS 5, 6.3.3. The first passkey is made after the invitation, which has the same worth."""
    browser = join(strict_hub, "chief", "admin", "member")
    assert browser.ask("GET", "/api/messages?to=user:chief").status_code == 200
    assert code_of(browser.ask("GET", "/api/keys")) == (403, "forbidden")
    assert roles_of(browser) == (["member"], ["admin"])
    key, added = add_passkey(browser)
    assert added.status_code == 201
    assert code_of(browser.ask("GET", "/api/keys")) == (403, "forbidden")
    assert enter_by_passkey(browser, key).status_code == 200
    assert browser.ask("GET", "/api/keys").status_code == 200
    assert roles_of(browser) == (["admin", "member"], [])


@pytest.mark.attack("a way around the passkey by a link for a new password")
def test_a_new_password_gives_no_second_passkey(strict_hub: Inside) -> None:
    """ASVS 5, 6.4.3: a reset does not get past the stronger proof."""
    browser = join(strict_hub, "keyed", "admin")
    key, _ = add_passkey(browser)
    made = call(strict_hub.port, strict_hub.key, "POST", "/api/people/keyed/reset").json()
    thief = Browser(strict_hub)
    body = {"token": made["token"], "password": "entirely new words"}
    assert thief.ask("POST", "/api/login/invitation", body).status_code == 200
    assert code_of(thief.ask("POST", "/api/me/passkeys/options", {})) == (403, "fresh_login_wanted")
    assert code_of(thief.ask("GET", "/api/keys")) == (403, "forbidden")
    assert enter_by_passkey(browser, key).status_code == 200
    assert browser.ask("POST", "/api/me/passkeys/options", {}).status_code == 200


def test_a_websocket_of_a_password_session_has_no_more_rights(strict_hub: Inside) -> None:
    browser = join(strict_hub, "plain", "admin")
    headers = {"Cookie": f"{SESSION}={browser.session}", "Origin": browser.origin}
    with connect(f"ws://localhost:{strict_hub.port}/api/ws", proxy=None, additional_headers=headers) as ws:
        ws.send('{"type": "hello"}')
        assert json.loads(ws.recv(timeout=20))["address"] == "user:plain"
        ws.send('{"type": "subscribe", "to": "user:somebody-else"}')
        assert json.loads(ws.recv(timeout=20))["type"] == "error"
