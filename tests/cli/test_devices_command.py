"""`autoglm devices` and what `autoglm token` does with tokens: a device is invited, joins, and is sent away."""

import json
from pathlib import Path

from autoglm.client import Client
from autoglm.client.device import Device
from cli.terminal import autoglm
from hub import HubProcess


def joined(hub: HubProcess, data: Path, tmp_path: Path, name: str) -> Path:
    invited = autoglm("devices", "enrol", name, "--scope", f"send:message:device:{name}", data=data)
    code = invited.out.strip()
    assert f"autoglm devices join {code} --url {hub.url}" in invited.err
    file = tmp_path / f"{name}.json"
    answer = autoglm("devices", "join", code, "--url", hub.url, "--file", str(file), data=None)
    assert answer.out == f"this is device:{name} at {hub.url} now; its key is in {file}\n", answer.err
    again = autoglm("devices", "join", code, "--url", hub.url, "--file", str(tmp_path / "again.json"), data=None)
    assert (again.status, (tmp_path / "again.json").exists()) == (1, False)
    assert autoglm("devices", "join", code, "--url", hub.url, "--file", str(file), data=None).status == 2
    return file


def test_a_device_joins_sends_and_is_sent_away(hub: HubProcess, data: Path, tmp_path: Path) -> None:
    file = joined(hub, data, tmp_path, "d-press")
    with Client(device=Device.load(file)) as client:
        client.send("user:d-alice", "hot")
    (row,) = [line for line in autoglm("devices", data=data).out.splitlines() if line.startswith("device:d-press")]
    assert row.split()[-2:] == ["user:admin", "send:message:device:d-press"]
    assert autoglm("devices", "remove", "d-press", data=data).out == "device:d-press is removed\n"
    verified = autoglm("token", "verify", Device.load(file).token(), data=data)
    assert (verified.status, verified.err) == (1, "It does not count: revoked\n")


def test_a_token_is_made_looked_at_verified_and_revoked(hub: HubProcess, data: Path, tmp_path: Path) -> None:
    joined(hub, data, tmp_path, "d-buoy")
    made = autoglm("token", "make", "d-buoy", "--for", "5m", data=data).out.strip()
    inspected = json.loads(autoglm("token", "inspect", made, data=None).out)
    assert (inspected["header"]["alg"], inspected["claims"]["sub"]) == ("Ed25519", "device:d-buoy")
    assert autoglm("token", "verify", made, data=data).out.startswith("device:d-buoy until ")
    jti = f"jti:{inspected['claims']['jti']}"
    assert autoglm("token", "revoke", jti, "--reason", "lost", data=data).out == f"{jti} is revoked\n"
    assert autoglm("token", "verify", made, "--json", data=data).status == 1
    assert jti in autoglm("token", "revoked", data=data).out
    assert autoglm("token", "restore", jti, data=data).status == 0
    assert autoglm("token", "verify", made, data=data).status == 0
    assert "signs from now on" in autoglm("token", "rotate", data=data).out
    assert autoglm("token", "verify", made, data=data).status == 0
    assert autoglm("token", "inspect", "no.token", data=None).status == 2


def test_the_only_key_of_a_device_is_not_written_over_without_a_word(
    hub: HubProcess, data: Path, tmp_path: Path
) -> None:
    file = joined(hub, data, tmp_path, "d-first")
    key = file.read_bytes()
    code = autoglm("devices", "enrol", "d-second", "--scope", "send:message", data=data).out.strip()
    join = ("devices", "join", "--url", hub.url, "--file", str(file))
    refused = autoglm(*join, code, data=None)
    assert (refused.status, "--force" in refused.err, file.read_bytes()) == (2, True, key)
    wrong = autoglm(*join, "a" * 26, "--force", data=None)
    assert (wrong.status, file.read_bytes()) == (1, key)  # given up for a key that the hub has taken, and not before
    assert autoglm(*join, code, "--force", data=None).status == 0
    assert Device.load(file).name == "d-second"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("d-first")] == ["d-first.json"]
