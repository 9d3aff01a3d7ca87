"""People at the console's page: how they get in, stay in, and leave. A real browser at a real hub."""

import re
import secrets
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from playwright.async_api import CDPSession, Page, Route, expect

from autoglm.app import PAGE
from console.push_browser import subscribe_at
from console.visit import Open, Visit
from fakes.push_service import PushService
from hub import HubProcess, instance_config, running_hub
from people_hub import CHEAP, PASSWORD
from scripted_model import ScriptedModel

pytestmark = pytest.mark.browser

WRONG = "not the right one at all"
HELD_S = 40


@pytest.fixture(scope="module")
def hub(model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    assert (PAGE / "index.html").exists(), "the console is not built: run 'npm ci' and 'npm run build' in web/"
    config = instance_config("echo-1", model.url) + "[people.password]\n"
    config += "".join(f"{name} = {value}\n" for name, value in CHEAP.items())
    config += f"[people.throttle]\nfree_failures = 2\nfirst_wait_s = {HELD_S}\n"
    config += '[[channel]]\nname = "push"\nkind = "web-push"\ncontact = "mailto:a@example.org"\nallow = ["127.0.0.1"]\n'
    with running_hub(tmp_path_factory.mktemp("people") / "data", config) as hub:
        yield hub


@dataclass(frozen=True)
class Person:
    name: str
    hub: HubProcess

    @property
    def page(self) -> str:
        """Where browsers take passkeys of a hub on this machine."""
        return f"http://localhost:{self.hub.port}/"

    def sessions(self) -> int:
        with self.hub.client() as admin:
            people = admin.get("/api/people").json()["people"]
        return int(next(person["sessions"] for person in people if person["name"] == self.name))

    def push_key(self) -> str:
        with self.hub.client() as admin:
            return str(admin.get("/api/push/key").json()["key"])

    def subscriptions(self) -> int:
        """Of this person's browsers to notifications, as a further session sees them."""
        with httpx2.Client(base_url=self.hub.url, timeout=20) as browser:
            browser.post("/api/login/password", json={"name": self.name, "password": PASSWORD}).raise_for_status()
            return len(browser.get("/api/push/subscriptions").raise_for_status().json()["subscriptions"])

    def fail(self) -> None:
        wrong = {"name": self.name, "password": WRONG}
        httpx2.post(f"{self.hub.url}/api/login/password", json=wrong, timeout=20)

    def end_sessions(self) -> None:
        with self.hub.client() as admin:
            admin.delete(f"/api/people/{self.name}/sessions").raise_for_status()


def invited(hub: HubProcess, *roles: str) -> tuple[str, str]:
    """(name of a new person, the secret of the link)."""
    name = f"p{secrets.token_hex(4)}"
    with hub.client() as admin:
        made = admin.post("/api/invitations", json={"name": name, "roles": roles or ["member"]})
    return name, made.raise_for_status().json()["token"]


@pytest.fixture
def person(hub: HubProcess) -> Person:
    """A member with a password, and no session."""
    return joined(hub)


def joined(hub: HubProcess, *roles: str) -> Person:
    name, token = invited(hub, *roles)
    accepted = httpx2.post(f"{hub.url}/api/login/invitation", json={"token": token, "password": PASSWORD}, timeout=20)
    accepted.raise_for_status()
    person = Person(name, hub)
    person.end_sessions()
    return person


async def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    await page.locator("input[autocomplete=username]").last.fill(name)
    await page.locator("input[autocomplete=current-password]").last.fill(password)
    await page.keyboard.press("Enter")


async def visit_as(open_page: Open, person: Person, **options: Any) -> Visit:
    visit = await open_page(person.page, **options)
    await log_in(visit.page, person.name)
    await visit.expect_connected()
    return visit


async def open_sheet(visit: Visit, name: str) -> None:
    await visit.page.get_by_role("button", name="Settings").click()
    await visit.page.get_by_role("button", name=name, exact=True).click()
    await expect(visit.page.get_by_role("dialog", name=name)).to_be_visible()


# --- in, and out --------------------------------------------------------------------------------------


async def test_a_password_opens_the_page_and_the_session_lasts_over_a_reload(person: Person, open_page: Open) -> None:
    visit = await open_page(f"{person.page}#mail=order-17")
    await visit.page.get_by_label("Name", exact=True).fill(person.name)
    await visit.page.get_by_label("Password", exact=True).fill(PASSWORD)
    await visit.page.get_by_role("button", name="Log in").click()
    await visit.expect_connected()
    assert await visit.page.evaluate("localStorage.getItem('autoglm.key')") is None
    assert await visit.page.evaluate("document.cookie") == ""
    await expect(visit.page.get_by_role("tabpanel", name="Mailbox")).to_be_visible()  # what the address was about
    await visit.page.reload()
    await visit.expect_connected()
    mail = await visit.send(f"user:{person.name}", "note to myself")
    await expect(mail.get_by_role("button", name="Acknowledge")).to_be_visible()
    assert person.sessions() == 1


@pytest.mark.parametrize(
    ("locale", "refused", "held"),
    [
        ("en-US", "The name or the password is not right.", r"Too many tries\.\s*You can try again in \d+ s\."),
        ("zh-CN", "用户名或密码不正确。", r"尝试次数过多。\s*请在 \d+ 秒后重试。"),
    ],
)
async def test_a_wrong_password_is_told_and_so_is_how_long_to_wait(
    person: Person, open_page: Open, locale: str, refused: str, held: str
) -> None:
    visit = await open_page(person.page, locale=locale)
    await log_in(visit.page, person.name, WRONG)
    await expect(visit.page.get_by_role("alert")).to_have_text(refused)
    assert await visit.page.get_by_role("button", name=re.compile("^(Log in|登录)$")).is_enabled()
    for _ in range(2):
        person.fail()
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.locator(".notice")).to_have_text(re.compile(held))
    await expect(visit.page.get_by_role("button", name=re.compile("^(Log in|登录)$"))).to_be_disabled()
    await visit.page.clock.install()
    await visit.page.clock.fast_forward((HELD_S + 5) * 1000)
    await expect(visit.page.get_by_role("button", name=re.compile("^(Log in|登录)$"))).to_be_enabled()


