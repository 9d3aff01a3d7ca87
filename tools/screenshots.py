"""Makes the README's screenshots from the real page, the real hub and the first real model.

make screenshots
"""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from console.conftest import CHROMIUM_OPTIONS  # noqa: E402  # the tests' own flags
from hub import running_hub  # noqa: E402  # the tests' own way to start a hub

SHOTS = {
    "console.png": ("en-US", ["Write a haiku about a lighthouse.", "Which prime numbers are below 20?"]),
    "console.zh-CN.png": ("zh-CN", ["用一句话介绍你自己", "用 Python 写一个判断闰年的函数"]),
}
MODELS = Path.home() / ".local" / "share" / "autoglm" / "models"


def main() -> None:
    executable = shutil.which("chromium")
    if executable is None:
        raise SystemExit("needs chromium")
    config = f'[models]\nfolder = "{MODELS}"\n'
    with (
        tempfile.TemporaryDirectory() as folder,
        running_hub(Path(folder) / "data", config) as hub,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)
        for name, (locale, questions) in SHOTS.items():
            shoot(browser, hub.page_url, locale, questions, ROOT / "docs" / "images" / name)
        browser.close()


def shoot(browser: Browser, url: str, locale: str, questions: list[str], target: Path) -> None:
    context = browser.new_context(locale=locale, viewport={"width": 1120, "height": 760}, color_scheme="light")
    page = context.new_page()
    page.goto(url)
    for number, question in enumerate(questions, 1):
        page.locator(".composer textarea").fill(question)
        page.keyboard.press("Enter")
        expect(page.locator(".answer")).to_have_count(number, timeout=60_000)
        expect(page.locator(".answer[aria-busy=true]")).to_have_count(0, timeout=120_000)
    target.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=target)
    context.close()


if __name__ == "__main__":
    main()
