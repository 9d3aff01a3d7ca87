"""Logins by an OpenID provider that is strict, misbehaves, says no, or cannot be reached."""

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from autoglm.auth.people.logins import Caller, LoggedIn
from autoglm.auth.people.oidc import Oidc
from autoglm.auth.people.provider import fetch
from autoglm.auth.people.settings import OidcSettings
from autoglm.core.errors import LoginRefused, ProviderUnreachable, SessionEnded
from autoglm.core.tasks import one_task_group
from fakes.oidc_provider import CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, OidcProvider
from people_hub import People, Time, files_with, people_hub
from scripted_model import Request, ScriptedModel, response, writing

HERE = Caller("192.0.2.1")
HOUR_S = 3600


class Hub:
    """The hub's people and their provider."""

    def __init__(self, people: People, oidc: Oidc, provider: OidcProvider) -> None:
        self.people, self.oidc, self.provider = people, oidc, provider

    async def log_in(self, subject: str = "4711", **answer: str) -> LoggedIn:
        redirect = await self.oidc.begin()
        found = self.provider.authorize(redirect.url, subject) | answer
        return await self.people.logins.with_oidc(redirect.transaction, found, HERE)

    async def is_in(self, entered: LoggedIn) -> bool:
        try:
            return (await self.people.logins.check(entered.session))[1].name == entered.account.name
        except SessionEnded:
            return False


@asynccontextmanager
async def hub_with(folder: Path, provider: OidcProvider, time: Time, **settings: object) -> AsyncIterator[Hub]:
    chosen = OidcSettings.model_validate({
        "issuer": provider.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uri": REDIRECT_URI,
        "timeout_s": 5, **settings,
    })  # fmt: skip
    async with people_hub(folder, time=time) as people:
        oidc = Oidc(chosen, people.store.keyvalue, people.accounts, time.now_ms, monotonic_s=time.now_s)
        await oidc.open()
        people.logins._oidc = oidc
        yield Hub(people, oidc, provider)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def provider(time: Time) -> Iterator[OidcProvider]:
    with OidcProvider(time.now_ms) as provider:
        yield provider


@pytest.fixture
async def hub(tmp_path: Path, provider: OidcProvider, time: Time) -> AsyncIterator[Hub]:
    async with hub_with(tmp_path, provider, time) as hub:
        yield hub


async def test_a_first_login_makes_an_account_and_the_next_finds_it(hub: Hub) -> None:
    first = await hub.log_in()
    assert (first.account.name, first.account.roles) == ("alice", ("member",))
    hub.provider.people["4711"]["preferred_username"] = "renamed"
    assert (await hub.log_in()).account == first.account
    assert hub.provider.complaints == []
    assert (await hub.people.sessions.check(first.session))[0].method == "oidc"


async def test_roles_come_from_claims(tmp_path: Path, provider: OidcProvider, time: Time) -> None:
    async with hub_with(tmp_path, provider, time, roles_by_value={"staff": "operator", "boss": "admin"}) as hub:
        assert (await hub.log_in()).account.roles == ("operator",)
        provider.people["4711"]["groups"] = ["boss", "staff", 7]
        assert (await hub.log_in()).account.roles == ("admin", "operator")
        provider.people["4711"]["groups"] = "guests"
        assert (await hub.log_in()).account.roles == ("member",)


async def test_no_account_is_made_where_that_is_off(tmp_path: Path, provider: OidcProvider, time: Time) -> None:
    async with hub_with(tmp_path, provider, time, creates_accounts=False) as hub:
        with pytest.raises(LoginRefused):
            await hub.log_in()
        assert hub.people.accounts.all() == []


@pytest.mark.attack("account takeover by a provider's name")
async def test_a_name_at_the_provider_opens_no_local_account(hub: Hub) -> None:
    await hub.people.add("alice", "admin")
    with pytest.raises(LoginRefused):
        await hub.log_in()


async def test_a_disabled_account_stays_out(hub: Hub) -> None:
    entered = await hub.log_in()
    await hub.people.accounts.change("alice", is_disabled=True)
    assert not await hub.is_in(entered)
    with pytest.raises(LoginRefused):
        await hub.log_in()


async def test_a_removed_persons_link_leads_to_no_new_account_of_the_name(hub: Hub) -> None:
    await hub.log_in()
    await hub.people.logins.remove("alice")
    with pytest.raises(LoginRefused):  # the provider knows him still
        await hub.log_in()
    await hub.people.add("alice", "admin")
    with pytest.raises(LoginRefused):
        await hub.log_in()


# --- attacks ---


