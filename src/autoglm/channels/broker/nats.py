"""nats-server's configuration for its MQTT 3.1.1 listener: each message is on the disk before its PUBACK.

Source: docs.nats.io, "MQTT" and "Authorization"; nats-server 2.15.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from autoglm.channels.broker.plan import Login, Plan, Ports
from autoglm.channels.broker_settings import BrokerSettings


def plan(path: str, folder: Path, settings: BrokerSettings, ports: Ports, logins: Sequence[Login]) -> Plan:
    config = folder / "nats.conf"
    return Plan(
        "nats-server", (path, "-c", str(config)), {config: configuration(folder, settings, ports, logins)}
    )  # fmt: skip


def configuration(folder: Path, settings: BrokerSettings, ports: Ports, logins: Sequence[Login]) -> str:
    users = "\n".join(f"    {_user(login)}" for login in logins)
    return f"""server_name: autoglm
listen: "127.0.0.1:-1"
max_payload: {settings.max_packet_bytes}
max_connections: {settings.max_connections}
debug: false
logtime: false
jetstream {{
  store_dir: {_quoted(str(folder / "nats"))}
  sync_interval: always
}}
mqtt {{
  listen: {_quoted(f"{_bracketed(settings.host)}:{ports.device}")}
  max_ack_pending: 1000
  ack_wait: "30s"
}}
authorization {{
  users: [
{users}
  ]
}}
"""


def _user(login: Login) -> str:
    fields = [f"user: {_quoted(login.name)}", f"password: {_quoted(login.password)}"]
    if "#" not in login.publish or "#" not in login.subscribe:
        publish = [subject for pattern in login.publish for subject in subjects(pattern)]
        subscribe = [subject for pattern in login.subscribe for subject in subjects(pattern)]
        fields.append(
            f"permissions: {{publish: {{allow: {_quoted(publish)}}}, "
            f"subscribe: {{allow: {_quoted([*subscribe, '$MQTT.sub.>', '$MQTT.deliver.pubrel.>'])}}}}}"
        )
    return "{" + ", ".join(fields) + "}"


def subjects(pattern: str) -> list[str]:
    """The NATS subjects for a filter: a dot in a topic is `//` there, an empty level a slash ("MQTT", Topic Mapping).

    `a/#` matches `a` as well.
    """
    if pattern == "#":
        return [">"]
    is_tree = pattern.endswith("/#")
    subject = _subject(pattern.removesuffix("/#"))
    return [subject, f"{subject}.>"] if is_tree else [subject]


def _subject(text: str) -> str:
    levels = text.split("/")
    named = ["*" if level == "+" else level.replace(".", "//") for level in levels]
    # An empty level is a slash before the dot that ends it, or, at the very end, alone.
    return ".".join(level or "/" for level in named)


def _quoted(value: str | list[str]) -> str:
    """As in JSON, which is part of the language, but for its \\u."""
    return json.dumps(value, ensure_ascii=False)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