async def test_logging_out_ends_the_session_and_leaves_nothing_behind_in_any_tab(
    person: Person, open_page: Open
) -> None:
    visit = await visit_as(open_page, person)
    await expect(await visit.ask("my secret")).to_contain_text("You said: my secret")
    beside = await visit.page.context.new_page()
    await beside.goto(person.page)
    await expect(beside.get_by_label("Your question")).to_be_visible()
    visit.page.on("dialog", lambda dialog: dialog.accept())
    await visit.page.get_by_role("button", name="Settings").click()
    await visit.page.get_by_role("button", name="Log out").click()
    for page in (visit.page, beside):
        await expect(page.get_by_label("Password", exact=True)).to_be_visible()
        await expect(page.locator(".console")).to_have_count(0)
    assert await visit.page.evaluate("JSON.stringify(localStorage)") == "{}"
    assert person.sessions() == 0
    await visit.page.reload()
    await expect(visit.page.get_by_label("Password", exact=True)).to_be_visible()


async def test_who_has_logged_out_is_sent_no_more_notifications(person: Person, open_page: Open) -> None:
    visit = await open_page("about:blank", permissions=["notifications"])
    with PushService() as service:
        await subscribe_at(visit.page.context, service.browser(application_server_key=person.push_key()))
        await visit.page.goto(person.page)
        await log_in(visit.page, person.name)
        await visit.expect_connected()
        await visit.page.get_by_role("button", name="Settings").click()
        await visit.page.get_by_role("button", name="Switch on in this browser").click()
        await expect(visit.page.get_by_role("button", name="Switch off in this browser")).to_be_enabled()
        assert person.subscriptions() == 1
        visit.page.on("dialog", lambda dialog: dialog.accept())
        await visit.page.get_by_role("button", name="Log out").click()
        await expect(visit.page.get_by_label("Password", exact=True)).to_be_visible()
        assert person.subscriptions() == 0


