"""Tokens that another hub signed, at a running hub: they count as far as its pin says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from auth.policy.authority import Authority, policy_files
from autoglm.auth.policy.settings import PolicySettings
from autoglm.auth.tokens.claims import Claims, new_jti
from autoglm.auth.tokens.proof import make_proof
from autoglm.auth.tokens.settings import IssuerSettings, TrustSettings
from autoglm.auth.tokens.signing import SigningKey
from autoglm.auth.tokens.token import issue
from autoglm.core.clock import now_ms
from gateway.inside import Inside, hub_inside, settings
from gateway.test_enrolled_devices import reason
from gateway.wire import Reply, call

# Two hubs that this one knows: one by its settings, one by its policy; and a third in the policy that says no limit.
WARD_4, WARD_5, WARD_6, DEVICE = (SigningKey.generate() for _ in range(4))
LIMIT = ("send:message:device:w4-*", "read:message:device:w4-*")
ROLES = {
    "roles": {"chief": ["admin:*"], "reader": ["read:message"]},
    "grants": {"user:chief": [{"role": "chief"}], "device:w4-press": [{"role": "chief"}],
               "device:w5-press": [{"role": "reader"}]},
}  # fmt: skip
PINS = [
    {"kid": WARD_5.kid, "issuer": "ward-5", "public_key": WARD_5.public.x, "addresses": ["device:w5-*"],
     "scopes": ["send:message:device:w5-*"]},
    {"kid": WARD_6.kid, "issuer": "ward-6", "public_key": WARD_6.public.x},
]  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    folder = tmp_path_factory.mktemp("sites")
    authority = Authority(folder / "authority")
    authority.clock.now_ms = now_ms()
    authority.publish(policy_files(roles=ROLES, pins=PINS))
    issuer = IssuerSettings(
        name="ward-4", public_key=WARD_4.public.x, addresses=("device:w4-*", "user:chief"), scopes=LIMIT
    )
    root = folder / "authority" / "metadata" / "1.root.json"
    chosen = settings().model_copy(
        update={
            "policy": PolicySettings(root_file=root, source=str(folder / "authority")),
            "trust": TrustSettings(site="ward-3", issuer=(issuer,)),
        }
    )
    with hub_inside(folder / "data", chosen) as inside:
        inside.ask(inside.hub._trust.policy.pull())
        yield inside


def visit(
    hub: Inside, subject: str, scopes: str, method: str, path: str, body: Any = None, *,
    site: tuple[SigningKey, str] = (WARD_4, "ward-4"),
) -> Reply:  # fmt: skip
    """A request with a token that another hub signed for a device of its own."""
    now, (by, issuer) = now_ms(), site
    token = issue(
        by,
        Claims(
            issuer=issuer, subject=subject, audience="ward-3", issued_at_ms=now, ends_at_ms=now + 60_000,
            jti=new_jti(), scopes=tuple(scopes.split()), jkt=DEVICE.kid, policy_version=0,
        ),
    )  # fmt: skip
    data = None if body is None else json.dumps(body).encode()
    nonce = hub.hub._auth.requests.nonces.current()
    url = hub.hub.url + path.partition("?")[0]
    proof = make_proof(DEVICE, method=method, url=url, token=token, body=data or b"", now_ms=now, nonce=nonce)
    return call(hub.port, "", method, path, data, authorization=f"DPoP {token}", dpop=proof)


def test_a_device_of_another_site_does_here_what_both_sites_let_it(hub: Inside) -> None:
    message = {"to": "user:carol", "content": "hot"}
    assert visit(hub, "device:w4-oven", "send:message", "POST", "/api/messages", message).status == 202
    shown = visit(hub, "device:w4-oven", "send:message admin:*", "GET", "/api/me").json()
    assert set(shown["scopes"]) == set(LIMIT)
    as_another = visit(hub, "device:w4-oven", "admin:*", "POST", "/api/messages", {**message, "from": "user:chief"})
    assert reason(as_another) == (403, "no_scope")


@pytest.mark.attack("an issuer gives more than it may")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/keys", None), ("POST", "/api/keys", {"name": "door", "scopes": ["send:message"]}),
        ("POST", "/api/revocations", {"id": "user:admin"}), ("POST", "/api/policy/pull", {}),
        ("GET", "/api/messages?to=user:carol", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("subject", ["device:w4-oven", "device:w4-press", "user:chief"])  # two of them have a role here
def test_what_its_issuer_may_not_give_no_token_has_nor_by_a_role(
    hub: Inside, subject: str, method: str, path: str, body: Any
) -> None:
    assert reason(visit(hub, subject, "admin:* read:message", method, path, body)) == (403, "no_scope")


@pytest.mark.attack("another hub in a third one's name")
@pytest.mark.parametrize("subject", ["user:admin", "device:press-7", "device:w5-press", "site:ward-5"])
def test_no_hub_speaks_for_addresses_that_are_not_its_own(hub: Inside, subject: str) -> None:
    assert reason(visit(hub, subject, "send:message", "GET", "/api/me")) == (401, "wrong_subject")


@pytest.mark.attack("an issuer gives more than it may")
def test_the_limits_of_a_policy_hold_as_those_of_the_settings(hub: Inside) -> None:
    ward_5 = (WARD_5, "ward-5")
    message = {"to": "user:carol", "content": "hot"}
    assert visit(hub, "device:w5-press", "admin:*", "POST", "/api/messages", message, site=ward_5).status == 202
    assert reason(visit(hub, "device:w5-press", "admin:*", "GET", "/api/keys", site=ward_5)) == (403, "no_scope")
    # It has the role of a reader here; what its hub may pass on has no end in that.
    path = "/api/messages?to=user:carol"
    assert reason(visit(hub, "device:w5-press", "admin:*", "GET", path, site=ward_5)) == (403, "no_scope")
    assert reason(visit(hub, "user:chief", "admin:*", "GET", "/api/keys", site=ward_5)) == (401, "wrong_subject")


def test_a_hub_of_which_nothing_is_said_speaks_for_itself(hub: Inside) -> None:
    ward_6 = (WARD_6, "ward-6")
    assert reason(visit(hub, "device:w6-press", "admin:*", "GET", "/api/me", site=ward_6)) == (401, "wrong_subject")
    shown = visit(hub, "site:ward-6", "admin:*", "GET", "/api/me", site=ward_6).json()
    assert shown["scopes"] == ["send:message:site:ward-6/*", "read:message:site:ward-6/*"]
    message = {"to": "user:carol", "content": "hot", "from": "site:ward-6/device:press"}
    assert visit(hub, "site:ward-6", "admin:*", "POST", "/api/messages", message, site=ward_6).status == 202
