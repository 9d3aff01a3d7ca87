"""Token, proof, nonce and memory together, as a hub asks them for each request and each connection."""

import hashlib

import pytest

from auth.tokens.forge import DEVICE, HUB, NOW_MS, SITE, SKEW_MS, STRANGER, claims, refusal, token
from auth.tokens.runs import ORIGIN, PATH, WINDOW_MS, Monotonic, a_run, proof
from autoglm.auth.tokens.challenge import CHALLENGE_TTL_S, Challenge, is_password, parse_password, password
from autoglm.auth.tokens.compact import MAX_BYTES
from autoglm.auth.tokens.pins import Pins
from autoglm.auth.tokens.request import RequestVerifier, Verified
from autoglm.auth.tokens.token import issue
from autoglm.core.errors import NonceWanted, TooManyProofs, Unauthorized
from autoglm.gateway.problems import problem_response

TOKEN = token()
AUTHORIZATION = b"DPoP " + TOKEN.encode()


def ask(
    run: RequestVerifier, made: bytes | None, authorization: bytes = AUTHORIZATION, method: str = "POST",
    path: str = PATH, now_ms: int = NOW_MS, *, is_clock_trusted: bool = True,
) -> Verified:  # fmt: skip
    return run.verify(authorization, made, method, path, now_ms, is_clock_trusted=is_clock_trusted)


def nonce_for(run: RequestVerifier, made: bytes, **circumstances: bool) -> str:
    with pytest.raises(NonceWanted) as raised:
        ask(run, made, **circumstances)  # type: ignore[arg-type]  # is_clock_trusted only
    return raised.value.nonce


def test_who_holds_token_and_key_is_let_in() -> None:
    found = ask(a_run(), proof(TOKEN))
    assert (found.claims.subject, found.claims.jkt) == ("device:press-7", DEVICE.kid)
    assert found.body_sha256 == hashlib.sha256(b"body").digest()


def test_the_scheme_is_written_in_any_case() -> None:
    """RFC 9110, section 11.1."""
    for scheme in (b"dpop", b"DPOP", b"DPoP "):
        assert ask(a_run(), proof(TOKEN), scheme + b" " + TOKEN.encode()).claims.jti == "jti-of-this-token"


@pytest.mark.attack("a stolen token without its key")
def test_a_token_alone_is_worth_nothing() -> None:
    run = a_run()
    assert refusal(lambda: ask(run, None)) == "missing"
    assert refusal(lambda: ask(run, None, b"Bearer " + TOKEN.encode())) == "missing"
    assert refusal(lambda: ask(run, proof(TOKEN), b"Bearer " + TOKEN.encode())) == "missing"
    assert refusal(lambda: ask(run, proof(TOKEN, STRANGER))) == "wrong_key"
    for header in (b"", b"Basic " + TOKEN.encode(), b"DPoP", b"DPoP  ", TOKEN.encode()):
        assert refusal(lambda header=header: ask(run, proof(TOKEN), header)) in ("missing", "malformed")  # type: ignore[misc]


@pytest.mark.attack("replay within a run")
def test_a_request_counts_once() -> None:
    run, made = a_run(), proof(TOKEN)
    ask(run, made)
    for now_ms in (NOW_MS, NOW_MS + WINDOW_MS):
        assert refusal(lambda now_ms=now_ms: ask(run, made, now_ms=now_ms)) == "replayed"  # type: ignore[misc]
    assert ask(run, proof(TOKEN)).claims.jti == "jti-of-this-token"


@pytest.mark.attack("a proof reused on another path")
def test_a_refused_use_does_not_use_a_proof_up() -> None:
    """Whoever overhears a request cannot spoil it by sending it elsewhere first."""
    run, made = a_run(), proof(TOKEN)
    assert refusal(lambda: ask(run, made, path="/api/keys")) == "wrong_request"
    assert refusal(lambda: ask(run, made, method="DELETE")) == "wrong_request"
    assert ask(run, made).claims.jti == "jti-of-this-token"


@pytest.mark.attack("replay across a restart")
@pytest.mark.parametrize("down_ms", [0, 1, 30_000, WINDOW_MS - 1000])
def test_what_one_run_took_the_next_does_not_take(down_ms: int) -> None:
    """The newest proof that the first run can have taken is ahead of its clock by the skew."""
    first = a_run()
    seen = [proof(TOKEN, now_ms=NOW_MS + ahead_ms) for ahead_ms in (-60_000, 0, SKEW_MS)]
    for made in seen:
        assert ask(first, made).claims.jti == "jti-of-this-token"
    second = a_run(started_ms=NOW_MS + down_ms)
    for made in seen:
        with pytest.raises(Unauthorized) as raised:
            ask(second, made, now_ms=NOW_MS + down_ms)
        assert isinstance(raised.value, NonceWanted) or raised.value.facts["reason"] == "expired"
    assert isinstance(raised.value, NonceWanted)


