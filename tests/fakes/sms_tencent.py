"""Tencent Cloud's SMS service on loopback: checks the signature its own way, and answers errors with HTTP 200.

Written from the vendor's pages, apart from the adapter: cloud.tencent.com/document/product/382/52072, /55981, /55977,
/55978.
"""

import hashlib
import hmac
import json
import re
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

SECRET_ID = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE"
SECRET_KEY = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
APP = "1400006666"
SIGN_NAME = "东方机床"
PARAMETERS = {"1110": 1, "2220": 2}
"""Templates, and how many parameters each has."""


class TencentSms(Vendor):
    """`sent` has what was taken; `statuses` and `replies` what the next pulls hand out, once."""

    def __init__(self, *, per_number: int = 1_000_000, longest: int = 200) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []
        self.statuses: list[dict[str, Any]] = []
        self.replies: list[dict[str, Any]] = []
        self.pulls: Counter[str] = Counter()
        self._per_number = per_number
        self._longest = longest
        self._counts: Counter[str] = Counter()

    @property
    def texts(self) -> list[str]:
        return [sent["TemplateParamSet"][0] for sent in self.sent]

    def take(self, request: Request) -> bytes:
        if (code := _wrong_signature(request)) is not None:
            return _error(code)
        wanted = json.loads(request.body)
        if wanted.get("SmsSdkAppId") != APP:
            return _error("UnauthorizedOperation.SmsSdkAppIdVerifyFail")
        action = request.headers["x-tc-action"]
        match action:
            case "SendSms":
                return self._send(wanted)
            case "SendStatusStatistics":
                if not all(re.fullmatch(r"20\d{8}", wanted[name]) for name in ("BeginTime", "EndTime")):
                    return _error("InvalidParameterValue.BeginTimeVerifyFail")
                return _answer({"SendStatusStatistics": {"RequestCount": 0}})
            case "PullSmsSendStatus" | "PullSmsReplyStatus":
                if not 1 <= wanted["Limit"] <= 100:
                    return _error("InvalidParameterValue.LimitVerifyFail")
                self.pulls[action] += 1
                waiting = self.statuses if action == "PullSmsSendStatus" else self.replies
                given = waiting[: wanted["Limit"]]
                del waiting[: wanted["Limit"]]
                return _answer({f"{action}Set": given})
            case _:
                return _error("InvalidAction")

    def _send(self, wanted: dict[str, Any]) -> bytes:
        numbers = wanted["PhoneNumberSet"]
        if not 1 <= len(numbers) <= 200:
            return _error("InvalidParameterValue.PhoneNumberCountLimit")
        if wanted["SignName"] != SIGN_NAME:
            return self._each(numbers, "FailedOperation.SignatureIncorrectOrUnapproved")
        if wanted["TemplateId"] not in PARAMETERS:
            return self._each(numbers, "FailedOperation.TemplateIncorrectOrUnapproved")
        params = wanted["TemplateParamSet"]
        if len(params) != PARAMETERS[wanted["TemplateId"]] or not all(isinstance(param, str) for param in params):
            return self._each(numbers, "InvalidParameterValue.TemplateParameterFormatError")
        if any(len(param.encode("utf-16-le")) // 2 > self._longest for param in params):
            return self._each(numbers, "InvalidParameterValue.TemplateParameterLengthLimit")
        if not all(re.fullmatch(r"\+[1-9]\d{6,14}", number) for number in numbers):
            return self._each(numbers, "InvalidParameterValue.IncorrectPhoneNumber")
        self._counts[numbers[0]] += 1
        if self._counts[numbers[0]] > self._per_number:
            return self._each(numbers, "LimitExceeded.PhoneNumberThirtySecondLimit")
        self.sent.append(wanted)
        return self._each(numbers, "Ok")

    def _each(self, numbers: list[str], code: str) -> bytes:
        serial = f"2019:538884{len(self.sent):06}" if code == "Ok" else ""
        entries = [
            {"SerialNo": serial, "PhoneNumber": number, "Fee": int(code == "Ok"), "Code": code, "Message": "x"}
            for number in numbers
        ]
        return _answer({"SendStatusSet": entries})

    def refuse(self, fault: Fault) -> bytes:
        if fault in ("throttled", "permanent"):
            code = {
                "throttled": "LimitExceeded.PhoneNumberDailyLimit",
                "permanent": "FailedOperation.PhoneNumberInBlacklist",
            }
            return self._each(["+8613800138000"], code[fault])
        return _error({"transient": "InternalError.Timeout", "auth": "AuthFailure.SecretIdNotFound"}[fault])


def _wrong_signature(request: Request) -> str | None:
    headers = request.headers
    given = re.fullmatch(
        r"TC3-HMAC-SHA256 Credential=([^/]+)/(\d{4}-\d\d-\d\d)/sms/tc3_request, SignedHeaders=([a-z;-]+), "
        r"Signature=([0-9a-f]{64})",
        headers.get("authorization", ""),
    )
    if given is None or request.method != "POST" or request.path != "/":
        return "AuthFailure.InvalidAuthorization"
    secret_id, day, names, signature = given.groups()
    if secret_id != SECRET_ID:
        return "AuthFailure.SecretIdNotFound"
    at_s = int(headers["x-tc-timestamp"])
    if abs(datetime.now(UTC).timestamp() - at_s) > 300:
        return "AuthFailure.SignatureExpire"
    if headers["x-tc-version"] != "2021-01-11" or "x-tc-region" not in headers:
        return "InvalidParameter"
    if time.strftime("%Y-%m-%d", time.gmtime(at_s)) != day or not {"content-type", "host"} <= set(names.split(";")):
        return "AuthFailure.SignatureFailure"
    heads = "".join(f"{name}:{headers[name].strip().lower()}\n" for name in names.split(";"))
    canonical = f"POST\n/\n\n{heads}\n{names}\n{hashlib.sha256(request.body).hexdigest()}"
    text = f"TC3-HMAC-SHA256\n{at_s}\n{day}/sms/tc3_request\n{hashlib.sha256(canonical.encode()).hexdigest()}"

    def keyed(key: bytes, message: str) -> bytes:
        return hmac.new(key, message.encode(), hashlib.sha256).digest()

    key = keyed(keyed(keyed(b"TC3" + SECRET_KEY.encode(), day), "sms"), "tc3_request")
    return None if keyed(key, text).hex() == signature else "AuthFailure.SignatureFailure"


def _answer(fields: dict[str, Any]) -> bytes:
    return response(200, {"Response": {**fields, "RequestId": "a0aabda6"}})


def _error(code: str) -> bytes:
    return _answer({"Error": {"Code": code, "Message": f"told to: {SECRET_KEY}"}})
