"""`autoglm ca`, from the root to a revoked device."""

import json
import subprocess
from pathlib import Path

import pytest

from cli.terminal import autoglm


def test_from_the_root_to_a_revoked_device(tmp_path: Path) -> None:
    made = json.loads(
        autoglm("ca", "init", "--name", "Ward 3", "--permit", "ward-3.example", "--json", data=tmp_path).out
    )
    assert (made["name"], "ward-3.example" in made["permitted"]) == ("Ward 3", True)
    issued = json.loads(
        autoglm("ca", "issue", "hub.ward-3.example", "10.0.0.1", "--days", "30", "--json", data=tmp_path).out
    )
    assert Path(issued["key"]).stat().st_mode & 0o777 == 0o600
    check = ["openssl", "verify", "-CAfile", made["root"], "-verify_hostname", "hub.ward-3.example"]
    assert subprocess.run([*check, issued["certificate"]], capture_output=True, check=False).returncode == 0
    device = autoglm("ca", "issue", "--client", "device:press-7", "--out", tmp_path / "out", data=tmp_path)
    assert "device:press-7, ends " in device.out
    listed = json.loads(autoglm("ca", "list", "--json", data=tmp_path).out)
    assert [one["kind"] for one in listed] == ["server", "client"]
    assert autoglm("ca", "revoke", listed[1]["serial"][:12], data=tmp_path).status == 0
    assert "revoked" in autoglm("ca", "list", data=tmp_path).out
    renewed = json.loads(autoglm("ca", "renew", listed[0]["serial"], "--json", data=tmp_path).out)
    assert renewed["names"] == ["hub.ward-3.example", "10.0.0.1"]
    assert made["sha256"] in autoglm("ca", "show", data=tmp_path).out


def test_an_encrypted_key_wants_its_passphrase(tmp_path: Path) -> None:
    (tmp_path / "right").write_text("correct horse battery\n")
    (tmp_path / "wrong").write_text("another horse battery\n")
    data = tmp_path / "d"
    assert autoglm("ca", "init", "--passphrase-file", tmp_path / "right", data=data).status == 0
    for file, status in (("right", 0), ("wrong", 1)):
        done = autoglm("ca", "issue", "hub.lan", "--passphrase-file", tmp_path / file, data=data)
        assert (done.status, "horse" in done.out + done.err) == (status, False)
    done = autoglm("ca", "issue", "hub.lan", data=data)
    assert (done.status, done.err) == (
        1, "autoglm: the certificate authority: its key is encrypted, and no passphrase was given\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("issue", "www.bank.example"), "beyond what this authority may name"),
        (("init",), "already"),
        (("revoke", "0000"), "there is no certificate"),
        (("issue", "--client", "nonsense"), "address"),
    ],
)
def test_what_cannot_be_is_said_plainly(tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    assert autoglm("ca", "init", data=tmp_path).status == 0
    done = autoglm("ca", *args, data=tmp_path)
    assert done.status == 1
    assert words in done.err
