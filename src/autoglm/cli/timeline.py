"""What became of an event, step by step: each message, each attempt, each receipt."""

from datetime import datetime
from typing import Any


def timeline(account: dict[str, Any]) -> list[str]:
    """Lines of an event's account (`GET /api/events/{id}`), in the order of time."""
    event = account["event"]
    steps: list[tuple[int, str]] = [(event["timestamp"], f"{event['from']}: {_head(event)}")]
    for entry in account["notices"]:
        notice = entry["notice"]
        what = "resolved, told to" if notice.get("resolved") else "told to"
        again = f", time {notice['number'] + 1}" if notice["number"] else ""
        step = f" (step {notice['step']}{again})" if notice["step"] or again else ""
        steps.append((notice["time"], f"{what} {notice['to']}{step}" + _error(notice)))
        steps += [(one["time"], f"{notice['to']}: {_words(one)}") for one in entry["steps"]]
    steps.sort(key=lambda step: step[0])
    if account.get("repeats"):
        steps.insert(
            0, (event["timestamp"], f"the same alert as {account['repeats']}, of which people are told already")
        )
    if not account["notices"] and not account["is_open"]:
        steps.append((steps[-1][0], "nobody was told: no [[route]] took it, or something muted it"))
    return [f"{_clock(time_ms)}  {text}" for time_ms, text in steps]


def _head(event: dict[str, Any]) -> str:
    text = " ".join(f"{event.get('title', '')} {event['content']}".split())
    state = "resolved " if event.get("state") == "resolved" else ""
    return f"{state}{event.get('kind', 'event')}: {text}"


def _error(notice: dict[str, Any]) -> str:
    return f": not sent, {notice['error']}" if notice.get("error") else ""


def _words(step: dict[str, Any]) -> str:
    by = f" by {step['by']}" if step["state"] in ("acknowledged", "read") and step.get("by") else ""
    code = f" {step['code']}" if step.get("code") else ""
    reason = f": {step['detail']}" if step.get("detail") else ""
    return f"{step['state']}{by}{code}{reason}"


def _clock(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]
