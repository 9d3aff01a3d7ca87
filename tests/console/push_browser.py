"""What Chromium cannot have here: its maker's push service. Ours takes its place; all else is the browser's."""

import json
from typing import Any

from playwright.async_api import BrowserContext, CDPSession, Page, Worker

from console.visit import Visit
from eventually import until
from fakes.push_service import Browser

_SUBSCRIBES = """
(json) => {
  const make = (options) => ({
    endpoint: json.endpoint, options, toJSON: () => json,
    unsubscribe: async () => { sessionStorage.removeItem("subscribed"); return true; },
  });
  PushManager.prototype.subscribe = async function (options) {
    if (Notification.permission !== "granted") throw new DOMException("no permission", "NotAllowedError");
    sessionStorage.setItem("subscribed", JSON.stringify(options));
    return make(options);
  };
  PushManager.prototype.getSubscription = async function () {
    const options = sessionStorage.getItem("subscribed");
    return options === null ? null : make(JSON.parse(options));
  };
}
"""
_SHOWN = """
async ({count, said}) => {
  let all;
  for (let round = 0; round < 1000; round++) {
    const registration = await navigator.serviceWorker.getRegistration();
    all = (await registration.getNotifications())
        .map(({title, body, tag, renotify, requireInteraction, actions}) =>
          ({title, body, tag, renotify, requireInteraction, actions: actions.map(({title}) => title)}));
    if ((count === null || all.length === count) && (said === null || all.some(({body}) => body === said))) return all;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("what is shown instead: " + JSON.stringify(all));
}
"""
_ACTIVATED = """
async () => {
  const {active} = await navigator.serviceWorker.ready;
  if (active.state === "activated") return;
  await new Promise((resolve) => active.addEventListener("statechange", resolve, {once: true}));
}
"""
_CLICK = """
async (button) => {
  const [notification] = await self.registration.getNotifications();
  const action = button === null ? "" : notification.actions.find(({title}) => title === button).action;
  self.dispatchEvent(new NotificationEvent("notificationclick", {notification, action}));
}
"""
_WAITING = """
async () => {
  const {port1, port2} = new MessageChannel();
  const found = new Promise((resolve) => {
    const all = [];
    port2.onmessage = ({data}) => data === "end" ? resolve(all) : all.push(data.shown.id);
  });
  self.dispatchEvent(new ExtendableMessageEvent("message", {data: "clicked", source: port1}));
  port1.postMessage("end");
  return found;
}
"""
_LEFT = """
async () => {
  const pages = () => self.clients.matchAll({type: "window", includeUncontrolled: true});
  while ((await pages()).some(({url}) => url.startsWith(self.registration.scope)))
    await new Promise((resolve) => setTimeout(resolve, 20));
}
"""
_NOTES_WINDOW = """
() => {
  self.opened = new Promise((resolve) => { self.clients.openWindow = async (url) => { resolve(url); return null; }; });
}
"""
"""A window opens for a real click only, which no test can make on a notification of the system."""


async def subscribe_at(context: BrowserContext, browser: Browser) -> None:
    """`PushManager` of all pages to come gives subscriptions of this browser of the fake."""
    await context.add_init_script(f"({_SUBSCRIBES})({json.dumps(browser.subscription())})")


class PushedTo:
    """The page's service worker, as the browser runs it.

    Chromium takes a notification away after some seconds, unless it is an urgent one: those of tests are. One that is
    looked for while it is on its way to the screen is lost; hence `push` waits.
    """

    def __init__(self, visit: Visit) -> None:
        self._page: Page = visit.page
        self._devtools: CDPSession | None = None
        self._registrations: list[str] = []
        self._done = 0
        """Pushes that the worker has handled to the end."""

    async def push(self, data: Any) -> None:
        """As if the browser's push service had brought it, decrypted. Returns once the worker has shown it."""
        if self._devtools is None:
            self._devtools = await self._page.context.new_cdp_session(self._page)
            self._devtools.on("ServiceWorker.workerRegistrationUpdated", self._note)
            self._devtools.on("BackgroundService.backgroundServiceEventReceived", self._count)
            await self._devtools.send("BackgroundService.startObserving", {"service": "pushMessaging"})
            await self._devtools.send(
                "BackgroundService.setRecording", {"service": "pushMessaging", "shouldRecord": True}
            )
            await self._devtools.send("ServiceWorker.enable")
            await until(lambda: self._registrations)
            await self._page.evaluate(_ACTIVATED)  # a push before then may be dropped
        origin = "/".join(self._page.url.split("/")[:3])
        text = data if isinstance(data, str) else json.dumps(data)
        place = {"origin": origin, "registrationId": self._registrations[-1]}
        before = self._done
        await self._devtools.send("ServiceWorker.deliverPushMessage", {**place, "data": text})
        await until(lambda: self._done > before, 20.0)

    async def shown(self, count: int = 1) -> list[dict[str, Any]]:
        """The notifications, once there are so many."""
        found: list[dict[str, Any]] = await self._page.evaluate(_SHOWN, {"count": count, "said": None})
        return found

    async def shows(self, body: str) -> dict[str, Any]:
        """The notification that says so, once one does."""
        all = await self._page.evaluate(_SHOWN, {"count": None, "said": body})
        return dict(next(one for one in all if one["body"] == body))

    async def click(self, button: str | None = None) -> None:
        """On the notification, or on its button with this title."""
        await self._worker.evaluate(_CLICK, button)

    async def waiting(self) -> list[str]:
        """The messages whose clicks the worker would tell a page that asks now."""
        return [str(id) for id in await self._worker.evaluate(_WAITING)]

    async def left(self) -> None:
        """Returns once the browser counts no page of the hub any more: it does for a moment after one was left."""
        await self._worker.evaluate(_LEFT)

    async def note_window(self) -> None:
        """What the worker would open from now on is noted instead."""
        await self._worker.evaluate(_NOTES_WINDOW)

    async def opened(self) -> str:
        """The address of the window, once the worker opens one."""
        return str(await self._worker.evaluate("() => self.opened"))

    @property
    def _worker(self) -> Worker:
        return self._page.context.service_workers[-1]

    def _count(self, event: dict[str, Any]) -> None:
        self._done += event["backgroundServiceEvent"]["eventName"] == "Push event completed"

    def _note(self, event: dict[str, Any]) -> None:
        self._registrations += [one["registrationId"] for one in event["registrations"] if not one["isDeleted"]]
