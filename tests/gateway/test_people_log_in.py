"""People log in to a hub: by password, link and passkey, and a cookie makes them known, on the hub's own page alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from autoglm.auth.people.settings import PeopleSettings
from autoglm.auth.tokens.settings import TrustSettings
from eventually import wait_until
from gateway.browser import SESSION, Browser, code_of, invite, join
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import Wire, call
from people_hub import CHEAP, PASSWORD

pytestmark = pytest.mark.usefixtures("closed_browsers")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    people = PeopleSettings.model_validate({"password": CHEAP, "throttle": {"free_failures_per_address": 1000}})
    trust = TrustSettings(site="ward-linde")
    chosen = settings().model_copy(update={"people": people, "trust": trust})
    with hub_inside(tmp_path_factory.mktemp("people") / "data", chosen) as inside:
        yield inside


def test_who_is_invited_chooses_a_password_and_is_in(hub: Inside) -> None:
    browser = Browser(hub)
    token = invite(hub, "Ann", "member")
    seen = browser.ask("POST", "/api/login/invitation/look", {"token": token}).json()
    assert (seen["name"], seen["roles"], seen["is_reset"]) == ("ann", ["member"], False)
    weak = browser.ask("POST", "/api/login/invitation", {"token": token, "password": "short"})
    assert code_of(weak) == (400, "invalid_field")
    entered = browser.ask("POST", "/api/login/invitation", {"token": token, "password": PASSWORD})
    assert entered.json() == {"name": "ann", "address": "user:ann", "roles": ["member"]}
    cookie = entered.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; ")) - {""}
    me = browser.ask("GET", "/api/me").json()
    assert (me["address"], me["session"]["method"], me["session"]["is_fresh"]) == ("user:ann", "invitation", True)
    again = Browser(hub).ask("POST", "/api/login/invitation", {"token": token, "password": PASSWORD})
    assert code_of(again) == (401, "login_refused")


def test_a_person_does_what_his_roles_say_and_nothing_else(hub: Inside) -> None:
    browser = join(hub, "member-1")
    assert browser.ask("POST", "/api/messages", {"to": "user:member-1", "content": "note"}).status_code == 202
    assert browser.ask("GET", "/api/messages?to=user:member-1").status_code == 200
    assert code_of(browser.ask("GET", "/api/keys")) == (403, "forbidden")
    assert code_of(browser.ask("GET", "/api/people")) == (403, "forbidden")
    assert code_of(browser.ask("POST", "/api/messages", {"from": "user:ann", "to": "user:x", "content": "-"})) == (
        403, "forbidden",
    )  # fmt: skip


def test_no_session_without_the_right_password(hub: Inside) -> None:
    join(hub, "locked")
    browser = Browser(hub)
    for name, password in (("locked", "wrong password here"), ("nobody-at-all", PASSWORD)):
        refused = browser.log_in(name, password)
        assert code_of(refused) == (401, "login_refused")
        assert "set-cookie" not in refused.headers
    assert browser.log_in("Locked").status_code == 200  # names are of one spelling


@pytest.mark.attack("session fixation over HTTP")
def test_a_login_makes_a_new_session_and_ends_the_one_that_was_brought(hub: Inside) -> None:
    browser = join(hub, "fixed")
    before = browser.session
    planted = Browser(hub)
    planted.http.cookies.set(SESSION, "planted-by-somebody", domain="localhost.local")
    assert planted.log_in("fixed").status_code == 200
    assert planted.session != "planted-by-somebody"
    assert browser.log_in("fixed").status_code == 200
    assert browser.session != before
    other = Browser(hub)
    assert other.ask("GET", "/api/me", cookie=f"{SESSION}={before}").status_code == 401


def test_by_https_the_cookies_are_for_this_host_and_for_https_alone(hub: Inside) -> None:
    """ASVS 5, 3.3.1 to 3.3.4. A proxy may have taken TLS off: the page's origin says how it came."""
    browser = Browser(hub)
    body = {"token": invite(hub, "secured", "member"), "password": PASSWORD}
    origin = browser.origin.replace("http:", "https:")
    entered = browser.ask("POST", "/api/login/invitation", body, origin=origin)
    cookies = [header.split("; ") for header in entered.headers.get_list("set-cookie")]
    assert [parts[0].split("=")[0] for parts in cookies] == ["__Host-autoglm-session", "__Host-autoglm-device"]
    for parts in cookies:
        assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(parts)
        assert not any(part.startswith("Domain") for part in parts)
        value = parts[0].split("=")[1]
        assert len(value) == 43  # 256 bits (ASVS 5, 7.2.3)
        assert value not in entered.text


