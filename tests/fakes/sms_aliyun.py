"""Aliyun's SMS service on loopback: checks the signature its own way, and answers errors with HTTP 200 as well.

Written from the vendor's pages, apart from the adapter: help.aliyun.com/zh/sdk/product-overview/
v3-request-structure-and-signature, api-dysmsapi-2017-05-25-sendsms, -querysenddetails.
"""

import hashlib
import hmac
import json
import re
import urllib.parse
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from fakes.vendor import Fault, Vendor
from scripted_model import Request, response

KEY_ID = "LTAI5tXXXXXXXXXXXXXXXXXX"
KEY_SECRET = "sYjW3XXXXXXXXXXXXXXXXXXXXXXXX0"
SIGN_NAME = "东方机床"
TEMPLATE = "SMS_153055065"
OTHER_TEMPLATE = "SMS_2"
VARIABLES = {TEMPLATE: {"text"}, OTHER_TEMPLATE: {"name", "line"}}


class AliyunSms(Vendor):
    """`sent` has the parameters of what was taken. `statuses` has (SendStatus, ErrCode) by BizId."""

    def __init__(self, *, per_number: int = 1_000_000, longest: int = 200) -> None:
        super().__init__()
        self.sent: list[dict[str, str]] = []
        self.statuses: dict[str, tuple[int, str]] = {}
        self.asked: list[dict[str, str]] = []
        self.secret = KEY_SECRET
        self._per_number = per_number
        self._longest = longest
        self._counts: Counter[str] = Counter()
        self._nonces: set[str] = set()

    @property
    def texts(self) -> list[str]:
        return [json.loads(sent["TemplateParam"])["text"] for sent in self.sent]

    def take(self, request: Request) -> bytes:
        path, _, query = request.path.partition("?")
        parameters = dict(urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=True))
        if request.method != "POST" or path != "/":
            return _error(404, "InvalidAction.NotFound")
        if (refusal := self._wrong_signature(request, parameters)) is not None:
            return refusal
        if request.headers["x-acs-version"] != "2017-05-25":
            return _error(404, "InvalidVersion")
        match request.headers["x-acs-action"]:
            case "SendSms":
                return self._send(parameters)
            case "QuerySendDetails":
                return self._details(parameters)
            case _:
                return _error(404, "InvalidAction.NotFound")

    def _wrong_signature(self, request: Request, parameters: dict[str, str]) -> bytes | None:
        headers = request.headers
        given = re.fullmatch(
            r"ACS3-HMAC-SHA256 Credential=([^,]+),SignedHeaders=([^,]+),Signature=([0-9a-f]{64})",
            headers.get("authorization", ""),
        )
        if given is None:
            return _error(400, "MissingSecurityToken")
        if given[1] != KEY_ID:
            return _error(404, "InvalidAccessKeyId.NotFound")
        signed = given[2].split(";")
        needed = {"host", *(name for name in headers if name.startswith("x-acs-"))}
        if not needed <= set(signed) or signed != sorted(signed) or len(needed) < 6:
            return _error(400, "SignatureDoesNotMatch")
        if headers["x-acs-content-sha256"] != hashlib.sha256(request.body).hexdigest():
            return _error(400, "SignatureDoesNotMatch")

        def encoded(text: str) -> str:
            return "".join(chr(byte) if chr(byte) in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())

        lines = [
            "POST",
            "/",
            "&".join(sorted(f"{encoded(name)}={encoded(value)}" for name, value in parameters.items())),
        ]
        lines += [f"{name}:{headers[name].strip()}" for name in signed]
        lines += ["", given[2], headers["x-acs-content-sha256"]]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        if (
            hmac.new(self.secret.encode(), f"ACS3-HMAC-SHA256\n{digest}".encode(), hashlib.sha256).hexdigest()
            != given[3]
        ):
            return _error(400, "SignatureDoesNotMatch")
        at = datetime.strptime(headers["x-acs-date"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - at) > timedelta(minutes=15):
            return _error(400, "InvalidTimeStamp.Expired")
        if headers["x-acs-signature-nonce"] in self._nonces:
            return _error(400, "SignatureNonceUsed")
        self._nonces.add(headers["x-acs-signature-nonce"])
        return None

    def _send(self, wanted: dict[str, str]) -> bytes:
        if set(wanted) - {"OutId"} != {"PhoneNumbers", "SignName", "TemplateCode", "TemplateParam"}:
            return _error(400, "MissingParameter")
        number = wanted["PhoneNumbers"]
        if re.fullmatch(r"1[3-9]\d{9}|(?!86)[1-9]\d{6,14}", number) is None:
            return _error(200, "isv.MOBILE_NUMBER_ILLEGAL")
        if wanted["SignName"] != SIGN_NAME:
            return _error(200, "isv.SMS_SIGNATURE_ILLEGAL")
        if wanted["TemplateCode"] not in VARIABLES:
            return _error(200, "isv.SMS_TEMPLATE_ILLEGAL")
        params: dict[str, Any] = json.loads(wanted["TemplateParam"])
        if set(params) != VARIABLES[wanted["TemplateCode"]]:
            return _error(200, "isv.TEMPLATE_MISSING_PARAMETERS")
        if not all(isinstance(value, str) for value in params.values()):
            return _error(200, "isv.INVALID_JSON_PARAM")
        if any(len(value.encode("utf-16-le")) // 2 > self._longest for value in params.values()):
            return _error(200, "isv.PARAM_LENGTH_LIMIT")
        self._counts[number] += 1
        if self._counts[number] > self._per_number:
            return _error(200, "isv.BUSINESS_LIMIT_CONTROL", "触发小时级流控Permits:5")
        self.sent.append(wanted)
        ticket = f"9006195703{len(self.sent):08}^0"
        self.statuses[ticket] = (1, "")
        return response(200, {"Code": "OK", "Message": "OK", "BizId": ticket, "RequestId": "F655A8D5"})

    def _details(self, wanted: dict[str, str]) -> bytes:
        if set(wanted) - {"BizId"} != {"PhoneNumber", "SendDate", "PageSize", "CurrentPage"}:
            return _error(400, "MissingParameter")
        if not 1 <= int(wanted["PageSize"]) <= 50 or re.fullmatch(r"20\d{6}", wanted["SendDate"]) is None:
            return _error(200, "isv.INVALID_PARAMETERS")
        self.asked.append(wanted)
        status, code = self.statuses.get(wanted.get("BizId", ""), (0, ""))
        found = [{"PhoneNum": wanted["PhoneNumber"], "SendStatus": status, "ErrCode": code}] if status else []
        body = {
            "Code": "OK",
            "Message": "OK",
            "TotalCount": len(found),
            "SmsSendDetailDTOs": {"SmsSendDetailDTO": found},
        }
        return response(200, body)

    def refuse(self, fault: Fault) -> bytes:
        codes = {
            "throttled": (200, "isv.BUSINESS_LIMIT_CONTROL"),
            "transient": (200, "isp.SYSTEM_ERROR"),
            "auth": (400, "SignatureDoesNotMatch"),
            "permanent": (200, "isv.MOBILE_NUMBER_ILLEGAL"),
        }
        return _error(*codes[fault], f"told to: {KEY_SECRET}")


_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def _error(status: int, code: str, message: str = "no") -> bytes:
    return response(status, {"Code": code, "Message": message, "RequestId": "F655A8D5"})
