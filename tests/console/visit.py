"""One person's visit to the console: a browser page, what went wrong in it, and the moves that tests repeat."""

import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Locator, Page, Request, expect

_NETWORK = re.compile(r"Failed to load resource|WebSocket connection to .* failed")

_OVERFLOW = """
Math.max(...[document.documentElement, ...document.querySelectorAll('.turns, .mailbox, .mails')]
    .map(element => element.scrollWidth - element.clientWidth))
"""


class Visit:
    """Watches `page` from its first request on."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        """Errors and warnings of the console, among them breaches of the content security policy."""
        self.origins: set[str] = set()
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._on_request)
        page.on("websocket", lambda socket: self.origins.add(_origin(socket.url)))

    @property
    def faults(self) -> list[str]:
        """Errors of the page itself: a network that a test has cut is none."""
        return [error for error in self.errors if not _NETWORK.search(error)]

    async def ask(self, text: str) -> Locator:
        """Ask in the chat; the newest answer."""
        await self.page.locator(".composer textarea").fill(text)
        await self.page.keyboard.press("Enter")
        return self.page.locator(".answer").last

    async def open_mailbox(self) -> None:
        await self.page.locator("#tab-mailbox").click()

    async def send(self, to: str, text: str) -> Locator:
        """Send from the mailbox; the mails that show this very text."""
        await self.page.get_by_label("To", exact=True).fill(to)
        await self.page.get_by_label("Message", exact=True).fill(text)
        await self.page.keyboard.press("Enter")
        return self.mails(text)

    def mails(self, text: str) -> Locator:
        whole = re.compile(f"^{re.escape(text)}$")
        exact = self.page.locator(".plain, .markdown").filter(has_text=whole)
        return self.page.locator(".mail").filter(has=exact)

    async def expect_connected(self) -> None:
        await expect(self.page.locator(".pill")).to_contain_text("Ready")

    async def overflow_px(self) -> int:
        """How far the page, or a pane in it that scrolls, is wider than what can be seen of it."""
        return int(await self.page.evaluate(_OVERFLOW))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")):
            self.origins.add(_origin(request.url))


Open = Callable[..., Awaitable[Visit]]
"""Opens an address in a browser of its own; the options are those of a Playwright context."""


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}"
