"""One tree of errors for callers to catch; `gateway/problems.py` maps each `code` to an HTTP status.

Codes are stable and never reused. Messages name the value that failed and, where known, the way out;
they never hold secrets or message bodies.
"""

import shlex
import sys
from difflib import get_close_matches
from typing import Literal

_NEAR = 0.7
"""difflib's ratio from which a name is near another: `wiat` is near `wait` (0.75), `state` not near `after` (0.6)."""

PULL = "autoglm models pull qwen2.5-coder-0.5b"
"""Fetches the first model; a hub whose folder is not the default one adds --data."""


class HubError(Exception):
    """Root of what callers may catch. `facts` are public: they travel in the problem's JSON body."""

    code = "internal"
    retryable = False

    def __init__(self, message: str, **facts: str | int | float | bool | list[str] | None) -> None:
        super().__init__(message)
        self.facts = facts


def did_you_mean(wrong: str, known: list[str]) -> str:
    """' Did you mean X?' when one of `known` is close to `wrong`, else an empty string."""
    close = get_close_matches(wrong, known, n=1, cutoff=_NEAR)
    return f" Did you mean {close[0]!r}?" if close else ""


# --- what the caller sent ---------------------------------------------------------------------------


class InvalidJson(HubError):
    """The body is no JSON in UTF-8."""

    code = "invalid_json"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the body is not valid JSON: {reason}")


class InvalidField(HubError):
    """One field has a wrong type or value. `field` is a dotted path such as `messages[0].content`."""

    code = "invalid_field"

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}", field=field)


class PayloadTooLarge(HubError):
    """The body is over the limit of `gateway.max_body_bytes`."""

    code = "payload_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the body is over {limit_bytes} bytes; raise gateway.max_body_bytes or send a link",
            limit_bytes=limit_bytes,
        )


class UnsupportedMediaType(HubError):
    """The body is in a form that the endpoint does not read."""

    code = "unsupported_media_type"

    def __init__(self, got: str, wanted: str) -> None:
        super().__init__(f"the body is {got!r}; send {wanted}", got=got, wanted=wanted)


class InvalidHttp(HubError):
    """What came is no HTTP request; the connection ends with the answer."""

    code = "invalid_http"

    def __init__(self, reason: str) -> None:
        super().__init__(f"this is no HTTP/1.1 request: {reason}")


class HeadTooLarge(HubError):
    """The request's line and headers are over the limit; the connection ends with the answer."""

    code = "head_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request's line and headers are over {limit_bytes} bytes", limit_bytes=limit_bytes)


class RequestTimeout(HubError):
    """The client stopped sending in the middle of a request, or is too slow; the connection ends with the answer."""

    code = "request_timeout"
    retryable = True

    def __init__(self, waited_s: float, *, is_slow: bool = False) -> None:
        """is_slow: something came all the while."""
        what = "it has been coming" if is_slow else "nothing came"
        super().__init__(f"{what} for {waited_s:.0f} s, and the request is not complete")


class TooManyConnections(HubError):
    """The hub serves as many clients as it may."""

    code = "too_many_connections"
    retryable = True

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} clients are connected already; raise gateway.max_connections?", limit=limit, retry_after_s=2.0
        )


class TooManyBodies(HubError):
    """As many large bodies as may be in memory at a time are coming from callers that nobody has verified yet."""

    code = "too_many_bodies"
    retryable = True

    def __init__(self, limit: int, free_bytes: int) -> None:
        """free_bytes: bodies up to this size are always taken."""
        super().__init__(
            f"{limit} bodies of over {free_bytes} bytes are coming already; call again in a moment",
            limit=limit, retry_after_s=2.0,
        )  # fmt: skip


class AddressRefused(HubError):
    """Somebody who is no operator led a request to an address that this hub does not call: see core.guard."""

    code = "address_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(f"this hub does not call that address: {reason}")


class WrongHost(HubError):
    """The request is for a host that is none of this hub's: a page of strangers whose name leads here, for one."""

    code = "wrong_host"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"this hub is not {host[:100]!r}; if that is a name of its own, add it to gateway.hosts", host=host[:100]
        )


