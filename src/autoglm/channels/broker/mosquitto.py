"""Mosquitto's configuration: no anonymous clients, hashed passwords, access rules, saved on every change.

Source: mosquitto.conf(5) and lib/password_mosq of Mosquitto 2.0.
"""

import base64
import hashlib
import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from autoglm.channels.broker.plan import Login, Plan, Ports
from autoglm.channels.broker_settings import BrokerSettings

HUB_INFLIGHT = 1000
_ROUNDS = 101
"""As mosquitto_passwd: mosquitto has one thread, which hashes at each CONNECT."""


def plan(path: str, folder: Path, settings: BrokerSettings, ports: Ports, logins: Sequence[Login]) -> Plan:
    config, passwords, rules = folder / "mosquitto.conf", folder / "passwords", folder / "access"
    files = {
        config: configuration(folder, settings, ports),
        passwords: "".join(f"{login.name}:{hashed(login.password)}\n" for login in logins),
        rules: access(logins),
    }
    return Plan("mosquitto", (path, "-c", str(config)), files)


def hashed(password: str) -> str:
    """As mosquitto_passwd writes it, which itself ends a password at a colon and drops blanks around it: PBKDF2."""
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS)
    return f"$7${_ROUNDS}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


def configuration(folder: Path, settings: BrokerSettings, ports: Ports) -> str:
    lines = [
        "per_listener_settings false",
        "allow_anonymous false",
        f"password_file {folder / 'passwords'}",
        f"acl_file {folder / 'access'}",
        # Only root may change its user, and would: our folder is for the owner alone.
        f"user {pwd.getpwuid(os.getuid()).pw_name}",
        "persistence true",
        f"persistence_location {folder}/",
        # With the next line: after each change, not each second.
        "autosave_interval 1",
        "autosave_on_changes true",
        # 0: no limit of ours, so that a message is on its way to the hub before its sender has the PUBACK.
        "max_inflight_messages 0",
        f"max_queued_messages {settings.max_queued}",
        f"max_packet_size {settings.max_packet_bytes}",
        "persistent_client_expiration 30d",
        "set_tcp_nodelay true",
        "log_dest stderr",
        "log_timestamp false",
        "log_type error",
        "log_type warning",
        "connection_messages false",
        f"listener {ports.device} {settings.host}",
        f"max_connections {settings.max_connections}",
    ]
    if settings.tls_certificate_file is not None:
        lines += [
            f"certfile {settings.tls_certificate_file}",
            f"keyfile {settings.tls_key_file}",
            "tls_version tlsv1.2",  # at least, says Mosquitto 2.0
        ]
        if settings.tls_ca_file is not None:
            lines += [f"cafile {settings.tls_ca_file}", "require_certificate true"]
        lines += [f"listener {ports.hub} 127.0.0.1", "max_connections 16"]
    return "\n".join((*lines, ""))


def access(logins: Sequence[Login]) -> str:
    """Of each user by its own lines; what no line allows is refused."""
    lines: list[str] = []
    for login in logins:
        lines.append(f"user {login.name}")
        lines += [f"topic write {pattern}" for pattern in login.publish]
        lines += [f"topic read {pattern}" for pattern in login.subscribe]
        lines.append("")
    return "\n".join(lines)