@pytest.mark.attack("OIDC mix-up")
@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"}, {"aud": "another client"}, {"aud": [CLIENT_ID, "another"]}, {"aud": []},
        {"aud": None}, {"azp": "another"}, {"nonce": "of another login"}, {"nonce": None}, {"exp": None}, {"iat": None},
        {"exp": 1_700_000_000}, {"iat": 1_900_000_000}, {"exp": "9999999999"}, {"exp": True}, {"sub": None},
        {"sub": ""}, {"sub": 7}, {"sub": "x" * 256},
    ],
    ids=str,
)  # fmt: skip
async def test_wrong_claims_are_refused(hub: Hub, claims: dict[str, Any]) -> None:
    hub.provider.claims = claims
    with pytest.raises(LoginRefused):
        await hub.log_in()
    assert hub.people.accounts.all() == []


@pytest.mark.attack("OIDC mix-up")
async def test_the_answer_of_another_issuer_is_refused_before_its_code_is_sent(hub: Hub) -> None:
    for iss in ("https://evil.example", ""):
        with pytest.raises(LoginRefused):
            await hub.log_in(iss=iss)
    redirect = await hub.oidc.begin()
    answer = hub.provider.authorize(redirect.url)
    del answer["iss"]  # the metadata say that it is always there
    with pytest.raises(LoginRefused):
        await hub.oidc.finish(redirect.transaction, answer)
    assert "/token" not in hub.provider.fetched


@pytest.mark.attack("OIDC mix-up")
async def test_metadata_of_another_issuer_are_not_used(hub: Hub) -> None:
    hub.provider.metadata = {"issuer": "https://evil.example"}
    with pytest.raises(ProviderUnreachable, match="another issuer"):
        await hub.oidc.begin()


@pytest.mark.parametrize("url", ["http://evil.example/token", "ftp://127.0.0.1/", 7, None, "https://a@b/", "http://[x"])
async def test_metadata_with_an_unsafe_endpoint_are_not_used(hub: Hub, url: object) -> None:
    hub.provider.metadata = {"token_endpoint": url}
    with pytest.raises(ProviderUnreachable, match="token_endpoint"):
        await hub.oidc.begin()


@pytest.mark.attack("alg none and confusion")
@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "RS256"])
async def test_an_unsigned_token_is_refused(hub: Hub, algorithm: str) -> None:
    hub.provider.signs = lambda data: b""
    hub.provider.header = {"alg": algorithm}
    with pytest.raises(LoginRefused):
        await hub.log_in()


@pytest.mark.attack("alg none and confusion")
@pytest.mark.parametrize("secret", ["client secret", "public key"])
async def test_a_shared_secret_signs_nothing(hub: Hub, secret: str) -> None:
    known = hub.provider.key.as_pem(private=False) if secret == "public key" else CLIENT_SECRET.encode()
    hub.provider.signs = lambda data: hmac.digest(known, data, "sha256")
    hub.provider.header = {"alg": "HS256"}
    with pytest.raises(LoginRefused):
        await hub.log_in()
    published = {"kty": "oct", "kid": "one", "k": base64.urlsafe_b64encode(known).decode().rstrip("=")}
    hub.provider.published = [published]
    hub.people.time.pass_s(61)
    with pytest.raises(LoginRefused):
        await hub.log_in()


@pytest.mark.attack("alg none and confusion")
async def test_only_the_algorithms_of_the_settings_count(tmp_path: Path, provider: OidcProvider, time: Time) -> None:
    async with hub_with(tmp_path, provider, time, algorithms=["RS256"]) as hub:
        with pytest.raises(LoginRefused):
            await hub.log_in()


@pytest.mark.attack("alg none and confusion")
async def test_a_header_that_must_be_understood_is_refused(hub: Hub) -> None:
    hub.provider.header = {"crit": ["b64"], "b64": True}
    with pytest.raises(LoginRefused):
        await hub.log_in()


@pytest.mark.attack("jwk, jku and kid injection")
@pytest.mark.parametrize("header", [{}, {"jwk": True}, {"jku": "http://evil"}, {"kid": None}], ids=str)
async def test_only_a_published_key_signs(hub: Hub, header: dict[str, Any]) -> None:
    hub.provider.key = ECKey.generate_key("P-256", parameters={"kid": "one"})
    hub.provider.header = header
    if "jwk" in header:
        hub.provider.header = {"jwk": hub.provider.key.as_dict(private=False)}
    with pytest.raises(LoginRefused):
        await hub.log_in()