async def test_while_the_hub_is_away_nobody_is_logged_out(person: Person, open_page: Open) -> None:
    visit = await visit_as(open_page, person)
    await visit.page.route("**/api/logout", lambda route: route.abort())
    visit.page.on("dialog", lambda dialog: dialog.accept())
    await visit.page.get_by_role("button", name="Settings").click()
    await visit.page.get_by_role("button", name="Log out").click()
    await expect(visit.page.get_by_role("alert")).to_contain_text("this browser is still logged in")
    await visit.page.unroute("**/api/logout")
    await visit.page.reload()
    await visit.expect_connected()


async def test_a_session_that_ends_is_asked_for_again_and_nothing_typed_is_lost(
    person: Person, open_page: Open
) -> None:
    visit = await visit_as(open_page, person)
    await visit.page.get_by_label("Your question").fill("half a question")
    await visit.open_mailbox()
    await visit.page.get_by_label("Message", exact=True).fill("half a message")
    person.end_sessions()
    await expect(visit.page.get_by_role("alert")).to_contain_text("Your session has ended")
    await expect(visit.page.get_by_label("Name", exact=True)).to_have_value(person.name)
    await expect(visit.page.get_by_label("Password", exact=True)).to_be_focused()
    for _ in range(2):
        await visit.page.keyboard.press("Escape")  # a browser closes a dialog at the second one
    await expect(visit.page.locator("dialog:modal").get_by_label("Password", exact=True)).to_be_visible()
    await log_in(visit.page, person.name, WRONG)
    await expect(visit.page.get_by_role("alert")).to_have_text("The name or the password is not right.")
    await log_in(visit.page, person.name)
    await visit.expect_connected()
    await expect(visit.page.get_by_label("Message", exact=True)).to_have_value("half a message")
    await visit.page.get_by_label("Message", exact=True).press("Enter")
    await visit.page.get_by_role("tab", name="Chat").click()
    await expect(visit.page.get_by_label("Your question")).to_have_value("half a question")


async def test_what_waits_to_be_sent_goes_out_in_nobody_elses_name(hub: HubProcess, open_page: Open) -> None:
    """Another person logs in beside a page that is cut off: it becomes theirs, and takes nothing along."""
    first, second = joined(hub), joined(hub)
    visit = await visit_as(open_page, first)
    await visit.open_mailbox()
    devtools = await visit.page.context.new_cdp_session(visit.page)
    await cut_off(devtools, is_cut_off=True)
    await expect(visit.page.locator(".pill")).to_have_text("Reconnecting…")
    await expect(await visit.send(f"user:{second.name}", "mine alone")).to_contain_text("Waiting to be sent")
    first.end_sessions()
    beside = await visit.page.context.new_page()
    await beside.goto(first.page)
    await log_in(beside, second.name)
    await expect(beside.locator(".pill")).to_contain_text("Ready")
    await cut_off(devtools, is_cut_off=False)
    await visit.expect_connected()
    await visit.page.locator(".pill").click()
    await expect(visit.page.get_by_role("dialog", name="Status")).to_contain_text(f"user:{second.name}")
    with hub.client() as admin:
        sent = admin.get("/api/messages", params={"to": f"user:{second.name}"}).json()["messages"]
    assert sent == []


