"""Signs requests as Aliyun's OpenAPI wants it: ACS3-HMAC-SHA256, parameters in the query, no body.

Source: help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature.
"""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote

ALGORITHM = "ACS3-HMAC-SHA256"
_NO_BODY = hashlib.sha256(b"").hexdigest()


def canonical_query(parameters: Mapping[str, str]) -> str:
    """Sorted by name and percent-encoded as RFC 3986 says; it is the query that is sent as well."""
    return "&".join(
        f"{quote(name, safe='')}={quote(parameters[name], safe='', errors='replace')}" for name in sorted(parameters)
    )


def signed_headers(
    query: str, *, action: str, version: str, host: str, key_id: str, key_secret: str, date: str, nonce: str
) -> dict[str, str]:
    """The headers of a POST to `/` of the host. date: UTC, such as 2026-01-31T12:00:00Z, at most 15 minutes old."""
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": _NO_BODY,
        "x-acs-date": date,
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join(("POST", "/", query, lines, names, _NO_BODY))
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.digest(key_secret.encode(), to_sign.encode(), "sha256").hex()
    return {**headers, "Authorization": f"{ALGORITHM} Credential={key_id},SignedHeaders={names},Signature={signature}"}
