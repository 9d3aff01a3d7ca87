"""Links of admins, by which people come in or get a new password: none opens once what it was made for is over."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auth.policy.authority import Authority, policy_files
from autoglm.core.errors import StorageFull
from gateway.browser import SESSION, Browser, code_of, invite, join
from gateway.hold import Hold
from gateway.inside import Inside, hub_inside
from gateway.people_inside import admin, people_settings, policy_of, pull_policy
from gateway.wire import call
from people_hub import CHEAP, PASSWORD
from small_disk import filled, mounted_disk

NEW_PASSWORD = "entirely new words"

pytestmark = pytest.mark.usefixtures("closed_browsers")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("links") / "data", people_settings()) as inside:
        yield inside


def use(hub: Inside, token: str, password: str = PASSWORD) -> tuple[int, str]:
    """What came of it, in a new browser: the status, and the code of what is wrong."""
    answer = Browser(hub).ask("POST", "/api/login/invitation", {"token": token, "password": password})
    return answer.status_code, answer.json().get("code", "")


def reset(hub: Inside, name: str) -> str:
    token: str = admin(hub, "POST", f"/api/people/{name}/reset").json()["token"]
    return token


def open_handles(hub: Inside, name: str) -> list[str]:
    listed = admin(hub, "GET", "/api/invitations").json()["invitations"]
    return [one["handle"] for one in listed if one["name"] == name]


@pytest.mark.attack("an old link for one who was removed")
def test_an_old_link_does_not_bring_back_who_was_removed(hub: Inside) -> None:
    old = invite(hub, "fired", "admin")  # by mistake; the right one follows
    assert use(hub, invite(hub, "fired", "member")) == (200, "")
    assert open_handles(hub, "fired") == []
    assert admin(hub, "DELETE", "/api/people/fired").status == 204
    assert use(hub, old) == (401, "login_refused")


@pytest.mark.attack("a link that is made void while its password is hashed")
@pytest.mark.parametrize("end", ["end sessions", "remove and invite another"])
def test_a_link_that_was_made_void_meanwhile_opens_nothing(
    hub: Inside, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    name = "slow-" + end.split(maxsplit=1)[0]
    join(hub, name, "member")
    token = reset(hub, name)
    passwords, hold = hub.hub._trust.people.passwords, Hold()
    hashed = passwords.hashed

    async def slow(password: str, of: str) -> str:
        await hold.pause()
        return await hashed(password, of)

    monkeypatch.setattr(passwords, "hashed", slow)
    with hold.during(lambda: use(hub, token, "a thief knows this one")) as thief:
        if end == "end sessions":
            assert admin(hub, "DELETE", f"/api/people/{name}/sessions").status == 204
        else:
            assert admin(hub, "DELETE", f"/api/people/{name}").status == 204
            join(hub, name, "admin")
    assert thief.result() == (401, "login_refused")


def test_a_link_that_could_not_be_withdrawn_can_be_withdrawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> bool:
        raise StorageFull("no space")

    with hub_inside(tmp_path / "data", people_settings()) as hub:
        token = invite(hub, "zoe", "admin")
        (handle,) = open_handles(hub, "zoe")
        with monkeypatch.context() as patch:
            patch.setattr(hub.hub._trust.people.invitations._kept._keyvalue, "delete", full)
            assert admin(hub, "DELETE", f"/api/invitations/{handle}").status == 507
        assert admin(hub, "DELETE", f"/api/invitations/{handle}").status == 204
        assert open_handles(hub, "zoe") == []
    with hub_inside(tmp_path / "data", people_settings()) as hub:
        assert use(hub, token) == (401, "login_refused")


@pytest.mark.attack("a full disk keeps a link that was withdrawn")
def test_a_link_that_was_withdrawn_on_a_full_disk_is_void_after_a_restart(tmp_path: Path) -> None:
    with mounted_disk(tmp_path) as disk:
        with hub_inside(disk / "data", people_settings()) as hub:
            token = invite(hub, "zoe", "admin")
            (handle,) = open_handles(hub, "zoe")
            with filled(disk):
                for _ in range(3):
                    assert admin(hub, "DELETE", f"/api/invitations/{handle}").status in (204, 404, 507)
            assert open_handles(hub, "zoe") == []
            hub.ask(hub.hub._trust.people.sweep())  # as each minute
        with hub_inside(disk / "data", people_settings()) as hub:
            assert use(hub, token) == (401, "login_refused")


@pytest.mark.attack("a link from before a policy gave its name a role")
def test_a_link_made_before_a_policy_gave_the_name_a_role_gives_no_role(tmp_path: Path) -> None:
    """A clerk who may make observers keeps the link until the policy makes `chief` an admin."""
    authority = Authority(tmp_path / "authority")
    wanted = {"name": "chief", "roles": ["observer"]}
    with hub_inside(tmp_path / "data", people_settings(policy=policy_of(authority, policy_files()))) as hub:
        pull_policy(hub)
        scopes = ["admin:people", "read:metrics", "read:message"]
        clerk = admin(hub, "POST", "/api/keys", {"name": "clerk", "scopes": scopes}).json()["key"]
        token = invite(hub, "chief", "observer", key=clerk)
        roles = {"roles": {"chief": ["admin:*"]}, "grants": {"user:chief": [{"role": "chief"}]}}
        authority.publish(policy_files(roles=roles))
        pull_policy(hub)
        assert call(hub.port, clerk, "POST", "/api/invitations", wanted).status == 403
        browser = Browser(hub)
        body = {"token": token, "password": PASSWORD}
        assert code_of(browser.ask("POST", "/api/login/invitation", body)) == (401, "login_refused")
        assert browser.ask("GET", "/api/keys").status_code == 401


@pytest.mark.attack("a rehash that brings the old password back")
def test_a_rehash_under_way_does_not_bring_the_old_password_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_inside(tmp_path / "data", people_settings()) as hub:
        join(hub, "ann")
        token = reset(hub, "ann")
    with hub_inside(tmp_path / "data", people_settings(password={**CHEAP, "passes": 6})) as hub:
        passwords, hold = hub.hub._trust.people.passwords, Hold()
        run = passwords._run

        async def slow(work: Any, *args: Any, **options: Any) -> Any:
            found = await run(work, *args, **options)
            if work == passwords._hash:
                await hold.pause()
            return found

        monkeypatch.setattr(passwords, "_run", slow)
        with hold.during(lambda: Browser(hub).log_in("ann")):  # by the old password, whose hash is too cheap now
            assert use(hub, token, NEW_PASSWORD) == (200, "")
        assert Browser(hub).log_in("ann").status_code == 401
        assert Browser(hub).log_in("ann", NEW_PASSWORD).status_code == 200


@pytest.mark.attack("a stop within a reset")
@pytest.mark.parametrize("step", ["the first epoch", "the password", "the second epoch"])
def test_a_stop_within_a_change_of_the_password_leaves_no_old_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A thief is in only where nothing was changed, which the person was told."""
    with hub_inside(tmp_path / "data", people_settings()) as hub:
        thief = join(hub, "ann").session
        token = reset(hub, "ann")
        stop_at(step, hub, monkeypatch)
        assert use(hub, token, NEW_PASSWORD)[0] == 507
    with hub_inside(tmp_path / "data", people_settings()) as hub:
        has_new_password = Browser(hub).log_in("ann", NEW_PASSWORD).status_code == 200
        is_thief_in = Browser(hub).ask("GET", "/api/me", cookie=f"{SESSION}={thief}").status_code == 200
    assert has_new_password is (step == "the second epoch")
    assert is_thief_in is (step == "the first epoch")


def stop_at(step: str, hub: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """From this step of a change of the password on, nothing is written."""
    people = hub.hub._trust.people
    steps = ["the first epoch", "the password", "the second epoch"]
    left = steps.index(step)
    for part, name in ((people.accounts, "begin_epoch"), (people.passwords, "keep")):
        real = getattr(part, name)

        async def written(*args: Any, real: Any = real) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise StorageFull("or kill -9")
            return await real(*args)

        monkeypatch.setattr(part, name, written)
