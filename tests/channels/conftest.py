"""Fixtures of the channels' tests."""

import asyncio
import sys

import pytest

from autoglm.core import clock as real
from channels.clock import Clock


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for name, module in list(sys.modules.items()):
        if name.startswith("autoglm.") and module is not real:
            if getattr(module, "now_ms", None) is real.now_ms:
                monkeypatch.setattr(module, "now_ms", made.now_ms)
            if getattr(module, "monotonic_s", None) is real.monotonic_s:
                monkeypatch.setattr(module, "monotonic_s", made.monotonic_s)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", made.monotonic_s)
    return made
