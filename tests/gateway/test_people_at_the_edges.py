"""Logins where something ends, fails or lies in the middle: each of these once let somebody in, or kept one out."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import pytest

from auth.policy.authority import Authority, policy_files
from autoglm.auth.people.settings import PeopleSettings
from autoglm.auth.policy.settings import PolicySettings
from autoglm.core.clock import now_ms
from autoglm.core.errors import StorageFull
from autoglm.gateway.visitors import cookie
from autoglm.inference.settings import InstanceSettings
from eventually import wait_until
from fakes.authenticator import Authenticator
from fakes.oidc_provider import CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, OidcProvider
from gateway.browser import SESSION, Browser, close_all, code_of, invite, join
from gateway.inside import Inside, hub_inside, settings
from gateway.wire import call
from people_hub import CHEAP, PASSWORD
from scripted_model import ScriptedModel
from small_disk import filled, mounted_disk


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcProvider]:
    with OidcProvider(now_ms) as provider:
        yield provider


def chosen(provider: OidcProvider | None = None, **more: Any) -> Any:
    people: dict[str, Any] = {"password": CHEAP, **more}
    if provider is not None:
        people["oidc"] = {
            "issuer": provider.url,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "redirect_uri": REDIRECT_URI,
            "recheck_min": 1,
        }
    return settings().model_copy(update={"people": PeopleSettings.model_validate(people)})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("edges") / "data", chosen(provider)) as inside:
        yield inside


def by_provider(
    hub: Inside, provider: OidcProvider, subject: str, only: bool = False, browser: Browser | None = None
) -> tuple[Browser, httpx2.Response]:
    browser = browser or Browser(hub)
    left = browser.ask("GET", "/api/login/oidc")
    query = str(httpx2.QueryParams(provider.authorize(left.headers["location"], subject)))
    more = {}
    if only:  # what a browser sends after a redirect from another site: Lax cookies only
        more["cookie"] = left.headers["set-cookie"].split(";")[0]
        browser.http.cookies.clear()
    back = browser.ask("GET", f"/api/login/oidc/callback?{query}", origin="", sec_fetch_site="cross-site", **more)
    return browser, back


def admin(hub: Inside, method: str, path: str, body: Any = None) -> Any:
    return call(hub.port, hub.key, method, path, body)


def test_a_person_named_invitations_can_be_disabled_and_removed(hub: Inside, provider: OidcProvider) -> None:
    provider.people["77"] = {"preferred_username": "invitations"}
    browser, _back = by_provider(hub, provider, "77")
    assert browser.ask("GET", "/api/me").json()["address"] == "user:invitations"
    assert admin(hub, "PATCH", "/api/people/invitations", {"is_disabled": True}).status == 200
    assert admin(hub, "DELETE", "/api/people/invitations").status == 204


def test_an_old_link_does_not_bring_back_who_was_removed(hub: Inside) -> None:
    old = invite(hub, "fired", "admin")  # by mistake; the right one follows
    new = invite(hub, "fired", "member")
    browser = Browser(hub)
    assert browser.ask("POST", "/api/login/invitation", {"token": new, "password": PASSWORD}).status_code == 200
    assert [one for one in admin(hub, "GET", "/api/invitations").json()["invitations"] if one["name"] == "fired"] == []
    assert admin(hub, "DELETE", "/api/people/fired").status == 204
    again = Browser(hub).ask("POST", "/api/login/invitation", {"token": old, "password": PASSWORD})
    assert again.status_code == 401, again.json()


@pytest.mark.parametrize("between", ["end", "remove and invite another"])
def test_a_link_that_was_made_void_while_the_password_is_hashed(hub: Inside, between: str) -> None:
    name = "slow-" + between.split(maxsplit=1)[0]
    join(hub, name, "member")
    link = admin(hub, "POST", f"/api/people/{name}/reset").json()["token"]
    passwords = hub.hub._trust.people.passwords
    real, is_in, go = passwords.hashed, threading.Event(), threading.Event()

    async def slow(password: str, of: str) -> str:
        passwords.hashed = real
        is_in.set()
        await anyio.to_thread.run_sync(go.wait)
        return await real(password, of)

    passwords.hashed = slow
    answers: list[Any] = []
    thief = Browser(hub)
    thread = threading.Thread(
        target=lambda: answers.append(
            thief.ask("POST", "/api/login/invitation", {"token": link, "password": "thief knows this one"})
        )
    )
    thread.start()
    assert is_in.wait(10)
    if between == "end":
        assert admin(hub, "DELETE", f"/api/people/{name}/sessions").status == 204
    else:
        assert admin(hub, "DELETE", f"/api/people/{name}").status == 204
        join(hub, name, "admin")  # another person of that name
    go.set()
    thread.join(20)
    assert answers[0].status_code == 401, (answers[0].text, thief.ask("GET", "/api/me").json())


@pytest.mark.parametrize("look", [b"\xa0", b"\x85", b"\x1f", b"\x0b"], ids=lambda look: look.hex())
def test_a_cookie_whose_name_only_looks_like_the_protected_one(look: bytes) -> None:
    header = {b"cookie": look + b"__Host-autoglm-session=thief; __Host-autoglm-session=victim"}
    assert cookie(header, SESSION, is_secure=True) == "victim"
    header = {b"cookie": b"autoglm-session=thief;\t__Host-autoglm-session=victim ; __Host-autoglm-session=second"}
    assert cookie(header, SESSION, is_secure=True) == "victim"
    assert cookie({b"cookie": b"autoglm-session=planted"}, SESSION, is_secure=True) is None


def test_a_strangers_page_does_not_lock_anybody_out_of_the_provider(tmp_path: Path, provider: OidcProvider) -> None:
    with hub_inside(tmp_path / "data", chosen(provider)) as hub:
        for _ in range(6):  # <img src=...> in a page of others, in some colleague's browser
            Browser(hub).ask("GET", "/api/login/oidc/callback?state=x", origin="", sec_fetch_site="cross-site")
        _browser, back = by_provider(hub, provider, "4711")
        assert back.headers["location"] == "/"


def test_failing_passkeys_of_others_do_not_keep_out_a_known_device(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data", chosen()) as hub:
        browser = join(hub, "keeper")
        options = browser.ask("POST", "/api/me/passkeys/options", {}).json()
        key = Authenticator(browser.origin)
        assert browser.ask("POST", "/api/me/passkeys", {"answer": key.create(options)}).status_code == 201
        for _ in range(6):
            Browser(hub).ask("POST", "/api/login/passkey", {"answer": {}})
        options = browser.ask("POST", "/api/login/passkey/options", {}).json()
        found = browser.ask("POST", "/api/login/passkey", {"answer": key.get(options)})
        assert found.status_code == 200, found.text


def test_a_strangers_rubbish_does_not_fill_the_audit(hub: Inside) -> None:
    before = hub.count(lambda: hub.hub._trust.journal.last().seq)
    for _number in range(200):
        call(hub.port, "", "POST", "/api/devices/enrol", b"{")
        call(hub.port, "", "POST", "/api/tokens/renew", b"{")
    time.sleep(1.5)
    after = hub.count(lambda: hub.hub._trust.journal.last().seq)
    assert after - before < 150, after - before  # PER_MINUTE is 120


def test_a_wrong_password_of_who_has_the_session_is_in_the_audit(hub: Inside) -> None:
    browser = join(hub, "guessed")
    for number in range(3):
        assert code_of(
            browser.ask("POST", "/api/me/password", {"current": f"guess number {number}", "new": "another good one"})
        ) == (401, "login_refused")
    call(hub.port, hub.key, "GET", "/api/audit/verify")
    time.sleep(0.3)
    entries = admin(hub, "GET", "/api/audit?limit=1000").json()["entries"]
    about = [one for one in entries if "guessed" in json.dumps(one)]
    assert any(
        "assword" in json.dumps(one)
        and "login:invitation" not in json.dumps(one)
        and "invitePerson" not in json.dumps(one)
        for one in about
    ), about


def test_the_providers_no_ends_what_goes_on_by_itself(hub: Inside, provider: OidcProvider) -> None:
    provider.people["88"] = {"preferred_username": "leaver"}
    browser, _back = by_provider(hub, provider, "88")
    people, lasting = hub.hub._trust.people, hub.hub._trust.lasting

    async def right() -> Any:
        shown = await hub.hub._trust.authenticator.by_session(browser.session)
        return lasting.of(shown.principal, shown.ends_at_ms)

    kept = hub.ask(right())
    provider.refuses_refresh = (400, "invalid_grant")

    async def later() -> None:
        oidc = people.oidc
        digest = oidc._by_account[people.accounts.get("leaver").id]
        oidc._links[digest] = msgspec.structs.replace(oidc._links[digest], confirmed_ms=now_ms() - 120_000)

    hub.ask(later())
    assert browser.ask("GET", "/api/me").status_code == 401  # it said no
    provider.refuses_refresh = None

    async def state() -> str:
        return lasting.state(kept, "user:leaver", "read:message", "user:leaver")

    assert hub.ask(state()) == "over"


def test_who_was_let_in_half_gets_in_the_next_time(tmp_path: Path, provider: OidcProvider) -> None:
    provider.people["99"] = {"preferred_username": "halfway"}
    with hub_inside(tmp_path / "data", chosen(provider)) as hub:
        oidc = hub.hub._trust.people.oidc
        real = oidc._keyvalue.put

        async def full(key: str, *args: Any, **more: Any) -> Any:
            if key.startswith("auth/oidc/"):
                raise StorageFull("no space")
            return await real(key, *args, **more)

        oidc._put_real = oidc._put

        async def put(digest: str, link: Any) -> None:
            raise StorageFull("no space")

        oidc._put = put
        by_provider(hub, provider, "99")
        oidc._put = oidc._put_real
        _browser, back = by_provider(hub, provider, "99")
        assert back.headers["location"] == "/"


def test_a_link_that_could_not_be_withdrawn_can_be_withdrawn_again(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data", chosen()) as hub:
        token = invite(hub, "zoe", "admin")
        (one,) = admin(hub, "GET", "/api/invitations").json()["invitations"]
        keyvalue = hub.hub._trust.people.invitations._kept._keyvalue
        real = type(keyvalue).delete

        async def full(self: Any, *args: Any, **more: Any) -> Any:
            raise StorageFull("no space")

        type(keyvalue).delete = full
        try:
            assert admin(hub, "DELETE", f"/api/invitations/{one['handle']}").status == 507
        finally:
            type(keyvalue).delete = real
        again = admin(hub, "DELETE", f"/api/invitations/{one['handle']}").status  # there is space again
        listed = admin(hub, "GET", "/api/invitations").json()["invitations"]
    with hub_inside(tmp_path / "data", chosen()) as hub:
        found = Browser(hub).ask("POST", "/api/login/invitation", {"token": token, "password": PASSWORD})
        assert found.status_code == 401, (again, listed, found.json())


ROLES = {"roles": {"chief": ["admin:*"]}, "grants": {"user:chief": [{"role": "chief"}]}}


def test_a_name_at_the_provider_gives_nobody_the_roles_of_a_policy(tmp_path: Path, provider: OidcProvider) -> None:
    provider.people["66"] = {"preferred_username": "chief"}
    authority = Authority(tmp_path / "authority")
    authority.clock.now_ms = now_ms()
    authority.publish(policy_files("", roles=ROLES))
    policy = PolicySettings(
        root_file=tmp_path / "authority" / "metadata" / "1.root.json",
        source=str(tmp_path / "authority"),
        deny_after_s=10**9,
        read_only_after_s=10**9,
    )
    with hub_inside(tmp_path / "data", chosen(provider).model_copy(update={"policy": policy})) as hub:
        hub.ask(hub.hub._trust.policy.pull())
        browser, back = by_provider(hub, provider, "66")
        made = browser.ask("POST", "/api/keys", {"name": "mine", "scopes": ["send:message"]})
        assert browser.ask("GET", "/api/people").status_code in (401, 403), (
            back.headers["location"],
            browser.ask("GET", "/api/people").text,
            made.text,
        )


def test_a_name_that_is_no_address_is_no_name(hub: Inside) -> None:
    made = admin(hub, "POST", "/api/invitations", {"name": "ann\u3164", "roles": ["member"]})
    assert made.status == 400, made.json()


def test_after_a_login_at_the_provider_the_former_session_is_over(hub: Inside, provider: OidcProvider) -> None:
    provider.people["55"] = {"preferred_username": "again"}
    browser, _ = by_provider(hub, provider, "55")
    before = browser.session
    _, back = by_provider(hub, provider, "55", only=True, browser=browser)
    assert back.headers["location"] == "/"
    found = Browser(hub).ask("GET", "/api/me", cookie=f"{SESSION}={before}")
    assert found.status_code == 401, found.json()


def test_who_was_removed_stays_out_though_the_provider_knows_him(hub: Inside, provider: OidcProvider) -> None:
    provider.people["44"] = {"preferred_username": "gone"}
    by_provider(hub, provider, "44")
    assert admin(hub, "DELETE", "/api/people/gone").status == 204
    browser, _back = by_provider(hub, provider, "44")
    assert browser.ask("GET", "/api/me").status_code == 401, browser.ask("GET", "/api/me").text


def test_a_revoked_person_does_not_log_in(hub: Inside) -> None:
    join(hub, "eve")
    assert admin(hub, "POST", "/api/revocations", {"id": "user:eve"}).status == 200
    found = Browser(hub).log_in("eve")
    assert found.status_code == 401, found.text


def test_logout_is_in_the_audit(hub: Inside) -> None:
    browser = join(hub, "outgoing")
    assert browser.ask("POST", "/api/logout").status_code == 204
    hub.ask(hub.hub._trust.audit.written())
    entries = admin(hub, "GET", "/api/audit?action=logout").json()["entries"]
    assert [entry["who"] for entry in entries] == ["user:outgoing"]


def test_a_person_is_sent_away_while_the_clock_is_not_believed(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data", chosen()) as hub:
        join(hub, "thief", "admin")
        invite(hub, "friend", "admin")
        trust = hub.hub._trust
        trust.clock._wall_ms = lambda: now_ms() - 3_600_000

        async def look() -> None:
            trust.judge.look()

        hub.ask(look())
        assert trust.clock.reason == "behind"
        people = trust.people
        handle = hub.ask(_handle(people))
        found = {
            "withdraw": admin(hub, "DELETE", f"/api/invitations/{handle}").status,
            "end": admin(hub, "DELETE", "/api/people/thief/sessions").status,
            "disable": admin(hub, "PATCH", "/api/people/thief", {"is_disabled": True}).status,
            "remove": admin(hub, "DELETE", "/api/people/thief").status,
        }
        # for comparison: an admin's key may revoke
        found["revoke"] = admin(hub, "POST", "/api/revocations", {"id": "user:thief"}).status
        assert not [name for name, status in found.items() if status == 403], found


async def _handle(people: Any) -> str:
    return people.invitations.all()[0].handle


def test_a_provider_whose_metadata_has_an_odd_host_does_not_end_the_hub(
    tmp_path: Path, provider: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoglm.auth.people.people._SWEEP_S", 0.2)
    provider.people["33"] = {"preferred_username": "odd"}
    with hub_inside(tmp_path / "data", chosen(provider)) as hub:
        by_provider(hub, provider, "33")
        oidc = hub.hub._trust.people.oidc
        provider.metadata = {"token_endpoint": "https://login..example.org/token"}

        async def later() -> None:
            oidc._provider._metadata = None  # an hour later
            for digest, link in oidc._links.items():
                oidc._links[digest] = msgspec.structs.replace(link, confirmed_ms=now_ms() - 120_000)

        hub.ask(later())
        try:
            wait_until(lambda: hub.count(lambda: int(oidc._provider._failure is not None)) == 1)
            assert call(hub.port, hub.key, "GET", "/healthz").status == 200
        finally:
            provider.metadata = {}


def test_an_unprefixed_cookie_does_not_count_where_there_is_tls(tmp_path: Path) -> None:
    """A sister's site (Domain=), or plain http, may set `autoglm-session` for this host; `__Host-` is against that."""
    with hub_inside(
        tmp_path / "data",
        settings(tls="own-ca", tls_names=["hub.ward-3.lan"]).model_copy(update={"people": chosen().people}),
    ) as hub:
        origin = f"https://localhost:{hub.port}"
        with httpx2.Client(base_url=origin, verify=False, trust_env=False, timeout=20) as http:
            page = {"origin": origin, "sec-fetch-site": "same-origin"}
            token = http.post(
                "/api/invitations",
                json={"name": "thief", "roles": ["member"]},
                headers={"authorization": f"Bearer {hub.key}"},
            ).json()["token"]
            entered = http.post("/api/login/invitation", json={"token": token, "password": PASSWORD}, headers=page)
            assert "__Host-autoglm-session=" in str(entered.headers.get_list("set-cookie"))
            session = next(value for name, value in http.cookies.items() if name.endswith(SESSION))
        with httpx2.Client(base_url=origin, verify=False, trust_env=False, timeout=20) as victim:
            found = victim.get("/api/me", headers={"cookie": f"{SESSION}={session}", "sec-fetch-site": "same-origin"})
            assert found.status_code == 401, found.text