class CrossOrigin(HubError):
    """A page of another origin made a browser ask."""

    code = "cross_origin"

    def __init__(self, origin: str) -> None:
        super().__init__(f"pages of {origin[:100]!r} may not use this hub", origin=origin[:100])


class UnknownPath(HubError):
    """No endpoint has this path."""

    code = "unknown_path"

    def __init__(self, path: str, way_out: str = "/openapi.json lists what there is") -> None:
        super().__init__(f"there is nothing at {path}; {way_out}", path=path)


class MethodNotAllowed(HubError):
    """The path exists, but not for this method."""

    code = "method_not_allowed"

    def __init__(self, method: str, path: str, allowed: list[str]) -> None:
        super().__init__(f"{path} does not take {method}; it takes {', '.join(allowed)}", allowed=allowed)


class NotFound(HubError):
    """A thing with this name or id does not exist here (any more)."""

    code = "not_found"

    def __init__(self, what: str, name: str) -> None:
        super().__init__(f"there is no {what} {name!r} here", what=what, name=name)


class UnknownRecipient(HubError):
    """The address is well formed, but leads nowhere from this hub."""

    code = "unknown_recipient"

    def __init__(self, address: str, way_out: str) -> None:
        super().__init__(f"{address!r} cannot be reached: {way_out}", field="to", address=address)


class UnknownModel(HubError):
    """No instance serves this model."""

    code = "unknown_model"

    def __init__(self, model: str, known: list[str] | None = None, *, pull: str = PULL) -> None:
        """known: the models there are; None when the raiser does not know them. pull: the command that fetches one."""
        text = f"no instance serves model {model!r}"
        if known is None:
            text += "; GET /v1/models lists those there are"
        elif known:
            text += f".{did_you_mean(model, known)} Known: {', '.join(known)}"
        else:
            text += f", nor any other yet; run '{pull}' or add an [[instance]], then restart"
        super().__init__(text, model=model)


class DuplicateId(HubError):
    """The id was used before, for a message with other content."""

    code = "duplicate_id"

    def __init__(self, id: str) -> None:
        super().__init__(f"id {id!r} already belongs to a message with other content; choose a new id", id=id)


class RevisionMismatch(HubError):
    """A compare-and-set found another revision than the one it was told to expect."""

    code = "revision_mismatch"
    retryable = True

    def __init__(self, key: str, expected: int, found: int) -> None:
        super().__init__(
            f"{key!r} is at revision {found}, not {expected}; read it again", expected=expected, found=found
        )


class RangeNotSatisfiable(HubError):
    """A range read starts behind the end of the blob."""

    code = "range_not_satisfiable"

    def __init__(self, start: int, size_bytes: int) -> None:
        super().__init__(f"the range starts at {start}, but there are {size_bytes} bytes", size_bytes=size_bytes)


# --- who the caller is ------------------------------------------------------------------------------


class Unauthorized(HubError):
    """No key, or one that this hub does not know."""

    code = "unauthorized"

    def __init__(self, reason: str) -> None:
        # Strangers read this: it names no folder.
        way_out = "send 'Authorization: Bearer KEY'; 'autoglm console --print' on the hub's machine shows the first key"
        super().__init__(f"{reason}: {way_out}")


RefusalReason = Literal[
    "bad_signature", "challenge_over", "expired", "key_ended", "key_revoked", "malformed", "missing", "not_yet",
    "replayed", "revoked", "too_long_lived", "unknown_key", "wrong_algorithm", "wrong_audience", "wrong_body",
    "wrong_issuer", "wrong_key", "wrong_request", "wrong_subject", "wrong_token", "wrong_type",
]  # fmt: skip
_REFUSALS: dict[RefusalReason, str] = {
    "bad_signature": "its signature does not verify",
    "challenge_over": "the challenge was answered already or has ended; connect again",
    "expired": "it has ended, or the clock of its maker is slow",
    "key_ended": "the key that signed it has ended",
    "key_revoked": "the key that signed it was revoked",
    "malformed": "it has not the form that docs/security.md describes",
    "missing": "the request has none; send 'Authorization: DPoP TOKEN' and a proof in the header 'DPoP'",
    "not_yet": "it is not valid yet, or the clock of its maker is fast",
    "replayed": "it was used already; make a new one for each request",
    "revoked": "it, its key or its holder was revoked",
    "too_long_lived": "it lives longer than this hub allows",
    "unknown_key": "this hub does not know the key that signed it",
    "wrong_algorithm": "it is signed by another algorithm than the one that this hub takes",
    "wrong_audience": "it is for another hub",
    "wrong_body": "it is for another body",
    "wrong_issuer": "the key that signed it is not that of its issuer",
    "wrong_key": "it is by another key than the one the token is bound to",
    "wrong_request": "it is for another method or address",
    "wrong_subject": "its issuer does not speak for that address at this hub",
    "wrong_token": "it is for another token or challenge",
    "wrong_type": "it is of another type",
}


