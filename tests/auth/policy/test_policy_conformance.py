"""The policy client through the command line of the TUF conformance suite: exit codes, and what it then trusts.

As the suite sees a client: a program that is started anew for each step, the files that it leaves, and what it asks of
the server. Scenarios of the suite that need no other kind of key are rebuilt here; more are in test_policy_attacks.py.
Source: theupdateframework/tuf-conformance, CLIENT-CLI.md.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from auth.policy import conformance_client
from auth.policy.authority import DAY_MS, START_MS, Authority, WebServer, policy_files, revoking

FIRST = {"root", "timestamp", "snapshot", "targets"}


class Program:
    """The client under test, with the folders that it is given."""

    def __init__(self, folder: Path, web: WebServer) -> None:
        self.metadata, self.targets = folder / "client-metadata", folder / "client-targets"
        for made in (self.metadata, self.targets):
            made.mkdir()
        self._web = web
        self.now_ms = START_MS

    def init(self, root: Path) -> int:
        return self._run("init", str(root))

    def refresh(self) -> int:
        return self._run("--metadata-url", f"{self._web.url}/metadata", "refresh")

    def download(self, name: str) -> int:
        return self._run(
            "--metadata-url", f"{self._web.url}/metadata", "--target-name", name,
            "--target-base-url", f"{self._web.url}/targets", "--target-dir", str(self.targets), "download",
        )  # fmt: skip

    def _run(self, *arguments: str) -> int:
        now = datetime.fromtimestamp(self.now_ms / 1000, UTC).replace(tzinfo=None).isoformat()
        command = [sys.executable, conformance_client.__file__, "--metadata-dir", str(self.metadata), "--now", now]
        path = {"PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, env=path, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        assert bool(done.stderr) is bool(done.returncode)
        return done.returncode

    def trusted(self) -> dict[str, bytes]:
        """By role."""
        return {file.stem: file.read_bytes() for file in self.metadata.glob("*.json")}

    def downloaded(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.targets.rglob("*") if file.is_file()}


@pytest.fixture
def program(tmp_path: Path, authority: Authority, web: WebServer) -> Program:
    """It has the first root, by `init` in a test of its own and else by the same function."""
    made = Program(tmp_path, web)
    root = authority.folder / "metadata" / "1.root.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["client", "--metadata-dir", str(made.metadata), "init", str(root)])
        assert conformance_client.main() == 0
    return made


def served(authority: Authority, **versions: int) -> dict[str, bytes]:
    folder = authority.folder / "metadata"
    files = {role: folder / f"{number}.{role}.json" for role, number in versions.items()}
    return {role: file.read_bytes() for role, file in files.items()} | (
        {"timestamp": (folder / "timestamp.json").read_bytes()} if "snapshot" in versions else {}
    )


def test_init_trusts_the_root_that_it_is_given_and_asks_nobody(
    tmp_path: Path, authority: Authority, web: WebServer
) -> None:
    fresh = Program(tmp_path, web)
    assert fresh.init(authority.folder / "metadata" / "1.root.json") == 0
    assert fresh.trusted() == served(authority, root=1)
    assert web.asked == []


@pytest.mark.attack("forged")
def test_init_refuses_what_is_no_root(tmp_path: Path, authority: Authority, web: WebServer) -> None:
    fresh = Program(tmp_path, web)
    assert fresh.init(authority.folder / "metadata" / "timestamp.json") == 1
    assert fresh.trusted() == {}


def test_refresh_leaves_the_newest_of_each_role(program: Program, authority: Authority, web: WebServer) -> None:
    assert program.refresh() == 0
    assert program.trusted() == served(authority, root=1, snapshot=1, targets=1)
    assert web.asked == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    authority.publish(revoking("user:mallory", "user:eve"))
    web.asked.clear()
    assert program.refresh() == 0
    assert program.trusted() == served(authority, root=1, snapshot=2, targets=2)
    assert web.asked == ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"]


def test_download_keeps_what_it_has_and_replaces_what_is_new(
    program: Program, authority: Authority, web: WebServer
) -> None:
    assert program.download("roles.json") == 0
    assert program.downloaded() == {"roles.json": b"{}"}
    assert sum("roles.json" in name for name in web.asked) == 1
    assert program.download("roles.json") == 0
    assert sum("roles.json" in name for name in web.asked) == 1
    authority.publish(policy_files(roles={"roles": {"nurse": ["read:message"]}}))
    assert program.download("roles.json") == 0
    assert list(program.downloaded()) == ["roles.json"]
    assert b"nurse" in program.downloaded()["roles.json"]


@pytest.mark.attack("snapshot rollback")
def test_a_repository_of_yesterday_is_refused(program: Program, authority: Authority, web: WebServer) -> None:
    yesterday = Path(shutil.copytree(authority.folder, authority.folder.with_name("yesterday")))
    authority.publish(revoking("user:mallory", "user:eve"))
    assert program.refresh() == 0
    newest = program.trusted()
    web.folder = yesterday
    assert program.refresh() == 1
    assert program.download("revocations.json") == 1
    assert program.trusted() == newest
    assert program.downloaded() == {}


@pytest.mark.attack("freeze")
def test_what_has_ended_is_not_trusted(program: Program, authority: Authority) -> None:
    program.now_ms = START_MS + 2 * DAY_MS
    assert program.refresh() == 1
    assert program.trusted() == served(authority, root=1)


@pytest.mark.attack("freeze")
def test_the_same_answer_for_ever_is_refused_in_the_end(program: Program) -> None:
    assert program.refresh() == 0
    before = program.trusted()
    program.now_ms = START_MS + 2 * DAY_MS
    assert program.refresh() == 1
    assert program.trusted() == before


@pytest.mark.attack("under threshold")
@pytest.mark.parametrize("signers", [1, 2])
def test_a_root_needs_enough_holders(program: Program, authority: Authority, signers: int) -> None:
    authority.repository.rotate(
        "timestamp", authority.online.public_key.keyid, (fresh := CryptoSigner.generate_ed25519()).public_key
    )
    authority.sign_root()
    authority.repository.publish([authority.online, fresh])
    authority.forge("2.root.json", lambda _: None, *authority.root[:signers])
    if signers == 2:
        assert program.refresh() == 0
        assert set(program.trusted()) == FIRST
        assert program.trusted()["root"] == served(authority, root=2)["root"]
    else:
        assert program.refresh() == 1
        assert program.trusted() == served(authority, root=1)


@pytest.mark.attack("forged")
@pytest.mark.attack("mix-and-match")
@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("timestamp.json", {"root"}),
        ("1.snapshot.json", {"root", "timestamp"}),
        ("1.targets.json", {"root", "timestamp", "snapshot"}),
    ],
)
def test_what_comes_before_the_first_bad_file_is_trusted_and_nothing_after(
    program: Program, authority: Authority, web: WebServer, name: str, left: set[str]
) -> None:
    """Signed by a key that is nobody's."""

    def later(signed: Any) -> None:
        signed.version += 1

    authority.forge(name, later, CryptoSigner.generate_ed25519(), refer=False)
    assert program.refresh() == 1
    assert set(program.trusted()) == left


Change = Callable[[bytes], bytes]


@pytest.mark.attack("cache tampering")
@pytest.mark.attack("mix-and-match")
@pytest.mark.attack("huge")
@pytest.mark.parametrize(
    "change",
    [lambda data: b"X" + data[1:], lambda data: data + b" ", lambda data: data[:-1], lambda data: data * 1_000_000],
    ids=["hash", "longer", "shorter", "endless"],
)
def test_a_file_of_another_content_is_not_kept(
    program: Program, authority: Authority, web: WebServer, change: Change
) -> None:
    (file,) = (authority.folder / "targets").glob("*.roles.json")
    file.write_bytes(change(file.read_bytes()))
    assert program.download("roles.json") == 1
    assert set(program.trusted()) == FIRST
    assert program.downloaded() == {}
    assert program.download("../roles.json") == 1
    assert not (program.targets.parent / "roles.json").exists()
