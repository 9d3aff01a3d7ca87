"""A message as an alert: its labels are what the alert is, its text is in the annotations.

Source: Alertmanager's API v2 (api/v2/openapi.yaml), postableAlert.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from autoglm.channels.adapters.alertmanager.names import legal_name
from autoglm.channels.channel import Cannot
from autoglm.channels.delivery import Words, permanent
from autoglm.channels.pieces import truncated
from autoglm.channels.wording import in_words
from autoglm.core.envelope import Envelope

STATE = "state"
"""The label that says firing or resolved; anything else in it is a label as others are."""
ORIGIN = "autoglm_id"
"""The annotation with the id of the message that an alert was made of."""
MESSAGE = "message_id"
"""The label of an alert whose message has no labels: without it, all such alerts would be one."""
SEVERITIES = {"critical": 9, "error": 7, "warning": 6, "info": 3, "none": 0}
"""Severity to priority."""
SUMMARY_BYTES = 256
DESCRIPTION_BYTES = 32 * 1024
"""Alertmanager holds all alerts in memory and writes them into mails: what is longer is cut, and says where it is."""


def posting_of(envelope: Envelope, severities: Mapping[str, int]) -> dict[str, Any]:
    """What `Alertmanager.send` needs: the alert, without its end, and how to find it again. Raises Cannot."""
    if ORIGIN in envelope.labels:
        words = Words("the message came from Alertmanager and does not go back", "该消息来自 Alertmanager，不再发回")
        raise Cannot(permanent("loop", words))
    text = in_words(envelope)
    own = {name: value for name, value in envelope.labels.items() if value and not _is_state(name, value)}
    if not text.strip() and not own:
        words = Words("the message has neither text nor labels", "消息既没有文本也没有标签")
        raise Cannot(permanent("empty", words))
    if not own:
        own = {MESSAGE: envelope.id}
    labels = {"alertname": envelope.kind, **{legal_name(name): value for name, value in own.items()}}
    if "severity" not in labels and (severity := severity_of(envelope.priority, severities)):
        labels["severity"] = severity
    return {
        "alert": {
            "labels": labels,
            "annotations": _annotations(envelope, text or labels["alertname"]),
            "startsAt": moment(envelope.timestamp),
        },
        "resolves": envelope.labels.get(STATE) == "resolved",
        "answers": envelope.reply_to,
        "severity_is_given": "severity" in own,
        "expires_at": envelope.expires_at,
    }


def is_meant(found: Mapping[str, Any], posting: Mapping[str, Any]) -> bool:
    """Does the resolving posting speak of this active alert of Alertmanager's list?

    It does when the alert was made of the message that it answers; else when all labels are the same, but for a
    severity that was only derived from a priority.
    """
    if posting["answers"] is not None and found["annotations"].get(ORIGIN) == posting["answers"]:
        return True
    derived = () if posting["severity_is_given"] else ("severity",)
    mine, theirs = (
        {name: value for name, value in labels.items() if name not in derived}
        for labels in (posting["alert"]["labels"], found["labels"])
    )
    return ORIGIN in found["annotations"] and mine == theirs


def severity_of(priority: int, severities: Mapping[str, int]) -> str:
    """The most urgent one that the priority reaches; an empty text when it reaches none."""
    reached = [(least, name) for name, least in severities.items() if least <= priority]
    return max(reached)[1] if reached else ""


def moment(time_ms: float) -> str:
    """RFC 3339 with milliseconds. Beyond the year 9999 it is the last moment of it."""
    at = datetime.fromtimestamp(min(time_ms / 1000, 253_402_300_799), UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _annotations(envelope: Envelope, text: str) -> dict[str, str]:
    rest = f"… (all of it is message {envelope.id} in the hub)"
    found = {
        "summary": truncated(text.strip().partition("\n")[0], SUMMARY_BYTES),
        "description": truncated(text, DESCRIPTION_BYTES, mark=rest),
        ORIGIN: envelope.id,
    }
    return found | ({"autoglm_from": envelope.from_} if envelope.from_ else {})


def _is_state(name: str, value: str) -> bool:
    return name == STATE and value in ("firing", "resolved")
