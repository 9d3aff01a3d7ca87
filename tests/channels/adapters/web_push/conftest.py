"""A push service."""

from collections.abc import Iterator

import pytest

from fakes.push_service import PushService


@pytest.fixture
def service() -> Iterator[PushService]:
    with PushService() as service:
        yield service