@pytest.mark.attack("replay across a restart")
def test_a_nonce_of_the_run_before_counts_no_more() -> None:
    first = a_run(started_ms=NOW_MS)
    made = proof(TOKEN, nonce=nonce_for(first, proof(TOKEN)))
    assert ask(first, made).claims.jti == "jti-of-this-token"
    assert refusal(lambda: ask(first, made)) == "replayed"
    second = a_run(started_ms=NOW_MS + 1000)
    nonce = nonce_for(second, made)
    assert ask(second, proof(TOKEN, nonce=nonce)).claims.jti == "jti-of-this-token"


def test_right_after_a_start_a_client_asks_twice_and_later_once() -> None:
    run = a_run(started_ms=NOW_MS)
    nonce = nonce_for(run, proof(TOKEN))
    assert ask(run, proof(TOKEN, nonce=nonce)).claims.jti == "jti-of-this-token"
    last_ms = NOW_MS + SKEW_MS
    with pytest.raises(NonceWanted):
        ask(run, proof(TOKEN, now_ms=last_ms), now_ms=last_ms)
    assert ask(run, proof(TOKEN, now_ms=last_ms + 1000), now_ms=last_ms + 1000).claims.jti == "jti-of-this-token"


def test_a_nonce_that_is_given_must_be_good() -> None:
    run = a_run()
    nonce = nonce_for(run, proof(TOKEN, nonce="guessed"))
    assert ask(run, proof(TOKEN, nonce=nonce)).claims.jti == "jti-of-this-token"
    clock = Monotonic()
    run = a_run(monotonic=clock)
    old = run.nonces.current()
    clock.now_s += 180
    assert nonce_for(run, proof(TOKEN, nonce=old)) != old


@pytest.mark.attack("a clock that cannot be trusted")
def test_with_a_clock_that_is_not_trusted_each_proof_needs_a_nonce() -> None:
    run = a_run()
    nonce = nonce_for(run, proof(TOKEN), is_clock_trusted=False)
    assert ask(run, proof(TOKEN, nonce=nonce), is_clock_trusted=False).claims.jti == "jti-of-this-token"


def test_a_full_memory_answers_with_a_wait() -> None:
    run = a_run(max_entries=1)
    ask(run, proof(TOKEN))
    with pytest.raises(TooManyProofs):
        ask(run, proof(TOKEN))


def test_the_answer_tells_a_client_what_to_send() -> None:
    """RFC 9449, sections 7.1 and 9."""
    run = a_run(started_ms=NOW_MS)
    with pytest.raises(NonceWanted) as raised:
        ask(run, proof(TOKEN))
    status, headers, body = problem_response(raised.value, "")
    assert status == 401
    assert (b"dpop-nonce", run.nonces.current().encode()) in headers
    assert (b"www-authenticate", b'DPoP error="use_dpop_nonce", algs="Ed25519"') in headers
    assert b'"code":"use_nonce"' in body


@pytest.mark.attack("a token by a revoked key")
def test_a_key_that_is_unpinned_lets_nobody_in_at_once() -> None:
    run = a_run()
    ask(run, proof(TOKEN))
    run.tokens.repin(Pins())
    assert refusal(lambda: ask(run, proof(TOKEN))) == "unknown_key"


@pytest.mark.parametrize("junk", [b"", b"\xff", b"a.b.c", b"x" * 20_000, proof(TOKEN, jti="a" * 16) + b", " + b"x"])
def test_junk_in_a_header_is_refused(junk: bytes) -> None:
    assert refusal(lambda: ask(a_run(), junk)) == "malformed"
    assert refusal(lambda: ask(a_run(), proof(TOKEN), b"DPoP " + junk)) == "malformed"


# --- connections ---


def answer(
    run: RequestVerifier, challenge: Challenge, *, nonce: str | None = None, method: str = "WEBSOCKET"
) -> Verified:
    made = proof(TOKEN, method=method, url=SITE, body=b"", nonce=nonce or challenge.nonce)
    return run.verify_answer(TOKEN.encode(), made, challenge, NOW_MS)


def test_a_connection_answers_its_challenge() -> None:
    run, challenge = a_run(), Challenge("WEBSOCKET")
    assert answer(run, challenge).claims.subject == "device:press-7"
    for method in ("MQTT", "RTC"):
        assert answer(run, Challenge(method), method=method).claims.jti == "jti-of-this-token"


@pytest.mark.attack("a challenge answered twice")
def test_a_challenge_is_answered_once() -> None:
    run, challenge = a_run(), Challenge("WEBSOCKET")
    answer(run, challenge)
    assert refusal(lambda: answer(run, challenge)) == "challenge_over"
    challenge = Challenge("WEBSOCKET")
    assert refusal(lambda: answer(run, challenge, nonce="guessed")) == "wrong_token"
    assert refusal(lambda: answer(run, challenge)) == "challenge_over"


