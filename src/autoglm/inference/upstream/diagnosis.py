"""Says in plain words why aiohttp failed. Its own errors hold the request and the proxy's URL: both hold secrets."""

import socket
import ssl
from urllib.parse import urlsplit

import aiohttp

from autoglm.core.errors import UpstreamFailed
from autoglm.inference.upstream.endpoint import Endpoint

# OpenSSL, x509_vfy.h
_VERDICTS = {
    9: "certificate is not valid yet; check this machine's clock",
    10: "certificate has expired",
    18: "certificate is not trusted (self-signed); set ca_file",
    19: "certificate is not trusted (self-signed authority); set ca_file",
    20: "certificate is not trusted (unknown authority); set ca_file",
    21: "certificate is not trusted (unknown authority); set ca_file",
}


def diagnose(endpoint: Endpoint, error: aiohttp.ClientError | OSError) -> UpstreamFailed:
    """For a request that got no reply."""
    return UpstreamFailed(endpoint.name, _reason(endpoint, error))


def _reason(endpoint: Endpoint, error: aiohttp.ClientError | OSError) -> str:  # noqa: PLR0911  # a table
    place = endpoint.origin.place
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"TLS: {_verdict(error.certificate_error)}"
        case aiohttp.ClientConnectorSSLError():
            return f"TLS: {_handshake(error)} at {place}"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy at {_proxy_place(endpoint)} refused to connect to {place}: status {error.status}"
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy cannot be reached: {_network(error.os_error, _proxy_place(endpoint))}"
        case aiohttp.ClientConnectorError():
            return _network(error.os_error, place)
        case aiohttp.ClientResponseError():
            return f"it sent no valid HTTP: {_first_line(error.message)}"
        case _:
            return f"the connection to {place} broke"


def _network(error: OSError, place: str) -> str:
    host = place.rpartition(":")[0]
    match error:
        case socket.gaierror():
            return f"name does not resolve: {host} ({error.strerror})"
        case ConnectionRefusedError():
            return f"connection refused at {place}"
        case _:
            return f"cannot connect to {place} ({error.strerror or 'no reason given'})"


def _verdict(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERDICTS.get(error.verify_code, f"certificate is not accepted: {error.verify_message}")
    return "certificate is not accepted"


def _handshake(error: aiohttp.ClientConnectorSSLError) -> str:
    reason = getattr(error.os_error, "reason", None) or "handshake failed"
    return "no TLS is spoken (is it http://?)" if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE") else reason


def _proxy_place(endpoint: Endpoint) -> str:
    parts = urlsplit(endpoint.proxy or "")
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _first_line(message: str) -> str:
    return next(iter(message.strip().splitlines()), "no reason given").rstrip(": ")[:200]
