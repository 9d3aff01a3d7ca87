"""A site is cut off for three days; a device is revoked meanwhile; when the network returns, the truth comes out.

python examples/cut_off_site.py [DATA_FOLDER]

A centre signs who may do what; a site's hub pulls that, enrols a device and goes on alone when the line is cut. The
clock is simulated, everything else is real: signatures, servers, storage. Needs no model and no network.
"""

import contextlib
import io
import json
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from securesystemslib.signer import CryptoSigner

from autoglm import Client, Hub
from autoglm.auth.policy.repository import Holders, Repository
from autoglm.client import HubProblem
from autoglm.client.device import Device
from autoglm.settings import load_settings

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WAIT_S = 30.0


class Clock:
    """The machine's, and as much as the story has leapt ahead."""

    ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Centre:
    """Signs policies: two of three holders for the root, one for the content, one key that renews the freshness."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self._clock = folder, clock
        self._root = [CryptoSigner.generate_ed25519() for _ in range(3)]
        self._content, self._online = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
        self._repository = Repository(folder, clock)
        online = Holders([self._online.public_key])
        self._repository.create({
            "root": Holders([signer.public_key for signer in self._root], 2),
            "targets": Holders([self._content.public_key]), "snapshot": online, "timestamp": online,
        })  # fmt: skip
        for signer in self._root[:2]:
            self._repository.sign(signer)

    def publish(self, revoked: dict[str, object]) -> None:
        files = {"policies.cedar": "", "roles.json": {}, "revocations.json": revoked, "pins.json": []}
        self._repository.stage({name: content.encode() if isinstance(content, str) else json.dumps(content).encode()
                                for name, content in files.items()})  # fmt: skip
        self._repository.sign(self._content)
        self._repository.publish([self._online])

    @contextlib.contextmanager
    def line(self, port: int = 0) -> Iterator[int]:
        """While it is open, the site can reach the centre."""
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(self.folder)))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def story(site: Client, centre: Centre, clock: Clock, port: int, folder: Path) -> None:
    with centre.line(port):
        wait_for(lambda: site.policy()["version"] == 1, "the first policy")
        code = site.invite_device("press-7", ["send:message:device:press-7"], token_ttl_s=3600)["code"]
        press = Device.enrol(folder / "press-7.json", code, url=site.url, wall_ms=clock)
        print("monday     the site has policy 1; device:press-7 has enrolled")
    print("           the line is cut")
    with Client(device=press) as device:
        for day in ("monday", "tuesday", "wednesday"):
            device.send("user:shift-leader", f"{day}: 412 parts")
            print(f"{day:<10} device:press-7 sends its report; the site renews its token by itself")
            clock.ahead_ms += DAY_MS
            if day == "monday":
                stolen_ms = clock() - HOUR_MS
        print("thursday   the centre learns that press-7 was stolen on tuesday, an hour before its report")
        centre.publish({"device:press-7": {"at_ms": stolen_ms, "reason": "stolen"}})
        with centre.line(port):
            wait_for(lambda: site.policy()["version"] == 2, "the second policy")
            print("           the line is back; the site has policy 2")
            try:
                device.send("user:shift-leader", "thursday: 0 parts")
            except HubProblem as error:
                print(f"           device:press-7 is refused: {error}")
            wait_for(lambda: len(site.conflicts()) == 2, "the conflicts")  # tuesday and wednesday
            for conflict in site.conflicts():
                print(f"           conflict   entry {conflict['operation']}: {conflict['who']} {conflict['action']}: "
                      f"{conflict['kind']}, {conflict['why']}")  # fmt: skip
                site.settle_conflict(conflict["operation"], "reject", why="reports of a stolen press count nothing")
    report = site.verify_audit()
    print(f"           {len(site.conflicts())} conflicts are open; the record is "
          f"{'whole' if report['is_whole'] else 'BROKEN'}: {report['summary']['entries']} entries, "
          f"signed up to entry {report['summary']['signed_seq']}")  # fmt: skip


def wait_for(holds: Callable[[], bool], what: str) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > ends_s:
            sys.exit(f"{what} did not come in {WAIT_S:.0f} s")
        time.sleep(0.1)


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # nothing but the story
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        clock = Clock()
        centre = Centre(folder / "centre", clock)
        centre.publish({})
        with centre.line() as port:
            """The port is the centre's from now on, whether the line is open or not."""
        options = {
            "gateway.port": 0, "trust.site": "ward-3", "policy.source": f"http://127.0.0.1:{port}",
            "policy.root_file": str(folder / "centre" / "metadata" / "1.root.json"), "policy.refresh_s": 1,
        }  # fmt: skip
        settings = load_settings(options=options).settings
        async with Hub(settings, folder / "site", access_log=io.StringIO(), wall_ms=clock) as hub:
            with Client(hub.url, hub.admin_key_file.read_text().strip()) as site:
                await anyio.to_thread.run_sync(story, site, centre, clock, port, folder)


if __name__ == "__main__":
    anyio.run(main)
