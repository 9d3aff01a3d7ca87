"""Stands in for the package `ray` in the hub's Ray child, so that a test can write what a cluster does.

The child finds it first on its path. `state.json` beside the package says what happens: `{"no_cluster": "..."}`
makes `init` fail as Ray does, `{"members": [...], "trouble": ""}` is what the registry knows, `{"is_missing": true}`
makes the import fail, `"message"` is what Serve says of the deployment.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from autoglm.inference.providers.ray_order import RayMembers

STATE = Path(__file__).parents[1] / "state.json"


def scripted() -> dict[str, Any]:
    return dict(json.loads(STATE.read_text()))


if scripted().get("is_missing"):
    raise ImportError("No module named 'ray'")


def init(**_: object) -> None:
    if reason := scripted().get("no_cluster"):
        raise Exception(reason)


def is_initialized() -> bool:
    return True


def shutdown() -> None:
    (STATE.parent / "shutdown").touch()


def remote(**_: object) -> Any:
    def report() -> RayMembers:
        return msgspec.convert({key: scripted()[key] for key in ("members", "trouble")}, RayMembers)

    actor = SimpleNamespace(report=SimpleNamespace(remote=report))
    return lambda _: SimpleNamespace(remote=lambda: actor)


def get(value: Any, timeout: float) -> Any:
    return value
