"""What a device may use up is its own, whatever token it shows; and who shows bad tokens and proofs is counted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from autoglm.auth.authenticator import RENEWALS_PER_MINUTE
from autoglm.auth.tokens.proof import make_proof
from autoglm.auth.tokens.signing import SigningKey
from autoglm.core.clock import now_ms
from gateway.inside import Inside, hub_inside, settings
from gateway.test_enrolled_devices import SCOPES, Raw, enrol, reason
from gateway.wire import Reply, call

FAILURES = 10
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """A proxy on this machine says where each request comes from."""
    chosen = settings(failures_per_minute=FAILURES, trusted_proxies=("127.0.0.1",))
    with hub_inside(tmp_path_factory.mktemp("limits") / "data", chosen) as inside:
        yield inside


def send(raw: Raw, client: str, **changes: Any) -> Reply:
    """One request of the device from there, with a proof that the test may spoil."""
    token = changes.pop("shown", raw.token)
    proof = raw.proof("GET", "/api/me", **changes)
    return call(
        raw.hub.port, "", "GET", "/api/me", None, authorization=f"DPoP {token}", dpop=proof, x_forwarded_for=client
    )  # fmt: skip


def renew(raw: Raw, name: str, key: SigningKey, client: str = "198.51.100.1") -> Reply:
    body = json.dumps({"device": name}).encode()
    proof = raw.proof("POST", "/api/tokens/renew", body, token="", key=key)
    return call(raw.hub.port, "", "POST", "/api/tokens/renew", body, dpop=proof, x_forwarded_for=client)


def until_too_many(ask: Any, most: int = 3 * FAILURES) -> int:
    """How often it was refused for what it was before that was too often."""
    for number in range(most):
        if (reply := ask()).status == 429:
            assert reply.json()["code"] == "too_many_failures"
            return number
        assert reply.status == 401, reply
    return most


@pytest.mark.attack("a limit that begins anew with another token")
def test_another_token_or_fewer_scopes_fill_no_limit_up(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "greedy", rate_per_minute=6))
    while (reply := send(raw, "198.51.100.1")).status == 200:
        pass
    assert reason(reply) == (429, "rate_limited")
    for wish in ({"device": "greedy"}, {"device": "greedy", "scopes": SCOPES[:1]}):
        raw.token = call(hub.port, hub.key, "POST", "/api/tokens", wish).json()["token"]
        assert reason(send(raw, "198.51.100.1")) == (429, "rate_limited"), wish
    assert reason(renew(raw, "greedy", raw.key)) == (429, "rate_limited")


@pytest.mark.attack("renewals without end")
def test_a_device_renews_its_token_so_often_and_others_theirs(hub: Inside, tmp_path: Path) -> None:
    raw, other = Raw(hub, enrol(hub, tmp_path, "restless")), Raw(hub, enrol(hub, tmp_path, "calm"))
    replies: list[Reply] = []
    while not replies or (replies[-1].status == 201 and len(replies) < 2 * RENEWALS_PER_MINUTE):
        replies.append(renew(raw, "restless", raw.key))
    assert len(replies) > RENEWALS_PER_MINUTE
    assert reason(replies[-1]) == (429, "rate_limited")
    # Strangers use up no device's renewals.
    assert reason(renew(other, "calm", raw.key)) == (401, "wrong_key")
    assert renew(other, "calm", other.key).status == 201


@pytest.mark.attack("bad tokens and proofs without end")
@pytest.mark.parametrize("what", ["token", "signature", "proof", "replay", "renewal", "name"])
def test_bad_tokens_and_proofs_count_against_their_address(hub: Inside, tmp_path: Path, what: str) -> None:
    number = ["token", "signature", "proof", "replay", "renewal", "name"].index(what)
    client, stranger = f"192.0.2.{number}", SigningKey.generate()
    raw = Raw(hub, enrol(hub, tmp_path, f"known-{what}"))
    newcomer = Raw(hub, enrol(hub, tmp_path, f"new-{what}"))
    assert send(raw, client).status == 200
    head, claims, _ = raw.token.split(".")
    used = raw.proof("GET", "/api/me", jti="j" * 22)
    asks = {
        "token": lambda: send(raw, client, shown="x.y.z"),
        "signature": lambda: send(raw, client, shown=f"{head}.{claims}.{'A' * 86}"),
        "proof": lambda: send(raw, client, key=stranger),
        "replay": lambda: call(
            hub.port, "", "GET", "/api/me", None, authorization=f"DPoP {raw.token}", dpop=used, x_forwarded_for=client
        ),
        "renewal": lambda: renew(raw, f"known-{what}", stranger, client),
        "name": lambda: renew(raw, "nobody", stranger, client),
    }
    if what == "replay":
        assert asks[what]().status == 200
    assert FAILURES <= until_too_many(asks[what]) <= FAILURES + 2
    assert send(raw, client).status == 200  # it was verified there before: nobody locks it out
    assert renew(raw, f"known-{what}", raw.key, client).status == 201
    assert reason(send(newcomer, client)) == (429, "too_many_failures")
    assert send(newcomer, "203.0.113.7").status == 200


@pytest.mark.attack("lock-out of a device by its own clock")
def test_a_device_whose_clock_is_wrong_locks_nobody_out(hub: Inside, tmp_path: Path) -> None:
    raw = Raw(hub, enrol(hub, tmp_path, "skewed"))
    client = "192.0.2.100"
    for off_ms in (HOUR_MS, -HOUR_MS):
        for _ in range(2 * FAILURES):
            assert send(raw, client, now_ms=now_ms() + off_ms).status == 401
    for _ in range(2 * FAILURES):  # a new run of the hub wants a nonce, which it does not have yet
        assert reason(send(raw, client, nonce=None)) in ((401, "use_nonce"), (200, "None"))
    gone = Raw(hub, enrol(hub, tmp_path, "gone"))
    assert call(hub.port, hub.key, "DELETE", "/api/devices/gone").status == 204
    for _ in range(2 * FAILURES):
        assert reason(send(gone, client)) == (401, "revoked")
    assert send(raw, client).status == 200


@pytest.mark.attack("bad tokens and proofs without end")
def test_answers_on_a_websocket_count_as_well(hub: Inside, tmp_path: Path) -> None:
    raw, stranger, client = Raw(hub, enrol(hub, tmp_path, "wire")), SigningKey.generate(), "192.0.2.200"
    codes: list[str] = []
    while not codes or (codes[-1] == "token_refused" and len(codes) < 3 * FAILURES):
        headers = {"X-Forwarded-For": client}
        with connect(f"ws://127.0.0.1:{hub.port}/api/ws", proxy=None, additional_headers=headers) as ws:
            ws.send(json.dumps({"type": "hello", "token": raw.token}))
            challenge = json.loads(ws.recv(timeout=20))
            answer = make_proof(
                stranger, method="WEBSOCKET", url=challenge["audience"], token=raw.token, now_ms=now_ms(),
                nonce=challenge["nonce"],
            )  # fmt: skip
            ws.send(json.dumps({"type": "proof", "proof": answer}))
            codes.append(json.loads(ws.recv(timeout=20))["problem"]["code"])
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=20)
    assert (len(codes) in range(FAILURES, FAILURES + 4), codes[-1]) == (True, "too_many_failures")
