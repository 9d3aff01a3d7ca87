"""Logins by an OpenID provider that lies, fails, or says no: whom it lets in, and what goes on meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from auth.policy.authority import Authority, policy_files
from autoglm.auth.people.oidc import Oidc
from autoglm.core.clock import now_ms
from autoglm.core.errors import StorageFull
from autoglm.core.lasting import LastingRight, RightState
from eventually import wait_until
from fakes.oidc_provider import OidcProvider
from gateway.browser import SESSION, Browser, code_of
from gateway.inside import Inside, hub_inside
from gateway.people_inside import (
    admin,
    come_back,
    enter_by_provider,
    go_to_provider,
    oidc_of,
    people_settings,
    policy_of,
    pull_policy,
)
from gateway.wire import call

IN, REFUSED = "/", "/#login=refused"
"""Where a browser is sent."""
METADATA = "/.well-known/openid-configuration"

pytestmark = pytest.mark.usefixtures("closed_browsers")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("providers") / "data", people_settings(provider)) as inside:
        yield inside


def make_old(hub: Inside, minutes: int) -> None:
    """The provider's last yes to each person, and what is known of the provider itself."""

    async def back(oidc: Oidc) -> None:
        oidc._provider._metadata = None
        for digest, link in oidc._links.items():
            oidc._links[digest] = msgspec.structs.replace(link, confirmed_ms=now_ms() - minutes * 60_000)

    hub.ask(back(oidc_of(hub)))


def lasting_right(hub: Inside, browser: Browser) -> LastingRight:
    """What alarms and tasks of the browser's person go on by."""

    async def right(session: str) -> LastingRight:
        shown = await hub.hub._trust.authenticator.by_session(session)
        return hub.hub._trust.lasting.of(shown.principal, shown.ends_at_ms)

    assert browser.session is not None
    return hub.ask(right(browser.session))


def state_of(hub: Inside, right: LastingRight, address: str) -> RightState:
    async def state() -> RightState:
        return hub.hub._trust.lasting.state(right, address, "read:message", address)

    return hub.ask(state())


def test_a_person_named_invitations_can_be_disabled_and_removed(hub: Inside, provider: OidcProvider) -> None:
    """The paths of people and of links do not meet, whatever a provider calls its people."""
    browser, _ = enter_by_provider(hub, provider, "invitations")
    assert browser.ask("GET", "/api/me").json()["address"] == "user:invitations"
    assert admin(hub, "PATCH", "/api/people/invitations", {"is_disabled": True}).status == 200
    assert admin(hub, "DELETE", "/api/people/invitations").status == 204


@pytest.mark.attack("lock-out of others by callbacks that nobody began")
def test_a_strangers_page_locks_nobody_out_of_the_provider(tmp_path: Path, provider: OidcProvider) -> None:
    with hub_inside(tmp_path / "data", people_settings(provider)) as hub:
        for _ in range(6):  # <img src=...> in a page of others, in some colleague's browser
            assert come_back(Browser(hub), "state=x").headers["location"] == REFUSED
        assert enter_by_provider(hub, provider, "colleague")[1] == IN


