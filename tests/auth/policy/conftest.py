"""An authority that has published once, a site that trusts it, and the web server between them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from auth.policy.authority import Authority, Site, WebServer, revoking, serving


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Its first policy revokes `user:mallory`."""
    authority = Authority(tmp_path / "authority")
    authority.publish(revoking("user:mallory"))
    return authority


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Site:
    return Site(tmp_path / "site", authority)


@pytest.fixture
def web(authority: Authority) -> Iterator[WebServer]:
    with serving(authority.folder) as server:
        yield server
