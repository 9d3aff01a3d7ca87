"""What became of a push to one browser, and of a message to all browsers of somebody."""

from collections.abc import Sequence

from autoglm.channels.delivery import Delivery, Words, accepted, permanent, transient, unauthorized
from autoglm.channels.web import Answer, of_status

NO_SUBSCRIPTION = "no_subscription"
GONE = (404, 410)


def of_answer(answer: Answer) -> Delivery | None:
    """A push service's answer; None where it says that the subscription is no more.

    Source: RFC 8030, sections 5, 7.3 and 8.4; RFC 8292, section 4.2.
    """
    code = f"http_{answer.status}"
    if answer.status in GONE:
        return None
    if answer.status in (201, 202):
        return accepted()
    if answer.status in (401, 403):
        return unauthorized(
            code,
            Words(
                f"the push service refuses the hub's signature (HTTP {answer.status}); is this machine's clock right, "
                "and does the address in `contact` exist?",
                f"推送服务拒绝本机签名（HTTP {answer.status}），请检查本机时钟，以及 `contact` 中的地址是否存在",
            ),
        )
    words = Words(
        f"the push service's answer is not of the kind it should be (HTTP {answer.status}); it may have been delivered",
        f"推送服务的应答不合规范（HTTP {answer.status}），消息可能已送达",
    )
    return of_status(answer) or transient(code, words, is_in_doubt=True)


def no_subscription(target: str, *, has_ended: bool) -> Delivery:
    """has_ended: there was one, and its push service, or the end of a right, says that it is no more."""
    shown = target[:80]
    fact, fact_zh = f"no browser of {shown!r} takes notifications", f"{shown!r} 没有接收通知的浏览器"
    if has_ended:
        fact, fact_zh = f"no browser of {shown!r} takes notifications any more", f"{shown!r} 的浏览器订阅均已失效"
    return permanent(
        NO_SUBSCRIPTION,
        Words(
            f"{fact}: they switch them on in the console's settings, in each browser",
            f"{fact_zh}：请在控制台的“设置”中开启通知，每个浏览器各开一次",
        ),
    )


def summed(
    target: str, ends: Sequence[Delivery], waiting: Sequence[Delivery], *, has_ended: bool, may_wait: bool
) -> Delivery:
    """One result for all browsers of a target.

    ends: of those that are left alone from now on. waiting: of those that would be tried again. has_ended: some are no
    more. may_wait: whether those are tried again although a browser has the message.
    """
    taken = [one for one in ends if one.outcome == "accepted"]
    others = [one for one in ends if one.outcome != "accepted"]
    count = len(ends) + len(waiting)
    if waiting and (may_wait or not taken):
        return _later(waiting, len(taken), count)
    if taken:
        left = [*waiting, *others]
        return accepted() if not left else Delivery(outcome="accepted", reason=_partly(left[0], len(taken), count))
    if others:
        return next((one for one in others if one.is_in_doubt), others[0])
    return no_subscription(target, has_ended=has_ended)


def _later(waiting: Sequence[Delivery], taken: int, count: int) -> Delivery:
    """Of a class that has the rest of the target's messages wait only where no browser can be reached."""
    first = waiting[0]
    if count == 1:
        return first
    classes = {one.failure for one in waiting}
    pauses_s = [one.retry_after_s for one in waiting if one.retry_after_s is not None]
    return Delivery(
        outcome="retry",
        failure=first.failure if len(classes) == 1 and len(waiting) == count else "transient",
        code=first.code,
        reason=_partly(first, taken, count),
        retry_after_s=min(pauses_s) if len(pauses_s) == len(waiting) else None,
        is_in_doubt=any(one.is_in_doubt for one in waiting),
    )


def _partly(other: Delivery, taken: int, count: int) -> Words:
    return Words(
        f"{taken} of {count} browsers' push services have it; of another: {other.reason.en}",
        f"{count} 个浏览器中，{taken} 个的推送服务已接收；其余：{other.reason.zh}",
    )
