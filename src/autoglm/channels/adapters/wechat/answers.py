"""Answers of WeCom's and WeChat's servers: JSON with an `errcode`, and HTTP 200 whether it went well or not."""

from collections.abc import Mapping
from typing import Any

from autoglm.channels.delivery import Delivery, Reasons, Words, failed_by_code, transient
from autoglm.channels.vendor_json import vendor_json
from autoglm.channels.web import Answer, of_status

Fields = Mapping[str, object]
THROTTLED_S = 60.0
"""Both count by the minute."""


class Refused(Exception):
    """No good answer: `delivery` says why, `code` is the errcode, 0 where there was none."""

    def __init__(self, delivery: Delivery, code: int = 0) -> None:
        super().__init__(delivery.reason.en)
        self.delivery, self.code = delivery, code


def fields_of(answer: Answer, vendor: Words, reasons: Reasons, *, has_code: bool) -> Fields:
    """The fields of a good answer. Raises Refused.

    has_code: a good one has the errcode 0. Those to messages do; those that bring a token or an id need not.
    """
    if (bad := of_status(answer)) is not None:
        raise Refused(bad)
    try:
        body: Any = vendor_json(answer.body)
        code = int(body["errcode"] if has_code else body.get("errcode", 0))
    except (ValueError, AttributeError, TypeError, KeyError):
        words = Words(
            f"the answer of {vendor.en} cannot be read; it may have been delivered",
            f"无法解析{vendor.zh}的应答，消息可能已送达",
        )
        raise Refused(transient("unreadable", words, is_in_doubt=True)) from None
    if code:
        raise Refused(of_code(code, vendor, reasons), code)
    fields: Fields = body
    return fields


def of_code(code: int, vendor: Words, reasons: Reasons) -> Delivery:
    return failed_by_code(code, reasons, vendor, rest_s=THROTTLED_S)
