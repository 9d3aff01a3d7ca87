"""Files of a policy repository over HTTP, from servers that wish us ill."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from autoglm import policy_fetch as module
from autoglm.core.errors import NotFound, PolicyUnreachable
from autoglm.policy_fetch import http_fetch


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str]) -> Iterator[str]:
    """The address of a server that answers so, and closes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/timestamp.json"
        finally:
            server.shutdown()
            thread.join()


def fetched(status: int, body: bytes = b"", headers: dict[str, str] | None = None, limit_bytes: int = 100) -> bytes:
    with answering(status, body, headers or {}) as url, http_fetch() as fetch:
        return fetch(url, limit_bytes)


@pytest.mark.attack("huge")
def test_one_byte_over_the_limit_is_the_last_that_is_read() -> None:
    assert fetched(200, b"x" * 100) == b"x" * 100
    assert len(fetched(200, b"x" * 5_000_000)) == 101


@pytest.mark.attack("a decompression bomb")
def test_nothing_is_unpacked() -> None:
    packed = gzip.compress(b"\0" * 10_000_000)
    assert fetched(200, packed, {"content-encoding": "gzip"}, limit_bytes=1 << 20) == packed


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_not_there_is_not_there(status: int) -> None:
    with pytest.raises(NotFound):
        fetched(status)


@pytest.mark.attack("a redirect to another place")
@pytest.mark.parametrize("status", [204, 302, 500])
def test_anything_else_is_no_answer(status: int) -> None:
    with pytest.raises(PolicyUnreachable, match=f"it answers {status}"):
        fetched(status, headers={"location": "http://127.0.0.1:1/"})


@pytest.mark.attack("a slow answer")
def test_an_answer_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILE_TIMEOUT_S", -1.0)
    with pytest.raises(PolicyUnreachable, match="it is not complete after"):
        fetched(200, b"x")


def test_what_is_no_address_is_told() -> None:
    with http_fetch() as fetch, pytest.raises(PolicyUnreachable):
        fetch("http://[::1", 10)
