"""`autoglm secrets`, and settings that say `secret:NAME`."""

import json
from pathlib import Path

import pytest

from autoglm.core.errors import SettingsError
from autoglm.settings import load_settings
from cli.terminal import autoglm, on_terminal
from hub import instance_config, running_hub
from scripted_model import ScriptedModel

VALUE = "sk-canary-at-rest"


def test_a_secret_reaches_the_instance_and_is_shown_nowhere(tmp_path: Path) -> None:
    data = tmp_path / "d"
    kept = autoglm("secrets", "set", "glm", stdin=f"{VALUE}\n", data=data)
    assert (kept.status, kept.out) == (0, "kept; a setting says: secret:glm\n")
    with ScriptedModel() as model:
        config = instance_config("a", model.url, api_key="secret:glm")
        with running_hub(data, config) as hub, hub.client() as client:
            body = {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            rotated = autoglm("secrets", "rotate", data=data)
            assert rotated.status == 0
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert {request.headers["authorization"] for request in model.requests if request.method == "POST"} == {
            f"Bearer {VALUE}"
        }
    said = [hub.log(), kept.out, kept.err, rotated.out, rotated.err]
    for command in (("secrets", "list"), ("config", "show"), ("config", "check"), ("doctor", "env")):
        done = autoglm(*command, data=data)
        said += [done.out, done.err]
    assert "glm" in said[5]
    assert [text for text in said if VALUE in text] == []
    assert [path for path in data.rglob("*") if path.is_file() and VALUE.encode() in path.read_bytes()] == []


def test_with_a_passphrase_of_a_credential_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "autoglm.passphrase").write_text("correct horse battery\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    done = autoglm("secrets", "set", "glm", "--by", "passphrase", stdin=VALUE, data=tmp_path / "d", environ=environ)
    assert done.status == 0
    file = tmp_path / "d" / "autoglm.toml"
    file.write_text('[[key]]\nname = "robot"\nvalue_file = "secret:glm"\n')
    loaded = load_settings(file, environ=environ)
    assert loaded.settings.key[0].value is not None
    assert loaded.settings.key[0].value.get_secret_value() == VALUE
    assert loaded.origins["key[0].value"] == "secret:glm"
    by_file = load_settings(file, environ={"AUTOGLM_SECRETS__PASSPHRASE_FILE": str(tmp_path / "autoglm.passphrase")})
    assert by_file.settings.key == loaded.settings.key
    with pytest.raises(SettingsError, match=r"key\[0\].value: secret:glm cannot be had: .*none was given"):
        load_settings(file, environ={})
    (tmp_path / "wrong").write_text("another horse battery")
    with pytest.raises(SettingsError, match="the passphrase or key file does not open the secrets"):
        load_settings(file, environ={"AUTOGLM_SECRETS__PASSPHRASE_FILE": str(tmp_path / "wrong")})


def test_a_passphrase_is_asked_for_on_a_terminal_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("correct horse battery\n")
    options = ("--by", "passphrase")
    environ = {"AUTOGLM_SECRETS__PASSPHRASE_FILE": str(tmp_path / "p")}
    assert autoglm("secrets", "set", "glm", *options, stdin=VALUE, data=tmp_path / "d", environ=environ).status == 0
    with on_terminal("secrets", "list", data=tmp_path / "d") as terminal:
        terminal.until("Passphrase of the secrets: ")
        terminal.type("correct horse battery\n")
        terminal.until("opened by: passphrase")
        assert terminal.end() == 0
    assert "glm" in terminal.shown
    assert "horse" not in terminal.shown


def test_only_a_setting_that_is_a_secret_has_references(tmp_path: Path) -> None:
    """Else the value would be shown: in a name, an address, a label."""
    assert autoglm("secrets", "set", "glm", stdin=VALUE, data=tmp_path).status == 0
    file = tmp_path / "autoglm.toml"
    file.write_text('[telemetry]\nservice_name = "secret:glm"\n')
    assert load_settings(file, environ={}).settings.telemetry.service_name == "secret:glm"


def test_headers_and_files_of_channels_take_references(tmp_path: Path) -> None:
    assert autoglm("secrets", "set", "sms", stdin="Bearer abc", data=tmp_path).status == 0
    assert autoglm("secrets", "set", "robot", stdin="0123456789", data=tmp_path).status == 0
    file = tmp_path / "autoglm.toml"
    file.write_text(
        '[[channel]]\nname = "r"\nkind = "wecom-robot"\n[channel.robots]\nops = { key_file = "secret:robot" }\n'
        '[[channel]]\nname = "s"\nkind = "http-sms"\nurl = "https://sms.example/?to={to}"\n'
        'body = \'{"text": "{text}"}\'\n'
        'headers = { Authorization = "secret:sms" }\n'
    )
    robot, sms = load_settings(file, environ={}).settings.channel
    assert robot.robots["ops"].key.get_secret_value() == "0123456789"  # type: ignore[attr-defined]  # of its kind
    assert sms.headers["Authorization"].get_secret_value() == "Bearer abc"  # type: ignore[attr-defined]


def test_what_is_missing_is_told_with_its_setting(tmp_path: Path) -> None:
    config = '[[key]]\nname = "a"\nvalue = "secret:nobody"\n'
    (tmp_path / "autoglm.toml").write_text(config)
    done = autoglm("config", "check", "--json", data=tmp_path)
    (problem,) = json.loads(done.out)["problems"]
    assert problem.startswith("key[0].value: secret:nobody cannot be had: there is no file of secrets")
    assert autoglm("secrets", "remove", "nobody", data=tmp_path).status == 1
