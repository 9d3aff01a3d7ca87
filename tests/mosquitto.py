"""A real Mosquitto on 127.0.0.1, for tests that talk to it, stop it, kill it and start it again."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import uuid
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties

from eventually import wait_until

needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto") is None, reason="mosquitto is not installed: apt-get install mosquitto"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    """`with Mosquitto(tmp_path) as broker:`; each start takes the same port and the same files."""

    def __init__(self, folder: Path, *lines: str, is_anonymous: bool = True, user: str = "root") -> None:
        """lines: further ones of its configuration, some of them for the listener."""
        self.port = free_port()
        self._folder = folder / f"mosquitto-{self.port}"
        self._folder.mkdir()
        self._config = self._folder / "mosquitto.conf"
        common = (
            f"listener {self.port} 127.0.0.1", f"allow_anonymous {str(is_anonymous).lower()}", f"user {user}",
            "persistence true", f"persistence_location {self._folder}/", "autosave_interval 1",
            "autosave_on_changes true", "log_dest stderr", "log_type all",
        )  # fmt: skip
        self._config.write_text("\n".join((*common, *lines, "")))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> Self:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stdout=log, stderr=log)
        wait_until(self._listens)
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self.send(number)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.send(signal.SIGCONT)
            self.stop(signal.SIGKILL)


class Device:
    """A client of its own (paho with its thread), which hears what it subscribes to and can publish."""

    def __init__(
        self, port: int, *filters: str, version: str = "5", client_id: str = "", qos: int = 1,
        username: str = "", password: str = "",
    ) -> None:  # fmt: skip
        self.heard: list[paho.MQTTMessage] = []
        self.published: set[int] = set()
        """Numbers of what the broker confirmed."""
        self.is_session_present = False
        self._filters = [(pattern, qos) for pattern in filters]
        self._granted = threading.Event()
        is_five = version == "5"
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=None if is_five else not client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if is_five else MQTTProtocolVersion.MQTTv311,
        )  # fmt: skip
        if username:
            self.client.username_pw_set(username, password)
        self.client.on_message = lambda _client, _data, message: self.heard.append(message)
        self.client.on_connect = self._welcome
        self.client.on_publish = lambda _client, _data, mid, *_: self.published.add(mid)
        self.client.on_subscribe = lambda *_: self._granted.set()
        self.client.reconnect_delay_set(1, 1)
        self._arguments: dict[str, Any] = {"port": port, "keepalive": 5}
        if is_five:
            properties = Properties(1)  # type: ignore[no-untyped-call]  # 1: CONNECT
            properties.SessionExpiryInterval = 600 if client_id else 0
            self._arguments |= {"clean_start": not client_id, "properties": properties}

    def _welcome(self, client: paho.Client, _data: object, flags: Any, *_: object) -> None:
        self.is_session_present = flags.session_present
        if self._filters:
            client.subscribe(self._filters)

    @property
    def is_granted(self) -> bool:
        """Whether it hears what it asked for."""
        return self._granted.is_set()

    @property
    def texts(self) -> list[str]:
        return [message.payload.decode() for message in self.heard]

    def publish(
        self, topic: str, payload: str | bytes | None, qos: int = 1, *, retain: bool = False,
        properties: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Returns when the broker has it."""
        mid = self.start_publishing(topic, payload, qos, retain=retain, properties=properties)
        self.wait_for(mid)

    def wait_for(self, mid: int, timeout_s: float = 30.0) -> None:
        """Until the broker has confirmed it, on this connection or a later one."""
        wait_until(lambda: mid in self.published, timeout_s)

    def start_publishing(
        self, topic: str, payload: str | bytes | None, qos: int = 1, *, retain: bool = False,
        properties: dict[str, Any] | None = None,
    ) -> int:  # fmt: skip
        packed = None
        if properties is not None:
            packed = Properties(3)  # type: ignore[no-untyped-call]  # 3: PUBLISH
            for name, value in properties.items():
                setattr(packed, name, value)
        return self.client.publish(topic, payload, qos, retain, packed).mid

    def catch_up(self) -> None:
        """Until all that the broker has for it has come: a message of its own comes after what was before."""
        marker = f"catch-up/{uuid.uuid4()}"
        self.client.subscribe(marker, 1)
        self.client.publish(marker, "", 1)
        wait_until(lambda: any(message.topic == marker for message in list(self.heard)))
        self.heard = [message for message in self.heard if message.topic != marker]

    def start(self) -> Self:
        self.client.connect("127.0.0.1", **self._arguments)
        self.client.loop_start()
        wait_until(self.client.is_connected)
        if self._filters:
            assert self._granted.wait(10)
        return self

    def vanish(self) -> None:
        """Without a DISCONNECT, as in a power cut."""
        sock = self.client.socket()
        assert isinstance(sock, socket.socket)
        self.client._thread_terminate = True
        sock.shutdown(socket.SHUT_RDWR)
        self.stop()

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
