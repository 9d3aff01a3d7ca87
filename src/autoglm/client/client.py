"""`Client`: everything a program asks of a hub, in plain calls that block."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self
from urllib.parse import quote

import httpx2

from autoglm.client.answer import Answer
from autoglm.client.connection import Connection, pauses_s
from autoglm.client.errors import ConnectionLost, HubProblem
from autoglm.client.events import Event, EventParser
from autoglm.core.errors import HubError
from autoglm.core.ids import uuid7
from autoglm.rendezvous import NoHub

if TYPE_CHECKING:
    from autoglm.client.device import Device

DEFAULT_PATIENCE_S = 15.0
Json = dict[str, Any]
"""A JSON object as docs/api.md shows it."""

_ANSWER_TIMEOUT_S = 900.0  # longest silence: the hub itself gives up earlier, this is for a machine that vanished
_STREAM_TIMEOUT_S = 45.0  # the hub says every 15 s that it lives


class Sent(NamedTuple):
    id: str
    seq: int
    """The message's place in the hub's log."""
    is_new: bool
    """False: the hub had this very message already."""
    warning: str = ""
    """Of an event: `no-route`, `silenced` or `inhibited`, where nobody is told of it."""


class Page(NamedTuple):
    messages: list[Json]
    next: int
    """Go on with `after=next`."""


class Client:
    """One hub, for one thread at a time.

        with Client() as hub:
            for piece in hub.ask("What is a quorum?"):
                print(piece, end="")

    Without `url` it finds the hub that runs on `data_dir` (the user's own data folder when absent) and uses its
    admin.key. Nothing is connected before the first call. Calls raise NoHub, NoKey, ConnectionLost and HubProblem;
    those that can be repeated safely are tried for `patience_s` when a hub that answered before falls silent.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, data_dir: Path | None = None, *,
        ca_file: Path | None = None, patience_s: float = DEFAULT_PATIENCE_S, device: "Device | None" = None,
    ) -> None:  # fmt: skip
        """ca_file: PEM bundle to trust instead of the system's authorities.

        device: speaks as a device that has enrolled, to its own hub; then url, key and data_dir say nothing.
        """
        self._connection = Connection(url, key, data_dir, ca_file=ca_file, patience_s=patience_s, device=device)
        self._own_address: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @property
    def url(self) -> str:
        """The hub's address. Raises NoHub, NoKey."""
        return self._connection.address.url

    # --- models ---

    def ask(
        self, question: str | Sequence[Mapping[str, Any]], *, model: str = "auto", stream: bool = True,
        priority: int | None = None, deadline_s: float | None = None, first_token_s: float | None = None,
        prefer: str | None = None, intent: str | None = None, **body: Any,
    ) -> Answer:  # fmt: skip
        """Ask a model; returns once the answer begins.

        question: text, or a list of OpenAI's messages. priority: 0 to 9, 9 the most urgent. deadline_s,
        first_token_s: when the answer must be complete, and when it should begin. prefer: `fast`, `balanced`, `best`
        or `cheap`, where the hub chooses. intent: what it is about, where that is known.
        body: further fields of a chat completion, such as `temperature`. Never repeated by itself, since asking costs.
        """
        messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
        wanted = {
            "x-autoglm-priority": priority, "x-autoglm-deadline": deadline_s,
            "x-autoglm-first-token": first_token_s, "x-autoglm-prefer": prefer, "x-autoglm-intent": intent,
        }  # fmt: skip
        response = self._connection.start(
            "POST", "/v1/chat/completions",
            body={"model": model, "messages": messages, "stream": stream, **body},
            headers={name: str(value) for name, value in wanted.items() if value is not None},
            read_timeout_s=_ANSWER_TIMEOUT_S,
        )  # fmt: skip
        return Answer(response)

    def models(self) -> list[str]:
        """The models that this key may use; `auto` first when there are any."""
        return [entry["id"] for entry in self._get("/v1/models")["data"]]

    # --- what the hub chose ---

    def decision(self, id: str) -> Json:
        """Why a request went where it went: `{"decision", "outcome", "feedback"}`."""
        return self._get(f"/api/decisions/{_quoted(id)}")

    def decisions(self, *, limit: int = 20) -> list[Json]:
        """The last choices, the newest first."""
        return list(self._get("/api/decisions", {"limit": limit})["decisions"])

    def feedback(
        self, decision: str, *, thumb: Literal["up", "down"] | None = None, quality: float | None = None
    ) -> Json:
        """Say how good an answer was: a person's thumb, or a program's quality from 0 to 1."""
        body: Json = {"decision": decision}
        body |= {name: value for name, value in (("thumb", thumb), ("quality", quality)) if value is not None}
        return self._connection.call("POST", "/api/feedback", body=body, is_repeatable=False)[1]

    def replay(self, policy: str, *, limit: int = 5000) -> Json:
        """What another policy would have brought, with its interval; see `/api/decisions/replay`."""
        body = {"policy": policy, "limit": limit}
        return self._connection.call("POST", "/api/decisions/replay", body=body, timeout_s=120.0)[1]

    # --- messages ---

    def send(
        self, to: str, content: str | list[Json], *,
        id: str | None = None, from_: str | None = None, kind: str | None = None, priority: int | None = None,
        labels: Mapping[str, str] | None = None, reply_to: str | None = None, thread: str | None = None,
        expires_at: int | None = None,
    ) -> Sent:  # fmt: skip
        """Send a message; returns once it is on the hub's disk.

        A lost connection is tried again with the same id, so the message is stored once. id: the sender's own, a
        UUIDv7 when absent. from_: the key's own address when absent. expires_at: milliseconds of the Unix epoch.
        """
        optional = {
            "from": from_, "kind": kind, "priority": priority, "labels": dict(labels) if labels else None,
            "reply_to": reply_to, "thread": thread, "expires_at": expires_at,
        }  # fmt: skip
        envelope: Json = {"id": id or uuid7(), "to": to, "content": content}
        envelope |= {name: value for name, value in optional.items() if value is not None}
        status, sent = self._connection.call("POST", "/api/messages", body=envelope)
        return Sent(sent["id"], sent["seq"], status == 202)

    def inbox(
        self, to: str | None = None, *, after: int | None = None, limit: int = 100, wait_s: float = 0.0,
        reader: str | None = None,
    ) -> Page:  # fmt: skip
        """Messages to an address (the key's own when absent), oldest first.

        after: only those behind this place in the log. wait_s: how long to wait for one when there is none, 60 at
        most. reader: a name whose place the hub remembers; `after` then confirms what came before it.
        """
        params: dict[str, str | int | float] = {"to": to or self.own_address(), "limit": limit}
        if after is not None:
            params["after"] = after
        if wait_s:
            params["wait"] = wait_s
        if reader is not None:
            params["reader"] = reader
        page = self._get("/api/messages", params, timeout_s=30.0 + wait_s)
        return Page(page["messages"], page["next"])

    def follow(
        self, to: str | None = None, *, after: int = 0, on_drop: Callable[[HubError], None] | None = None
    ) -> Iterator[Event]:
        """Messages to an address, receipts for what it sent, and the words of answers, as they come; endless.

        A lost connection is taken up again behind the last event, without an end and with growing pauses; `on_drop`
        is told why, once for each loss. Raises NoHub when none answers at the start, HubProblem when the hub refuses.
        """
        address = to or self.own_address()
        has_begun = is_told = False
        pauses = pauses_s()
        while True:
            try:
                place: dict[str, str | int | float] = {"to": address, "after": after}
                path, silence_s = "/api/messages/stream", _STREAM_TIMEOUT_S
                with self._connection.open("GET", path, params=place, read_timeout_s=silence_s) as response:
                    has_begun, is_told, pauses = True, False, pauses_s()
                    for event in _events(response):
                        after = event.seq or after
                        yield event
            except (NoHub, ConnectionLost, HubProblem) as error:
                if not has_begun or not error.retryable:
                    raise
                if on_drop is not None and not is_told:
                    on_drop(error)
                is_told = True
            time.sleep(next(pauses))

    def ack(self, id: str, *, state: Literal["acknowledged", "read"] = "acknowledged", by: str | None = None) -> None:
        """Report that a message was taken note of. by: the recipient; needed when it went to a group."""
        body = {"state": state} if by is None else {"state": state, "by": by}
        self._connection.call("POST", f"/api/messages/{_quoted(id)}/ack", body=body)

    def receipts(self, id: str) -> list[Json]:
        """What became of a message, oldest step first."""
        return list(self._get(f"/api/messages/{_quoted(id)}/receipts")["receipts"])

    def message(self, id: str) -> Json:
        return self._get(f"/api/messages/{_quoted(id)}")

    # --- groups ---

    def groups(self) -> list[Json]:
        """The groups whose messages this key may read: `{"name", "members"}`."""
        return list(self._get("/api/groups")["groups"])

    def set_group(self, name: str, members: Sequence[str]) -> Json:
        """Make a group of users and devices, or replace its members; returns it."""
        return self._connection.call("PUT", f"/api/groups/{_quoted(name)}", body={"members": list(members)})[1]

    def remove_group(self, name: str) -> None:
        """Not repeated by itself: a second time there would be no such group."""
        self._connection.call("DELETE", f"/api/groups/{_quoted(name)}", is_repeatable=False)

    # --- keys ---

    def keys(self) -> list[Json]:
        """The keys that were issued, without their values. Needs `admin:keys`, as the next two."""
        return list(self._get("/api/keys")["keys"])

    def issue_key(
        self, name: str, scopes: Sequence[str], *, ttl_s: int | None = None, address: str | None = None,
        tenant: str | None = None, rate_per_minute: int | None = None,
    ) -> Json:  # fmt: skip
        """A bearer key: `{"key", "known"}`. Not repeated by itself: its value is shown once."""
        wanted = {"ttl_s": ttl_s, "address": address, "tenant": tenant, "rate_per_minute": rate_per_minute}
        body = {
            "name": name,
            "scopes": list(scopes),
            **{key: value for key, value in wanted.items() if value is not None},
        }
        return self._connection.call("POST", "/api/keys", body=body, is_repeatable=False)[1]

    def revoke_key(self, name: str) -> None:
        """Not repeated by itself: a second time there would be no such key."""
        self._connection.call("DELETE", f"/api/keys/{_quoted(name)}", is_repeatable=False)

    # --- devices ---

    def people(self) -> list[Json]:
        """Who has an account. Needs `admin:people`, as the next ones."""
        return list(self._get("/api/people")["people"])

    def invite_person(self, name: str, roles: Sequence[str] = ("member",)) -> Json:
        """A link's secret, this once: `{"token", "invitation"}`; the link is `URL/#invite=TOKEN`. Not repeated."""
        body = {"name": name, "roles": list(roles)}
        return self._connection.call("POST", "/api/invitations", body=body, is_repeatable=False)[1]

    def reset_person(self, name: str) -> Json:
        """As `invite_person`: by this link an account gets a new password."""
        path = f"/api/people/{_quoted(name)}/reset"
        return self._connection.call("POST", path, is_repeatable=False)[1]

    def invitations(self) -> list[Json]:
        """The links that are open, without their secrets."""
        return list(self._get("/api/invitations")["invitations"])

    def withdraw_invitation(self, handle: str) -> None:
        """Not repeated by itself: a second time there would be no such link."""
        self._connection.call("DELETE", f"/api/invitations/{_quoted(handle)}", is_repeatable=False)

    def change_person(
        self, name: str, *, roles: Sequence[str] | None = None, is_disabled: bool | None = None
    ) -> Json:  # fmt: skip
        """Other roles, or no way in; what is None stays. Returns the person as he is now."""
        wanted = {"roles": None if roles is None else list(roles), "is_disabled": is_disabled}
        body = {key: wish for key, wish in wanted.items() if wish is not None}
        return self._connection.call("PATCH", f"/api/people/{_quoted(name)}", body=body)[1]

    def end_sessions(self, name: str) -> None:
        """Log a person out everywhere."""
        self._connection.call("DELETE", f"/api/people/{_quoted(name)}/sessions")

    def remove_person(self, name: str) -> None:
        """Not repeated by itself: a second time there would be nobody of that name."""
        self._connection.call("DELETE", f"/api/people/{_quoted(name)}", is_repeatable=False)

    def devices(self) -> list[Json]:
        """The devices that have enrolled. Needs `admin:devices`, as the rest here."""
        return list(self._get("/api/devices")["devices"])

    def invite_device(
        self, name: str, scopes: Sequence[str], *, ttl_s: int | None = None, token_ttl_s: int | None = None,
        tenant: str | None = None, rate_per_minute: int | None = None,
    ) -> Json:  # fmt: skip
        """A code by which the device enrols, once: `{"code", "name", "ends_at"}`. Not repeated by itself."""
        wanted = {"ttl_s": ttl_s, "token_ttl_s": token_ttl_s, "tenant": tenant, "rate_per_minute": rate_per_minute}
        body = {"name": name, "scopes": list(scopes), **{key: wish for key, wish in wanted.items() if wish is not None}}
        return self._connection.call("POST", "/api/devices/enrolments", body=body, is_repeatable=False)[1]

    def remove_device(self, name: str) -> None:
        """Not repeated by itself: a second time there would be no such device."""
        self._connection.call("DELETE", f"/api/devices/{_quoted(name)}", is_repeatable=False)

    def verify_token(self, token: str) -> Json:
        """Would this token count, and for what? `{"is_good", "reason", "subject", "scopes", "ends_at", ...}`."""
        return self._connection.call("POST", "/api/tokens/verify", body={"token": token})[1]

    def issue_token(self, device: str, *, scopes: Sequence[str] = (), ttl_s: int | None = None) -> Json:
        """A token for a device that has enrolled: `{"token", "ends_at", "scopes"}`; worth nothing without its key."""
        body = {"device": device, "scopes": list(scopes), **({} if ttl_s is None else {"ttl_s": ttl_s})}
        return self._connection.call("POST", "/api/tokens", body=body)[1]

    def rotate_site_key(self) -> str:
        """A new key signs this site's tokens from now on; returns its id."""
        return str(self._connection.call("POST", "/api/tokens/rotate", is_repeatable=False)[1]["kid"])

    def bring_policy(self, archive: bytes) -> Json:
        """Bring a policy into force that was carried here, as a zip file. Needs `admin:policy`. Again is once."""
        return self._connection.call("POST", "/api/policy/snapshot", body=archive, timeout_s=120.0)[1]

    def revocations(self) -> list[Json]:
        """What was revoked at this hub: `{"id", "at", "by", "reason"}`."""
        return list(self._get("/api/revocations")["revocations"])

    def revoke(self, id: str, *, reason: str = "") -> Json:
        """`jti:ID`, `jkt:THUMBPRINT`, `kid:THUMBPRINT`, or an address. Again is once."""
        return self._connection.call("POST", "/api/revocations", body={"id": id, "reason": reason})[1]

    def take_back_revocation(self, id: str) -> None:
        self._connection.call("DELETE", f"/api/revocations/{_quoted(id)}", is_repeatable=False)

    # --- policy and audit ---

    def policy(self) -> Json:
        """Which policy is in force: `{"version", "stage", "expires_at", "pull", "problem"}`. Needs `admin:policy`."""
        return self._get("/api/policy")

    def pull_policy(self) -> Json:
        """Bring the newest policy into force; returns what `policy` does."""
        return self._connection.call("POST", "/api/policy/pull")[1]

    def audit(self, **filters: str | int) -> Json:
        """`{"entries", "next"}`, the newest first. filters: `kind`, `who`, `action`, `since`... Needs `read:audit`."""
        return self._get("/api/audit", filters)

    def verify_audit(self) -> Json:
        """Is the whole record as it was written? `{"is_whole", "summary", "findings"}`."""
        return self._connection.call("GET", "/api/audit/verify", timeout_s=600.0)[1]

    def conflicts(self, *, settled: bool = False) -> list[Json]:
        """What was allowed while the site was cut off, and would not be now. settled: also those that were settled."""
        return list(self._get("/api/audit/conflicts", {"settled": int(settled)})["conflicts"])

    def settle_conflict(self, operation: int, verdict: str, *, why: str) -> Json:
        """verdict: `accept` or `reject`. The operation stays as it was done. Needs `admin:audit`."""
        body = {"verdict": verdict, "why": why}
        return self._connection.call("POST", f"/api/audit/conflicts/{operation}", body=body, is_repeatable=False)[1]

    # --- questions to people ---

    def ask_person(
        self, to: str, question: str, *, choices: Sequence[str] = (), expires_in_s: int | None = None,
        priority: int | None = None, labels: Mapping[str, str] | None = None, from_: str | None = None,
        id: str | None = None,
    ) -> Sent:  # fmt: skip
        """Ask a person, a group or a channel's target; `question` has the answer. Asked once however often it is tried.

        choices: answers to choose from. expires_in_s: so long an answer counts, a day when absent.
        """
        optional = {
            "choices": list(choices) or None, "expires_in_s": expires_in_s, "priority": priority,
            "labels": dict(labels) if labels else None, "from": from_,
        }  # fmt: skip
        body: Json = {"id": id or uuid7(), "to": to, "question": question}
        body |= {name: value for name, value in optional.items() if value is not None}
        status, asked = self._connection.call("POST", "/api/questions", body=body)
        return Sent(asked["id"], asked["seq"], status == 202)

    def question(self, id: str, *, wait_s: float = 0.0) -> Json:
        """`{"id", "state", "answer", "error", ...}`; waits up to wait_s, 60 at most, while its state is `open`."""
        params = {"wait": wait_s} if wait_s else None
        return self._get(f"/api/questions/{_quoted(id)}", params, timeout_s=30.0 + wait_s)

    # --- events ---

    def notify(
        self, content: str, *, title: str | None = None, kind: str | None = None,
        labels: Mapping[str, str] | None = None, priority: int | None = None, to: str | None = None,
        state: str | None = None, from_: str | None = None, expires_at: int | None = None, id: str | None = None,
    ) -> Sent:  # fmt: skip
        """Tell of an event; the hub's routes decide whom it reaches. Stored once however often the connection breaks.

        kind: event, alert or log. state: firing or resolved, of an alert. to: whom it concerns, where that is known.
        """
        optional = {
            "title": title, "kind": kind, "labels": dict(labels) if labels else None, "priority": priority, "to": to,
            "state": state, "from": from_, "expires_at": expires_at,
        }  # fmt: skip
        event: Json = {"id": id or uuid7(), "content": content}
        event |= {name: value for name, value in optional.items() if value is not None}
        status, answer = self._connection.call("POST", "/api/events", body=event)
        return Sent(answer["id"], answer["seq"], status == 202, answer.get("warning", ""))

    def events(self, *, limit: int = 20) -> list[Json]:
        """The last events, the newest first. Needs `admin:alarms`."""
        return list(self._get("/api/events", {"limit": limit})["events"])

    def event(self, id: str, *, wait_s: float = 0.0) -> Json:
        """Whom an event reached and who has noticed; waits up to wait_s (60 at most) for that."""
        params = {"wait": wait_s} if wait_s else None
        return self._get(f"/api/events/{_quoted(id)}", params, timeout_s=30.0 + wait_s)

    def acknowledge_event(self, id: str) -> Json:
        """Say that somebody has noticed: nobody is told any more."""
        return self._connection.call("POST", f"/api/events/{_quoted(id)}/ack")[1]

    def try_routes(self, event: Mapping[str, Any]) -> Json:
        """Where an event would go now, and why; sends nothing. Needs `admin:alarms`."""
        return self._connection.call("POST", "/api/routes/test", body=dict(event))[1]

    def silences(self) -> list[Json]:
        return list(self._get("/api/silences")["silences"])

    def silence(self, *, labels: Mapping[str, str], kinds: Sequence[str] = (), until: int, comment: str = "") -> Json:
        """For a while, events like these go nowhere. until: milliseconds of the Unix epoch."""
        body = {"labels": dict(labels), "kinds": list(kinds), "until": until, "comment": comment}
        return self._connection.call("POST", "/api/silences", body=body, is_repeatable=False)[1]

    def end_silence(self, id: str) -> None:
        self._connection.call("DELETE", f"/api/silences/{_quoted(id)}", is_repeatable=False)

    # --- channels ---

    def channels(self, *, check: bool = False) -> list[Json]:
        """The hub's channels; check: with the `health` of each, as its vendor answers now. Needs `admin:channels`."""
        return list(self._get("/api/channels", {"check": int(check)})["channels"])

    def retry_channel(self, name: str) -> int:
        """Try now what waits for its next attempt; returns in how many lanes."""
        return int(self._connection.call("POST", f"/api/channels/{_quoted(name)}/retry")[1]["lanes"])

    def outbox(self) -> Json:
        """What waits to go out: `{"lanes", "dead_letters"}`."""
        return self._get("/api/outbox")

    def dead_letters(self, *, limit: int = 100) -> list[Json]:
        """Messages that could not be delivered, the newest first."""
        return list(self._get("/api/outbox/dead", {"limit": limit})["dead_letters"])

    def resend(self, id: str, *, to: str | None = None, content: str | None = None) -> Json:
        """Send a dead letter again as a new message, edited where said: `{"id", "seq"}` of that."""
        change = {name: value for name, value in (("to", to), ("content", content)) if value is not None}
        path = f"/api/outbox/dead/{_quoted(id)}/resend"
        return self._connection.call("POST", path, body=change, is_repeatable=False)[1]

    def drop_dead_letter(self, id: str) -> None:
        """Not repeated by itself: a second time there would be no such letter."""
        self._connection.call("DELETE", f"/api/outbox/dead/{_quoted(id)}", is_repeatable=False)

    # --- tasks ---

    def submit(
        self, request: Mapping[str, Any], *, id: str | None = None, priority: int | None = None,
        expires_at: int | None = None,
    ) -> str:  # fmt: skip
        """Have a chat completion worked on in the background; returns the task's id. Repeated safely, as `send` is."""
        optional = {"priority": priority, "expires_at": expires_at}
        task: Json = {"id": id or uuid7(), "request": dict(request)}
        task |= {name: value for name, value in optional.items() if value is not None}
        return str(self._connection.call("POST", "/api/tasks", body=task)[1]["id"])

    def task(self, id: str, *, wait_s: float = 0.0) -> Json:
        """`{"id", "state", "result"?, "error"?, "progress"?}`; waits up to wait_s, 60 at most, for the end."""
        params = {"wait": wait_s} if wait_s else {}
        return self._get(f"/api/tasks/{_quoted(id)}", params, timeout_s=30.0 + wait_s)

    def cancel_task(self, id: str) -> Json:
        return self._connection.call("DELETE", f"/api/tasks/{_quoted(id)}")[1]

    # --- the hub itself ---

    def me(self) -> Json:
        """Who this key is: `principal`, `address`, `scopes`."""
        return self._get("/api/me")

    def own_address(self) -> str:
        if self._own_address is None:
            self._own_address = str(self.me()["address"])
        return self._own_address

    def pool(self) -> list[Json]:
        """The instances and how they fare."""
        return list(self._get("/api/pool")["instances"])

    def resume(self, instance: str) -> Json:
        """Tell the hub that what blocked an instance is gone."""
        return self._connection.call("POST", f"/api/pool/{_quoted(instance)}/resume")[1]

    def drain(self, instance: str) -> Json:
        """Take an instance out: what runs there ends, nothing new begins, until `resume`."""
        return self._connection.call("POST", f"/api/pool/{_quoted(instance)}/drain")[1]

    def intents(self) -> list[Json]:
        """The intents that the hub knows: `{"name", "examples", "taught"}`, the latter two as numbers."""
        return list(self._get("/api/intents")["intents"])

    def understand(self, text: str) -> Json:
        """What the hub understands of a text: `intent`, `confidence`, `source`, `language` and more."""
        return self._connection.call("POST", "/api/intents/try", body={"text": text})[1]

    def teach_intent(self, name: str, examples: Sequence[str]) -> Json:
        """Teach the hub an intent by examples; returns it once it is in force. A repeat changes nothing."""
        body = {"name": name, "examples": list(examples)}
        return self._connection.call("POST", "/api/intents", body=body, timeout_s=120.0)[1]

    def forget_intent(self, name: str) -> None:
        """Take back what was taught of an intent. Not repeated by itself: a second time there would be nothing."""
        self._connection.call("DELETE", f"/api/intents/{_quoted(name)}", is_repeatable=False, timeout_s=120.0)

    def budgets(self) -> list[Json]:
        """What is used of the budgets that the key's own requests count in; of all, for the admin."""
        return list(self._get("/api/budgets")["budgets"])

    def reset_budget(self, name: str, subject: str | None = None) -> list[Json]:
        """Let a budget begin anew, of one key or tenant, or of all that have it."""
        query = "" if subject is None else f"?subject={_quoted(subject)}"
        return list(self._connection.call("POST", f"/api/budgets/{_quoted(name)}/reset{query}")[1]["budgets"])

    def start(self, instance: str) -> Json:
        """Start a worker of a local instance now."""
        return self._connection.call("POST", f"/api/pool/{_quoted(instance)}/start")[1]

    def stop(self, instance: str) -> Json:
        """Stop the workers of a local instance; what runs ends first."""
        return self._connection.call("POST", f"/api/pool/{_quoted(instance)}/stop")[1]

    def capabilities(self) -> list[Json]:
        """What works at this hub, and what replaces the rest."""
        return list(self._get("/api/capabilities")["capabilities"])

    def _get(
        self, path: str, params: Mapping[str, str | int | float] | None = None, *, timeout_s: float = 30.0
    ) -> Json:
        return self._connection.call("GET", path, params=params, timeout_s=timeout_s)[1]


def _events(response: httpx2.Response) -> Iterator[Event]:
    parser = EventParser()
    for chunk in response.iter_bytes():
        for name, data, id in parser.feed(chunk):
            match name:
                case "message":
                    yield Event("message", json.loads(data), int(id))
                case "receipt":
                    yield Event("receipt", json.loads(data), int(id))
                case "delta":
                    yield Event("delta", json.loads(data), None)
                case _:
                    pass  # of a later version of the hub


def _quoted(name: str) -> str:
    return quote(name, safe="")