@pytest.mark.attack("alarms go on after a provider's no")
def test_a_providers_no_ends_what_goes_on_by_itself(
    hub: Inside, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, _ = enter_by_provider(hub, provider, "leaver")
    right = lasting_right(hub, browser)
    assert state_of(hub, right, "user:leaver") == "holds"
    make_old(hub, minutes=2)
    with monkeypatch.context() as patch:
        patch.setattr(provider, "refuses_refresh", (400, "invalid_grant"))
        assert browser.ask("GET", "/api/me").status_code == 401
    assert state_of(hub, right, "user:leaver") == "over"


@pytest.mark.parametrize("unwritten", ["auth/oidc/", "auth/person/"])
def test_who_was_let_in_half_gets_in_after_a_restart(
    tmp_path: Path, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch, unwritten: str
) -> None:
    with hub_inside(tmp_path / "data", people_settings(provider)) as hub:
        keyvalue = oidc_of(hub)._keyvalue
        put = keyvalue.put

        async def full(key: str, value: bytes, *, expected_revision: int | None = None) -> int:
            if key.startswith(unwritten):
                raise StorageFull("no space")
            return await put(key, value, expected_revision=expected_revision)

        monkeypatch.setattr(keyvalue, "put", full)
        assert enter_by_provider(hub, provider, "halfway")[1] == REFUSED
    with hub_inside(tmp_path / "data", people_settings(provider)) as hub:
        assert enter_by_provider(hub, provider, "halfway")[1] == IN


@pytest.mark.attack("a name at the provider that has a role in the policy")
def test_a_name_at_the_provider_gives_nobody_the_roles_of_a_policy(tmp_path: Path, provider: OidcProvider) -> None:
    roles = {"roles": {"chief": ["admin:*"]}, "grants": {"user:chief": [{"role": "chief"}]}}
    policy = policy_of(Authority(tmp_path / "authority"), policy_files(roles=roles))
    with hub_inside(tmp_path / "data", people_settings(provider, policy=policy)) as hub:
        pull_policy(hub)
        browser, location = enter_by_provider(hub, provider, "chief")
        assert (location, browser.session) == (REFUSED, None)
        assert browser.ask("GET", "/api/people").status_code == 401
        assert enter_by_provider(hub, provider, "nobody-special")[1] == IN


@pytest.mark.attack("a session that outlives a login at the provider")
def test_after_a_login_at_the_provider_the_former_session_is_over(hub: Inside, provider: OidcProvider) -> None:
    browser, _ = enter_by_provider(hub, provider, "again")
    before = browser.session
    assert come_back(browser, go_to_provider(browser, provider, "again")).headers["location"] == IN
    assert browser.session != before
    assert code_of(Browser(hub).ask("GET", "/api/me", cookie=f"{SESSION}={before}")) == (401, "session_ended")


@pytest.mark.attack("who was removed comes back by the provider")
def test_who_was_removed_stays_out_though_the_provider_knows_him(hub: Inside, provider: OidcProvider) -> None:
    enter_by_provider(hub, provider, "gone")
    assert admin(hub, "DELETE", "/api/people/gone").status == 204
    browser, location = enter_by_provider(hub, provider, "gone")
    assert (location, browser.session) == (REFUSED, None)
    assert browser.ask("GET", "/api/me").status_code == 401


@pytest.mark.attack("a host that is no name in a provider's metadata")
def test_metadata_with_an_odd_host_is_silence_of_the_provider(
    tmp_path: Path, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the one who is asked about, and no more: he goes on for the time of grace."""
    with hub_inside(tmp_path / "data", people_settings(provider)) as hub:
        browser, _ = enter_by_provider(hub, provider, "odd")
        monkeypatch.setattr(provider, "metadata", {"token_endpoint": "https://login..example.org/token"})
        make_old(hub, minutes=2)
        before = provider.fetched.count(METADATA)
        assert browser.ask("GET", "/api/me").json()["address"] == "user:odd"
        assert provider.fetched.count(METADATA) == before + 1  # so its token endpoint was tried


def test_trouble_with_one_person_does_not_end_the_hub(
    tmp_path: Path, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.auth.people.people._SWEEP_S", 0.05)
    with hub_inside(tmp_path / "data", people_settings(provider)) as hub:
        enter_by_provider(hub, provider, "trouble")
        rounds: list[object] = []

        async def fail(account: object) -> None:
            rounds.append(account)
            raise ValueError("what nobody has thought of")

        monkeypatch.setattr(oidc_of(hub), "recheck", fail)
        wait_until(lambda: len(rounds) > 2)
        assert call(hub.port, hub.key, "GET", "/healthz").status == 200


@pytest.mark.attack("strangers make the hub call a broken provider")
def test_strangers_do_not_make_the_hub_ask_a_broken_provider_each_time(
    tmp_path: Path, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "metadata", {"issuer": "https://another.example"})
    with hub_inside(tmp_path / "data", people_settings(provider)) as hub:
        before = len(provider.fetched)
        for _ in range(30):
            assert call(hub.port, "", "GET", "/api/login/oidc").status == 502
        assert 0 < len(provider.fetched) - before < 10
