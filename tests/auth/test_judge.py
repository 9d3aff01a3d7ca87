"""The judge of a running hub: clock before policy before scopes, and nothing is done that is not written down."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from auth.policy.authority import START_MS, Authority, policy_files, revoking
from autoglm.auth import trust as trust_module
from autoglm.auth.audit import rejudge as rejudge_module
from autoglm.auth.clock import ClockSettings
from autoglm.auth.policy.settings import PolicySettings
from autoglm.auth.principal import labels_of
from autoglm.auth.settings import KeySettings
from autoglm.auth.trust import CLOCK_FILE, TRUST_FOLDER, Trust, TrustParts, open_trust
from autoglm.core.errors import Forbidden, StorageFull
from autoglm.core.ports import JournalFilter
from autoglm.core.tasks import one_task_group
from autoglm.policy_fetch import http_fetch
from autoglm.store import StoreSettings, open_store

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


class Wall:
    """The machine's clock, which the test moves."""

    now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@asynccontextmanager
async def site(
    folder: Path, authority: Authority | None = None, *, wall: Wall | None = None, **policy: object
) -> AsyncIterator[Trust]:
    """A hub's trust, with a robot that sends and a boss who does all. A second one is the hub after a restart."""
    keys = [
        KeySettings.model_validate({"name": "robot", "value": "sk-robot", "scopes": ["send:message", "read:message"]}),
        KeySettings.model_validate({"name": "boss", "value": "sk-boss", "scopes": ["admin:*"], "address": "user:boss"}),
    ]
    chosen = PolicySettings.model_validate(policy)
    if authority is not None:
        where = {"root_file": authority.folder / "metadata" / "1.root.json", "source": str(authority.folder)}
        chosen = PolicySettings.model_validate({**where, **policy})
    parts = TrustParts(policy=chosen, keys=keys, clock=ClockSettings(max_jump_days=30))
    async with (
        open_store(folder / "site", StoreSettings()) as store,
        open_trust(
            folder / "site", parts, store.keyvalue, store.journal, fetching=http_fetch, wall_ms=wall or Wall()
        ) as trust,
    ):  # fmt: skip
        yield trust


def refusal(trust: Trust, key: str, action: str, resource: str = "", kind: str = "chat") -> str | None:
    """None when it is allowed, else why not."""
    try:
        trust.keys.by_key(key.encode()).require(action, resource, labels_of(kind, None))
    except Forbidden as error:
        return str(error.facts["reason"])
    return None


async def written(trust: Trust) -> list[tuple[str, str]]:
    await trust.audit.written()
    return [(row.action, row.outcome) for row in await trust.journal.find(JournalFilter(kinds=("decision",)))]


async def test_without_an_authority_scopes_decide_alone_and_all_is_written_down(tmp_path: Path) -> None:
    async with site(tmp_path) as trust:
        assert refusal(trust, "sk-robot", "send:message", "user:a") is None
        assert refusal(trust, "sk-robot", "admin", "keys") == "no_scope"
        assert await written(trust) == [("send:message", "allowed"), ("admin", "denied")]


@pytest.mark.attack("a key revoked while offline")
async def test_a_new_policy_counts_at_once_and_after_a_restart(tmp_path: Path, authority: Authority) -> None:
    authority.publish(policy_files())
    async with site(tmp_path, authority) as trust:
        await trust.policy.pull()
        assert refusal(trust, "sk-robot", "send:message", "user:a") is None
        authority.publish(revoking("key:robot"))
        await trust.policy.pull()
        assert refusal(trust, "sk-robot", "send:message", "user:a") == "revoked"
        assert not trust.authenticator.is_current(trust.authenticator.of_key(trust.keys.by_key(b"sk-robot")))
    async with site(tmp_path, authority) as trust:
        assert (refusal(trust, "sk-robot", "send:message", "user:a"), trust.decider.version) == ("revoked", 2)


async def test_a_policy_forbids_what_a_scope_allows(tmp_path: Path, authority: Authority) -> None:
    authority.publish(policy_files('forbid(principal, action == Action::"send:message", resource == User::"boss");'))
    async with site(tmp_path, authority) as trust:
        await trust.policy.pull()
        assert refusal(trust, "sk-robot", "send:message", "user:boss") == "forbidden"
        assert refusal(trust, "sk-robot", "send:message", "user:alice") is None


async def test_a_hub_with_an_authority_and_no_policy_yet_lets_nobody_in(tmp_path: Path, authority: Authority) -> None:
    authority.publish(policy_files())
    async with site(tmp_path, authority) as trust:
        assert refusal(trust, "sk-robot", "read:message", "user:a") == "stale"
        assert refusal(trust, "sk-boss", "admin", "policy") is None  # who brings one can always do so


@pytest.mark.attack("cache tampering")
async def test_a_policy_s_cache_that_was_changed_does_not_bring_scopes_back(
    tmp_path: Path, authority: Authority
) -> None:
    authority.publish(revoking("key:robot"))
    async with site(tmp_path, authority) as trust:
        await trust.policy.pull()
    for file in (tmp_path / "site" / "policy").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes().replace(b"robot", b"other"))
    async with site(tmp_path, authority) as trust:
        assert refusal(trust, "sk-robot", "send:message", "user:a") == "stale"
        assert refusal(trust, "sk-boss", "admin", "keys") == "stale"


