"""The examples and the README's own lines run as they stand, against a real hub."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from autoglm.channels.broker.plan import choose_program
from autoglm.channels.broker_settings import BrokerSettings
from autoglm.core.errors import SettingsError
from eventually import wait_until
from fakes.ntfy import FakeNtfy
from hub import HubProcess, instance_config, running_hub
from models import SMALL_MODEL, small_model
from scripted_model import ScriptedModel

ROOT = Path(__file__).resolve().parent.parent
READMES = ("README.md", "README.zh-CN.md")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub whose data folder lies where the README says, below a home of its own."""
    home = tmp_path_factory.mktemp("home")
    data_dir = home / ".local" / "share" / "autoglm"
    with ScriptedModel() as model, running_hub(data_dir, instance_config("echo", model.url)) as hub:
        yield hub


def run(hub: HubProcess, *command: str) -> str:
    home = str(hub.data_dir.parents[2])
    environment = {
        "PATH": os.environ["PATH"],  # noqa: TID251  # for sh and curl
        "HOME": home,
        "AUTOGLM_URL": hub.url,
        "AUTOGLM_KEY": hub.admin_key,
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def blocks(readme: str, language: str, hub: HubProcess) -> list[str]:
    """The README's blocks in a language, with the address of this hub in place of the usual one."""
    text = (ROOT / readme).read_text()
    found = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return [block.replace("http://127.0.0.1:8600", hub.url) for block in found]


def test_chat_example_streams_an_answer(hub: HubProcess) -> None:
    assert run(hub, sys.executable, "examples/chat.py", "hello") == "You said: hello\n"


def test_mailbox_example_ends_with_an_acknowledgement(hub: HubProcess) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    assert '"state":"acknowledged"' in run(hub, "sh", "examples/mailbox.sh")


def test_embedded_example_answers(hub: HubProcess, tmp_path: Path) -> None:
    output = run(hub, sys.executable, "examples/embedded.py", str(tmp_path / "data"), str(hub.config_file))
    assert output.endswith("You said: Say hello.\n")  # after structlog's lines, which a program may set up otherwise


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((sys.executable, "examples/chat.py"), "Set AUTOGLM_KEY"),
        ((sys.executable, "-S", "examples/chat.py"), "openai is missing: pip install openai installs it"),
        ((sys.executable, "examples/embedded.py"), "python examples/embedded.py DATA_FOLDER"),
        (("sh", "examples/mailbox.sh"), "set it to a key of the hub"),
        ((sys.executable, "-S", "examples/unequal_pool.py"), "use the Python of 'make up'"),
        ((sys.executable, "-S", "examples/night_shift.py"), "'make .venv/.test' installs it"),
    ],
    ids=["chat", "chat_alone", "embedded", "mailbox", "unequal_pool", "night_shift"],
)
def test_an_example_that_lacks_something_says_so_in_one_line(command: tuple[str, ...], words: str) -> None:
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": os.defpath}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("readme", READMES)
def test_the_readme_shows_every_folder(readme: str) -> None:
    tree = re.search(r"## (?:What is here|目录)\n\n```\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    assert tree is not None
    shown = set(re.findall(r"^ *(\w+)/ ", tree[1], re.MULTILINE))
    folders = {path.name for path in (ROOT / "src" / "autoglm").iterdir() if (path / "__init__.py").exists()}
    tracked = ("web", "tests", "benchmarks", "docs", "examples", "tools", "requirements")
    assert shown == {*folders, *tracked}


@pytest.mark.parametrize("readme", READMES)
def test_the_readmes_openai_client_streams(hub: HubProcess, readme: str) -> None:
    (program,) = blocks(readme, "python", hub)
    assert run(hub, sys.executable, "-c", program).startswith("You said: ")


@pytest.mark.parametrize("readme", READMES)
def test_the_readmes_curl_lines_send_and_receive(hub: HubProcess, readme: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    (lines,) = [block for block in blocks(readme, "sh", hub) if "curl" in block]
    sent, received = run(hub, "sh", "-c", lines.replace("\ncurl", "\necho; curl")).split("\n")[-2:]
    assert '"seq"' in sent
    assert '"to":"user:alice"' in received


@pytest.mark.parametrize("readme", READMES)
def test_the_readmes_commands_work(hub: HubProcess, readme: str) -> None:
    (lines,) = [block for block in blocks(readme, "sh", hub) if "autoglm ask" in block]
    command = f"{sys.executable} -m autoglm"
    output = run(hub, "sh", "-ec", lines.replace(".venv/bin/autoglm", command))
    assert "You said: 用一句话介绍你自己" in output
    assert "user:alice" in output or "press is down" in output or "冲床停机了" in output


@pytest.mark.parametrize("readme", READMES)
def test_the_readmes_settings_are_valid(tmp_path: Path, readme: str) -> None:
    from autoglm.settings import load_settings

    _, table = re.findall(r"```toml\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    (tmp_path / "glm.key").write_text("a-key\n")
    file = tmp_path / "autoglm.toml"
    file.write_text(table)
    (instance,) = load_settings(file, environ={}).settings.instance
    assert instance.api_key is not None
    assert instance.api_key.get_secret_value() == "a-key"


@pytest.mark.parametrize("readme", READMES)
def test_the_readmes_alarm_reaches_a_phone_whose_button_ends_the_wait(tmp_path: Path, readme: str) -> None:
    table, _ = re.findall(r"```toml\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    with FakeNtfy() as phones:
        phones.needs_user = False
        settings = table.replace('kind = "ntfy"', f'kind = "ntfy"\nurl = "{phones.url}"')
        with running_hub(tmp_path / ".local" / "share" / "autoglm", settings) as hub:
            (lines,) = [block for block in blocks(readme, "sh", hub) if "--wait" in block]
            script = lines.replace(".venv/bin/autoglm", f"{sys.executable} -m autoglm")
            with ThreadPoolExecutor(1) as threads:
                output = threads.submit(run, hub, "sh", "-ec", script)
                wait_until(lambda: phones.texts and phones.streams, 30)
                (action,) = phones.messages[0]["actions"]
                phones.phone_writes(action["body"], topic=action["url"].rpartition("/")[2])
                shown = output.result()
    assert shown.splitlines()[-2:] == ["acknowledged by channel:phones/line", "Nothing waits to go out."]


def test_every_file_that_a_readme_links_to_exists() -> None:
    missing = [
        target
        for readme in READMES
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / readme).read_text())
        if not (ROOT / target).exists()
    ]
    assert missing == []


@pytest.mark.model
async def test_the_unequal_pool_survives_the_loss_of_a_worker() -> None:
    """With one small model, so that it is short: the worker that is killed has to come back."""
    folder = (await small_model()).parent
    command = (sys.executable, "examples/unequal_pool.py", "--models", folder, "--only", SMALL_MODEL, "--rounds", "1")
    done = await anyio.run_process(command, cwd=ROOT, check=False)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr.decode()
    assert any("--- killed the worker of smollm2-135m" in line for line in lines)
    assert any("--- smollm2-135m is back " in line for line in lines)
    assert max(map(len, lines)) <= 80
    assert ", 0 failed; answered by: smollm2-135m 12" in lines[-1]


async def test_the_night_shift_wakes_who_it_must_and_can_say_how() -> None:
    if not has_broker():
        pytest.skip("needs mosquitto or nats-server")
    folder = (await small_model()).parent
    command = (sys.executable, "examples/night_shift.py", "--models", folder)
    done = await anyio.run_process(command, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    told = done.stdout.decode()
    story = [
        "the robot's service throttles", " messages]", "a mail lies with lead@plant.example",
        "SMS to +8613800138000: Press 7", "acknowledged by channel:mail/lead@plant.example: nobody else is woken",
        "the receipts of the alarm:",
        "channel:robot/ops: sent: it went out in a digest of ", "channel:sms/boss: sent",
        "the model's summary:",
    ]  # fmt: skip
    places = [told.find(line) for line in story]
    assert -1 not in places, told
    assert places == sorted(places), told
    assert "user:director" not in told
    assert told.partition("the model's summary:")[2].strip()


async def test_a_site_that_was_cut_off_finds_out_what_was_done_by_a_stolen_device() -> None:
    done = await anyio.run_process((sys.executable, "examples/cut_off_site.py"), cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    told = done.stdout.decode()
    story = [
        "device:press-7 has enrolled", "the line is cut", "monday     device:press-7 sends its report",
        "wednesday  device:press-7 sends its report", "the line is back; the site has policy 2",
        "device:press-7 is refused: the token is refused: it, its key or its holder was revoked",
        "revoked_since, device:press-7 had been revoked", "0 conflicts are open; the record is whole",
    ]  # fmt: skip
    places = [told.find(line) for line in story]
    assert -1 not in places, told
    assert places == sorted(places), told
    assert told.count("           conflict ") == 2  # tuesday's report and wednesday's, and not monday's


def has_broker() -> bool:
    try:
        choose_program(BrokerSettings())
    except SettingsError:
        return False
    return True
