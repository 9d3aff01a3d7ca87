"""Quiet hours: whether they are now, and how long they last."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from autoglm.channels.settings import QuietHours


def quiet_for_s(quiet: QuietHours | None, now_ms: int) -> float:
    """Seconds until the quiet hours are over; 0 when there are none now. Right over changes of the clock in spring."""
    if quiet is None:
        return 0.0
    now = datetime.fromtimestamp(now_ms / 1000, ZoneInfo(quiet.zone))
    clock = now.time()
    begins, ends = quiet.begins, quiet.ends
    is_quiet = begins <= clock < ends if begins < ends else clock >= begins or clock < ends
    if not is_quiet:
        return 0.0
    day = now.date() + timedelta(days=0 if clock < ends else 1)
    over = datetime.combine(day, ends, ZoneInfo(quiet.zone))
    return max(0.001, over.timestamp() - now_ms / 1000)
