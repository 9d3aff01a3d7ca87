"""Fixtures of the adapters' tests."""

import pytest

from autoglm.channels import backoff


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a connection up tries again soon."""
    monkeypatch.setattr(backoff, "FIRST_S", 0.02)