@pytest.mark.attack("cross-site request forgery")
@pytest.mark.parametrize("headers", [
    {"origin": "https://evil.example", "sec_fetch_site": "cross-site"},
    {"origin": "https://evil.example", "sec_fetch_site": ""},
    {"origin": "null", "sec_fetch_site": ""},
    {"origin": "", "sec_fetch_site": ""},
    {"origin": "", "sec_fetch_site": "same-site"},
], ids=["marked", "by origin alone", "null", "neither", "a sister's site"])  # fmt: skip
def test_a_strangers_page_does_nothing_by_the_cookie(hub: Inside, headers: dict[str, str]) -> None:
    browser = Browser(hub)
    name = f"victim-{abs(hash(str(headers))) % 10**6}"
    browser.ask("POST", "/api/login/invitation", {"token": invite(hub, name, "admin"), "password": PASSWORD})
    body = {"name": f"made-by-{name}", "scopes": ["admin:*"]}
    # What says https is taken for a page that came by it, whose cookie has another name.
    refused = (401, "unauthorized") if headers["origin"].startswith("https:") else (403, "cross_origin")
    assert code_of(browser.ask("POST", "/api/keys", body, **headers)) == refused
    names = [entry["name"] for entry in call(hub.port, hub.key, "GET", "/api/keys").json()["keys"]]
    assert f"made-by-{name}" not in names
    assert browser.ask("POST", "/api/keys", body).status_code == 201  # its own page may


@pytest.mark.attack("cross-site reading")
def test_a_strangers_page_reads_nothing_by_the_cookie(hub: Inside) -> None:
    browser = join(hub, "read-over")
    assert browser.ask("GET", "/api/me", origin="", sec_fetch_site="cross-site").status_code == 401
    assert browser.ask("GET", "/api/me", origin="", sec_fetch_site="none").status_code == 200


@pytest.mark.attack("a picture in a message asks by the reader's cookie")
def test_a_picture_asks_for_nothing_by_the_cookie(hub: Inside) -> None:
    browser = join(hub, "reader", "admin")
    assert browser.ask("GET", "/api/me", origin="", sec_fetch_dest="image").status_code == 401
    path = "/api/messages?to=user:reader"
    assert browser.ask("GET", path, origin="", sec_fetch_dest="image").status_code == 401
    for target in ("/reader/publish?message=hi", "/reader/send?message=hi", "/reader/trigger?message=hi"):
        assert browser.ask("GET", target, origin="").status_code == 401, target
        assert browser.ask("GET", target, origin="", authorization=f"Bearer {hub.key}").status_code == 200, target


@pytest.mark.attack("login CSRF over HTTP")
def test_a_strangers_page_logs_nobody_in_or_out(hub: Inside) -> None:
    browser = join(hub, "stays")
    fresh = Browser(hub)  # without a cookie, as one who is to be logged in as somebody else
    refused = fresh.ask(
        "POST", "/api/login/password", {"name": "stays", "password": PASSWORD}, origin="https://evil.example",
        sec_fetch_site="cross-site",
    )  # fmt: skip
    assert (code_of(refused), fresh.session) == ((403, "cross_origin"), None)
    assert code_of(browser.ask("POST", "/api/logout", origin="https://evil.example")) == (403, "cross_origin")
    assert browser.ask("GET", "/api/me").status_code == 200


def test_a_key_counts_where_both_are_shown(hub: Inside) -> None:
    browser = join(hub, "both")
    shown = browser.ask("GET", "/api/me", authorization=f"Bearer {hub.key}").json()
    assert (shown["principal"], shown["session"]) == ("admin", None)
    assert browser.ask("GET", "/api/me", authorization="Bearer wrong").status_code == 401


def test_who_logs_out_is_out(hub: Inside) -> None:
    browser = join(hub, "leaver")
    kept = browser.session
    left = browser.ask("POST", "/api/logout")
    assert (left.status_code, left.headers["clear-site-data"]) == (204, '"cache"')
    assert browser.session is None
    assert code_of(browser.ask("GET", "/api/me", cookie=f"{SESSION}={kept}")) == (401, "session_ended")
    assert browser.ask("POST", "/api/logout").status_code == 204  # again is once


