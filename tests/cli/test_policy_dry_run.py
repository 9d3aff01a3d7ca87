"""`autoglm policy dry-run` reads what `autoglm audit export` writes."""

import asyncio
import json
from pathlib import Path
from typing import Any

from audited import PRESS, Site
from autoglm.auth.audit.recorder import Grounds, Who
from cli.terminal import Finished, autoglm
from gateway.wire import call
from hub import running_hub

NOT_TO_BOB = (
    '@id("nobody writes to bob")\nforbid(principal, action == Action::"send:message", resource == User::"bob");\n'
)
ALARMS_ONLY = (
    '@id("alarms only")\nforbid(principal, action == Action::"send:message", resource)\n'
    'unless { context.labels.contains("kind=alert") };\n'
)
IN_THE_MORNING = (
    '@id("mornings")\nforbid(principal, action == Action::"model:use", resource) when { context.hour >= 12 };\n'
)


def authority(tmp_path: Path, cedar: str, **roles: Any) -> Path:
    folder = tmp_path / "authority"
    folder.joinpath("draft").mkdir(parents=True)
    files = {"policies.cedar": cedar, "roles.json": json.dumps({"roles": {}, "groups": {}, "grants": {}, **roles})}
    for name, text in {"revocations.json": "{}", "pins.json": "[]", **files}.items():
        folder.joinpath("draft", name).write_text(text)
    return folder


def exported(data: Path, past: Path, *args: str) -> Path:
    done = autoglm("audit", "export", past, *args, data=data)
    assert done.status == 0, done.err
    return past


def dry_run(folder: Path, past: Path, *args: str) -> Finished:
    done = autoglm("policy", "dry-run", folder, past, *args)
    assert done.status == 0, done.err
    return done


def told(folder: Path, past: Path) -> dict[str, Any]:
    return dict(json.loads(dry_run(folder, past, "--json").out))


def test_what_was_asked_of_a_hub_is_judged_by_the_draft(tmp_path: Path) -> None:
    with running_hub(tmp_path / "data") as hub:
        for to in ("user:bob", "user:bob", "user:carol", "user:bob"):
            sent = call(hub.port, hub.admin_key, "POST", "/api/messages", {"to": to, "content": "hi"})
            assert sent.status == 202, sent
        hub.stop()
    past = exported(tmp_path / "data", tmp_path / "past.jsonl")
    folder = authority(tmp_path, NOT_TO_BOB)
    found = told(folder, past)
    assert (found["changes"], len(found["first"]), found["unjudged"]) == (3, 1, {})
    first = found["first"][0]
    assert (first["count"], first["action"], first["about"], first["was_allowed"], first["policy_ids"]) == (
        3, "send:message", "user:bob", True, ["nobody writes to bob"],
    )  # fmt: skip
    shown = dry_run(folder, past).out
    assert shown.startswith(f"3 of {found['judged']} decisions would change\n")
    assert ("user:bob" in shown, "user:carol" in shown) == (True, False)
    bare = exported(tmp_path / "data", tmp_path / "bare.jsonl", "--without-personal")
    assert "could not be judged: whose they were is erased" in dry_run(folder, bare).out
    assert told(folder, bare)["unjudged"] == {"erased": found["judged"]}


def recorded(tmp_path: Path) -> Path:
    """The press: 3 allowed by its scope, 1 of them an alarm; 1 by a role; 1 by neither; 3 and 3 refused."""
    site = Site(tmp_path / "data")

    async def work() -> None:
        async with site.running() as (_, audit):
            for labels in (frozenset[str](), frozenset({"kind=alert"}), frozenset({"kind=news"})):
                audit.decision(
                    PRESS, "send:message", PRESS.address, is_allowed=True, about="user:bob", labels=labels,
                    grounds_of=lambda *_: Grounds(scope="send:message"),
                )  # fmt: skip
            audit.decision(PRESS, "read:sensor", "hall", is_allowed=True, grounds_of=lambda *_: Grounds(role="watcher"))
            audit.decision(PRESS, "read:message", PRESS.address, is_allowed=True)
            for reason in ("no_scope", "forbidden"):
                for _ in range(3):
                    audit.decision(PRESS, "read:metrics", "", is_allowed=False, reason=reason)
            audit.decision(PRESS, "read:metrics", "", is_allowed=False, reason="clock_untrusted")
            audit.act("send:message", PRESS, kind="conflict", outcome="denied", reason="policy_denies", about=2)

    asyncio.run(work())
    return exported(site.folder, tmp_path / "past.jsonl")


