"""Signs requests as Tencent Cloud's API 3.0 wants it: TC3-HMAC-SHA256 over a JSON body.

Source: cloud.tencent.com/document/product/382/52072 (signature v3).
"""

import hashlib
import hmac
from datetime import UTC, datetime

ALGORITHM = "TC3-HMAC-SHA256"
CONTENT_TYPE = "application/json; charset=utf-8"
SERVICE = "sms"


def signed_headers(
    body: bytes, *, action: str, version: str, host: str, region: str, secret_id: str, secret_key: str, timestamp_s: int
) -> dict[str, str]:
    """The headers of a POST to `/` of the host. timestamp_s: Unix time, at most 5 minutes off."""
    signed = {"content-type": CONTENT_TYPE, "host": host, "x-tc-action": action.lower()}
    signature, scope = _signature(body, signed, secret_key, timestamp_s, SERVICE)
    return {
        "Content-Type": CONTENT_TYPE,
        "Host": host,
        "X-TC-Action": action,
        "X-TC-Version": version,
        "X-TC-Timestamp": str(timestamp_s),
        "X-TC-Region": region,
        "Authorization": (
            f"{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={';'.join(signed)}, Signature={signature}"
        ),
    }


def _signature(body: bytes, signed: dict[str, str], secret_key: str, timestamp_s: int, service: str) -> tuple[str, str]:
    """(signature, scope). signed: sorted by name."""
    day = f"{datetime.fromtimestamp(timestamp_s, UTC):%Y-%m-%d}"
    scope = f"{day}/{service}/tc3_request"
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    request = "\n".join(("POST", "/", "", lines, ";".join(signed), hashlib.sha256(body).hexdigest()))
    to_sign = "\n".join((ALGORITHM, str(timestamp_s), scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"TC3{secret_key}".encode()
    for step in (day, service, "tc3_request"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex(), scope
