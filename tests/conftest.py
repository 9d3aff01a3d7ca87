"""Fixtures that every suite shares."""

import pytest
from hypothesis import HealthCheck, settings

# Speed never fails a test: what else the machine does is not the code's.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