async def cut_off(devtools: CDPSession, *, is_cut_off: bool) -> None:
    """One tab alone: to Chromium's tools a tab has a network of its own."""
    conditions = {"offline": is_cut_off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await devtools.send("Network.emulateNetworkConditions", conditions)


async def test_a_key_counts_rather_than_the_session_that_was_there(person: Person, open_page: Open) -> None:
    visit = await visit_as(open_page, person)
    await visit.page.goto(f"{person.page}#key={person.hub.admin_key}")
    await visit.page.reload()
    await visit.expect_connected()
    await visit.page.locator(".pill").click()
    await expect(visit.page.get_by_role("dialog", name="Status")).to_contain_text("user:admin")
    assert person.sessions() == 0


async def test_what_came_of_the_organisations_login_is_told_once(person: Person, open_page: Open) -> None:
    visit = await open_page(f"{person.page}#login=unreachable")
    await expect(visit.page.get_by_role("alert")).to_contain_text("Your organisation's login cannot be reached")
    assert visit.page.url == person.page
    await visit.page.get_by_role("button", name="Use a key instead").click()
    await expect(visit.page.get_by_label("Key", exact=True)).to_be_focused()
    await visit.page.get_by_role("button", name="Log in with a name and a password").click()
    await expect(visit.page.get_by_role("alert")).to_have_count(0)


# --- invitations and people ---------------------------------------------------------------------------


async def test_from_the_admins_invitation_to_the_first_answer(hub: HubProcess, open_page: Open) -> None:
    name = f"p{secrets.token_hex(4)}"
    admin = await open_page(hub.page_url)
    await open_sheet(admin, "People")
    await admin.page.get_by_role("button", name="Invite somebody").click()
    await admin.page.get_by_label("Name", exact=True).fill(name)
    await admin.page.get_by_label("member").check()
    await admin.page.get_by_role("button", name="Make the link").click()
    await expect(admin.page.get_by_role("img", name="The link as a QR code")).to_be_visible()
    link = await admin.page.get_by_role("group", name="Link").locator("code").inner_text()

    visit = await open_page(link)
    await expect(visit.page.get_by_label("Name", exact=True)).to_have_value(name)
    assert visit.page.url == f"{hub.url}/"
    await visit.page.get_by_label("New password", exact=True).fill("password1")
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.get_by_role("alert")).to_contain_text("one of those that are guessed first")
    await visit.page.get_by_label("New password", exact=True).fill(PASSWORD)
    await visit.page.keyboard.press("Enter")
    await expect(await visit.ask("am I in?")).to_contain_text("You said: am I in?")

    again = await open_page(link)
    await expect(again.page.get_by_role("alert")).to_contain_text("This link counts no more")
    await again.page.get_by_role("button", name="Go on").click()
    await expect(again.page.get_by_label("Password", exact=True)).to_be_visible()


async def test_an_admin_looks_after_people(hub: HubProcess, open_page: Open) -> None:
    admin, other = joined(hub, "admin"), joined(hub)
    visit = await visit_as(open_page, admin)
    await open_sheet(visit, "People")
    visit.page.on("dialog", lambda dialog: dialog.accept())
    row = visit.page.get_by_role("listitem").filter(has_text=other.name)
    await row.locator("summary").click()
    await row.get_by_label("auditor").check()
    await row.get_by_role("button", name="Save roles").click()
    await expect(row.locator("summary")).to_contain_text("auditor")
    await row.get_by_role("button", name="Link for a new password").click()
    await expect(visit.page.get_by_role("group", name="Link")).to_contain_text("#invite=")
    await visit.page.get_by_role("button", name="Back").click()
    withdraw = visit.page.get_by_role("button", name=f"Withdraw the link for {other.name}")
    await withdraw.click()
    await expect(withdraw).to_have_count(0)
    await row.locator("summary").click()
    await row.get_by_role("button", name="Disable").click()
    await expect(row.locator("summary")).to_contain_text("disabled")
    refused = httpx2.post(f"{hub.url}/api/login/password", json={"name": other.name, "password": PASSWORD}, timeout=20)
    assert refused.status_code == 401
    await row.get_by_role("button", name="Remove").click()
    await expect(row).to_have_count(0)
    own = visit.page.get_by_role("listitem").filter(has_text=admin.name)
    await own.locator("summary").click()
    await expect(own.get_by_role("button", name="Remove")).to_have_count(0)  # nobody sends himself away


