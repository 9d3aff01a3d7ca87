"""What docs/interop.md says of routes is true, in both languages."""

import re
import tomllib
from pathlib import Path

import pytest

from autoglm.channels.routes.matching import mismatch
from autoglm.gateway.interop import notification, publication
from autoglm.settings import Settings

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.mark.parametrize("page", ["interop.md", "interop.zh-CN.md"])
def test_one_route_takes_what_comes_from_both(page: str) -> None:
    [block] = re.findall(r"```toml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    [route] = Settings.model_validate(tomllib.loads(block)).route
    published = publication.of_body("ops", b"x", {b"tags": b"fire, night"}, {})
    notified = notification.read_notification(b"body=x&tag=fire+night", "application/x-www-form-urlencoded", {})
    events = [publication.event_of(published), notification.event_of(notified, "ops")]
    assert [mismatch(route.match, event, 0) for event in events] == ["", ""]
    assert mismatch(route.match, notification.event_of(notified, "other"), 0)
