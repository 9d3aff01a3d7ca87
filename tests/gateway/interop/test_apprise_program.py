"""Apprise's own program, as installed, talks to the hub by two of its plugins."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from hub import HubProcess, running_hub

CONFIG = '[[route]]\nname = "all"\nto = ["user:alice"]\n'


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with running_hub(tmp_path_factory.mktemp("apprise") / "hub", CONFIG) as hub:
        yield hub


def notify(url: str) -> bool:
    program = Path(sys.executable).with_name("apprise")
    command = [str(program), "-t", "Press 7", "-b", "The press is down. 压机停了。", url]
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("form", ["apprise://x:{key}@127.0.0.1:{port}/ops", "ntfy://x:{key}@127.0.0.1:{port}/ops"])
def test_its_plugins_work_as_they_are(hub: HubProcess, form: str) -> None:
    assert notify(form.format(key=quote(hub.admin_key, safe=""), port=hub.port))
    with hub.client() as http:
        (event,) = http.get("/api/events").json()["events"]
    assert event["event"]["title"] == "Press 7"
    assert event["event"]["content"] == "The press is down. 压机停了。"
    assert event["told"] == ["user:alice"]


@pytest.mark.parametrize("form", ["apprise://x:wrong@127.0.0.1:{port}/ops", "ntfy://x:wrong@127.0.0.1:{port}/ops"])
def test_they_are_told_that_a_key_is_wrong(hub: HubProcess, form: str) -> None:
    assert not notify(form.format(port=hub.port))
