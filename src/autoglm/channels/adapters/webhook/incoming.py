"""Webhooks in: a call to /api/hooks/NAME, signed by one of the endpoints, becomes a message."""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from autoglm.channels.adapters.webhook.signature import Secret, is_signed
from autoglm.channels.channel import HookCall, HookReply, Inbox
from autoglm.channels.hook_refusals import Refusals
from autoglm.core.envelope import FIELDS, Envelope, decode_body, decode_envelope

WINDOW_S = 300
"""How far a call's time may be from this machine's, both ways."""
REMEMBERED = 10_000
"""Ids of calls that are kept to answer a repeat at once; without them the inbox recognizes it, at more cost."""
MAX_TRIED = 16
"""Endpoints whose secrets are tried where a call does not name its own: each of them hashes the body, and strangers
call. 16 take 2 ms of CPU for 256 KiB, and 26 ms by ed25519 (measured)."""
_is_id = re.compile(r"[\x21-\x2d\x2f-\x7e]{1,256}").fullmatch  # no full stop: it ends the id in what is signed
_is_time = re.compile(r"[0-9]{1,12}").fullmatch
_TAKEN = ("content", "kind", "labels", "priority", "reply_to", "thread", "expires_at")
"""What a caller decides of the message; the rest is the hub's."""

_any_json = msgspec.json.Decoder(Any)


class Incoming:
    """Verifies calls, cheapest check first, and remembers whose ids were taken."""

    def __init__(
        self, channel: str, secrets: Mapping[str, Sequence[Secret]], *, incoming_to: str, limit_bytes: int
    ) -> None:
        self._channel = channel
        self._secrets = secrets
        self._incoming_to = incoming_to
        self._limit_bytes = limit_bytes
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._refused = Refusals(channel)

    async def hook(self, call: HookCall, inbox: Inbox) -> HookReply:
        """Raises InvalidJson, InvalidField, and what the inbox raises: then the caller calls again."""
        if (flaw := self._flaw(call)) is not None:
            return self._refuse(*flaw)
        id, timestamp = call.headers["webhook-id"], call.headers["webhook-timestamp"]
        endpoint = self._endpoint_of(call, id, timestamp)
        if endpoint is None:
            return self._refuse(401, "webhook-signature is by none of this channel's secrets")
        if not self._is_known(endpoint, id):
            if not await inbox.take(self._message(endpoint, id, int(timestamp), call.body)):
                return self._refuse(403, "this hub does not take messages of this sender")
            self._remember(endpoint, id)
        return HookReply(200, b"taken")

    def _flaw(self, call: HookCall) -> tuple[int, str] | None:
        """Status and reason of what speaks against a call before anything is hashed."""
        timestamp = call.headers.get("webhook-timestamp", "")
        if call.method != "POST":
            return 405, "call with POST"
        if len(call.body) > self._limit_bytes:
            return 413, f"the body is over {self._limit_bytes} bytes"
        if _is_id(call.headers.get("webhook-id", "")) is None or _is_time(timestamp) is None:
            return (
                400, "webhook-id (without a full stop), webhook-timestamp (in seconds) and webhook-signature are needed"
            )  # fmt: skip
        if abs(time.time() - int(timestamp)) > WINDOW_S:
            return 401, f"webhook-timestamp is over {WINDOW_S} s off; is a clock wrong?"
        if "endpoint" not in call.query and len(self._secrets) > MAX_TRIED:
            return 400, f"there are over {MAX_TRIED} endpoints here: call /api/hooks/NAME?endpoint=ENDPOINT"
        return None

    def _endpoint_of(self, call: HookCall, id: str, timestamp: str) -> str | None:
        """Who called: whose secret signed. `?endpoint=NAME` has only that one's looked at."""
        header = call.headers.get("webhook-signature", "")
        named = call.query.get("endpoint")
        for name in self._secrets if named is None else (named,):
            if is_signed(self._secrets.get(name, ()), header, id, timestamp, call.body):
                return name
        return None

    def _message(self, endpoint: str, id: str, timestamp_s: int, body: bytes) -> Envelope:
        """Raises InvalidJson, InvalidField."""
        value = decode_body(body, _any_json)
        if isinstance(value, dict) and "content" in value and value.keys() <= set(FIELDS):
            fields = {name: value[name] for name in _TAKEN if name in value}
        else:
            fields = {"content": [{"type": "json", "json": value}]}
        digest = hashlib.sha256(f"{self._channel}\0{endpoint}\0{id}".encode()).hexdigest()
        fields |= {
            "id": f"hook-{digest[:48]}",
            "from": f"channel:{self._channel}/{endpoint}",
            "to": self._incoming_to,
            "timestamp": timestamp_s * 1000,
        }
        return decode_envelope(msgspec.json.encode(fields))

    def _is_known(self, endpoint: str, id: str) -> bool:
        horizon_s = time.monotonic() - 2 * WINDOW_S  # from the earliest that is taken to the latest
        while self._known and next(iter(self._known.values())) < horizon_s:
            self._known.popitem(last=False)
        return (endpoint, id) in self._known

    def _remember(self, endpoint: str, id: str) -> None:
        self._known[endpoint, id] = time.monotonic()
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _refuse(self, status: int, reason: str) -> HookReply:
        self._refused.note(status, reason)
        return HookReply(status, reason.encode())
