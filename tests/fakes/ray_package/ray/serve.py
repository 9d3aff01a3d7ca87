"""The few functions of Ray Serve that the child calls; they do nothing."""

from types import SimpleNamespace
from typing import Any

from ray import scripted  # type: ignore[attr-defined]  # of the package beside this file


def deployment(_: type, **__: object) -> Any:
    return SimpleNamespace(bind=lambda *args, **options: (args, options))


def start(**_: object) -> None: ...


def RunTarget(**fields: object) -> dict[str, object]:  # Ray's name
    return fields


def run_many(targets: object, **_: object) -> None: ...


def delete(name: str) -> None: ...


def status() -> Any:
    deployment = SimpleNamespace(message=scripted().get("message", ""))
    return SimpleNamespace(applications={"farm": SimpleNamespace(deployments={"worker": deployment})})