class TokenRefused(Unauthorized):
    """A token, its proof, or the answer to a challenge does not count. The facts `what` and `reason` are stable."""

    code = "token_refused"

    def __init__(self, reason: RefusalReason, what: Literal["token", "proof"] = "token") -> None:
        # Strangers read this: no value of the token, of a key or of the hub is in it.
        HubError.__init__(self, f"the {what} is refused: {_REFUSALS[reason]}", reason=reason, what=what)
        self.reason: RefusalReason = reason
        self.what = what


class NonceWanted(Unauthorized):
    """The proof is in order, but must carry a nonce of this run of the hub: send the request again with `nonce`."""

    code = "use_nonce"

    def __init__(self, nonce: str) -> None:
        HubError.__init__(self, "the proof must carry the nonce that is in the header 'DPoP-Nonce'; send it again")
        self.nonce = nonce


class TooManyProofs(HubError):
    """More proofs came than can be remembered until they end; to forget one would be to accept it twice."""

    code = "too_many_proofs"
    retryable = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"too many requests with proofs; try again in {retry_after_s:.0f} s", retry_after_s=retry_after_s
        )


class Forbidden(HubError):
    """Who asks is known, but lacks the scope, or a policy says no."""

    code = "forbidden"

    def __init__(self, scope: str, reason: str = "no_scope", detail: str = "") -> None:
        """reason: a code such as `revoked`, `stale`, `forbidden` (by a policy), with a sentence for people."""
        said = f"{scope!r} is not allowed: {detail}" if detail else f"this key lacks the scope {scope!r}"
        super().__init__(said, scope=scope, reason=reason)


class PolicyRefused(HubError):
    """A policy, or the metadata that signs it, is not taken: forged, rolled back, expired, damaged, or wrong in itself.

    The one that held before goes on holding.
    """

    code = "policy_refused"

    def __init__(self, what: str, reason: str) -> None:
        """what: the file or the role, such as `snapshot.json`."""
        super().__init__(f"{what}: {reason}", what=what)
        self.what, self.reason = what, reason


class PolicyUnreachable(HubError):
    """The place that a policy is pulled from gave no answer, or not all of it."""

    code = "policy_unreachable"
    retryable = True

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}; the policy that held before goes on holding", place=place)


class RateLimited(HubError):
    """The key sent more requests than its limit allows."""

    code = "rate_limited"
    retryable = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"over this key's rate limit; try again in {retry_after_s:.1f} s", retry_after_s=retry_after_s)


class LoginRefused(HubError):
    """Wrong name, password, passkey, link or answer of a provider, or no account: one text for all, so as to tell
    strangers nothing."""

    code = "login_refused"

    def __init__(self) -> None:
        super().__init__("this login is not right; check the name and the password, or ask an admin for a new link")


class LoginThrottled(HubError):
    """Too many failed logins from there, or too many at a time."""

    code = "login_throttled"
    retryable = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many logins; try again in {retry_after_s:.0f} s", retry_after_s=retry_after_s)


class SessionEnded(HubError):
    """The session is over: logged out, idle, too old, or ended by another change."""

    code = "session_ended"

    def __init__(self) -> None:
        super().__init__("this session has ended; log in again")


class LoginWanted(HubError):
    """What only a person who has logged in has: sessions, passkeys, a password."""

    code = "login_wanted"

    def __init__(self) -> None:
        super().__init__("this is for people who have logged in; a key or a token has no sessions and no passkeys")


