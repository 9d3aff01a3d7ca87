"""`autoglm console`: the page opens signed in, and the key shows to nobody else."""

import json
import stat
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from cli.terminal import COMMAND, autoglm, environment
from hub import HubProcess


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    """A browser that notes how it was called."""
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    script.chmod(0o755)
    return script


def check_call(called: Path, hub: HubProcess) -> None:
    """The address is a file of ours; it leads to the page with the key and is readable for its owner only."""
    address = called.read_text().strip()
    door = Path(unquote(urlsplit(address).path))
    assert address.startswith("file:///")
    assert hub.admin_key not in address
    assert door.parent == hub.data_dir
    assert stat.S_IMODE(door.stat().st_mode) == 0o600
    assert f"url={hub.page_url}" in door.read_text()


def test_the_browser_gets_a_file_and_not_the_key(hub: HubProcess, browser: Path, tmp_path: Path) -> None:
    finished = autoglm("console", data=hub.data_dir, environ={"BROWSER": str(browser)})
    assert (finished.status, finished.out) == (0, f"{hub.url}/\n")
    check_call(tmp_path / "called", hub)


def test_up_opens_the_page(browser: Path, tmp_path: Path) -> None:
    hub = HubProcess(tmp_path / "d", environ={"BROWSER": str(browser)})
    command = [*COMMAND, "up", "--port", "0", "--open", "--data", str(hub.data_dir)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(hub.data_dir, hub.environ)
    )
    try:
        while not (tmp_path / "called").exists() or not (tmp_path / "called").read_text():
            assert process.poll() is None
        hub.url = json.loads((hub.data_dir / "hub.json").read_text())["url"]
        hub.key_file = hub.data_dir / "admin.key"
        check_call(tmp_path / "called", hub)
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_without_a_browser_the_file_is_named(hub: HubProcess) -> None:
    finished = autoglm("console", data=hub.data_dir)
    assert (finished.status, finished.out) == (0, f"{hub.url}/\n")
    assert f"Open {hub.data_dir / 'open-console.html'} in one" in finished.err
    assert hub.admin_key not in finished.out + finished.err


def test_printing_gives_the_whole_address(hub: HubProcess) -> None:
    assert autoglm("console", "--print", data=hub.data_dir) == (0, f"{hub.page_url}\n", "")
    assert json.loads(autoglm("console", "--print", "--json", data=hub.data_dir).out) == {"url": hub.page_url}