def test_a_new_password_ends_the_other_sessions(hub: Inside) -> None:
    browser = join(hub, "changer")
    elsewhere = Browser(hub)
    elsewhere.log_in("changer")
    wrong = browser.ask("POST", "/api/me/password", {"current": "not it at all", "new": "another good one"})
    assert code_of(wrong) == (401, "login_refused")
    assert elsewhere.ask("GET", "/api/me").status_code == 200
    assert browser.ask(
        "POST", "/api/me/password", {"current": PASSWORD, "new": "another good one"}
    ).status_code == 200  # fmt: skip
    assert browser.ask("GET", "/api/me").status_code == 200
    assert code_of(elsewhere.ask("GET", "/api/me")) == (401, "session_ended")
    assert elsewhere.log_in("changer").status_code == 401


def test_a_person_sees_his_sessions_and_ends_one(hub: Inside) -> None:
    browser, elsewhere, other = join(hub, "twice"), Browser(hub), join(hub, "other-one")
    elsewhere.log_in("twice")
    listed = browser.ask("GET", "/api/me/sessions").json()["sessions"]
    assert [one["is_this"] for one in listed] == [False, True]
    handle = listed[0]["handle"]
    assert other.ask("DELETE", f"/api/me/sessions/{handle}").status_code == 404  # another's
    assert browser.ask("DELETE", f"/api/me/sessions/{handle}").status_code == 204
    assert elsewhere.ask("GET", "/api/me").status_code == 401


@pytest.mark.attack("a revoked person goes on")
@pytest.mark.parametrize("end", ["disable", "remove", "end sessions", "revoke the address", "fewer roles"])
def test_a_right_that_ends_ends_an_open_websocket(hub: Inside, end: str) -> None:
    name = f"talker-{end.replace(' ', '-')}"
    browser = join(hub, name, "operator", "member")
    headers = {"Cookie": f"{SESSION}={browser.session}", "Origin": browser.origin}
    with connect(f"ws://localhost:{hub.port}/api/ws", proxy=None, additional_headers=headers) as ws:
        ws.send('{"type": "hello"}')
        assert json.loads(ws.recv(timeout=20))["address"] == f"user:{name}"
        path = f"/api/people/{name}"
        status = {
            "disable": lambda: call(hub.port, hub.key, "PATCH", path, {"is_disabled": True}),
            "remove": lambda: call(hub.port, hub.key, "DELETE", path),
            "end sessions": lambda: call(hub.port, hub.key, "DELETE", f"{path}/sessions"),
            "revoke the address": lambda: call(hub.port, hub.key, "POST", "/api/revocations", {"id": f"user:{name}"}),
            "fewer roles": lambda: call(hub.port, hub.key, "PATCH", path, {"roles": ["observer"]}),
        }[end]().status
        assert status in (200, 201, 204)
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    found = browser.ask("GET", "/api/me")
    assert found.status_code == 200 if end == "fewer roles" else found.status_code == 401


@pytest.mark.attack("a strangers page opens a WebSocket")
def test_a_websocket_by_cookie_is_for_the_own_page(hub: Inside) -> None:
    browser = join(hub, "socket-owner")
    with Wire(hub.port) as wire:
        wire.request(
            "GET", "/api/ws", upgrade="websocket", connection="upgrade", sec_websocket_version="13",
            sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==", origin="https://evil.example", host=f"localhost:{hub.port}",
            cookie=f"{SESSION}={browser.session}",
        )  # fmt: skip
        assert wire.reply().status == 403


@pytest.mark.attack("an admin of people makes himself more")
def test_who_administers_people_gives_no_more_than_he_has(hub: Inside) -> None:
    made = call(hub.port, hub.key, "POST", "/api/keys", {"name": "clerk", "scopes": ["admin:people", "model:use:*"]})
    key = made.json()["key"]
    join(hub, "the-chief", "admin")
    for method, path, body in (
        ("POST", "/api/invitations", {"name": "puppet", "roles": ["admin"]}),
        ("POST", "/api/people/the-chief/reset", None),
        ("PATCH", "/api/people/the-chief", {"roles": ["observer"]}),
        ("PATCH", "/api/people/the-chief", {"is_disabled": True}),
        ("DELETE", "/api/people/the-chief", None),
    ):
        assert call(hub.port, key, method, path, body).status == 403, (method, path)
    assert Browser(hub).log_in("the-chief").status_code == 200


def test_a_reset_link_gives_a_new_password_and_ends_all_sessions(hub: Inside) -> None:
    browser = join(hub, "forgetful")
    made = call(hub.port, hub.key, "POST", "/api/people/forgetful/reset").json()
    assert made["invitation"]["is_reset"]
    fresh = Browser(hub)
    accepted = fresh.ask("POST", "/api/login/invitation", {"token": made["token"], "password": "entirely new words"})
    assert accepted.status_code == 200
    assert browser.ask("GET", "/api/me").status_code == 401
    assert browser.log_in("forgetful").status_code == 401
    assert browser.log_in("forgetful", "entirely new words").status_code == 200


