"""How far this machine's clock is from a vendor's: signed requests are refused where it is too far."""

from autoglm.channels.delivery import Words
from autoglm.channels.web import Answer, http_date_s

_ABOUT_S = 60.0
"""The header Date has whole seconds, and the answer was a while on its way."""


def ahead_s(answer: Answer, now_s: float) -> float | None:
    """Seconds that this clock is ahead of the vendor's (negative: behind), by the header Date of its answer.

    now_s: of the Unix epoch, when the answer was there. None where it has no Date. Source: RFC 9110, section 6.6.1.
    """
    try:
        return now_s - http_date_s(answer.headers.get("Date", ""))
    except (ValueError, OverflowError):
        return None


def clock_words(answer: Answer, now_s: float, *, allowed_s: float) -> Words | None:
    """What is wrong with this machine's clock; None where nothing is, or nothing is known of the vendor's."""
    skew_s = ahead_s(answer, now_s)
    if skew_s is None or abs(skew_s) < allowed_s - _ABOUT_S:
        return None
    minutes = round(abs(skew_s) / 60)
    hours, rest = divmod(minutes, 60)
    return Words(
        f"this machine's clock is off by {hours} h {rest} min ({'ahead' if skew_s > 0 else 'behind'}); set it right",
        f"本机时钟{'快' if skew_s > 0 else '慢'}了 {hours} 小时 {rest} 分，请校准",
    )
