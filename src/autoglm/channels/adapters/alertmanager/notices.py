"""Alertmanager's webhook, version 4: what a call says, and the messages that it becomes.

Source: prometheus.io/docs/alerting/latest/configuration (webhook_config), notify/webhook/webhook.go.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Literal

import msgspec

from autoglm.channels.adapters.alertmanager.alerts import ORIGIN, STATE
from autoglm.channels.adapters.alertmanager.names import plain_name
from autoglm.channels.pieces import truncated
from autoglm.core.envelope import Envelope, decode_body
from autoglm.core.errors import InvalidField

TEXT_BYTES = 32 * 1024
_LABELS = 60
"""Of an alert; an envelope has 64 at most, and some are ours."""
_NOT_IN_SENDERS = re.compile(r"[^\w.@+-]", re.ASCII)


class Alert(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: datetime
    ends_at: datetime | None = None
    fingerprint: str


class Notice(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A call: alerts of one group."""

    version: str
    group_key: str
    receiver: str = ""
    truncated_alerts: int = 0
    """Alerts that Alertmanager left out for `max_alerts`."""
    alerts: list[Alert]


_decoder = msgspec.json.Decoder(Notice)


def read_notice(body: bytes) -> Notice:
    """Raises InvalidJson, InvalidField."""
    notice = decode_body(body, _decoder)
    if notice.version != "4":
        raise InvalidField("version", f"is {notice.version[:20]!r}; this hub reads version 4 of Alertmanager's webhook")
    return notice


def envelopes_of(notice: Notice, *, channel: str, to: str, severities: Mapping[str, int]) -> Iterator[Envelope]:
    """One for each alert, and one more when Alertmanager left some out. The same call gives the same ids."""
    sender = f"channel:{channel}/{_NOT_IN_SENDERS.sub('-', notice.receiver)[:64] or 'alertmanager'}"
    thread = f"am-{_hashed(notice.group_key)}"
    for alert in notice.alerts:
        at = alert.starts_at if alert.status == "firing" else alert.ends_at or alert.starts_at
        priority = severities.get(alert.labels.get("severity", ""), 5)
        yield Envelope(
            id=f"am-{_hashed(alert.fingerprint, alert.starts_at.isoformat(), alert.status)}",
            from_=sender, to=to, content=_text(alert), kind="alert", thread=thread, labels=_labels(alert),
            priority=priority, timestamp=max(0, round(at.timestamp() * 1000)),
        )  # fmt: skip
    if notice.truncated_alerts > 0:
        known = [f"{alert.fingerprint} {alert.starts_at.isoformat()} {alert.status}" for alert in notice.alerts]
        yield Envelope(
            id=f"am-{_hashed(notice.group_key, str(notice.truncated_alerts), *known)}",
            from_=sender, to=to, kind="event", thread=thread, labels={"alertname": "AlertsLeftOut"}, priority=5,
            content=f"Alertmanager left out {notice.truncated_alerts} more alerts of this group (its max_alerts).",
        )  # fmt: skip


def _text(alert: Alert) -> str:
    notes = alert.annotations
    name = alert.labels.get("alertname", "alert")
    summary = notes.get("summary") or notes.get("message") or name
    lines = [f"[{alert.status.upper()}] {summary}"]
    if (description := notes.get("description", "")).strip() and description != summary:
        lines.append(description)
    rest = ", ".join(f"{plain_name(key)}={value}" for key, value in alert.labels.items() if key != "alertname")
    lines.append(f"{name}: {rest}" if rest else name)
    return truncated("\n".join(lines), TEXT_BYTES)


def _labels(alert: Alert) -> dict[str, str]:
    """The alert's, in the envelope's bounds: what is too long is cut, of what is too many the last are left out."""
    order = sorted(alert.labels, key=lambda name: (name not in ("alertname", "severity", "instance"), name))
    labels: dict[str, str] = {}
    for name in order[:_LABELS]:
        plain = "alert_state" if name == STATE else plain_name(name)
        labels[plain[:128]] = alert.labels[name][:1024]
    if len(order) > _LABELS:
        labels["labels_left_out"] = str(len(order) - _LABELS)
    if origin := alert.annotations.get(ORIGIN):
        labels[ORIGIN] = origin[:128]
    return labels | {STATE: alert.status}


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