class FreshLoginWanted(HubError):
    """What would let a thief of a session stay needs a login of a short time ago."""

    code = "fresh_login_wanted"

    def __init__(self, minutes: int, *, by: str = "") -> None:
        way = f" by {by}" if by else ""
        super().__init__(f"log in again{way} first: for this, the login may be at most {minutes} minutes old")


class ProviderUnreachable(HubError):
    """The OpenID provider gave no answer that can be used."""

    code = "provider_unreachable"
    retryable = True

    def __init__(self, reason: str) -> None:
        super().__init__(f"the login provider cannot be used now: {reason}", retry_after_s=10.0)
        self.reason = reason


class TooManyFailures(HubError):
    """Too many wrong keys, logins or hellos came from the caller's address; what it sent now was not looked at."""

    code = "too_many_failures"
    retryable = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"too many wrong keys or logins came from your address; try again in {retry_after_s:.1f} s",
            retry_after_s=retry_after_s,
        )


class BudgetExceeded(HubError):
    """What is left of a budget is too little for the request. Nothing was sent to a model."""

    code = "budget_exceeded"
    retryable = True

    def __init__(
        self, budget: str, whose: str, reason: str, retry_after_s: float | None, limit: str = "accounts", *,
        resets_at_ms: int = 0,
    ) -> None:  # fmt: skip
        """whose: such as `tenant 'ward-3'`; empty for a budget of all. limit: `tokens`, `requests`, `money`.

        retry_after_s: None for what is too much even for a period in which nothing has been used. resets_at_ms: Unix
        time at which the budget begins anew; 0 where that is not what is waited for.
        """
        self.resets_at_ms = resets_at_ms
        place = f"the budget {budget!r} of {whose}" if whose else f"the budget {budget!r}"
        if retry_after_s is None:
            self.retryable = False
            super().__init__(f"{place} can never take it: {reason}", budget=budget, limit=limit)
            return
        super().__init__(
            f"{place} has no room: {reason}; try again in {_duration(retry_after_s)}",
            budget=budget, limit=limit, retry_after_s=round(retry_after_s, 1),
        )  # fmt: skip


