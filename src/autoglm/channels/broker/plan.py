"""What a broker's program is to be started with. The texts of its files are pure; `write` puts them on the disk."""

import os
import shutil
import socket
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from autoglm.channels.broker_settings import BrokerSettings
from autoglm.core.errors import SettingsError


class Login(NamedTuple):
    name: str
    password: str
    publish: tuple[str, ...] = ("#",)
    subscribe: tuple[str, ...] = ("#",)


class Ports(NamedTuple):
    device: int
    """Where devices connect."""
    hub: int
    """Where the hub connects, on 127.0.0.1; the same where there is neither TLS nor a gate."""


class Plan(NamedTuple):
    program: str
    """mosquitto or nats-server."""
    command: tuple[str, ...]
    """Without secrets: everybody on the machine sees it."""
    files: dict[Path, str]
    """To be written before each start."""


def find_program(name: str) -> str | None:
    """Where it is: in the environment that we run in, on the PATH, or where system programs are."""
    here = (sysconfig.get_path("scripts"), os.path.dirname(sys.executable))
    for folder in (*here, None, "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"):
        if (found := shutil.which(name, path=folder)) is not None:
            return found
    return None


def choose_program(settings: BrokerSettings) -> tuple[str, str]:
    """(name, path). Raises SettingsError when none fits."""
    wanted = ("mosquitto", "nats-server") if settings.program == "auto" else (settings.program,)
    for name in wanted:
        if name == "nats-server" and settings.tls_certificate_file is not None and not settings.tokens:
            continue
        if (path := find_program(name)) is not None:
            return name, path
    names = " or ".join(wanted)
    raise SettingsError(
        [f"mqtt_broker.program: {names} is not installed; on Debian and Ubuntu: apt-get install mosquitto"]
    )


def choose_ports(settings: BrokerSettings) -> Ports:
    """Raises SettingsError when the port is taken."""
    device = settings.port or free_port(settings.host)
    is_one = settings.tls_certificate_file is None and not settings.tokens
    return Ports(device, device if is_one else free_port("127.0.0.1"))


def free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def write(plan: Plan) -> None:
    """For the owner alone, in place of what was there."""
    for path, text in plan.files.items():
        fresh = path.with_name(f"{path.name}.new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
        fresh.replace(path)
