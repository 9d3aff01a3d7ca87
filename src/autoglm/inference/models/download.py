"""Fetches a model file from an address. The hash is mandatory: it decides, so plain http in an intranet is as good."""

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2

from autoglm.core.errors import AddressRefused, ModelFileError
from autoglm.core.guard import AddressGuard, check_address
from autoglm.inference.models.folder import ModelFile
from autoglm.inference.models.partial import CHUNK_BYTES, Partial
from autoglm.inference.models.target import Target

_MAX_REDIRECTS = 5
_TRIES = 5
_TIMEOUT = httpx2.Timeout(60.0, connect=15.0)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)")
_CHECK_SPACE_EVERY_BYTES = 64 * CHUNK_BYTES


async def pull_url(url: str, target: Target, sha256: str, *, retry_pause_s: float = 1.0) -> ModelFile:
    """Stream the file, going on where an earlier try for the same hash broke off.

    A broken connection is tried anew, but not after 5 tries in a row without a new byte; the pauses between them grow,
    from retry_pause_s on. Raises ModelFileError, StorageFull.
    """
    marker = target.folder.parts(target.name) / "wanted.sha256"  # whose bytes the partial holds
    marker.parent.mkdir(parents=True, exist_ok=True)
    with Partial(target) as partial:
        if partial.size_bytes and not _says(marker, sha256):
            partial.restart()
        marker.write_text(sha256)
        if partial.size_bytes:
            await anyio.to_thread.run_sync(partial.rehash)
        await _fetch_all(url, target, partial, retry_pause_s)
        placed = await anyio.to_thread.run_sync(
            lambda: partial.place(
                wanted_sha256=sha256, origin=f"downloaded from {shown(url)}", title=None, licence=None
            )
        )
    shutil.rmtree(marker.parent, ignore_errors=True)
    return placed


async def _fetch_all(url: str, target: Target, partial: Partial, retry_pause_s: float) -> None:
    failures = 0
    furthest_bytes = partial.size_bytes
    guard = AddressGuard.beside(url)

    async def check(request: httpx2.Request) -> None:
        await check_address(guard, str(request.url))

    async with httpx2.AsyncClient(
        timeout=_TIMEOUT, follow_redirects=True, max_redirects=_MAX_REDIRECTS, event_hooks={"request": [check]}
    ) as client:
        while True:
            try:
                await _fetch(client, url, target, partial)
            except (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError) as error:
                failures = 1 if partial.size_bytes > furthest_bytes else failures + 1
                furthest_bytes = max(furthest_bytes, partial.size_bytes)
                if failures >= _TRIES:
                    raise ModelFileError(
                        f"{shown(url)} could not be read: {_reason(error)}; what came is kept, pull again to go on"
                    ) from error
                target.reporter.report(f"the connection broke, trying again for {target.name}", partial.size_bytes, 0)
                await anyio.sleep(retry_pause_s * 2 ** (failures - 1))
            except AddressRefused as error:  # of a redirect: the address itself is the operator's choice
                reason = f"{shown(url)} leads elsewhere, and {error}; give that address if it is meant"
                raise ModelFileError(reason) from error
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise ModelFileError(f"{shown(url)} cannot be fetched: {_reason(error)}") from error
            else:
                return


async def _fetch(client: httpx2.AsyncClient, url: str, target: Target, partial: Partial) -> None:
    """One request for what is missing. Raises httpx2's errors, ModelFileError, StorageFull."""
    headers = {"accept-encoding": "identity"}  # the hash is that of the bytes as they lie on the server
    if partial.size_bytes:
        headers["range"] = f"bytes={partial.size_bytes}-"
    async with client.stream("GET", url, headers=headers) as reply:
        if reply.status_code == 416 and partial.size_bytes:
            return  # nothing is behind what is here; the hash will tell
        if reply.status_code not in (200, 206):
            raise ModelFileError(f"{shown(url)} answered {reply.status_code} {reply.reason_phrase}")
        if reply.status_code == 200:
            partial.restart()
        elif not _starts_at(reply.headers.get("content-range", ""), partial.size_bytes):
            raise ModelFileError(f"{shown(url)} answered with another range of bytes than the one asked for")
        length = reply.headers.get("content-length", "")
        total_bytes = partial.size_bytes + int(length) if re.fullmatch(r"\d{1,15}", length) else 0
        target.folder.check_space(target.name, max(0, total_bytes - partial.size_bytes))
        checked_bytes = partial.size_bytes
        async for chunk in _gathered(reply, partial):
            await anyio.to_thread.run_sync(partial.write, chunk)
            target.reporter.report(f"downloading {target.name}", partial.size_bytes, total_bytes)
            if partial.size_bytes - checked_bytes >= _CHECK_SPACE_EVERY_BYTES:  # the length may be unknown or a lie
                target.folder.check_space(target.name, CHUNK_BYTES)
                checked_bytes = partial.size_bytes


async def _gathered(reply: httpx2.Response, partial: Partial) -> AsyncIterator[bytes]:
    """Network chunks gathered to a mebibyte. If the connection breaks, what was gathered is kept."""
    gathered = bytearray()
    try:
        async for chunk in reply.aiter_raw():
            gathered += chunk
            if len(gathered) >= CHUNK_BYTES:
                full, gathered = bytes(gathered), bytearray()
                yield full
    except httpx2.TransportError:
        partial.write(bytes(gathered))
        raise
    yield bytes(gathered)


def _starts_at(content_range: str, offset: int) -> bool:
    seen = _CONTENT_RANGE.fullmatch(content_range)
    return seen is not None and int(seen[1]) == offset


def _says(marker: Path, sha256: str) -> bool:
    try:
        return marker.read_bytes()[:64] == sha256.encode()
    except OSError:
        return False


def _reason(error: Exception) -> str:
    """httpx2's timeouts have no text."""
    return str(error) or type(error).__name__


def shown(url: str) -> str:
    """The address without what may be secret: user, password, query."""
    return re.sub(r"(?<=//)[^/@]*@", "", url.partition("?")[0].partition("#")[0])
