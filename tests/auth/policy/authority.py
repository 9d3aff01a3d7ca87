"""An authority with its keys, and sites that pull from it, for tests of policies."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile

from autoglm.auth.policy.client import PolicyClient
from autoglm.auth.policy.repository import Holders, Repository
from autoglm.auth.policy.sources import Fetch, FolderSource, HttpSource
from autoglm.policy_fetch import http_fetch

DAY_MS = 86_400_000
START_MS = 1_790_000_000_000


class Clock:
    """Milliseconds that the test moves."""

    now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


def policy_files(
    cedar: str = "", *, roles: object = None, revocations: object = None, pins: object = None
) -> dict[str, bytes]:
    """The four files; empty ones where nothing is given."""
    return {
        "policies.cedar": cedar.encode(), "roles.json": json.dumps(roles or {}).encode(),
        "revocations.json": json.dumps(revocations or {}).encode(), "pins.json": json.dumps(pins or []).encode(),
    }  # fmt: skip


def revoking(*names: str) -> dict[str, bytes]:
    return policy_files(revocations={name: {"at_ms": START_MS, "reason": "lost"} for name in names})


class Authority:
    """Three holders of the root, of whom two are wanted, one of policies, one key that is online."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.repository = Repository(folder, self.clock)
        self.root = [CryptoSigner.generate_ed25519() for _ in range(3)]
        self.targets = CryptoSigner.generate_ed25519()
        self.online = CryptoSigner.generate_ed25519()
        online = Holders([self.online.public_key])
        self.repository.create(
            {
                "root": Holders([signer.public_key for signer in self.root], 2),
                "targets": Holders([self.targets.public_key]), "snapshot": online, "timestamp": online,
            }
        )  # fmt: skip
        self.sign_root()

    def sign_root(self, *signers: CryptoSigner) -> None:
        for signer in signers or self.root[:2]:
            self.repository.sign(signer)

    def publish(self, files: Mapping[str, bytes] | None = None) -> dict[str, int]:
        """files: a new policy; without, the freshness alone is renewed."""
        if files is not None:
            self.repository.stage(files)
            self.repository.sign(self.targets)
        return self.repository.publish([self.online])

    def forge(
        self, name: str, change: Callable[[Any], None], *signers: CryptoSigner, refer: bool = True, to: str = ""
    ) -> None:
        """Change the signed part of a published file and sign it by these, else as it should be.

        refer: make timestamp and snapshot refer to what came of it. to: the name it is written under.
        """
        file = self.folder / "metadata" / name
        metadata: Metadata[Any] = Metadata.from_file(str(file))
        role = metadata.signed.type
        change(metadata.signed)
        usual = {"root": self.root[:2], "targets": [self.targets]}.get(role, [self.online])
        metadata.signatures.clear()
        for signer in signers or usual:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes()
        target = file.with_name(to or name)
        target.write_bytes(data)
        above = {"targets": "snapshot", "snapshot": "timestamp"}.get(role)
        if refer and above is not None:
            said = MetaFile.from_data(metadata.signed.version, data, ["sha256"])

            def point(signed: Any) -> None:
                signed.version += 1
                if above == "snapshot":
                    signed.meta["targets.json"] = said
                else:
                    signed.snapshot_meta = said

            number = max((int(f.name.split(".")[0]) for f in file.parent.glob("*.snapshot.json")), default=0)
            if above == "snapshot":
                self.forge(f"{number}.snapshot.json", point, to=f"{number + 1}.snapshot.json")
            else:
                self.forge("timestamp.json", point)

    def source(self) -> FolderSource:
        return FolderSource(self.folder)


class Site:
    """A hub's trust folder and cache."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.trust, self.cache = folder / "trust", folder / "policy"
        self.clock = authority.clock
        self.saw: list[int] = []
        self.client = self.restarted()
        self.client.init(authority.repository.first_root())

    def restarted(self) -> PolicyClient:
        self.client = PolicyClient(self.trust, self.cache, self.clock, self.saw.append)
        return self.client


class WebServer(ThreadingHTTPServer):
    """Serves a folder; `answers` has (status, body) for paths that shall be answered otherwise."""

    def __init__(self, folder: Path, fetch: Fetch) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self._fetch = fetch
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def source(self) -> HttpSource:
        return HttpSource(f"{self.url}/metadata", f"{self.url}/targets", self._fetch)


class _Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path.rpartition("/")[2])
        file = self.server.folder / self.path.lstrip("/")
        status, body = self.server.answers.get(self.path) or (
            (200, file.read_bytes()) if file.is_file() else (404, b"")
        )
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving(folder: Path) -> Iterator[WebServer]:
    with http_fetch() as fetch, WebServer(folder, fetch) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