@pytest.mark.attack("jwk, jku and kid injection")
async def test_a_token_is_verified_by_the_key_that_its_kid_names_and_no_other(hub: Hub) -> None:
    other = ECKey.generate_key("P-256", parameters={"kid": "two"})
    hub.provider.published.append(other.as_dict(private=False))
    await hub.log_in()
    for kid in ("two", "three", None):  # None: which of the two it is, it has to say
        hub.provider.header = {"kid": kid}
        with pytest.raises(LoginRefused):
            await hub.log_in()


async def test_new_keys_are_fetched_and_not_at_every_strangers_whim(hub: Hub) -> None:
    await hub.log_in()
    hub.people.time.pass_s(61)
    hub.provider.key = RSAKey.generate_key(2048, parameters={"kid": "new", "use": "sig", "alg": "RS256"})
    hub.provider.algorithm = "RS256"
    hub.provider.published = [hub.provider.key.as_dict(private=False)]
    await hub.log_in()
    before = hub.provider.fetched.count("/jwks")
    hub.provider.header = {"kid": "unknown"}
    for _ in range(4):
        with pytest.raises(LoginRefused):
            await hub.log_in()
    assert hub.provider.fetched.count("/jwks") == before


@pytest.mark.attack("replay of an OIDC callback")
async def test_a_callback_opens_once(hub: Hub) -> None:
    redirect = await hub.oidc.begin()
    answer = hub.provider.authorize(redirect.url)
    outcomes: list[str] = []

    async def come() -> None:
        try:
            outcomes.append((await hub.oidc.finish(redirect.transaction, answer)).account.name)
        except LoginRefused as error:
            outcomes.append(error.code)

    async with one_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(come)
    assert sorted(outcomes) == ["alice", "login_refused", "login_refused"]
    assert hub.provider.fetched.count("/token") == 1


@pytest.mark.attack("replay of an OIDC callback")
async def test_a_code_that_was_used_is_refused_in_another_login(hub: Hub) -> None:
    redirect, other = await hub.oidc.begin(), await hub.oidc.begin()
    answer = hub.provider.authorize(redirect.url)
    await hub.oidc.finish(redirect.transaction, answer)
    with pytest.raises(LoginRefused):
        await hub.oidc.finish(other.transaction, hub.provider.authorize(other.url) | {"code": answer["code"]})
    assert hub.provider.complaints == ["invalid_grant"]


@pytest.mark.attack("login CSRF")
async def test_a_callback_that_another_browser_began_opens_nothing_and_spends_nothing(hub: Hub) -> None:
    mallorys, mine = await hub.oidc.begin(), await hub.oidc.begin()
    planted = hub.provider.authorize(mallorys.url)
    for transaction in (mine.transaction, "", "AAAA", "é", "A" * 5000):
        with pytest.raises(LoginRefused):
            await hub.oidc.finish(transaction, planted)
    assert (await hub.oidc.finish(mine.transaction, hub.provider.authorize(mine.url))).account.name == "alice"


async def test_a_login_that_takes_too_long_or_was_denied_is_refused(hub: Hub) -> None:
    redirect = await hub.oidc.begin()
    hub.people.time.pass_s(601)
    with pytest.raises(LoginRefused):
        await hub.oidc.finish(redirect.transaction, hub.provider.authorize(redirect.url))
    with pytest.raises(LoginRefused):
        await hub.log_in(error="access_denied")
    with pytest.raises(LoginRefused):
        await hub.log_in(code="")


# --- without the provider ---


async def test_who_logged_in_goes_on_while_the_provider_is_away_and_no_longer_than_the_grace(hub: Hub) -> None:
    entered = await hub.log_in()
    hub.provider.__exit__()
    hub.people.time.pass_s(2 * HOUR_S)
    assert await hub.is_in(entered)
    for _ in range(23):
        hub.people.time.pass_s(3 * HOUR_S)
        assert await hub.is_in(entered)
    hub.people.time.pass_s(2 * HOUR_S)
    assert not await hub.is_in(entered)
    with pytest.raises(ProviderUnreachable):
        await hub.oidc.begin()


async def test_the_grace_outlives_a_restart(tmp_path: Path, provider: OidcProvider, time: Time) -> None:
    async with hub_with(tmp_path, provider, time) as hub:
        entered = await hub.log_in()
    provider.__exit__()
    time.pass_s(5 * HOUR_S)
    async with hub_with(tmp_path, provider, time) as hub:
        assert await hub.is_in(entered)


@pytest.mark.parametrize("fault", ["server_error", "bad_gateway", "garbage", "cut", "throttled", "captive portal"])
async def test_what_is_no_answer_of_the_provider_is_no_no(hub: Hub, fault: Any) -> None:
    entered = await hub.log_in()
    hub.people.time.pass_s(2 * HOUR_S)
    if fault == "throttled":
        hub.provider.refuses_refresh = (429, "slow_down")
    elif fault == "captive portal":
        hub.provider.metadata = {"issuer": "http://portal.example"}
    else:
        hub.provider.faults.extend([fault] * 3)
    assert await hub.is_in(entered)


