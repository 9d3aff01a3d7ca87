"""`autoglm policy`: from an empty folder to a decision on a site, and what stops it on the way."""

import json
import stat
from pathlib import Path

import pytest

from cli.terminal import Finished, autoglm

LINE = {"address": "device:press-7", "action": "send:message", "resource": "group:all", "scopes": ["send:message"]}


def policy(*args: str | Path, data: Path | None = None, editor: Path | None = None) -> Finished:
    return autoglm("policy", *args, data=data, environ={"VISUAL": str(editor)} if editor else None)


def done(*args: str | Path, data: Path | None = None) -> str:
    found = policy(*args, data=data)
    assert found.status == 0, found.err
    return found.out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An authority that has published its first draft."""
    folder, keys = tmp_path / "authority", tmp_path / "keys"
    done("init", folder, "--keys", keys)
    done("sign", folder, "--key", keys / "root-1.pem", "--key", keys / "root-2.pem", "--key", keys / "policy.pem")
    done("publish", folder, "--key", keys / "online.pem", "--fresh-for", "7d")
    return folder


def editor(tmp_path: Path, text: str) -> Path:
    """What writes that text, as somebody at his editor does."""
    (tmp_path / "text").write_text(text)
    script = tmp_path / "editor"
    script.write_text(f'#!/bin/sh\nsleep 0.01\ncat {tmp_path}/text > "$1"\ntouch -d tomorrow "$1"\n')
    script.chmod(stat.S_IRWXU)
    return script


def test_a_policy_gets_from_its_authority_to_a_site(folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    root = folder / "metadata" / "1.root.json"
    assert "policy 1 holds; it is fresh until" in done("pull", folder, "--root", root, data=site)
    clock = json.loads((site / "trust" / "clock.json").read_bytes())
    assert (clock["is_lost"], clock["floor_ms"] > 0) == (False, True)  # it knows what was signed
    shown = json.loads(done("--json", data=site))
    assert (shown["version"], shown["roles"]) == (1, 1)
    explain = ("explain", "device:press-7", "send:message", "group:all", "--scope", "send:message")
    refused = policy(*explain, "--json", data=site)
    assert (refused.status, json.loads(refused.out)["reason"]) == (1, "forbidden")
    alarm = policy(*explain, "--label", "kind=alert", data=site)
    assert (alarm.status, alarm.out) == (0, "yes: the scopes of the credential cover it\npolicy 1, fresh\n")


def test_somebody_is_revoked(folder: Path, tmp_path: Path) -> None:
    site, keys = tmp_path / "site", tmp_path / "keys"
    done("pull", folder, "--root", folder / "metadata" / "1.root.json", data=site)
    (folder / "draft" / "revocations.json").write_text('{"user:eve": {"at_ms": 1, "reason": "left"}}')
    assert "targets 2" in done("sign", folder, "--key", keys / "policy.pem")
    assert json.loads(done("publish", folder, "--key", keys / "online.pem", "--json"))["targets"] == 2
    assert "policy 2 holds" in done("pull", folder, data=site)
    asked = policy("explain", "user:eve", "read:message", "user:eve", "--scope", "admin:*", data=site)
    assert (asked.status, asked.out.splitlines()[0]) == (1, "no: user:eve is revoked: left")


def test_the_editor_works_on_a_copy_that_is_checked(folder: Path, tmp_path: Path) -> None:
    file = folder / "draft" / "policies.cedar"
    before = file.read_text()
    wrong = policy("edit", folder, editor=editor(tmp_path, "permit(principal, action resource);"))
    assert (wrong.status, "unexpected token" in wrong.err, file.read_text() == before) == (1, True, True)
    untrue = policy("edit", folder, editor=editor(tmp_path, "permit(principal, action, resource);"))
    assert (untrue.status, "'device:press-7 may not send:message group:all' does not hold" in untrue.err) == (1, True)
    assert file.read_text() == before
    right = policy("edit", folder, editor=editor(tmp_path, before + "\n"))
    assert (right.status, file.read_text()) == (0, before + "\n"), right.err
    assert policy("edit", folder, editor=editor(tmp_path, before + "\n")).out == "nothing was changed\n"


def test_a_draft_that_says_what_it_must_not_is_not_signed(folder: Path, tmp_path: Path) -> None:
    (folder / "draft" / "policies.cedar").write_text("")
    assert policy("check", folder).status == 1
    found = policy("test", folder)
    assert (found.status, [line.split()[0] for line in found.out.splitlines()[1:]]) == (1, ["FAILS", "holds"])
    signed = policy("sign", folder, "--key", tmp_path / "keys" / "policy.pem")
    assert (signed.status, "does not hold" in signed.err) == (1, True)
    assert not (folder / "staged" / "targets.json").exists()


def test_the_past_shows_what_would_change(folder: Path, tmp_path: Path) -> None:
    past = tmp_path / "past.jsonl"
    lines = [{**LINE, "at_ms": 5, "allowed": True}, {**LINE, "at_ms": 3, "allowed": False, "other": 1}]
    past.write_text("\n".join(json.dumps(line) for line in lines))
    found = json.loads(done("dry-run", folder, past, "--json"))
    assert (found["changes"], found["first"][0]["at"], found["first"][0]["policy_ids"]) == (
        1, 5, ["no device writes to everybody, save alarms"],
    )  # fmt: skip
    assert "1 of 2 decisions would change" in done("dry-run", folder, past)
    past.write_text("{}\n")
    assert "line 1" in policy("dry-run", folder, past).err


def test_keys_are_rotated_by_the_holders_of_the_root(folder: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    old = json.loads(done("rotate", folder, "root", "--json"))["targets"]["keys"][0]
    done("init", tmp_path / "other", "--keys", tmp_path / "fresh")
    done("rotate", folder, "targets", "--add", tmp_path / "fresh" / "policy.pem.pub", "--remove", old[:8])
    few = done("sign", folder, "--key", keys / "root-3.pem")
    assert few == "signed root 2; root waits for 1 more\n"
    refused = policy("publish", folder, "--key", keys / "online.pem")
    assert (refused.status, "signed by 1 keys of root, and 2 are wanted" in refused.err) == (1, True)
    done("sign", folder, "--key", keys / "root-1.pem")
    assert json.loads(done("publish", folder, "--key", keys / "online.pem", "--json"))["root"] == 2
    assert "0 keys of this role begin with 'zz'" in policy("rotate", folder, "root", "--remove", "zz").err


def test_a_passphrase_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    folder, keys = tmp_path / "a", tmp_path / "keys"
    done("init", folder, "--keys", keys, "--passphrase-file", secret)
    without = policy("sign", folder, "--key", keys / "root-1.pem")
    assert (without.status, "has a passphrase; give --passphrase-file" in without.err) == (1, True)
    signed = done("sign", folder, "--key", keys / "root-1.pem", "--passphrase-file", secret)
    assert "signed root 1" in signed
    assert "correct horse" not in signed


def test_what_is_wrong_is_told(folder: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert "This hub has no policy" in done(data=site)
    unknown = policy("pull", folder, data=site)
    assert (unknown.status, "--root" in unknown.err) == (2, True)
    again = policy("init", folder, "--keys", tmp_path / "more")
    assert (again.status, "holds an authority already" in again.err) == (1, True)
    assert policy("init", tmp_path / "b").status == 2
    nowhere = policy("pull", "http://127.0.0.1:1/", "--root", folder / "metadata" / "1.root.json", data=site)
    assert (nowhere.status, "the policy that held before goes on holding" in nowhere.err) == (1, True)