async def test_while_nobody_renews_the_policy_alarms_go_on_and_then_nothing(
    tmp_path: Path, authority: Authority
) -> None:
    authority.publish(policy_files())
    wall = Wall()
    steps = {"read_only_after_s": 3600, "deny_after_s": 7200}
    async with site(tmp_path, authority, wall=wall, **steps) as trust:
        await trust.policy.pull()
        assert trust.decider.snapshot is not None
        wall.now_ms = trust.decider.snapshot.expires_ms + 3_600_000
        trust.judge.renew()
        assert refusal(trust, "sk-robot", "send:message", "user:a") == "stale"
        assert refusal(trust, "sk-robot", "send:message", "user:a", kind="alert") is None
        assert refusal(trust, "sk-robot", "read:message", "user:a") is None
        wall.now_ms += 3_600_000
        trust.judge.renew()
        assert refusal(trust, "sk-robot", "send:message", "user:a", kind="alert") == "stale"
        assert refusal(trust, "sk-boss", "admin", "policy") is None


@pytest.mark.attack("clock back and forward")
async def test_nobody_administers_while_the_clock_is_not_believed(tmp_path: Path) -> None:
    wall = Wall()
    async with site(tmp_path, wall=wall) as trust:
        assert refusal(trust, "sk-boss", "admin", "keys") is None
        wall.now_ms -= HOUR_MS
        trust.judge.look()
        assert refusal(trust, "sk-boss", "admin", "keys") == "clock_untrusted"
        assert refusal(trust, "sk-robot", "send:message", "user:a") is None
        assert refusal(trust, "sk-boss", "admin", "clock") is None  # or nobody could put it right
        wall.now_ms += HOUR_MS
        trust.judge.look()
        assert refusal(trust, "sk-boss", "admin", "keys") is None
        await trust.audit.written()
        turns = await trust.journal.find(JournalFilter(kinds=("clock",)))
        assert [row.action for row in turns] == ["clock:untrusted", "clock:trusted"]


@pytest.mark.attack("clock back and forward")
@pytest.mark.parametrize("left", [None, b"\0" * 100], ids=["gone", "zeros"])
async def test_a_clock_whose_file_was_lost_goes_on_from_the_audit(tmp_path: Path, left: bytes | None) -> None:
    """And not from the machine's clock, which has meanwhile been set back."""
    wall = Wall()
    wall.now_ms = START_MS + 10 * DAY_MS
    async with site(tmp_path, wall=wall) as trust:
        given_ms = trust.clock.now_ms()
    file = tmp_path / "site" / TRUST_FOLDER / CLOCK_FILE
    file.unlink() if left is None else file.write_bytes(left)
    wall.now_ms = START_MS
    async with site(tmp_path, wall=wall) as trust:
        assert trust.clock.now_ms() >= given_ms
        assert trust.clock.reason == "lost"
        assert refusal(trust, "sk-boss", "admin", "keys") == "clock_untrusted"


async def test_each_step_of_an_old_policy_is_told_once(tmp_path: Path, authority: Authority) -> None:
    wall = Wall()
    authority.publish(policy_files())
    ladder = {"read_only_after_s": 86_400, "deny_after_s": 2 * 86_400}
    async with site(tmp_path, authority, wall=wall, **ladder) as trust:
        await trust.policy.pull()
        snapshot = trust.decider.snapshot
        assert snapshot is not None
        for after_ms in (0, 1, DAY_MS + 1, 2 * DAY_MS + 1):
            wall.now_ms = snapshot.expires_ms + after_ms if after_ms else START_MS
            trust.look_at_stage()
            trust.look_at_stage()
        await trust.audit.written()
        told = await trust.journal.find(JournalFilter(kinds=("policy",), actions=("policy:stage",)))
        assert [row.outcome for row in told] == ["allowed"] * len(told)
        assert trust.decider.stage == "deny"
        assert len(told) == 4


async def test_what_a_full_disk_kept_from_being_judged_again_is_tried_anew(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.publish(policy_files())
    async with site(tmp_path, authority) as trust, one_task_group() as tasks:
        ends, runs = [anyio.Event() for _ in range(3)], iter(range(3))

        async def full_the_second_time(*args: Any, **more: Any) -> Any:
            run = next(runs)
            if run == 1:
                raise StorageFull("hub.db")
            found = await rejudge_module.rejudge(*args, **more)
            ends[run].set()
            return found

        monkeypatch.setattr(trust_module, "rejudge", full_the_second_time)
        monkeypatch.setattr(trust_module, "_AGAIN_S", 0.01)
        tasks.start_soon(trust._rejudge)
        await trust.policy.pull()
        assert refusal(trust, "sk-robot", "send:message", "user:a") is None
        await trust.audit.written()
        with anyio.fail_after(20):
            await ends[0].wait()
            authority.publish(revoking("device:robot"))
            await trust.policy.pull()
            await ends[2].wait()
        await trust.audit.written()
        assert await trust.journal.find(JournalFilter(kinds=("conflict",)))
        tasks.cancel_scope.cancel()