@pytest.mark.attack("an answer carried to another connection")
def test_an_answer_fits_one_connection() -> None:
    run, mine, theirs = a_run(), Challenge("WEBSOCKET"), Challenge("WEBSOCKET")
    overheard = proof(TOKEN, method="WEBSOCKET", url=SITE, body=b"", nonce=mine.nonce)
    assert refusal(lambda: run.verify_answer(TOKEN.encode(), overheard, theirs, NOW_MS)) == "wrong_token"
    assert run.verify_answer(TOKEN.encode(), overheard, mine, NOW_MS).claims.jkt == DEVICE.kid


@pytest.mark.attack("an answer carried to another connection")
def test_no_other_proof_answers_a_challenge() -> None:
    run = a_run()
    without_nonce = proof(TOKEN, method="WEBSOCKET", url=SITE)
    of_the_run = proof(TOKEN, method="WEBSOCKET", url=SITE, nonce=run.nonces.current())
    for made in (without_nonce, of_the_run):
        assert refusal(lambda made=made: run.verify_answer(TOKEN.encode(), made, Challenge("WEBSOCKET"), NOW_MS)) == (  # type: ignore[misc]
            "wrong_token"
        )
    assert refusal(lambda: answer(run, Challenge("WEBSOCKET"), method="RTC")) == "wrong_request"
    assert refusal(lambda: answer(run, Challenge("MQTT"))) == "wrong_request"
    over_http = Challenge("WEBSOCKET")
    made = proof(TOKEN, nonce=over_http.nonce)
    assert refusal(lambda: run.verify_answer(TOKEN.encode(), made, over_http, NOW_MS)) == "wrong_request"


def test_a_challenge_ends() -> None:
    clock = Monotonic()
    in_time, late = Challenge("MQTT", monotonic_s=clock), Challenge("MQTT", monotonic_s=clock)
    clock.now_s += CHALLENGE_TTL_S - 0.1
    assert answer(a_run(), in_time, method="MQTT").claims.jti == "jti-of-this-token"
    clock.now_s += 0.1
    assert refusal(lambda: answer(a_run(), late, method="MQTT")) == "challenge_over"


def test_two_challenges_differ() -> None:
    assert len({Challenge("RTC").nonce for _ in range(100)}) == 100


# --- MQTT 3.1.1 ---


def a_password(*, now_ms: int = NOW_MS, of: str = TOKEN) -> bytes:
    return password(of, proof(of, method="MQTT", url=SITE, body=b"", now_ms=now_ms).decode()).encode()


def test_a_password_is_a_token_and_a_fresh_proof() -> None:
    text = a_password()
    assert is_password(text)
    assert not is_password(b"hunter2~x")
    assert parse_password(text).token == TOKEN.encode()
    assert a_run().verify_password(text, NOW_MS).claims.subject == "device:press-7"


@pytest.mark.attack("a replayed password of MQTT 3.1.1")
def test_a_password_counts_once() -> None:
    run, text = a_run(), a_password()
    run.verify_password(text, NOW_MS)
    assert refusal(lambda: run.verify_password(text, NOW_MS)) == "replayed"
    assert refusal(lambda: run.verify_password(a_password(), NOW_MS + WINDOW_MS + 1000)) == "expired"
    run.verify_password(a_password(), NOW_MS)


@pytest.mark.attack("replay across a restart")
def test_a_password_of_the_run_before_is_refused() -> None:
    first, text = a_run(), a_password()
    first.verify_password(text, NOW_MS)
    second = a_run(started_ms=NOW_MS + 1000)
    with pytest.raises(NonceWanted):
        second.verify_password(text, NOW_MS + 1000)
    later_ms = NOW_MS + 1000 + SKEW_MS + 1000
    assert second.verify_password(a_password(now_ms=later_ms), later_ms).claims.jkt == DEVICE.kid


@pytest.mark.attack("a stolen token without its key")
def test_a_password_needs_the_holders_proof() -> None:
    stolen = proof(TOKEN, STRANGER, method="MQTT", url=SITE).decode()
    assert refusal(lambda: a_run().verify_password(password(TOKEN, stolen).encode(), NOW_MS)) == "wrong_key"
    over_http = password(TOKEN, proof(TOKEN).decode()).encode()
    assert refusal(lambda: a_run().verify_password(over_http, NOW_MS)) == "wrong_request"
    other = issue(HUB, claims(jti="another-token-of-it"))
    mixed = password(other, proof(TOKEN, method="MQTT", url=SITE).decode()).encode()
    assert refusal(lambda: a_run().verify_password(mixed, NOW_MS)) == "wrong_token"


@pytest.mark.parametrize(
    "text", [b"", b"~", b"~~", b"a", b"a~b~c", TOKEN.encode(), b"~" * 100, b"x" * (2 * MAX_BYTES + 2)]
)
def test_what_is_no_password_is_refused(text: bytes) -> None:
    assert refusal(lambda: a_run().verify_password(text, NOW_MS)) == "malformed"


def test_the_hubs_own_names_are_what_counts() -> None:
    """Not the Host header: the verifier is not even given one."""
    assert a_run().origins == {ORIGIN}
