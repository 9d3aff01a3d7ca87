"""Where a running hub is found, and with which key: an address that was given, or what the hub left in its data folder.

Standard library only: the command line imports this on every start.
"""

import fcntl
import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from autoglm.core.errors import HubError
from autoglm.invocation import command, default_data_dir

STATE_FILE = "hub.json"
LOCK_FILE = "hub.lock"
ADMIN_KEY_FILE = "admin.key"
_USUAL_PORT = 8600
"""`gateway.port`, which the command line does not load."""


class NoHub(HubError):
    """Nothing answers where a hub should be."""

    code = "no_hub"
    retryable = True

    def __init__(self, where: str, reason: str = "", way_out: str = "") -> None:
        """way_out: how to start it, when absent."""
        way_out = way_out or _start(url=where)
        super().__init__(f"no hub answers at {where}{f' ({reason})' if reason else ''}; {way_out}")
        self.where = where


class NoKey(HubError):
    """A hub is named, but no key for it."""

    code = "no_key"


@dataclass(frozen=True)
class HubAddress:
    """A hub's address without a slash at the end, and the key to use there."""

    url: str
    key: str = field(repr=False)


def find_hub(url: str | None = None, key: str | None = None, data_dir: Path | None = None) -> HubAddress:
    """The hub at `url`, else the one that runs on `data_dir` (the default folder when absent).

    Without `key` the folder's admin.key is used, but only for a hub on this machine: it must not travel to an address
    that merely was typed. Raises NoHub, NoKey.
    """
    folder = data_dir or default_data_dir()
    found = _checked(url) if url else _running_on(folder)
    if key is None:
        if url and not is_loopback(found):
            raise NoKey(f"{found} is not on this machine: give its key by AUTOGLM_KEY")
        key = _read_key(folder / ADMIN_KEY_FILE, found)
    if not (key.isascii() and key.isprintable() and key):
        raise NoKey("the key has characters that no key has, or is empty; was it copied whole?")
    return HubAddress(found, key)


def is_loopback(url: str) -> bool:
    """True when the address leads to this machine, so that no proxy must come between."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise NoHub(url, "that is no address", str(error)) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoHub(url, "that is no address", "one begins with http:// or https://")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def _running_on(folder: Path) -> str:
    """What hub.json says. A file that a killed hub left behind leads nowhere, or to a stranger on the same port."""
    try:
        state = json.loads((folder / STATE_FILE).read_text())
        url, pid = str(state["url"]), int(state["pid"])
    except FileNotFoundError:
        raise NoHub(str(folder), way_out=_start(folder)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoHub(str(folder), f"{STATE_FILE} cannot be read: {error}") from None
    if not is_held(folder):
        raise NoHub(str(folder), f"the last one, process {pid}, is gone", _start(folder, str(state["url"])))
    # A hub that listens everywhere is reached by the loopback address.
    return _checked(url).replace("://0.0.0.0", "://127.0.0.1").replace("://[::]", "://[::1]")


def _start(folder: Path | None = None, url: str = "") -> str:
    """url: where it was, or is wanted: on this machine, it goes there again."""
    port = _port_here(url)
    return f"start it with: {command('up' if port is None else f'up --port {port}', folder)}"


def _port_here(url: str) -> int | None:
    """The port of an address on this machine, where it is another than a hub takes by itself."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return port if parts.scheme == "http" and is_loopback(url) and port != _USUAL_PORT else None


def is_held(folder: Path) -> bool:
    """True while a hub holds the data folder, also one that does not answer.

    Its pid alone would mean nothing: another process may have it by now.
    """
    try:
        with (folder / LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _read_key(path: Path, url: str) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise NoKey(f"no key for {url}: there is no {path}; give a key by AUTOGLM_KEY") from None
    except (OSError, UnicodeDecodeError) as error:
        raise NoKey(f"no key for {url}: {path} cannot be read ({error}); give a key by AUTOGLM_KEY") from None
