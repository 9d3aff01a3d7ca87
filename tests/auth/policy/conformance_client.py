"""The policy client behind the command line of the TUF conformance suite (theupdateframework/tuf-conformance).

In a clone of the suite: `pytest tuf_conformance --entrypoint "python .../tests/auth/policy/conformance_client.py"`. It
signs with RSA and ECDSA, which this project does not: those are let in here alone.
"""

import argparse
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from tuf.api.metadata import TargetFile

from autoglm.auth.policy.client import PolicyClient
from autoglm.auth.policy.sources import HttpSource
from autoglm.core.errors import HubError
from autoglm.policy_fetch import http_fetch

KEY_TYPES = frozenset({"ed25519", "ecdsa", "rsa"})


def main() -> int:
    parser = argparse.ArgumentParser()
    for option in ("--metadata-dir", "--metadata-url", "--target-base-url", "--target-dir", "--now"):
        parser.add_argument(option)
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("action", choices=("init", "refresh", "download"))
    parser.add_argument("root", nargs="?")
    given = parser.parse_args()
    now_ms = int(datetime.fromisoformat(given.now).replace(tzinfo=UTC).timestamp() * 1000) if given.now else None
    folder = Path(given.metadata_dir)
    client = PolicyClient(
        folder / "trust", folder / "cache", lambda: now_ms or time.time_ns() // 1_000_000, key_types=KEY_TYPES
    )
    if given.action == "init":
        root = Path(given.root).read_bytes()
        client.init(root)
        (folder / "root.json").write_bytes(root)
        return 0
    with http_fetch() as fetch:
        source = HttpSource(given.metadata_url, given.target_base_url or "", fetch)
        try:
            chain = client.refresh(source)
            for name in given.target_name:
                file = Path(given.target_dir) / name
                target = client.find(source, chain, name)
                if not file.exists() or not is_same(target, file.read_bytes()):
                    data = client.fetch(source, chain, target)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(data)
        finally:
            for role, data in client.verified.items():
                (folder / f"{quote(role, safe='')}.json").write_bytes(data)
    return 0


def is_same(target: TargetFile, data: bytes) -> bool:
    return target == TargetFile.from_data(target.path, data, list(target.hashes))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HubError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