def test_keys_have_no_sessions_and_no_passkeys(hub: Inside) -> None:
    for method, path in (("GET", "/api/me/sessions"), ("GET", "/api/me/passkeys"), ("POST", "/api/me/password")):
        answer = call(hub.port, hub.key, method, path)
        assert (answer.status, answer.json()["code"]) == (403, "login_wanted")


def test_logins_and_refused_ones_are_in_the_audit_and_no_secret_is(hub: Inside) -> None:
    browser = join(hub, "audited")
    browser.log_in("audited", "some wrong password")
    browser.log_in("audited")

    def has(query: str, *texts: str) -> bool:
        found = call(hub.port, hub.key, "GET", f"/api/audit?limit=500&{query}").json()["entries"]
        return any(all(text in json.dumps(entry) for text in texts) for entry in found)

    wait_until(lambda: has("action=login:password&outcome=allowed", "user:audited"))
    wait_until(lambda: has("action=authenticate&outcome=denied", "/api/login/password", "login_refused"))
    text = json.dumps(call(hub.port, hub.key, "GET", "/api/audit?limit=500").json())
    assert browser.session is not None
    assert not any(secret in text for secret in (PASSWORD, "some wrong password", browser.session))


def test_a_session_outlives_a_restart_and_is_not_in_the_files(tmp_path: Path) -> None:
    people = PeopleSettings.model_validate({"password": CHEAP})
    chosen = settings().model_copy(update={"people": people})
    with hub_inside(tmp_path / "data", chosen) as inside:
        session = join(inside, "stayer").session
    assert session is not None
    with hub_inside(tmp_path / "data", chosen) as inside:
        assert Browser(inside).ask("GET", "/api/me", cookie=f"{SESSION}={session}").json()["address"] == "user:stayer"
    for path in (tmp_path / "data").rglob("*"):
        assert not path.is_file() or session.encode() not in path.read_bytes(), path


def test_no_password_is_made_of_the_names_of_this_hub(hub: Inside) -> None:
    """ASVS 5, 6.1.2 and 6.2.11: the site's name and the page's host count as words that everybody here knows."""
    browser = Browser(hub)
    token = invite(hub, "namer", "member")
    for password in ("WardLinde2026!", "LocalHost2026!"):
        refused = browser.ask("POST", "/api/login/invitation", {"token": token, "password": password})
        assert code_of(refused) == (400, "invalid_field")
        assert "guessed first" in refused.text
    assert browser.ask("POST", "/api/login/invitation", {"token": token, "password": PASSWORD}).status_code == 200


@pytest.mark.attack("a message by a picture's address")
@pytest.mark.parametrize("site", ["none", "same-origin", "cross-site"])
def test_no_get_sends_by_the_cookie(hub: Inside, site: str) -> None:
    """ntfy's `GET /TOPIC/publish` wants a key: a link in a mail, opened by its reader, sends nothing. ASVS 5, 3.5.3."""
    browser = join(hub, f"reader-{site}", "admin")
    path = f"/reader-{site}/publish?message=planted"
    assert code_of(browser.ask("GET", path, origin="", sec_fetch_site=site)) == (401, "unauthorized")
    by_key = browser.ask("GET", path, authorization=f"Bearer {hub.key}")
    assert by_key.status_code == 200


@pytest.mark.attack("guessing passwords over HTTP")
def test_guesses_are_slowed_down_and_keep_nobody_out_who_was_here_before(tmp_path: Path) -> None:
    """ASVS 5, 6.3.1. All come from one address here; the browser that has logged in shows its device cookie."""
    people = PeopleSettings.model_validate({"password": CHEAP, "throttle": {"free_failures": 3, "first_wait_s": 60}})
    with hub_inside(tmp_path / "data", settings().model_copy(update={"people": people})) as inside:
        alice, guesser = join(inside, "alice"), Browser(inside)
        for _ in range(3):
            assert code_of(guesser.log_in("alice", "a wrong password")) == (401, "login_refused")
        slowed = guesser.log_in("alice")
        assert code_of(slowed) == (429, "login_throttled")
        assert int(slowed.headers["retry-after"]) > 50
        assert alice.log_in("alice").status_code == 200
        wait_until(lambda: "login_throttled" in inside.access_log.getvalue())
        lines = [json.loads(line) for line in inside.access_log.getvalue().splitlines()]
        (logged,) = [line for line in lines if line.get("code") == "login_throttled"]  # ASVS 5, 16.3.3
        assert (logged["path"], logged["status"]) == ("/api/login/password", 429)