# --- the account --------------------------------------------------------------------------------------


async def authenticator(page: Page) -> None:
    """A device with a fingerprint reader that always knows its owner."""
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    }  # fmt: skip
    await devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


async def test_a_passkey_is_added_after_a_fresh_login_and_then_opens_the_page(person: Person, open_page: Open) -> None:
    visit = await visit_as(open_page, person)
    page = visit.page
    await authenticator(page)
    asked: list[str] = []

    async def once_too_old(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > 1:
            await route.continue_()
        else:
            await route.fulfill(status=403, json={"status": 403, "code": "fresh_login_wanted", "detail": ""})

    await page.route("**/api/me/passkeys/options", once_too_old)
    await open_sheet(visit, "Account")
    await page.get_by_role("button", name="Add a passkey").click()
    await page.get_by_label("Name of the passkey").fill("my reader")
    await page.keyboard.press("Enter")
    proof = page.get_by_role("form", name=re.compile("show once more that it is you"))
    await proof.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.keyboard.press("Enter")
    passkeys = page.get_by_role("region", name="Passkeys")
    await expect(passkeys.get_by_role("listitem")).to_contain_text("my reader")
    await page.keyboard.press("Escape")
    await visit.expect_connected()

    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("button", name="Log out").click()
    await page.get_by_role("button", name="Use a passkey").click()
    await visit.expect_connected()
    await open_sheet(visit, "Account")
    await passkeys.get_by_role("button", name="Remove the passkey “my reader”").click()
    await expect(passkeys.get_by_role("listitem")).to_have_count(0)


async def test_another_session_is_ended_after_a_fresh_login(person: Person, open_page: Open) -> None:
    visit, other = await visit_as(open_page, person), await visit_as(open_page, person)
    asked: list[str] = []

    async def once_too_old(route: Route) -> None:
        asked.append(route.request.method)
        if len(asked) > 1:
            await route.continue_()
        else:
            await route.fulfill(status=403, json={"status": 403, "code": "fresh_login_wanted", "detail": ""})

    await visit.page.route("**/api/me/sessions/*", once_too_old)
    await open_sheet(visit, "Account")
    sessions = visit.page.get_by_role("region", name="Sessions")
    await sessions.get_by_role("button").first.click()
    proof = sessions.get_by_role("form", name=re.compile("show once more that it is you"))
    await proof.get_by_label("Password", exact=True).fill(PASSWORD)
    await visit.page.keyboard.press("Enter")
    await expect(other.page.get_by_role("alert")).to_contain_text("Your session has ended")
    await expect(sessions.get_by_role("listitem")).to_have_count(1)
    assert asked == ["DELETE", "DELETE"]


async def test_without_a_passkey_the_page_says_so_and_at_an_address_of_numbers_offers_none(
    person: Person, open_page: Open
) -> None:
    visit = await open_page("about:blank")
    await authenticator(visit.page)
    await visit.page.goto(person.page)
    await visit.page.get_by_role("button", name="Use a passkey").click()
    await expect(visit.page.get_by_role("alert")).to_contain_text("No passkey was used")
    elsewhere = await open_page(f"{person.hub.url}/")
    await expect(elsewhere.page.get_by_role("button", name="Log in")).to_be_visible()
    await expect(elsewhere.page.get_by_role("button", name="Use a passkey")).to_have_count(0)


async def test_a_new_password_ends_all_other_sessions_and_this_one_goes_on(person: Person, open_page: Open) -> None:
    visit, other = await visit_as(open_page, person), await visit_as(open_page, person)
    await open_sheet(visit, "Account")
    await expect(visit.page.get_by_role("region", name="Sessions").get_by_role("listitem")).to_have_count(2)
    await visit.page.get_by_role("button", name="Change password").click()
    await visit.page.get_by_label("Current password").fill(WRONG)
    await visit.page.get_by_label("New password").fill("another long and lovely sentence")
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.get_by_role("alert")).to_have_text("The current password is not right.")
    await visit.page.get_by_label("Current password").fill(PASSWORD)
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.get_by_role("status").filter(has_text="The password is changed")).to_be_visible()
    await expect(other.page.get_by_role("alert")).to_contain_text("Your session has ended")
    await visit.page.keyboard.press("Escape")
    await visit.expect_connected()
    assert person.sessions() == 1


