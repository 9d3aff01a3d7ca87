"""HTTP to one hub: finds it, finds it again after a restart, and turns its refusals into errors."""

import json
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx2

from autoglm.client.errors import ConnectionLost, HubProblem, problem_from
from autoglm.invocation import default_data_dir
from autoglm.rendezvous import HubAddress, NoHub, find_hub, is_loopback

if TYPE_CHECKING:  # it loads the cryptography, which a key does not need
    from autoglm.client.device import Device

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5.0
_NO_KEY = "none"
"""In the place of the key of a device, which has a better one."""
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 5.0
_HANDSHAKE_TIMEOUT_S = 2.0
# What OpenSSL calls an answer that is no TLS; the word changed over its versions.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_TRUST = "name its authority with --ca-file, AUTOGLM_CA_FILE, or Client(ca_file=...)"


def pauses_s() -> Iterator[float]:
    """Seconds between attempts: doubling, with jitter, so that many clients do not come back at one moment."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.7, 1.3)  # noqa: S311  # jitter
        pause_s = min(pause_s * 2, _MAX_PAUSE_S)


class Connection:
    """Looks the hub up anew after each failure, since a restart may have given it another port."""

    def __init__(
        self, url: str | None, key: str | None, data_dir: Path | None, *, ca_file: Path | None, patience_s: float,
        device: "Device | None" = None,
    ) -> None:  # fmt: skip
        """patience_s: how long a hub that answered before is waited for. device: proves who asks, in place of a key."""
        self._wanted = (url, key, data_dir) if device is None else (device.url, _NO_KEY, None)
        self._device = device
        self._ca_file = ca_file
        self._patience_s = patience_s
        self._address: HubAddress | None = None
        self._http: httpx2.Client | None = None
        self._has_answered = False

    @property
    def address(self) -> HubAddress:
        """Raises NoHub, NoKey."""
        if self._address is None:
            self._address = find_hub(*self._wanted)
        return self._address

    def close(self) -> None:
        http, self._http, self._address = self._http, None, None
        if http is not None:
            http.close()

    def call(
        self, method: str, path: str, *,
        params: Mapping[str, str | int | float] | None = None, body: object = None,
        timeout_s: float = 30.0, is_repeatable: bool = True,
    ) -> tuple[int, dict[str, Any]]:  # fmt: skip
        """One call with JSON in and out; returns status and body. A body of bytes goes as it is.

        is_repeatable: asking twice does no harm, so a lost connection is tried again for `patience_s`.
        Raises NoHub, NoKey, ConnectionLost, HubProblem.
        """

        def once() -> tuple[int, dict[str, Any]]:
            with self.open(method, path, params=params, body=body, read_timeout_s=timeout_s) as response:
                content = _read(response)
            return response.status_code, json.loads(content) if content else {}

        return self._patiently(once) if is_repeatable else once()

    def _patiently(self, once: Callable[[], T]) -> T:
        """A hub that never answered is reported at once; one that did may be restarting."""
        gives_up_s = time.monotonic() + self._patience_s
        for pause_s in pauses_s():
            try:
                return once()
            except HubProblem as error:
                if error.code != "draining" or time.monotonic() + pause_s > gives_up_s:
                    raise
            except NoHub:
                if not self._has_answered or time.monotonic() + pause_s > gives_up_s:
                    raise
            except ConnectionLost:
                self._has_answered = True
                if time.monotonic() + pause_s > gives_up_s:
                    raise
            time.sleep(pause_s)
        raise AssertionError("pauses_s never ends")

    @contextmanager
    def open(
        self, method: str, path: str, *,
        params: Mapping[str, str | int | float] | None = None, body: object = None,
        headers: Mapping[str, str] | None = None, read_timeout_s: float,
    ) -> Iterator[httpx2.Response]:  # fmt: skip
        """The response, its body still to be read. Raises NoHub, NoKey, ConnectionLost, HubProblem."""
        response = self.start(method, path, params=params, body=body, headers=headers, read_timeout_s=read_timeout_s)
        try:
            with self._translated():
                yield response
        finally:
            response.close()

    def start(
        self, method: str, path: str, *,
        params: Mapping[str, str | int | float] | None = None, body: object = None,
        headers: Mapping[str, str] | None = None, read_timeout_s: float,
    ) -> httpx2.Response:  # fmt: skip
        """Like `open`, but the caller closes the response."""
        with self._translated():
            http = self._http or self._connect()
            content = body if isinstance(body, bytes) else None
            request = http.build_request(
                method, self.address.url + path, params=params, content=content,
                json=None if content is not None else body, headers=headers,
                timeout=httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S),
            )  # fmt: skip
            response = http.send(request, stream=True)
            self._has_answered = True
            if response.status_code >= 300:
                try:
                    content = _read(response)
                finally:
                    response.close()
                url, retry_after = self.address.url, response.headers.get("retry-after")
                raise problem_from(response.status_code, content, retry_after, url)
            return response

    def _connect(self) -> httpx2.Client:
        address = self.address
        if not address.url.startswith("https:"):
            # No TLS is needed; loading the system's authorities would take 70 ms. This one trusts nobody.
            trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        else:
            trusted = ssl.create_default_context(cafile=self._ca_file)
            self._trust_own_authority(trusted)
        device = self._device
        self._http = httpx2.Client(
            headers={} if device is not None else {"Authorization": f"Bearer {address.key}"},
            auth=device,
            verify=trusted,
            trust_env=not is_loopback(address.url),  # a proxy of the environment cannot reach this machine's loopback
        )
        return self._http

    def _trust_own_authority(self, trusted: ssl.SSLContext) -> None:
        """For a hub that was found by its data folder: what `autoglm ca` keeps there, whose key its owner holds."""
        url, _, data_dir = self._wanted
        if url is not None:
            return
        folder = (data_dir or default_data_dir()) / "ca"
        if self._ca_file is None and (root := folder / "root.crt").is_file():
            trusted.load_verify_locations(root)
        if (certificate := folder / "client.crt").is_file() and (key := folder / "client.key").is_file():
            trusted.load_cert_chain(certificate, key)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Foreign errors become ours, and the next attempt looks for the hub anew."""
        try:
            yield
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise NoHub(self._lost(), "its certificate is not trusted here", _TRUST) from error
            if any(sign in str(error) for sign in _NO_TLS):
                url = self._lost()
                raise NoHub(url, "what is there speaks plain http", f"use http{url.removeprefix('https')}") from error
            raise NoHub(self._lost(), _reason(error)) from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            url = self._lost()
            if not self._has_answered and _speaks_tls(url):  # it hung up on plain words
                raise NoHub(url, "what is there speaks https", f"use https{url.removeprefix('http')}") from error
            raise ConnectionLost(url, _reason(error)) from error
        except (httpx2.InvalidURL, ssl.SSLError, OSError) as error:  # the last two: the file of authorities
            raise NoHub(self._lost(), _reason(error)) from error

    def _lost(self) -> str:
        url = self.address.url
        self.close()
        return url


def _read(response: httpx2.Response) -> bytes:
    content: bytes = response.read()
    return content


def _speaks_tls(url: str) -> bool:
    """True when the server of an http address takes a TLS handshake, with whatever certificate."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        return False
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 80), timeout=_HANDSHAKE_TIMEOUT_S) as plain,
            anyone.wrap_socket(plain, server_hostname=parts.hostname),
        ):
            return True
    except (OSError, ValueError):  # an SSLError is an OSError; the other: a host that no certificate could name
        return False


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.ReadTimeout):
        return "it stayed silent for too long"
    return str(error) or type(error).__name__
