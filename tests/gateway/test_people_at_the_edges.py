"""People whose right ends in the middle of something, and strangers at the doors: who is in, what is written down."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoglm.core.clock import now_ms
from autoglm.gateway.visitors import cookie
from autoglm.inference.settings import InstanceSettings
from eventually import wait_until
from fakes.authenticator import Authenticator
from gateway.browser import SESSION, Browser, code_of, invite, join
from gateway.hold import Hold
from gateway.inside import Inside, hub_inside, settings
from gateway.people_inside import admin, people_settings
from gateway.wire import call
from people_hub import PASSWORD
from scripted_model import ScriptedModel
from small_disk import filled, mounted_disk

CHAT = {"model": "solo", "messages": [{"role": "user", "content": "a secret question"}]}
PROTECTED = f"__Host-{SESSION}"

pytestmark = pytest.mark.usefixtures("closed_browsers")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """It has a model."""
    with ScriptedModel(models=("solo",)) as model:
        instance = InstanceSettings.model_validate(
            {"name": "a", "provider": "openai", "base_url": model.url, "models": ["solo"], "slots": 1}
        )
        chosen = people_settings(instance=(instance,))
        with hub_inside(tmp_path_factory.mktemp("edges") / "data", chosen) as inside:
            wait_until(lambda: admin(inside, "GET", "/api/pool").json()["instances"][0]["state"] == "ready")
            yield inside


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Of the module, as browsers are closed before it then: one that does not read does not say goodbye in TLS."""
    gateway = settings(tls="own-ca", tls_names=["hub.ward-3.lan"]).gateway
    with hub_inside(tmp_path_factory.mktemp("tls") / "data", people_settings(gateway=gateway)) as inside:
        yield inside


def entries(hub: Inside, query: str) -> list[dict[str, Any]]:
    """Of the audit, the newest first."""
    hub.ask(hub.hub._trust.audit.written())
    found: list[dict[str, Any]] = admin(hub, "GET", f"/api/audit?{query}").json()["entries"]
    return found


def last_number(hub: Inside) -> int:
    """Of the audit's entries."""
    hub.ask(hub.hub._trust.audit.written())
    return hub.count(lambda: hub.hub._trust.journal.last().seq)


# --- cookies and other proofs ---


@pytest.mark.attack("a cookie whose name only looks protected")
@pytest.mark.parametrize("blank", [b"\xa0", b"\x85", b"\x1f", b"\x0b"], ids=bytes.hex)
def test_a_cookie_whose_name_only_looks_like_the_protected_one(blank: bytes) -> None:
    header = blank + f"{PROTECTED}=thief; {PROTECTED}=victim".encode()
    assert cookie({b"cookie": header}, SESSION, is_secure=True) == "victim"


@pytest.mark.parametrize(("header", "value"), [
    (f"{SESSION}=thief;\t{PROTECTED}=victim ; {PROTECTED}=second", "victim"),
    (f"{SESSION}=planted", None),
])  # fmt: skip
def test_by_https_the_first_protected_cookie_counts_alone(header: str, value: str | None) -> None:
    assert cookie({b"cookie": header.encode()}, SESSION, is_secure=True) == value


@pytest.mark.attack("a cookie planted by a sister's site")
def test_an_unprotected_cookie_does_not_count_where_there_is_tls(secured: Inside) -> None:
    """A sister's site (Domain=), or plain http, may set `autoglm-session` for this host; `__Host-` is against that."""
    browser = Browser(secured, scheme="https")
    wanted = {"name": "thief", "roles": ["member"]}
    made = browser.ask("POST", "/api/invitations", wanted, authorization=f"Bearer {secured.key}").json()
    entered = browser.ask("POST", "/api/login/invitation", {"token": made["token"], "password": PASSWORD})
    session = entered.cookies[PROTECTED]
    for name, status in ((PROTECTED, 200), (SESSION, 401)):
        victim = Browser(secured, scheme="https").ask("GET", "/api/me", origin="", cookie=f"{name}={session}")
        assert victim.status_code == status, name


