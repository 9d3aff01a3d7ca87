"""Alerts whose resolution went out first: one that failed and is tried again later must not be raised anew."""

from collections.abc import Mapping
from typing import Any

from autoglm.channels.adapters.alertmanager.alerts import is_meant

MOST = 1000
"""Failed alerts that are remembered; the oldest is forgotten first. A hub that starts anew remembers none."""


class Overtaken:
    """By the keys of parcels. No clock takes part: those of senders may be wrong, and a lost alarm is worse than one
    that lasts too long.
    """

    def __init__(self) -> None:
        self._failed: dict[str, tuple[str, Mapping[str, Any]]] = {}
        """Key to (target, alert)."""
        self._over: dict[str, None] = {}

    def failed(self, key: str, target: str, alert: Mapping[str, Any]) -> None:
        self._failed[key] = (target, alert)
        _shorten(self._failed)

    def resolved(self, target: str, posting: Mapping[str, Any]) -> None:
        """Whatever failed before and is meant by it is over."""
        for key, (wanted, alert) in self._failed.items():
            if wanted == target and is_meant(alert, posting):
                self._over[key] = None
        _shorten(self._over)

    def is_over(self, key: str) -> bool:
        return key in self._over

    def settled(self, key: str) -> None:
        self._failed.pop(key, None)
        self._over.pop(key, None)


def _shorten(kept: dict[str, Any]) -> None:
    while len(kept) > MOST:
        del kept[next(iter(kept))]
