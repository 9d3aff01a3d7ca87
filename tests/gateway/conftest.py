"""Fixtures of the suites in which people log in."""

from collections.abc import Iterator

import pytest

from autoglm.core.clock import now_ms
from fakes.oidc_provider import OidcProvider
from gateway.browser import close_all


@pytest.fixture
def closed_browsers() -> Iterator[None]:
    """Those that a test opened end with it."""
    yield
    close_all()


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with OidcProvider(now_ms) as provider:
        yield provider
