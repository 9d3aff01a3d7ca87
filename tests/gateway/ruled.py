"""A hub inside the test with an authority of its own, whose policy the test changes while the hub runs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from auth.policy.authority import Authority, policy_files
from autoglm.auth.policy.settings import PolicySettings
from autoglm.core.clock import now_ms
from autoglm.settings import Settings
from gateway.inside import Inside, hub_inside
from gateway.wire import call


class Ruled:
    def __init__(self, hub: Inside, authority: Authority) -> None:
        self.hub = hub
        self.authority = authority

    def rule(self, files: Mapping[str, bytes] | None = None) -> None:
        """From now on this policy holds; without files, one that says nothing."""
        self.authority.clock.now_ms = now_ms()
        self.authority.publish(policy_files() if files is None else files)
        self.hub.ask(self.hub.hub._trust.policy.pull())

    def audit(self, query: str) -> list[dict[str, Any]]:
        """Its entries, newest first."""
        self.hub.ask(self.hub.hub._trust.audit.written())
        found: list[dict[str, Any]] = call(self.hub.port, self.hub.key, "GET", f"/api/audit?{query}").json()["entries"]
        return found


def new_authority(folder: Path) -> tuple[Authority, PolicySettings]:
    """With a first policy that says nothing, and the settings of a hub that goes by it."""
    authority = Authority(folder / "authority")
    authority.clock.now_ms = now_ms()
    authority.publish(policy_files())
    settings = PolicySettings(
        root_file=folder / "authority" / "metadata" / "1.root.json", source=str(folder / "authority"),
        deny_after_s=10**9, read_only_after_s=10**9,
    )  # fmt: skip
    return authority, settings


@contextmanager
def ruled_hub(folder: Path, chosen: Settings) -> Iterator[Ruled]:
    authority, policy = new_authority(folder)
    with hub_inside(folder / "data", chosen.model_copy(update={"policy": policy})) as inside:
        ruled = Ruled(inside, authority)
        ruled.rule()
        yield ruled


def revoked(*names: str) -> dict[str, bytes]:
    return policy_files(revocations={name: {"at_ms": now_ms(), "reason": "lost"} for name in names})


def forbidding(who: str, action: str, what: str) -> dict[str, bytes]:
    """who, what: as Cedar writes them, such as `Device::"press-7"`."""
    return policy_files(f'forbid(principal == {who}, action == Action::"{action}", resource == {what});')
