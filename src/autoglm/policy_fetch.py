"""Fetches the files of a policy repository by HTTP: for the hub, and for the command line."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from autoglm.auth.policy.sources import Fetch
from autoglm.core.errors import NotFound, PolicyUnreachable

if TYPE_CHECKING:
    import httpx2

_ATTEMPT_TIMEOUT_S = 10.0
_FILE_TIMEOUT_S = 120.0
"""For a whole file, however slowly it drips."""


@contextmanager
def http_fetch(ca_file: Path | None = None) -> Iterator[Fetch]:
    """ca_file: of the authorities to trust for https; the system's when absent."""
    import httpx2

    trusted = ssl.create_default_context(cafile=ca_file)
    with httpx2.Client(verify=trusted, timeout=_ATTEMPT_TIMEOUT_S, follow_redirects=False) as client:

        def fetch(url: str, limit_bytes: int) -> bytes:
            try:
                return _body(client, url, limit_bytes)
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise PolicyUnreachable(url, str(error) or type(error).__name__) from error

        yield fetch


def _body(client: "httpx2.Client", url: str, limit_bytes: int) -> bytes:
    started_s = time.monotonic()
    # As it comes over the wire: what unpacks to more than it is would be read to the end.
    with client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer:
        if answer.status_code in (403, 404):
            raise NotFound("file", url)
        if answer.status_code != 200:
            raise PolicyUnreachable(url, f"it answers {answer.status_code}")
        body = bytearray()
        for chunk in answer.iter_raw(64 << 10):
            body += chunk
            if len(body) > limit_bytes:
                break
            if time.monotonic() - started_s > _FILE_TIMEOUT_S:
                raise PolicyUnreachable(url, f"it is not complete after {_FILE_TIMEOUT_S:.0f} s")
        return bytes(body[: limit_bytes + 1])
