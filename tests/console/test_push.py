"""Notifications of the console in a real browser: the page, its service worker, the hub, and a push service of ours.

Headless Chromium reaches no push service of Google's, so the browser's side of that service is the fake's: what it
decrypts is handed to the page's worker by the browser's own tools (`ServiceWorker.deliverPushMessage`).
"""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest
from playwright.async_api import Route, async_playwright, expect

from autoglm.app import PAGE
from console.conftest import CHROMIUM_NAMES, CHROMIUM_OPTIONS
from console.push_browser import PushedTo, subscribe_at
from console.visit import Open, Visit
from eventually import until
from fakes.push_service import Browser as Subscriber
from fakes.push_service import PushService
from hub import HubProcess, running_hub

pytestmark = pytest.mark.browser

CONFIG = """
[[channel]]
name = "push"
kind = "web-push"
contact = "mailto:it@example.org"
allow = ["127.0.0.1"]
"""
PEOPLE = """
[[key]]
name = "{name}"
value = "sk-{name}"
address = "user:{name}"
scopes = ["read:message:user:{name}", "send:message:user:{name}"]
"""


@pytest.fixture(scope="module")
def service() -> Iterator[PushService]:
    with PushService() as service:
        yield service


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    assert (PAGE / "index.html").exists(), "the console is not built: run 'npm ci' and 'npm run build' in web/"
    config = CONFIG + "".join(PEOPLE.format(name=name) for name in ("alice", "bob"))
    with running_hub(tmp_path_factory.mktemp("push") / "data", config) as hub:
        yield hub


@pytest.fixture
def subscriber(hub: HubProcess, service: PushService) -> Iterator[Subscriber]:
    """A browser at the fake push service. Afterwards nobody has one at the hub."""
    key = httpx2.get(f"{hub.url}/api/push/key", headers=bearer("alice"), timeout=20).json()["key"]
    yield service.browser(application_server_key=key)
    for name in ("alice", "bob"):
        for id in subscriptions(hub, name):
            httpx2.delete(f"{hub.url}/api/push/subscriptions/{id}", headers=bearer(name), timeout=20)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}"}


def subscriptions(hub: HubProcess, name: str) -> list[str]:
    reply = httpx2.get(f"{hub.url}/api/push/subscriptions", headers=bearer(name), timeout=20)
    return [one["id"] for one in reply.json()["subscriptions"]]


def send(hub: HubProcess, text: str, **fields: Any) -> str:
    with hub.client() as http:
        message = {"from": "device:press-7", "to": "channel:push/alice", "content": text, **fields}
        return str(http.post("/api/messages", json=message).raise_for_status().json()["id"])


def states(hub: HubProcess, id: str) -> list[str]:
    with hub.client() as http:
        return [step["state"] for step in http.get(f"/api/messages/{id}/receipts").json()["receipts"]]


async def visit_as(open_page: Open, hub: HubProcess, name: str, subscriber: Subscriber, **options: Any) -> Visit:
    """Signed in, with leave for notifications."""
    visit = await open_page("about:blank", permissions=["notifications"], **options)
    await subscribe_at(visit.page.context, subscriber)
    await visit.page.goto(f"{hub.url}/#key=sk-{name}")
    return visit


async def switch(visit: Visit, to: str) -> None:
    """Open the settings, and press the button there."""
    if not await visit.page.locator("#settings").is_visible():
        await visit.page.get_by_role("button", name=re.compile("Settings|设置")).click()
    chinese = {"on": "在此浏览器中开启", "off": "在此浏览器中关闭"}[to]
    await visit.page.get_by_role("button", name=re.compile(f"Switch {to} in this browser|{chinese}")).click()


async def switched_on(visit: Visit) -> PushedTo:
    await switch(visit, "on")
    await expect(visit.page.locator("#settings")).to_contain_text(re.compile("On: messages to you show|已开启"))
    await visit.page.keyboard.press("Escape")
    return PushedTo(visit)


# --- from the hub to the screen -----------------------------------------------------------------------