def turned(found: dict[str, Any]) -> list[tuple[int, str, bool, str]]:
    return sorted((row["count"], row["action"], row["was_allowed"], row["reason"]) for row in found["first"])


def test_rights_labels_and_sums_are_those_of_then(tmp_path: Path) -> None:
    found = told(authority(tmp_path, ALARMS_ONLY), recorded(tmp_path))
    assert turned(found) == [(1, "read:sensor", True, "no_scope"), (2, "send:message", True, "forbidden")]
    assert (found["judged"], found["unjudged"]) == (7, {"no_scope_recorded": 4, "other_cause": 1})


def test_a_role_of_the_draft_turns_refusals_around(tmp_path: Path) -> None:
    given = {"device:press-7": [{"role": "watcher"}]}
    folder = authority(tmp_path, "", roles={"watcher": ["read:sensor", "read:metrics"]}, grants=given)
    found = told(folder, recorded(tmp_path))
    assert turned(found) == [(6, "read:metrics", False, "scope")]
    assert found["unjudged"] == {"no_scope_recorded": 1, "other_cause": 1}


def test_what_the_draft_refuses_for_any_right_stays_refused(tmp_path: Path) -> None:
    found = told(authority(tmp_path, "forbid(principal, action, resource);"), recorded(tmp_path))
    assert (found["judged"], found["changes"]) == (10, 4)
    assert found["unjudged"] == {"no_scope_recorded": 1, "other_cause": 1}


def test_whom_the_draft_revokes_could_do_nothing(tmp_path: Path) -> None:
    folder = authority(tmp_path, "")
    (folder / "draft" / "revocations.json").write_text('{"jkt:press": {"at_ms": 1, "reason": "lost"}}')
    found = told(folder, recorded(tmp_path))
    assert turned(found) == [(1, "read:sensor", True, "revoked"), (3, "send:message", True, "revoked")]


def test_a_role_for_somebody_of_another_hub_is_not_guessed_to_suffice(tmp_path: Path) -> None:
    site = Site(tmp_path / "data")

    async def work() -> None:
        async with site.running() as (_, audit):
            oven = Who("oven", "site:ward-4/device:oven", "jti:1")
            audit.decision(oven, "read:metrics", "", is_allowed=False, reason="no_scope")

    asyncio.run(work())
    given = {"site:ward-4/device:oven": [{"role": "watcher"}]}
    folder = authority(tmp_path, "", roles={"watcher": ["read:metrics"]}, grants=given)
    found = told(folder, exported(site.folder, tmp_path / "past.jsonl"))
    assert (found["judged"], found["unjudged"]) == (0, {"no_scope_recorded": 1})


def test_a_sum_of_which_the_draft_refuses_some_is_not_guessed(tmp_path: Path) -> None:
    site = Site(tmp_path / "data")
    site.clock.ms = 1_700_049_000_000 - 3_600_000  # 10:50 in the morning, UTC

    async def work() -> None:
        async with site.running() as (_, audit):
            for _ in range(3):
                audit.decision(
                    PRESS, "model:use", "glm", is_allowed=True, grounds_of=lambda *_: Grounds(scope="model:use:glm")
                )
                site.clock.ms += 3_600_000

    asyncio.run(work())
    past = exported(site.folder, tmp_path / "past.jsonl")
    found = told(authority(tmp_path, IN_THE_MORNING), past)
    assert (found["judged"], found["changes"], found["unjudged"]) == (1, 0, {"time_unsure": 2})


def test_a_damaged_entry_is_named(tmp_path: Path) -> None:
    past = recorded(tmp_path)
    past.write_bytes(past.read_bytes().replace(b'"kind":"decision"', b'"kind":"decision","x":1', 1))
    refused = autoglm("policy", "dry-run", authority(tmp_path, ""), past)
    assert (refused.status, "line 2" in refused.err, "Traceback" in refused.err) == (1, True, False)