@pytest.mark.attack("grace after a no")
@pytest.mark.parametrize("refusal", [(400, "invalid_grant"), (401, "invalid_client"), (403, "access_denied")])
async def test_a_no_ends_the_session_for_good(
    tmp_path: Path, provider: OidcProvider, time: Time, refusal: tuple[int, str]
) -> None:
    async with hub_with(tmp_path, provider, time) as hub:
        entered, other = await hub.log_in(), await hub.log_in()
        time.pass_s(2 * HOUR_S)
        provider.refuses_refresh = refusal
        assert not await hub.is_in(entered)
        assert not await hub.is_in(other)
    provider.__exit__()
    async with hub_with(tmp_path, provider, time) as hub:
        assert not await hub.is_in(entered)
        assert not await hub.is_in(other)


async def test_a_yes_is_asked_for_when_the_last_is_old_and_not_before(hub: Hub) -> None:
    entered = await hub.log_in()
    for _ in range(5):
        assert await hub.is_in(entered)
    assert hub.provider.fetched.count("/token") == 1
    for hours in range(1, 5):
        hub.people.time.pass_s(HOUR_S)
        assert await hub.is_in(entered)
        assert hub.provider.fetched.count("/token") == 1 + hours


async def test_a_yes_for_somebody_else_is_a_no(hub: Hub) -> None:
    entered = await hub.log_in()
    hub.provider.claims = {"sub": "4712"}
    hub.people.time.pass_s(2 * HOUR_S)
    assert not await hub.is_in(entered)


async def test_after_a_restart_a_provider_that_is_there_has_to_say_yes_itself(
    tmp_path: Path, provider: OidcProvider, time: Time
) -> None:
    """Refresh tokens are in memory only."""
    async with hub_with(tmp_path, provider, time) as hub:
        entered = await hub.log_in()
        assert [token for token in hub.oidc._refresh_tokens.values() if files_with(tmp_path, token)] == []
    time.pass_s(2 * HOUR_S)
    async with hub_with(tmp_path, provider, time) as hub:
        assert not await hub.is_in(entered)
        assert await hub.is_in(await hub.log_in())


async def test_sessions_of_a_provider_that_was_switched_off_end(hub: Hub) -> None:
    entered = await hub.log_in()
    hub.people.logins._oidc = None
    assert not await hub.is_in(entered)


# --- the wire ---


async def test_answers_are_bounded_and_no_redirect_is_followed() -> None:
    with (
        ScriptedModel(writing(response(200, b"x" * 300_000))) as server,
        pytest.raises(ProviderUnreachable, match="too long"),
    ):
        await fetch("POST", f"http://127.0.0.1:{server.port}/", {}, b"", 5)
    with ScriptedModel(writing(response(302, b"", {"Location": "http://127.0.0.1:9/"}))) as server:
        assert await fetch("POST", f"http://127.0.0.1:{server.port}/", {}, b"", 5) == (302, b"")
    with pytest.raises(ProviderUnreachable):
        await fetch("GET", f"http://127.0.0.1:{server.port}/", {}, None, 5)


async def test_a_provider_that_answers_byte_by_byte_is_given_up_in_time() -> None:
    async def drip(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.02)  # the provider's pace

    with ScriptedModel(drip) as server, pytest.raises(ProviderUnreachable, match="Timeout"):
        await fetch("POST", f"http://127.0.0.1:{server.port}/", {}, b"", 0.3)


async def test_a_silent_provider_is_given_up_in_time(hub: Hub) -> None:
    hub.provider.faults.append("silent")
    with pytest.raises(ProviderUnreachable):
        await fetch("POST", f"{hub.provider.url}/token", {}, b"", 0.2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://id.example"}, {"issuer": "https://id.example/?x"}, {"redirect_uri": "http://hub.example/cb"},
        {"scopes": ["profile"]}, {"algorithms": ["HS256"]}, {"algorithms": []}, {"algorithms": ["none"]},
        {"default_roles": ["root"]}, {"client_secret": ""},
    ],
    ids=str,
)  # fmt: skip
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    right = {"issuer": "https://id.example", "client_id": "hub", "redirect_uri": "https://hub.example/cb"}
    OidcSettings.model_validate(right)
    with pytest.raises(ValueError, match="validation error"):
        OidcSettings.model_validate(right | wrong)
