"""A hub with a scripted model, and visits to its console with Chromium."""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright, expect

from autoglm.app import PAGE
from console.pause import Pause
from console.relay import Relay, relay_to
from console.visit import Open, Visit
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture(scope="module")
def hub(model: ScriptedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    assert (PAGE / "index.html").exists(), "the console is not built: run 'npm ci' and 'npm run build' in web/"
    with running_hub(tmp_path_factory.mktemp("hub") / "data", instance_config("echo-1", model.url)) as hub:
        yield hub


@pytest.fixture
def pause(model: ScriptedModel) -> Iterator[Pause]:
    """The model of the hub pauses in the middle of each answer."""
    pause = Pause()
    before, model.behaviour = model.behaviour, pause.answer
    yield pause
    model.behaviour = before
    pause.go_on()


@pytest.fixture
async def relay(hub: HubProcess) -> AsyncIterator[Relay]:
    async with relay_to(hub.port) as relay:
        yield relay


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    path = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if path is None:
        pytest.skip("needs Chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield browser
        await browser.close()


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[Open]:
    """Opens an address in a browser of its own kind (`locale`, `viewport`, ...). No visit may end with a fault."""
    visits: list[Visit] = []
    async with AsyncExitStack() as contexts:

        async def open(url: str, **options: Any) -> Visit:
            context = await browser.new_context(**{"locale": "en-US", **options})
            contexts.push_async_callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            visit = Visit(await context.new_page())
            visits.append(visit)
            await visit.page.goto(url)
            return visit

        yield open
        assert [fault for visit in visits for fault in visit.faults] == []
        assert all(len(visit.origins) == 1 for visit in visits), "a page asked another server than its hub"