async def test_a_message_becomes_a_notification_and_a_click_shows_it(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    send(hub, "压机停了。", kind="alert", priority=9)
    await until(lambda: subscriber.notices)
    await pushed_to.push(subscriber.notices[0])
    notification = await pushed_to.shows("压机停了。")
    assert (notification["title"], notification["requireInteraction"]) == ("device:press-7", True)
    await pushed_to.click()
    mail = visit.mails("压机停了。")
    await expect(mail).to_be_visible()
    await expect(mail).to_be_focused()
    await expect(mail).to_contain_text("device:press-7")
    await pushed_to.shown(0)


@pytest.mark.parametrize(
    ("locale", "button", "done"), [("en-US", "Acknowledge", "Acknowledged"), ("zh-CN", "确认收到", "已确认")]
)
async def test_the_notifications_button_acknowledges_with_the_persons_own_key(
    hub: HubProcess, subscriber: Subscriber, open_page: Open, locale: str, button: str, done: str
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber, locale=locale)
    pushed_to = await switched_on(visit)
    id = send(hub, "61 bar", priority=9)
    await until(lambda: subscriber.notices)
    await pushed_to.push(subscriber.notices[0])
    assert (await pushed_to.shows("61 bar"))["actions"] == [button]
    assert "acknowledged" not in states(hub, id)
    await pushed_to.click(button)
    mail = visit.mails("61 bar")
    await expect(mail).to_be_focused()
    await expect(mail.locator(".mail-actions")).to_contain_text(done)
    assert "acknowledged" in states(hub, id)
    await pushed_to.shown(0)


async def test_the_button_while_no_page_is_open_opens_one_that_acknowledges(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    await pushed_to.note_window()
    id = send(hub, "62 bar", priority=9)
    await until(lambda: subscriber.notices)
    await pushed_to.push(subscriber.notices[0])
    await pushed_to.shown()
    page = await visit.page.context.new_page()
    await visit.page.goto("about:blank")  # the only one of the hub
    await pushed_to.left()
    await pushed_to.click("Acknowledge")
    await page.goto(await pushed_to.opened())
    await expect(page.locator(".mail", has_text="62 bar").locator(".mail-actions")).to_contain_text("Acknowledged")
    assert "acknowledged" in states(hub, id)


async def test_the_button_while_the_page_asks_for_its_key_counts_once_it_is_there(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    """Of each of two notifications. A page that comes after that hears of neither."""
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    ids = [send(hub, text, priority=9) for text in ("65 bar", "66 bar")]
    await until(lambda: len(subscriber.notices) == 2)
    for notice in subscriber.notices:
        await pushed_to.push(notice)
    await pushed_to.shown(2)
    await visit.page.evaluate("localStorage.clear()")
    await visit.page.reload()
    await expect(visit.page.get_by_label("Key", exact=True)).to_be_visible()
    for left in (1, 0):
        await pushed_to.click("Acknowledge")
        await pushed_to.shown(left)
    assert sorted(await pushed_to.waiting()) == sorted(ids)
    await visit.page.get_by_label("Key", exact=True).fill("sk-alice")
    await visit.page.keyboard.press("Enter")
    for text in ("65 bar", "66 bar"):
        await expect(visit.mails(text).locator(".mail-actions")).to_contain_text("Acknowledged")
    assert all("acknowledged" in states(hub, id) for id in ids)
    assert await pushed_to.waiting() == []


async def test_a_click_is_told_to_one_page_and_to_none_that_comes_later(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    first, second = send(hub, "67 bar", priority=9), send(hub, "68 bar", priority=9)
    await until(lambda: len(subscriber.notices) == 2)
    await pushed_to.push(next(notice for notice in subscriber.notices if notice["id"] == first))
    await pushed_to.shown()
    await pushed_to.click()
    await expect(visit.mails("67 bar")).to_be_focused()
    assert await pushed_to.waiting() == []
    page = await visit.page.context.new_page()
    await page.goto(f"{hub.url}/#mail={second}")
    await expect(page.locator(".mail", has_text="68 bar")).to_be_focused()


async def test_the_button_while_the_hub_is_away_counts_once_it_is_back(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    id = send(hub, "64 bar", priority=9)
    await until(lambda: subscriber.notices)
    await pushed_to.push(subscriber.notices[0])
    await pushed_to.shown()
    hub.kill()
    await pushed_to.click("Acknowledge")
    actions = visit.page.locator(".mail", has_text="64 bar").locator(".mail-actions")
    await expect(actions).to_contain_text("Acknowledging")
    hub.start()
    await expect(actions).to_contain_text("Acknowledged")
    assert "acknowledged" in states(hub, id)


async def test_an_address_alone_acknowledges_nothing(hub: HubProcess, subscriber: Subscriber, open_page: Open) -> None:
    """Anybody can make somebody follow one."""
    id = send(hub, "63 bar")
    visit = await visit_as(open_page, hub, "alice", subscriber)
    await expect(visit.page.locator("#tab-mailbox")).to_be_visible()
    await visit.page.goto(f"{hub.url}/#mail={id}&action=acknowledge&isAcknowledged=true")
    await expect(visit.mails("63 bar").get_by_role("button", name="Acknowledge")).to_be_visible()
    await until(lambda: "read" in states(hub, id))
    assert "acknowledged" not in states(hub, id)


async def test_a_digest_shows_all_that_is_in_it_and_has_no_button(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    digest = {"id": "m-1.digest", "from": "device:press-7", "text": "one\ntwo", "time": 1, "priority": 9}
    await pushed_to.push({**digest, "is_digest": True})
    assert (await pushed_to.shows("one\ntwo"))["actions"] == []
    await pushed_to.click()
    mail = visit.page.locator(".mail", has_text="one\ntwo")
    await expect(mail).to_be_visible()
    await expect(mail.get_by_role("button", name="Acknowledge")).to_have_count(0)


async def test_a_key_that_may_read_it_sees_the_whole_message_and_acknowledges_it(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await open_page("about:blank", permissions=["notifications"])
    await subscribe_at(visit.page.context, subscriber)
    await visit.page.goto(hub.page_url)
    pushed_to = await switched_on(visit)
    id = send(hub, "61 bar", to="channel:push/admin", priority=9)
    await until(lambda: subscriber.notices)
    await pushed_to.push(subscriber.notices[0])
    await pushed_to.shown()
    await pushed_to.click()
    mail = visit.mails("61 bar")
    await expect(mail).to_contain_text("channel:push/admin")
    await mail.get_by_role("button", name="Acknowledge").click()
    await expect(mail.locator(".mail-actions")).to_contain_text("Acknowledged")
    assert "acknowledged" in states(hub, id)
    await switch(visit, "off")
    await expect(visit.page.get_by_role("button", name="Switch on in this browser")).to_be_visible()


async def test_a_click_while_no_page_is_open_opens_it_at_the_message(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    await pushed_to.note_window()
    await pushed_to.push({"id": "m/1 #", "from": "device:press-7", "text": "61 bar", "time": 1, "priority": 9})
    await pushed_to.shown()
    page = await visit.page.context.new_page()
    await visit.page.goto("about:blank")  # the only one of the hub
    await pushed_to.left()
    await pushed_to.click()
    url = await pushed_to.opened()
    assert url == f"{hub.url}/#mail=m%2F1%20%23"
    await page.goto(url)
    await expect(page.locator(".mail")).to_contain_text("61 bar")
    assert page.url == f"{hub.url}/"


async def test_the_pieces_of_a_long_message_are_one_notification(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    text = "".join(f"{number:05} 压机。" for number in range(500))
    send(hub, text, priority=9)
    await until(lambda: subscriber.notices and len(subscriber.notices) == subscriber.notices[0]["pieces"] > 1)
    for notice in reversed(subscriber.notices):
        await pushed_to.push(notice)
    await pushed_to.shows(text)
    await pushed_to.shown(1)


async def test_a_push_that_comes_twice_is_one_notification_without_a_second_sound(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    notice = {"id": "m-1", "from": "device:press-7", "text": "down", "time": 1, "priority": 9}
    await pushed_to.push(notice)
    assert (await pushed_to.shows("down"))["renotify"] is True
    await pushed_to.push(notice)
    await pushed_to.push({**notice, "id": "m-2"})  # the worker takes them in turn
    shown = {notification["tag"]: notification["renotify"] for notification in await pushed_to.shown(2)}
    assert shown == {"message m-1": False, "message m-2": True}


async def test_of_a_thread_the_newest_message_is_shown(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    for number in range(3):
        notice = {"id": f"m-{number}", "from": "user:bob", "text": f"{number}", "time": 1, "thread": "t-1"}
        await pushed_to.push({**notice, "priority": 9})
    assert (await pushed_to.shows("2"))["renotify"] is True
    await pushed_to.shown(1)


@pytest.mark.parametrize("data", ["", "no JSON", "7", "{}", '{"id": 1}'])
async def test_a_push_that_cannot_be_read_still_shows_that_something_came(
    hub: HubProcess, subscriber: Subscriber, open_page: Open, data: str
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    pushed_to = await switched_on(visit)
    await pushed_to.push(data)
    [notification] = await pushed_to.shown()
    assert (notification["title"], notification["body"]) == ("AutoGLM Hub", "")
    await pushed_to.push({"id": "m-1", "from": "user:bob", "text": "fine", "time": 1, "priority": 9})
    await pushed_to.shows("fine")


# --- on and off ---------------------------------------------------------------------------------------


async def test_switching_off_leaves_nothing_at_the_hub_and_no_worker(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    await switched_on(visit)
    assert len(subscriptions(hub, "alice")) == 1
    await switch(visit, "off")
    await expect(visit.page.get_by_role("button", name="Switch on in this browser")).to_be_enabled()
    assert subscriptions(hub, "alice") == []
    assert await visit.page.evaluate("async () => (await navigator.serviceWorker.getRegistrations()).length") == 0


async def test_it_is_still_on_after_a_reload_and_the_hub_is_told_again(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    """The hub may have lost it, with its data or to an answer of the push service."""
    visit = await visit_as(open_page, hub, "alice", subscriber)
    await switched_on(visit)
    [id] = subscriptions(hub, "alice")
    httpx2.delete(f"{hub.url}/api/push/subscriptions/{id}", headers=bearer("alice"), timeout=20).raise_for_status()
    await visit.page.reload()
    await until(lambda: subscriptions(hub, "alice") == [id])
    await visit.page.get_by_role("button", name="Settings").click()
    await expect(visit.page.get_by_role("button", name="Switch off in this browser")).to_be_visible()


async def test_signing_out_ends_it(hub: HubProcess, subscriber: Subscriber, open_page: Open) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    await switched_on(visit)
    visit.page.on("dialog", lambda dialog: dialog.accept())
    await visit.page.get_by_role("button", name="Settings").click()
    await visit.page.get_by_role("button", name="Sign out and clear this browser").click()
    await expect(visit.page.get_by_label("Key", exact=True)).to_be_visible()
    await until(lambda: subscriptions(hub, "alice") == [])
    assert await visit.page.evaluate("JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"


async def test_signing_out_while_the_hub_is_being_told_ends_it(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    visit = await visit_as(open_page, hub, "alice", subscriber)
    await switched_on(visit)
    visit.page.on("dialog", lambda dialog: dialog.accept())
    is_held, is_released = anyio.Event(), anyio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "POST":
            is_held.set()
            await is_released.wait()
        await route.continue_()

    await visit.page.route("**/api/push/subscriptions", hold)
    await visit.page.get_by_role("button", name="Settings").click()  # looks whether the hub still knows
    await is_held.wait()
    await visit.page.get_by_role("button", name="Sign out and clear this browser").click()
    await expect(visit.page.get_by_label("Key", exact=True)).to_be_visible()
    await until(lambda: subscriptions(hub, "alice") == [])
    async with visit.page.expect_response(lambda response: response.request.method == "POST"):
        is_released.set()
    await until(lambda: subscriptions(hub, "alice") == [])
    await visit.page.wait_for_function("localStorage.length === 0")


async def test_what_is_on_for_one_person_is_off_for_the_next(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    """Who did not sign out: the browser takes no more of theirs, and asks the next one."""
    visit = await visit_as(open_page, hub, "alice", subscriber)
    await switched_on(visit)
    await visit.page.goto(f"{hub.url}/#key=sk-bob")
    await visit.page.reload()
    await visit.page.get_by_role("button", name="Settings").click()
    await expect(visit.page.get_by_role("button", name="Switch on in this browser")).to_be_enabled()
    assert await visit.page.evaluate("sessionStorage.getItem('subscribed')") is None
    await switched_on(visit)
    assert (len(subscriptions(hub, "alice")), len(subscriptions(hub, "bob"))) == (0, 1)


# --- where it cannot be -------------------------------------------------------------------------------


async def test_a_browser_without_its_push_service_says_what_to_do(hub: HubProcess, open_page: Open) -> None:
    """The browser's own `PushManager`: this Chromium reaches no push service."""
    visit = await open_page(f"{hub.url}/#key=sk-alice", permissions=["notifications"])
    await switch(visit, "on")
    alert = visit.page.locator("#settings").get_by_role("alert")
    await expect(alert).to_contain_text("could not register with its maker's push service")
    await expect(visit.page.get_by_role("button", name="Switch on in this browser")).to_be_enabled()
    assert subscriptions(hub, "alice") == []
    visit.errors.clear()  # Chromium warns that a private window has none


async def test_permission_is_asked_for_on_a_click_only_and_a_refusal_is_explained(
    hub: HubProcess, open_page: Open
) -> None:
    visit = await open_page("about:blank")
    await visit.page.context.add_init_script(
        "window.asked = 0; const ask = Notification.requestPermission.bind(Notification);"
        "Notification.requestPermission = () => { window.asked++; return ask(); };"
    )
    await visit.page.goto(f"{hub.url}/#key=sk-alice")
    await visit.page.get_by_role("button", name="Settings").click()
    await expect(visit.page.locator("#settings")).to_contain_text(re.compile("Notifications.*(Off|Blocked)", re.S))
    assert await visit.page.evaluate("window.asked") == 0
    if await visit.page.get_by_role("button", name="Switch on in this browser").is_visible():
        await switch(visit, "on")
        assert await visit.page.evaluate("window.asked") == 1
    await expect(visit.page.locator("#settings")).to_contain_text("Allow notifications in the browser's settings")


async def test_over_plain_http_from_another_machine_the_page_says_why_not(hub: HubProcess) -> None:
    """A name that is not the machine's own makes the origin insecure, as another machine would."""
    path = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if path is None:
        pytest.skip("needs Chromium")
    rule = "--host-resolver-rules=MAP another-machine 127.0.0.1"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*CHROMIUM_OPTIONS, rule])
        page = await browser.new_page(locale="zh-CN")
        await page.goto(f"http://another-machine:{hub.port}/#key=sk-alice")
        await page.get_by_role("button", name="设置").click()
        await expect(page.locator("#settings")).to_contain_text("浏览器只允许在 HTTPS 页面")
        await browser.close()


@pytest.mark.parametrize(
    ("locale", "words"), [("en-US", "no channel of the kind web-push"), ("zh-CN", "未配置 web-push")]
)
async def test_a_hub_that_is_not_set_up_says_what_is_missing(
    tmp_path_factory: pytest.TempPathFactory, open_page: Open, locale: str, words: str
) -> None:
    with running_hub(tmp_path_factory.mktemp("bare") / "data") as hub:
        visit = await open_page(hub.page_url, locale=locale)
        await visit.page.get_by_role("button", name=re.compile("Settings|设置")).click()
        await expect(visit.page.locator("#settings")).to_contain_text(words)
        await expect(visit.page.locator("#settings code")).to_contain_text('kind = "web-push"')


# --- the worker's file --------------------------------------------------------------------------------


async def test_the_worker_keeps_nothing_and_has_the_pages_headers(
    hub: HubProcess, subscriber: Subscriber, open_page: Open
) -> None:
    page, worker = (httpx2.get(f"{hub.url}/{path}", timeout=20) for path in ("", "push-worker.js"))
    assert worker.headers["content-type"].startswith("text/javascript")
    for name in ("content-security-policy", "x-content-type-options", "referrer-policy", "cache-control"):
        assert worker.headers[name] == page.headers[name]
    assert "'unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"\b(import|export)\b|importScripts|caches|indexedDB|[\"'`]fetch[\"'`]", worker.text)
    visit = await visit_as(open_page, hub, "alice", subscriber)
    await switched_on(visit)
    assert await visit.page.evaluate("async () => (await caches.keys()).length") == 0
    scope = await visit.page.evaluate("async () => (await navigator.serviceWorker.ready).scope")
    assert scope == f"{hub.url}/"
