"""Pulling from an address, against a real HTTP server that breaks off where a test says so."""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoglm.core.errors import ModelFileError
from autoglm.inference.models import ModelFolder, pull
from autoglm.inference.models.download import pull_url, shown
from autoglm.inference.models.progress import Reporter
from autoglm.inference.models.target import Target
from inference.tiny_models import TINY, gguf, sha256


class Site(http.server.ThreadingHTTPServer):
    """Serves `content`. Faults: cut a reply after so many bytes, ignore Range, redirect, another status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = TINY
        self.cuts: list[int] = []
        self.knows_ranges = True
        self.redirects = False
        self.leads_to = "/again"
        self.status = 200
        self.ranges: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/models/Tiny%20One.gguf?token=sesame"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.server
        site.ranges.append(self.headers.get("range", ""))
        if site.redirects or site.status != 200:
            self.send_response(302 if site.redirects else site.status)
            self.send_header("location", site.leads_to)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", "")) if site.knows_ranges else None
        start = int(asked[1]) if asked else 0
        if start >= len(site.content):
            self.send_response(416)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        body = site.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("content-length", str(len(body)))
        if asked:
            self.send_header("content-range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
        self.end_headers()
        cut = site.cuts.pop(0) if site.cuts else len(body)
        self.wfile.write(body[:cut])
        self.close_connection = cut < len(body)

    def log_message(self, *args: object) -> None:
        """Silent."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder(tmp_path)


async def fetch(site: Site, folder: ModelFolder, wanted: str = sha256(TINY)) -> bytes:
    """As `pull` does it, without the pauses between tries."""
    target = Target(folder=folder, name="tiny", reporter=Reporter(None))
    return (await pull_url(site.url, target, wanted, retry_pause_s=0.0)).path.read_bytes()


async def test_a_file_is_fetched_named_and_noted_without_the_secret_of_its_address(
    site: Site, folder: ModelFolder
) -> None:
    model = await pull(site.url, folder, sha256=sha256(TINY).upper())
    assert (model.name, model.path.read_bytes()) == ("tiny-one", TINY)
    assert model.origin == f"downloaded from http://127.0.0.1:{site.server_port}/models/Tiny%20One.gguf"


async def test_a_broken_connection_is_resumed_where_it_broke(site: Site, folder: ModelFolder) -> None:
    site.cuts = [30_000, 40_000]
    assert await fetch(site, folder) == TINY
    assert site.ranges == ["", "bytes=30000-", "bytes=70000-"]


async def test_a_later_pull_resumes_what_an_earlier_one_left(site: Site, folder: ModelFolder) -> None:
    site.cuts = [30_000, 0, 0, 0, 0]
    with pytest.raises(ModelFileError, match="what came is kept"):
        await fetch(site, folder)
    site.ranges.clear()
    assert await fetch(site, folder) == TINY
    assert site.ranges == ["bytes=30000-"]


async def test_a_server_without_ranges_is_read_from_the_start(site: Site, folder: ModelFolder) -> None:
    site.cuts = [30_000]
    site.knows_ranges = False
    assert await fetch(site, folder) == TINY


async def test_what_was_kept_for_another_hash_is_not_mixed_in(site: Site, folder: ModelFolder) -> None:
    site.cuts = [30_000, 0, 0, 0, 0]
    with pytest.raises(ModelFileError, match="kept"):
        await fetch(site, folder)
    site.content = gguf(tail=b"another" * 20_000)
    site.ranges.clear()
    assert await fetch(site, folder, sha256(site.content)) == site.content
    assert site.ranges == [""]


async def test_a_file_that_was_whole_before_the_crash_needs_no_byte_more(site: Site, folder: ModelFolder) -> None:
    folder.parts("tiny").mkdir(parents=True)
    (folder.parts("tiny") / "wanted.sha256").write_text(sha256(TINY))
    folder.partial("tiny").write_bytes(TINY)
    assert await fetch(site, folder) == TINY
    assert site.ranges == [f"bytes={len(TINY)}-"]


async def test_the_wrong_file_is_removed(site: Site, folder: ModelFolder) -> None:
    with pytest.raises(ModelFileError, match=f"{sha256(b'x')} wanted, {sha256(TINY)} got"):
        await fetch(site, folder, sha256(b"x"))
    assert folder.list() == []
    assert not folder.partial("tiny").exists()


async def test_the_right_file_that_is_no_model_is_removed(site: Site, folder: ModelFolder) -> None:
    site.content = b"<html>log in first</html>"
    with pytest.raises(ModelFileError, match="not with b'GGUF'"):
        await fetch(site, folder, sha256(site.content))
    assert folder.list() == []


async def test_endless_redirects_end(site: Site, folder: ModelFolder) -> None:
    site.redirects = True
    with pytest.raises(ModelFileError, match="cannot be fetched"):
        await fetch(site, folder)
    assert len(site.ranges) == 6


@pytest.mark.attack("redirect of a download into a private network")
@pytest.mark.parametrize(
    "place", ["http://169.254.169.254/latest/meta-data", "http://127.0.0.2:9/", "http://[::1]:9/", "http://0x7f.1/"]
)
async def test_a_redirect_leads_no_download_to_hosts_that_are_not_public(
    site: Site, folder: ModelFolder, place: str
) -> None:
    """Of all that is private, only the host that the operator named is called."""
    site.redirects, site.leads_to = True, place
    with pytest.raises(ModelFileError, match="leads elsewhere, and this hub does not call"):
        await fetch(site, folder)
    assert len(site.ranges) == 1


async def test_a_refusal_is_told_with_its_status_and_not_repeated(site: Site, folder: ModelFolder) -> None:
    site.status = 404
    with pytest.raises(ModelFileError, match="answered 404 Not Found"):
        await fetch(site, folder)
    assert len(site.ranges) == 1


def test_an_address_is_shown_without_its_secrets() -> None:
    assert shown("https://robot:sesame@h.example/m.gguf?sig=1#x") == "https://h.example/m.gguf"