async def test_one_session_ends_another(person: Person, open_page: Open) -> None:
    visit, other = await visit_as(open_page, person), await visit_as(open_page, person)
    await open_sheet(visit, "Account")
    sessions = visit.page.get_by_role("region", name="Sessions")
    await expect(sessions.get_by_role("listitem").first).to_contain_text("this browser")
    await sessions.get_by_role("button", name=re.compile("^End the session of Chrome")).click()
    await expect(sessions.get_by_role("listitem")).to_have_count(1)
    await expect(other.page.get_by_role("alert")).to_contain_text("Your session has ended")


# --- devices ------------------------------------------------------------------------------------------


async def test_a_device_enrols_by_the_code_that_the_page_shows(
    hub: HubProcess, open_page: Open, tmp_path: Path
) -> None:
    visit = await open_page(hub.page_url, viewport={"width": 390, "height": 844})
    await open_sheet(visit, "Enrol a device")
    await expect(visit.page.get_by_label("Name of the device")).to_be_focused()
    await visit.page.keyboard.type("press-7")
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.get_by_role("img", name="The code as a QR code")).to_be_visible()
    await expect(visit.page.get_by_role("timer")).to_contain_text(re.compile(r"for another (10 min 0|9 min 5\d) s"))
    code = await visit.page.get_by_role("group", name="Code").locator("code").inner_text()

    scanned = await open_page(f"{hub.url}/#enrol={code}")
    command = await scanned.page.get_by_role("group", name="Command").locator("code").inner_text()
    assert code not in scanned.page.url
    program, *arguments = shlex.split(command)
    assert program == "autoglm"
    with anyio.fail_after(30):
        await anyio.run_process([sys.executable, "-m", program, *arguments], cwd=tmp_path)
    with hub.client() as admin:
        (device,) = [one for one in admin.get("/api/devices").json()["devices"] if one["name"] == "press-7"]
    assert device["scopes"] == ["send:message:device:press-7", "read:message:device:press-7"]


@pytest.mark.attack("a command of strangers in a code")
async def test_an_address_puts_no_command_of_its_own_on_the_page(hub: HubProcess, open_page: Open) -> None:
    visit = await open_page(f"{hub.url}/#enrol=k5q2vyb7hj3m%3Breboot")
    await expect(visit.page.get_by_role("main")).to_contain_text("has no code that a device could use")
    assert await visit.page.locator("main code").count() == 0


@pytest.mark.parametrize("sheet", ["Account", "People", "Enrol a device"])
async def test_dialogs_fit_into_a_narrow_window_and_give_the_focus_back(
    hub: HubProcess, open_page: Open, sheet: str
) -> None:
    visit = await visit_as(open_page, joined(hub, "admin"), viewport={"width": 320, "height": 640})
    await open_sheet(visit, sheet)
    wide_px = "element => element.scrollWidth - element.clientWidth"
    assert await visit.page.get_by_role("dialog", name=sheet).evaluate(wide_px) <= 0
    await visit.page.keyboard.press("Escape")
    await expect(visit.page.get_by_role("button", name="Settings")).to_be_focused()
    await open_sheet(visit, sheet)