def with_passkey(hub: Inside, name: str) -> tuple[Browser, Authenticator]:
    browser = join(hub, name)
    key = Authenticator(browser.origin)
    made = key.create(browser.ask("POST", "/api/me/passkeys/options", {}).json())
    assert browser.ask("POST", "/api/me/passkeys", {"answer": made}).status_code == 201
    return browser, key


def show(browser: Browser, key: Authenticator) -> int:
    """The status of a login by it."""
    options = browser.ask("POST", "/api/login/passkey/options", {}).json()
    return browser.ask("POST", "/api/login/passkey", {"answer": key.get(options)}).status_code


@pytest.mark.attack("lock-out of others by rubbish as a passkey")
def test_rubbish_as_passkeys_keeps_nobody_out(tmp_path: Path) -> None:
    """Also from the same address: nothing was guessed, and nothing verified."""
    with hub_inside(tmp_path / "data", people_settings()) as hub:
        browser, key = with_passkey(hub, "keeper")
        for _ in range(6):
            assert Browser(hub).ask("POST", "/api/login/passkey", {"answer": {}}).status_code == 401
        assert show(browser, key) == 200
        assert show(Browser(hub), key) == 200


@pytest.mark.attack("lock-out of others by failing passkeys")
def test_failing_passkeys_of_others_do_not_keep_out_a_known_device(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data", people_settings()) as hub:
        browser, key = with_passkey(hub, "keeper")
        stranger = Authenticator(browser.origin)
        assert [show(Browser(hub), stranger) for _ in range(6)] == [401] * 5 + [429]
        assert show(browser, key) == 200


@pytest.mark.attack("invisible letters in a person's name")
def test_a_name_that_is_no_address_is_no_name(hub: Inside) -> None:
    made = admin(hub, "POST", "/api/invitations", {"name": "ann\u3164", "roles": ["member"]})
    assert (made.status, made.json()["code"]) == (400, "invalid_field")


@pytest.mark.parametrize(("method", "path", "body"), [
    ("POST", "/v1/chat/completions", CHAT), ("POST", "/v1/chat/completions", {**CHAT, "stream": True}),
    ("GET", "/v1/models", None), ("GET", "/api/me", None), ("POST", "/api/tasks", {"request": CHAT}),
    ("GET", "/api/decisions", None), ("GET", "/api/budgets", None), ("GET", "/api/push/subscriptions", None),
])  # fmt: skip
def test_a_person_with_a_name_of_another_script_works(hub: Inside, method: str, path: str, body: object) -> None:
    name = f"\u5f20\u4e09-{abs(hash(str((path, body)))) % 10**6}"
    found = join(hub, name).ask(method, path, body)
    assert found.status_code < 400, found.text
    assert admin(hub, "GET", "/metrics").status == 200


# --- whoever is sent away ---


@pytest.mark.attack("a revoked person logs in again")
def test_a_revoked_person_does_not_log_in(hub: Inside) -> None:
    join(hub, "eve")
    assert admin(hub, "POST", "/api/revocations", {"id": "user:eve"}).status == 200
    assert code_of(Browser(hub).log_in("eve")) == (401, "login_refused")


@pytest.mark.attack("a clock set back so that nobody is sent away")
def test_a_person_is_sent_away_while_the_clock_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_inside(tmp_path / "data", people_settings()) as hub:
        join(hub, "thief", "admin")
        invite(hub, "friend", "admin")
        (link,) = admin(hub, "GET", "/api/invitations").json()["invitations"]
        monkeypatch.setattr(hub.hub._trust.clock, "_wall_ms", lambda: now_ms() - 3_600_000)
        wait_until(lambda: admin(hub, "GET", "/api/people").status == 403)  # other acts of admins wait
        assert hub.hub._trust.clock.reason == "behind"
        for method, path, body in (
            ("DELETE", f"/api/invitations/{link['handle']}", None),
            ("DELETE", "/api/people/thief/sessions", None),
            ("PATCH", "/api/people/thief", {"is_disabled": True}),
            ("DELETE", "/api/people/thief", None),
            ("POST", "/api/revocations", {"id": "user:thief"}),
        ):
            assert admin(hub, method, path, body).status in (200, 204), (method, path)


@pytest.mark.attack("a full disk keeps a session that was ended")
def test_a_session_that_was_ended_on_a_full_disk_stays_ended(tmp_path: Path) -> None:
    with mounted_disk(tmp_path) as disk:
        with hub_inside(disk / "data", people_settings()) as hub:
            owner, thief = join(hub, "ann"), Browser(hub)
            assert thief.log_in("ann").status_code == 200
            sessions = owner.ask("GET", "/api/me/sessions").json()["sessions"]
            (handle,) = [one["handle"] for one in sessions if not one["is_this"]]
            with filled(disk):
                owner.ask("DELETE", f"/api/me/sessions/{handle}")
            owner.ask("DELETE", f"/api/me/sessions/{handle}")  # there is space again
            assert len(owner.ask("GET", "/api/me/sessions").json()["sessions"]) == 1
        with hub_inside(disk / "data", people_settings()) as hub:
            shown = Browser(hub).ask("GET", "/api/me", cookie=f"{SESSION}={thief.session}")
            assert code_of(shown) == (401, "session_ended")


@pytest.mark.attack("a task handed out to one who was sent away while he waited")
def test_a_task_is_not_handed_out_to_who_was_sent_away_while_he_waited(
    hub: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, hold = join(hub, "waiter"), Hold()
    sent = browser.ask("POST", "/api/tasks", {"request": CHAT})
    assert sent.status_code == 202

    async def settled(*_: object) -> None:
        await hold.pause()

    monkeypatch.setattr(hub.hub._mailbox, "wait_settled", settled)
    with hold.during(lambda: browser.ask("GET", f"/api/tasks/{sent.json()['id']}?wait=10")) as waiting:
        assert admin(hub, "PATCH", "/api/people/waiter", {"is_disabled": True}).status == 200
    assert waiting.result().status_code == 401


# --- what is written down, and what is described ---


@pytest.mark.attack("a stranger fills the audit with rubbish")
def test_a_strangers_rubbish_does_not_fill_the_audit(hub: Inside) -> None:
    before = last_number(hub)
    for _ in range(200):
        for path in ("/api/devices/enrol", "/api/tokens/renew"):
            assert call(hub.port, "", "POST", path, b"{").status == 400
    assert last_number(hub) - before < 150  # refusals.PER_MINUTE is 120


@pytest.mark.attack("a password guessed in a session that was left open")
def test_a_wrong_password_of_who_has_the_session_is_in_the_audit(hub: Inside) -> None:
    browser = join(hub, "guessed")
    for number in range(3):
        body = {"current": f"guess number {number}", "new": "another good one"}
        assert code_of(browser.ask("POST", "/api/me/password", body)) == (401, "login_refused")
    found = entries(hub, "action=changePassword&who=user:guessed")
    assert [(entry["outcome"], entry["reason"]) for entry in found] == [("denied", "login_refused")] * 3


def test_a_logout_is_in_the_audit(hub: Inside) -> None:
    browser = join(hub, "outgoing")
    assert browser.ask("POST", "/api/logout").status_code == 204
    assert [entry["who"] for entry in entries(hub, "action=logout")] == ["user:outgoing"]


def test_the_description_says_who_may_call_what_others_clients_call(hub: Inside) -> None:
    ways = admin(hub, "GET", "/openapi.json").json()["paths"]["/api/notify"]["post"]["security"]
    found = join(hub, "describer", "admin").ask("POST", "/api/notify", {"body": "x"})
    assert any("session" in way for way in ways) is (found.status_code != 401)
