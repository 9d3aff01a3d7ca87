"""A channel in a process of its own, for tests that kill it: each message that it takes is a line on the disk.

python tests/mqtt_child.py PORT VERSION FILE
"""

import os
import sys

import anyio
import msgspec

from autoglm.channels.adapters.mqtt import Mqtt, MqttSettings
from autoglm.channels.channel import Resources
from autoglm.channels.delivery import Delivery
from autoglm.channels.settings import parse_channel
from autoglm.core.envelope import Envelope, encode_envelope


class FileInbox:
    def __init__(self, path: str) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # for as long as the process lives

    async def take(self, envelope: Envelope) -> bool:
        self._file.write(encode_envelope(envelope) + b"\n")
        await anyio.to_thread.run_sync(os.fsync, self._file.fileno())
        return True

    async def report(self, ticket: str, delivery: Delivery) -> None:
        self._file.write(msgspec.json.encode([ticket, delivery]) + b"\n")

    async def message_of(self, ticket: str) -> str | None:
        return None


async def no_blob(sha256: str) -> bytes | None:
    return None


async def main() -> None:
    port, version, path = sys.argv[1:]
    settings = parse_channel(
        {
            "name": "mqtt", "kind": "mqtt", "url": f"mqtt://127.0.0.1:{port}", "version": version,
            "topics": [{"topic": "plant/+/alarm", "from": "device:{1}"}],
            "presence": {"topic": "hub/status"},
        }
    )  # fmt: skip
    assert isinstance(settings, MqttSettings)
    await Mqtt(settings, Resources("mqtt", no_blob)).run(FileInbox(path))


if __name__ == "__main__":
    anyio.run(main)
