"""No secret of the settings shows: not in logs, answers, metrics, commands' output, or what `ps` and /proc tell."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoglm.channels.kinds import KINDS
from autoglm.core.errors import SettingsError
from autoglm.settings import load_settings
from canaries import planted
from cli.terminal import autoglm
from eventually import wait_until
from hub import HubProcess, running_hub
from toml_text import toml_text

attack = pytest.mark.attack("secrets in logs, answers and process lists")
TREE, CANARIES = planted()
_ASK_MORE = {"http-sms", "mail", "wechat-official", "web-push"}
"""Kinds that take no bare text, or numbers only; the last one has no secret."""
_NOT_RUN = ("ray",)
"""Its child would look for a cluster for minutes; its environment is tested in test_children.py."""


def leaks(text: str) -> list[str]:
    """The settings whose canaries are in it."""
    return [where for where, canary in CANARIES.items() if canary in text]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    config = toml_text({name: table for name, table in TREE.items() if name not in _NOT_RUN})
    with running_hub(tmp_path_factory.mktemp("leaks") / "d", config) as process:
        yield process


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from descendants(child)


def test_every_canary_is_found_where_it_is(tmp_path: Path) -> None:
    """Else nothing that follows would mean anything."""
    file = tmp_path / "autoglm.toml"
    file.write_text(toml_text(TREE))
    assert sorted(leaks(file.read_text())) == sorted(CANARIES)
    settings = load_settings(file, environ={}).settings
    assert len(settings.channel) + 7 == len(CANARIES)
    assert len(CANARIES) >= 47


@attack
def test_settings_that_are_shown_have_none(tmp_path: Path) -> None:
    file = tmp_path / "autoglm.toml"
    file.write_text(toml_text(TREE))
    for command in (("config", "show"), ("config", "show", "--json"), ("config", "check"), ("doctor", "env")):
        done = autoglm(*command, data=tmp_path)
        assert "channel" in done.out + done.err or command[1] in ("check", "env")
        assert leaks(done.out + done.err) == []
    loaded = load_settings(file, environ={})
    assert leaks(repr(loaded) + str(loaded) + loaded.settings.model_dump_json()) == []


@attack
def test_settings_that_are_refused_show_none(tmp_path: Path) -> None:
    """Each channel with a setting that does not exist, a wrong kind, and its secret in a list."""
    for spoil in ({"nonsense": 1}, {"per_minute": "x"}, {"kind": "no-such-kind"}):
        tree = {
            **TREE,
            "channel": [{**entry, **spoil} for entry in TREE["channel"]],
            "key": [{"name": "x y", "value": 5}],
        }
        (tmp_path / "autoglm.toml").write_text(toml_text(tree))
        with pytest.raises(SettingsError) as caught:
            load_settings(tmp_path / "autoglm.toml", environ={})
        assert len(caught.value.problems) >= len(TREE["channel"])
        assert leaks(str(caught.value)) == []


@attack
def test_a_hub_that_fails_everywhere_tells_none(hub: HubProcess) -> None:
    """Every channel is asked and sent to, every instance is called, and nothing answers."""
    with hub.client() as client:
        chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        said = [client.post("/v1/chat/completions", json=chat).text]
        names = [channel["name"] for channel in client.get("/api/channels").json()["channels"]]
        assert len(names) >= len(TREE["channel"])
        taken: set[str] = set()
        for entry in TREE["channel"]:
            for target in targets(entry):
                message = {"to": f"channel:{entry['name']}/{target}", "content": "hi"}
                reply = client.post("/api/messages", json=message)
                said.append(reply.text)
                taken |= {entry["kind"]} if reply.status_code == 202 else set()
        assert taken >= set(KINDS) - _ASK_MORE
        said.append(client.get("/api/channels", params={"check": "1"}, timeout=60).text)
        wait_until(lambda: hub.log().count('"channel') + hub.log().count("_failed") > 5)
        for path in (
            "/openapi.json", "/api/capabilities", "/metrics", "/api/channels", "/api/pool", "/api/budgets", "/readyz",
            "/api/keys", "/api/messages?to=user:a", "/api/events", "/api/channels/dead-letters", "/nothing/here",
        ):  # fmt: skip
            said.append(client.get(path).text)
    for command in (("doctor", "channels"), ("doctor", "capabilities"), ("outbox",), ("pool",), ("token",)):
        done = autoglm(*command, data=hub.data_dir)
        said += [done.out, done.err]
    assert any("refused" in text or "connect" in text.lower() for text in said)
    assert [leaks(text) for text in said if leaks(text)] == []
    assert leaks(hub.log()) == []


def targets(entry: dict[str, Any]) -> list[str]:
    """What the channel's own settings name, and what each kind might take."""
    named = [str(key) for value in entry.values() if isinstance(value, dict) for key in value]
    return [*named, "li@example.org", "x"]


@attack
def test_neither_the_hub_nor_its_children_show_any_to_ps(hub: HubProcess) -> None:
    children = list(descendants(hub.pid))
    assert children, "the broker at least"
    for pid in (hub.pid, *children):
        assert leaks(Path(f"/proc/{pid}/cmdline").read_text()) == []
        if pid != hub.pid:
            assert leaks(Path(f"/proc/{pid}/environ").read_text()) == []
            assert "AUTOGLM_" not in Path(f"/proc/{pid}/environ").read_text()


@attack
def test_a_secret_in_a_variable_is_shown_nowhere(tmp_path: Path) -> None:
    """The only way to give one beside the file; its own children do not get it."""
    canary = "CANARY-of-the-environment-0123456789"
    environ = {"AUTOGLM_TRUST__SHARED_SECRET": canary, "AUTOGLM_TRUST__SHARED_SECRET_ISSUER": "elsewhere"}
    with running_hub(tmp_path / "d", "[mqtt_broker]\nenabled = true\nport = 0\n", environ=environ) as hub:
        children = list(descendants(hub.pid))
        assert children
        assert [pid for pid in children if canary in Path(f"/proc/{pid}/environ").read_text()] == []
        assert canary not in hub.log()
    done = autoglm("config", "show", "--json", data=tmp_path / "d", environ=environ)
    assert canary not in done.out
    shown = {row["name"]: row["value"] for row in json.loads(done.out)}
    assert shown["trust.shared_secret"] == "********"


@attack
def test_files_with_secrets_are_for_the_owner_alone(hub: HubProcess) -> None:
    """What the hub itself writes; autoglm.toml is its author's."""
    for path in hub.data_dir.rglob("*"):
        if path.is_file() and path.name != "autoglm.toml":
            content = path.read_bytes().decode("latin-1")
            assert not (leaks(content) and os.stat(path).st_mode & 0o077), path