def _duration(seconds: float) -> str:
    """`6 h 12 min`."""
    minutes, rest_s = divmod(int(seconds + 0.999), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"


# --- the pool ---------------------------------------------------------------------------------------


class NoInstanceFree(HubError):
    """Every instance of the model stayed busy, or none came up, until the deadline."""

    code = "no_instance_free"
    retryable = True

    def __init__(self, model: str, waited_s: float, why: str = "", retry_after_s: float = 1.0) -> None:
        cause = why or "all were busy; add an [[instance]] or raise its slots"
        when = f"in {waited_s:.1f} s" if waited_s >= 0.1 else "now"
        super().__init__(
            f"no instance of {model!r} can answer {when}: {cause}", model=model, retry_after_s=round(retry_after_s, 1)
        )


class QueueFull(HubError):
    """The scheduler's queue has no room."""

    code = "queue_full"
    retryable = True

    def __init__(self, length: int, retry_after_s: float) -> None:
        super().__init__(
            f"{length} requests are waiting already; try again in {retry_after_s:.0f} s", retry_after_s=retry_after_s
        )


class Overloaded(HubError):
    """Too much is waiting for this request to be in time for its deadline or its objective for the first token."""

    code = "overloaded"
    retryable = True

    def __init__(self, model: str, late_s: float, retry_after_s: float) -> None:
        super().__init__(
            f"{model!r} is overloaded: this would come {late_s:.1f} s too late; try again later, or give it more time",
            model=model, retry_after_s=round(retry_after_s, 1),
        )  # fmt: skip


class NotOffered(HubError):
    """The instances that serve the model do not offer this API."""

    code = "not_offered"

    def __init__(self, api: str, model: str, way_out: str) -> None:
        super().__init__(f"no instance of {model!r} offers {api}: {way_out}", api=api, model=model)


class UpstreamFailed(HubError):
    """The instance could not be reached, broke off, or answered with an error of its own; another may do better."""

    code = "upstream_failed"
    retryable = True

    def __init__(self, instance: str, reason: str) -> None:
        super().__init__(f"instance {instance!r} failed: {reason}", instance=instance)


class UpstreamRefused(HubError):
    """The instance does not serve this hub: wrong key, no credit, account locked. Only its operator can help."""

    code = "upstream_refused"

    def __init__(self, instance: str, reason: str) -> None:
        super().__init__(f"instance {instance!r} refuses this hub: {reason}", instance=instance)


class UpstreamTimeout(HubError):
    """The instance stayed silent for longer than its timeout."""

    code = "upstream_timeout"
    retryable = True

    def __init__(self, instance: str, what: str, timeout_s: float) -> None:
        super().__init__(f"instance {instance!r} gave no {what} within {timeout_s:.1f} s", instance=instance)


class DeadlineExceeded(HubError):
    """The caller's own deadline passed."""

    code = "deadline_exceeded"

    def __init__(self, deadline_s: float) -> None:
        super().__init__(
            f"the deadline of {deadline_s:.1f} s passed before the answer was complete", deadline_s=deadline_s
        )


class Draining(HubError):
    """The hub is shutting down and takes no new work."""

    code = "draining"
    retryable = True

    def __init__(self) -> None:
        super().__init__("the hub is shutting down; try again shortly", retry_after_s=2.0)


# --- the machine ------------------------------------------------------------------------------------


class StorageFull(HubError):
    """The disk (or the quota) is full. Nothing of this write was kept; reads go on."""

    code = "storage_full"
    retryable = True

    def __init__(self, path: str) -> None:
        super().__init__(f"no space left for {path}; free some and try again", retry_after_s=10.0)


class StoreBroken(HubError):
    """The store cannot be opened or read: damaged, of a newer version, or held by another process."""

    code = "store_broken"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the store at {path} cannot be used: {reason}")


class BackupBroken(HubError):
    """A backup is damaged, incomplete, not made by a hub, or of a newer format."""

    code = "backup_broken"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the backup {path} cannot be used: {reason}")


class StateBroken(HubError):
    """What was learned and kept cannot be read: damaged, or of another version. It can be learned again."""

    code = "state_broken"

    def __init__(self, whose: str, reason: str) -> None:
        super().__init__(f"the state of {whose} cannot be used: {reason}")


class WrongPassphrase(HubError):
    """What is encrypted on the disk was not opened: another passphrase or key file, or it was tampered with."""

    code = "wrong_passphrase"

    def __init__(self, what: str) -> None:
        super().__init__(f"the passphrase or key file does not open {what}")


class VaultBroken(HubError):
    """The file of secrets cannot be read or was changed."""

    code = "vault_broken"

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"the secrets in {path} cannot be used: {reason}")


class AuthorityBroken(HubError):
    """The site's own certificate authority cannot be read, or cannot do what it was asked for."""

    code = "authority_broken"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the certificate authority: {reason}")


class AcmeFailed(HubError):
    """An ACME server could not be reached, or issued no certificate."""

    code = "acme_failed"
    retryable = True

    def __init__(self, directory: str, reason: str) -> None:
        super().__init__(f"no certificate from {directory}: {reason}")


class DiscoveryFailed(HubError):
    """A list of addresses could not be had: the file or the name gave none that can be used."""

    code = "discovery_failed"
    retryable = True

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}", place=place, reason=reason)
        self.reason = reason


def install_command(extra: str) -> str:
    """What installs an optional package beside this hub: a plain `pip` is often another Python's."""
    return f"{shlex.quote(sys.executable)} -m pip install 'autoglm-hub[{extra}]'"


class MissingExtra(HubError):
    """An optional package is not installed."""

    code = "missing_extra"

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs an optional package; run: {install_command(extra)}", extra=extra)


class SettingsError(HubError):
    """autoglm.toml or an AUTOGLM_* variable is wrong. `problems` has one sentence for each."""

    code = "settings_error"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems), problems=problems)
        self.problems = problems


class ModelFileError(HubError):
    """A model file could not be fetched or is not what it should be."""

    code = "model_file_error"