def test_a_rehash_under_way_does_not_bring_the_old_password_back(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data", chosen()) as hub:
        join(hub, "ann")
        link = admin(hub, "POST", "/api/people/ann/reset").json()["token"]
    dearer = {"password": {**CHEAP, "passes": 6}}
    with hub_inside(tmp_path / "data", chosen(**dearer)) as hub:
        passwords = hub.hub._trust.people.passwords
        real, is_in, go = passwords._run, threading.Event(), threading.Event()

        async def slow(work: Any, *args: Any, **more: Any) -> Any:
            found = await real(work, *args, **more)
            if work == passwords._hash and not is_in.is_set():
                is_in.set()
                await anyio.to_thread.run_sync(go.wait)
            return found

        passwords._run = slow
        thief = Browser(hub)
        thread = threading.Thread(target=lambda: thief.log_in("ann"))  # with the old password
        thread.start()
        assert is_in.wait(10)
        ann = Browser(hub)
        assert (
            ann.ask("POST", "/api/login/invitation", {"token": link, "password": "entirely new words"}).status_code
            == 200
        )
        go.set()
        thread.join(20)
        assert (
            Browser(hub).log_in("ann").status_code,
            Browser(hub).log_in("ann", "entirely new words").status_code,
        ) == (401, 200)


@pytest.mark.parametrize("step", ["the first epoch", "the password", "the second epoch"])
def test_a_stop_within_a_change_of_the_password_leaves_no_old_session(tmp_path: Path, step: str) -> None:
    with hub_inside(tmp_path / "data", chosen()) as hub:
        thief = join(hub, "ann")
        link = admin(hub, "POST", "/api/people/ann/reset").json()["token"]
        people = hub.hub._trust.people
        begin, began = people.accounts.begin_epoch, 0

        async def stopped(*_: Any, **__: Any) -> Any:
            raise StorageFull("or kill -9")

        async def begin_first(name: str) -> Any:
            nonlocal began
            began += 1
            return await (begin(name) if began == 1 else stopped())

        if step == "the password":
            people.passwords.keep = stopped  # type: ignore[method-assign]
        else:
            epoch = stopped if step == "the first epoch" else begin_first
            people.accounts.begin_epoch = epoch  # type: ignore[method-assign]
        answer = Browser(hub).ask("POST", "/api/login/invitation", {"token": link, "password": "entirely new words"})
        assert answer.status_code == 507
        session = thief.session
    with hub_inside(tmp_path / "data", chosen()) as hub:
        has_new_password = Browser(hub).log_in("ann", "entirely new words").status_code == 200
        is_thief_in = Browser(hub).ask("GET", "/api/me", cookie=f"{SESSION}={session}").status_code == 200
        assert has_new_password is (step == "the second epoch")
        assert is_thief_in is (step == "the first epoch")  # nothing was changed, and the person was told so


def test_a_task_is_not_handed_out_to_who_was_sent_away_while_he_waited(tmp_path: Path) -> None:

    with ScriptedModel(models=("solo",)) as model:
        instance = InstanceSettings.model_validate(
            {"name": "a", "provider": "openai", "base_url": model.url, "models": ["solo"], "slots": 1}
        )
        with hub_inside(tmp_path / "data", chosen().model_copy(update={"instance": (instance,)})) as hub:
            browser = join(hub, "waiter")
            sent = browser.ask(
                "POST",
                "/api/tasks",
                {"request": {"model": "solo", "messages": [{"role": "user", "content": "a secret question"}]}},
            )
            assert sent.status_code == 202, sent.text
            mailbox = hub.hub._mailbox
            go, is_in = threading.Event(), threading.Event()

            async def settled(envelope: Any, wait_s: float) -> None:
                is_in.set()
                await anyio.to_thread.run_sync(go.wait)

            mailbox.wait_settled = settled
            answers: list[Any] = []
            thread = threading.Thread(
                target=lambda: answers.append(browser.ask("GET", f"/api/tasks/{sent.json()['id']}?wait=10"))
            )
            thread.start()
            assert is_in.wait(10)
            assert admin(hub, "PATCH", "/api/people/waiter", {"is_disabled": True}).status == 200
            go.set()
            thread.join(20)
            assert answers[0].status_code == 401, answers[0].text


def test_a_person_with_a_name_of_another_script_works(tmp_path: Path) -> None:
    with ScriptedModel(models=("solo",)) as model:
        instance = InstanceSettings.model_validate(
            {"name": "a", "provider": "openai", "base_url": model.url, "models": ["solo"], "slots": 1}
        )
        with hub_inside(tmp_path / "data", chosen().model_copy(update={"instance": (instance,)})) as hub:
            wait_until(lambda: admin(hub, "GET", "/api/pool").json()["instances"][0]["state"] == "ready")
            browser = join(hub, "\u5f20\u4e09")
            chat = {"model": "solo", "messages": [{"role": "user", "content": "hi"}]}
            for method, path, body in (
                ("POST", "/v1/chat/completions", chat),
                ("POST", "/v1/chat/completions", {**chat, "stream": True}),
                ("GET", "/api/me", None),
                ("POST", "/api/tasks", {"request": chat}),
                ("GET", "/api/decisions", None),
                ("GET", "/api/budgets", None),
                ("GET", "/v1/models", None),
                ("GET", "/api/push/subscriptions", None),
            ):
                found = browser.ask(method, path, body)
                assert found.status_code < 400, (path, found.text)
            assert admin(hub, "GET", "/metrics").status == 200


def test_the_description_says_who_may_call_what_others_clients_call(hub: Inside) -> None:
    described = admin(hub, "GET", "/openapi.json").json()["paths"]["/api/notify"]["post"]["security"]
    browser = join(hub, "describer", "admin")
    found = browser.ask("POST", "/api/notify", {"body": "x"})
    assert any("session" in need for need in described) is (found.status_code != 401), (described, found.text)


def test_strangers_do_not_make_the_hub_ask_a_broken_provider_each_time(tmp_path: Path, provider: OidcProvider) -> None:
    provider.metadata = {"issuer": "https://another.example"}
    try:
        with hub_inside(tmp_path / "data", chosen(provider)) as hub:
            before = len(provider.fetched)
            for _ in range(30):
                call(hub.port, "", "GET", "/api/login/oidc")
            assert len(provider.fetched) - before < 10, len(provider.fetched) - before
    finally:
        provider.metadata = {}


def test_a_link_that_could_not_be_withdrawn_on_a_really_full_disk(tmp_path: Path) -> None:

    with mounted_disk(tmp_path) as disk:
        with hub_inside(disk / "data", chosen()) as hub:
            token = invite(hub, "zoe", "admin")
            (one,) = admin(hub, "GET", "/api/invitations").json()["invitations"]
            with filled(disk):
                first = [admin(hub, "DELETE", f"/api/invitations/{one['handle']}").status for _ in range(3)]
            listed = admin(hub, "GET", "/api/invitations").json()["invitations"]
            hub.ask(hub.hub._trust.people.sweep())  # each minute
        with hub_inside(disk / "data", chosen()) as hub:
            found = Browser(hub).ask("POST", "/api/login/invitation", {"token": token, "password": PASSWORD})
            assert found.status_code == 401, (first, listed, found.json())


def test_a_session_that_was_ended_on_a_full_disk_stays_ended(tmp_path: Path) -> None:

    with mounted_disk(tmp_path) as disk:
        with hub_inside(disk / "data", chosen()) as hub:
            owner, thief = join(hub, "ann"), Browser(hub)
            assert thief.log_in("ann").status_code == 200
            (handle,) = [
                one["handle"] for one in owner.ask("GET", "/api/me/sessions").json()["sessions"] if not one["is_this"]
            ]
            with filled(disk):
                said = [owner.ask("DELETE", f"/api/me/sessions/{handle}").status_code]
            said.append(owner.ask("DELETE", f"/api/me/sessions/{handle}").status_code)  # there is space again
            listed = len(owner.ask("GET", "/api/me/sessions").json()["sessions"])
            session = thief.session
        with hub_inside(disk / "data", chosen()) as hub:
            found = Browser(hub).ask("GET", "/api/me", cookie=f"{SESSION}={session}")
            assert found.status_code == 401, (said, listed, found.text)


def test_a_link_made_before_a_policy_gave_the_name_a_role_gives_no_role(tmp_path: Path) -> None:
    """A clerk who may make observers keeps the link until the policy makes `chief` an admin."""
    authority = Authority(tmp_path / "authority")
    authority.clock.now_ms = now_ms()
    authority.publish(policy_files(""))
    policy = PolicySettings(
        root_file=tmp_path / "authority" / "metadata" / "1.root.json",
        source=str(tmp_path / "authority"),
        deny_after_s=10**9,
        read_only_after_s=10**9,
    )
    with hub_inside(tmp_path / "data", chosen().model_copy(update={"policy": policy})) as hub:
        hub.ask(hub.hub._trust.policy.pull())
        scopes = ["admin:people", "read:metrics", "read:message"]
        clerk = admin(hub, "POST", "/api/keys", {"name": "clerk", "scopes": scopes}).json()["key"]
        made = call(hub.port, clerk, "POST", "/api/invitations", {"name": "chief", "roles": ["observer"]})
        assert made.status == 201, made.body
        authority.publish(policy_files("", roles=ROLES))
        hub.ask(hub.hub._trust.policy.pull())
        assert call(hub.port, clerk, "POST", "/api/invitations", {"name": "chief", "roles": ["observer"]}).status == 403
        browser = Browser(hub)
        entered = browser.ask("POST", "/api/login/invitation", {"token": made.json()["token"], "password": PASSWORD})
        assert browser.ask("GET", "/api/keys").status_code in (401, 403), (
            entered.text,
            browser.ask("GET", "/api/keys").text,
        )
