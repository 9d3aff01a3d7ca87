"""Alertmanager both ways, against the real one."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from alertmanager_process import AlertmanagerProcess
from autoglm.channels.adapters.alertmanager.alerts import posting_of, severity_of
from autoglm.channels.adapters.alertmanager.channel import Alertmanager, AlertmanagerSettings
from autoglm.channels.adapters.alertmanager.names import legal_name, plain_name
from autoglm.channels.adapters.alertmanager.notices import envelopes_of, read_notice
from autoglm.channels.adapters.alertmanager.overtaken import Overtaken
from autoglm.channels.channel import Cannot, HookCall, HookReply, Resources
from autoglm.channels.settings import parse_channel
from autoglm.core.envelope import Envelope
from autoglm.core.errors import HubError, InvalidField, InvalidJson, StorageFull, UnknownRecipient
from contracts.channel_contract import ChannelContract, KeptInbox, Rig, message, no_blob
from eventually import until
from fakes.alertmanager import FaultyFront
from fakes.vendor import HTTP_FAULTS
from scripted_model import Request, ScriptedModel, response

TOKEN = "a-token-that-is-long-enough"


def channel(url: str = "http://127.0.0.1:9", **fields: Any) -> Alertmanager:
    settings = parse_channel({"name": "am", "kind": "alertmanager", "servers": {"main": {"url": url}}, **fields})
    assert isinstance(settings, AlertmanagerSettings)
    return Alertmanager(settings, Resources("am", no_blob))


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AlertmanagerProcess]:
    with AlertmanagerProcess(tmp_path_factory.mktemp("alertmanager")) as process:
        yield process


@pytest.fixture
def front(alertmanager: AlertmanagerProcess) -> Iterator[FaultyFront]:
    with FaultyFront(alertmanager.url) as front:
        yield front


@pytest.fixture
async def rig(front: FaultyFront) -> AsyncIterator[Rig]:
    sender = channel(servers={"main": {"url": front.url, "token": TOKEN}})
    yield Rig(
        sender, target="main", texts=lambda: front.texts, misbehave=front.faults.append, stop=front.__exit__,
        secrets=(TOKEN,),
        faults=HTTP_FAULTS,
        cut_mark="… (all of it is message m-1 in the hub)",
    )  # fmt: skip
    await sender.aclose()


class TestContract(ChannelContract):
    pass


# --- out ---------------------------------------------------------------------------------------------


@pytest.fixture
async def direct(alertmanager: AlertmanagerProcess) -> AsyncIterator[Alertmanager]:
    sender = channel(alertmanager.url)
    yield sender
    await sender.aclose()


async def send(sender: Alertmanager, envelope: Envelope) -> str:
    (parcel,) = sender.compose(envelope, "main")
    delivery = await sender.send(parcel, envelope.id)
    return delivery.code or delivery.outcome


def named(alertmanager: AlertmanagerProcess, name: str) -> list[dict[str, Any]]:
    return [alert for alert in alertmanager.alerts() if alert["labels"]["alertname"] == name]


async def test_a_message_is_an_alert_until_one_resolves_it(
    alertmanager: AlertmanagerProcess, direct: Alertmanager
) -> None:
    """The resolving message has another priority: the severity that comes of it does not make it another alert."""
    labels = {"alertname": "PressDown", "line": "7"}
    assert await send(direct, message("It is down.\nCall Li.", kind="alert", labels=labels, priority=9)) == "accepted"
    (alert,) = named(alertmanager, "PressDown")
    assert alert["labels"] == {**labels, "severity": "critical"}
    assert alert["annotations"] == {
        "summary": "It is down.", "description": "It is down.\nCall Li.", "autoglm_id": "m-1",
        "autoglm_from": "user:alice",
    }  # fmt: skip
    over = message("It runs.", kind="alert", labels={**labels, "state": "resolved"}, id="m-2")
    assert await send(direct, over) == "accepted"
    assert named(alertmanager, "PressDown") == []


async def test_a_message_that_answers_another_resolves_its_alert(
    alertmanager: AlertmanagerProcess, direct: Alertmanager
) -> None:
    """Only that one, though the labels are not said again."""
    for number in (1, 2):
        labels = {"alertname": "TankLow", "tank": str(number)}
        assert await send(direct, message(labels=labels, id=f"tank-{number}")) == "accepted"
    over = message("filled", labels={"state": "resolved"}, reply_to="tank-1", id="m-9")
    assert await send(direct, over) == "accepted"
    assert [alert["labels"]["tank"] for alert in named(alertmanager, "TankLow")] == ["2"]


async def test_fewer_labels_resolve_nothing_else(alertmanager: AlertmanagerProcess, direct: Alertmanager) -> None:
    await send(direct, message(labels={"alertname": "Door", "hall": "3"}, id="door"))
    assert await send(direct, message(labels={"alertname": "Door", "state": "resolved"}, id="m-2")) == "accepted"
    assert len(named(alertmanager, "Door")) == 1


async def test_an_alert_that_its_resolution_overtook_is_over_when_it_arrives(
    alertmanager: AlertmanagerProcess, front: FaultyFront
) -> None:
    """The outbox tries a failed message again after those behind it. One that is raised anew counts, of course."""
    sender = channel(front.url)
    raising = message(labels={"alertname": "Overtaken"}, id="late")
    front.faults.append("transient")
    assert await send(sender, raising) == "http_503"
    assert await send(sender, message(labels={"alertname": "Overtaken", "state": "resolved"}, id="m-2")) == "accepted"
    assert await send(sender, raising) == "accepted"
    assert named(alertmanager, "Overtaken") == []
    assert await send(sender, message(labels={"alertname": "Overtaken"}, id="m-3")) == "accepted"
    assert len(named(alertmanager, "Overtaken")) == 1
    await sender.aclose()


def test_of_failed_alerts_the_oldest_are_forgotten() -> None:
    overtaken = Overtaken()
    for number in range(1001):
        overtaken.failed(str(number), "main", posting_of(message(labels={"a": "b"}), {})["alert"])
    overtaken.resolved("main", posting_of(message(labels={"a": "b", "state": "resolved"}), {}))
    assert [overtaken.is_over(key) for key in ("0", "1", "1000")] == [False, True, True]


async def test_alerts_of_others_are_not_resolved(alertmanager: AlertmanagerProcess, direct: Alertmanager) -> None:
    alertmanager.post({"labels": {"alertname": "OfPrometheus", "severity": "warning"}, "annotations": {}})
    await send(direct, message(labels={"alertname": "OfPrometheus", "state": "resolved"}))
    assert len(named(alertmanager, "OfPrometheus")) == 1


async def test_messages_without_labels_are_alerts_of_their_own(
    alertmanager: AlertmanagerProcess, direct: Alertmanager
) -> None:
    for number in (1, 2):
        await send(direct, message(f"event {number}", kind="event", id=f"e-{number}"))
    found = {alert["labels"]["message_id"] for alert in named(alertmanager, "event")}
    assert found == {"e-1", "e-2"}


@pytest.mark.parametrize("clock_ms", [0, 1_790_000_000_000, 9_007_199_254_740_991])
async def test_a_sender_whose_clock_is_wrong_raises_an_alert_all_the_same(
    alertmanager: AlertmanagerProcess, direct: Alertmanager, clock_ms: int
) -> None:
    labels = {"alertname": f"Clock{clock_ms}"}
    assert await send(direct, message(labels=labels, timestamp=clock_ms)) == "accepted"
    assert len(named(alertmanager, labels["alertname"])) == 1
    assert await send(direct, message(labels={**labels, "state": "resolved"}, timestamp=clock_ms)) == "accepted"
    assert named(alertmanager, labels["alertname"]) == []


async def test_any_names_and_values_of_labels_arrive(alertmanager: AlertmanagerProcess, direct: Alertmanager) -> None:
    labels = {"alertname": 'say "hi"\\\n{x=~"y"} 压', "产线": "七", "a-b.c": " x ", "0": "0", "U__x": "y", "empty": ""}
    assert await send(direct, message(labels=labels)) == "accepted"
    (alert,) = named(alertmanager, labels["alertname"])
    found = {plain_name(name): value for name, value in alert["labels"].items()}
    assert found == {name: value for name, value in labels.items() if value} | {"severity": "info"}
    assert await send(direct, message(labels={**labels, "state": "resolved"})) == "accepted"
    assert named(alertmanager, labels["alertname"]) == []


async def test_what_the_real_one_refuses_is_permanent(direct: Alertmanager) -> None:
    (parcel,) = direct.compose(message(labels={"alertname": "x"}), "main")
    assert isinstance(parcel.body, dict)
    parcel.body["alert"]["labels"] = {"a-b": "c"}
    delivery = await direct.send(parcel, "k")
    assert (delivery.outcome, delivery.failure, delivery.code) == ("permanent", "permanent", "http_400")


async def test_basic_authentication_is_kept(tmp_path: Path) -> None:
    """The hash is of the word `secret`, by bcrypt with cost 4."""
    users = 'basic_auth_users: {hub: "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"}\n'
    with AlertmanagerProcess(tmp_path / "am", web_config=users) as process:
        codes = []
        for password in ("secret", "wrong"):
            server = {"url": process.url, "username": "hub", "password": password}
            sender = channel(servers={"main": server})
            codes.append((await send(sender, message()), (await sender.check()).code))
            await sender.aclose()
    assert codes == [("accepted", ""), ("http_401", "http_401")]


async def test_a_message_that_came_from_alertmanager_does_not_go_back(direct: Alertmanager) -> None:
    with pytest.raises(Cannot) as caught:
        direct.compose(message(labels={"autoglm_id": "m-1"}), "main")
    assert caught.value.delivery.code == "loop"


@pytest.mark.parametrize("url", ["http://am:0", "http://am:65536", "http://:9093"])
def test_an_address_that_cannot_be_called_is_refused_in_the_settings(url: str) -> None:
    with pytest.raises(ValidationError, match="1 to 65535"):
        channel(url)


@pytest.mark.parametrize("listed", ["[1]", "[{}]", '[{"labels": {}, "annotations": null}]'])
async def test_a_list_of_what_is_no_alert_is_told(listed: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(200, listed.encode()))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        sender = channel(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert await send(sender, message(labels={"a": "b", "state": "resolved"})) == "unreadable"
        await sender.aclose()


async def test_a_message_of_nothing_is_refused(direct: Alertmanager) -> None:
    with pytest.raises(Cannot) as caught:
        direct.compose(message(" ", labels={"state": "firing"}), "main")
    assert caught.value.delivery.code == "empty"


def test_a_text_of_10_mb_is_cut_and_says_where_it_is() -> None:
    description = posting_of(message("压" * 3_500_000), {})["alert"]["annotations"]["description"]
    assert len(description.encode()) <= 32 * 1024
    assert description.endswith("压… (all of it is message m-1 in the hub)")


def test_severity_is_the_most_urgent_one_that_a_priority_reaches() -> None:
    table = {"critical": 9, "warning": 6, "info": 3}
    assert [severity_of(priority, table) for priority in (9, 8, 6, 5, 2)] == [
        "critical", "warning", "warning", "info", "",
    ]  # fmt: skip


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_names_of_labels_come_back(name: str, other: str) -> None:
    assert plain_name(legal_name(name)) == name
    assert legal_name(name).isascii()
    assert legal_name(name).isidentifier()
    assert (legal_name(name) == legal_name(other)) == (name == other)


def test_half_a_surrogate_pair_stays_escaped() -> None:
    """Nothing could write it down: neither the message that the alert becomes, nor the answer to the call."""
    assert plain_name("U__a_d800_b") == "U__a_d800_b"
    assert plain_name("U__a_1f600_b") == "a\U0001f600b"


# --- in ----------------------------------------------------------------------------------------------


class Receiver:
    """`with receiver(channel) as it:` serves the channel's hook over real HTTP, as the hub does."""

    def __init__(self, hooked: Alertmanager) -> None:
        self._hooked = hooked
        self.inbox = KeptInbox()
        self.replies: list[HookReply] = []

    async def answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = await self._hooked.hook(HookCall(request.method, {}, request.headers, request.body), self.inbox)
        self.replies.append(reply)
        writer.write(response(reply.status, reply.body))


@contextmanager
def calling(folder: Path, hooked: Alertmanager, http: dict[str, Any], **webhook: Any) -> Iterator[Any]:
    """(the receiver, an Alertmanager that calls it)."""
    receiver = Receiver(hooked)
    with ExitStack() as stack:
        server = stack.enter_context(ScriptedModel(receiver.answer))
        call = {"url": f"http://127.0.0.1:{server.port}/api/hooks/am", "http_config": http, **webhook}
        route = {"receiver": "hub team", "group_by": ["job"], "group_wait": "50ms", "group_interval": "1s"}
        config = {"route": route, "receivers": [{"name": "hub team", "webhook_configs": [call]}]}
        yield receiver, stack.enter_context(AlertmanagerProcess(folder, config))


BEARER = {"authorization": {"credentials": TOKEN}}


async def test_alertmanagers_calls_become_messages_and_tell_the_end(tmp_path: Path) -> None:
    hooked = channel(hook_token=TOKEN, incoming_to="group:ops", severities={"page": 8})
    alert = {
        "labels": {"alertname": "DiskFull", "job": "db", "severity": "page", "state": "RO"},
        "annotations": {"summary": "The disk is full", "description": "99% of /data"},
    }
    with calling(tmp_path, hooked, BEARER) as (receiver, alertmanager):
        alertmanager.post(alert)
        await until(lambda: receiver.inbox.taken, 20)
        alertmanager.post({**alert, "endsAt": "2026-01-01T00:00:00Z"})
        await until(lambda: len(receiver.inbox.taken) == 2, 20)
    firing, resolved = receiver.inbox.taken
    assert (firing.from_, firing.to, firing.kind, firing.priority) == ("channel:am/hub-team", "group:ops", "alert", 8)
    assert firing.labels == {
        "alertname": "DiskFull", "job": "db", "severity": "page", "alert_state": "RO", "state": "firing",
    }  # fmt: skip
    assert firing.content.splitlines()[:2] == ["[FIRING] The disk is full", "99% of /data"]
    assert abs(firing.timestamp / 1000 - time.time()) < 60
    assert (resolved.labels["state"], resolved.thread) == ("resolved", firing.thread)


async def test_a_full_disk_makes_alertmanager_call_again_and_nothing_is_lost(tmp_path: Path) -> None:
    """By basic authentication, for a change."""
    hooked = channel(hook_username="am", hook_password="secret-enough")
    basic = {"basic_auth": {"username": "am", "password": "secret-enough"}}
    with calling(tmp_path, hooked, basic) as (receiver, alertmanager):
        receiver.inbox.refusal = StorageFull("/data")
        alertmanager.post({"labels": {"alertname": "A"}})
        await until(lambda: receiver.replies, 20)
        receiver.inbox.refusal = None
        await until(lambda: receiver.inbox.taken, 20)
    assert [reply.status for reply in receiver.replies[:1]] == [503]
    assert [envelope.labels["alertname"] for envelope in receiver.inbox.taken] == ["A"]


async def test_what_no_retry_cures_is_told_to_alertmanager_once_and_goes_once_it_can(tmp_path: Path) -> None:
    """It retries a 5xx within a second; of a 422 it counts a failure, and comes back with the group's next interval."""
    hooked = channel(hook_token=TOKEN)
    with calling(tmp_path, hooked, BEARER) as (receiver, alertmanager):
        receiver.inbox.refusal = UnknownRecipient("user:gone", "no such user")
        alertmanager.post({"labels": {"alertname": "A"}})
        await until(lambda: receiver.replies, 20)
        assert receiver.replies[0].status == 422
        await until(lambda: "user:gone" in alertmanager.log(), 20)
        receiver.inbox.refusal = None
        await until(lambda: receiver.inbox.taken, 20)
    assert [envelope.labels["alertname"] for envelope in receiver.inbox.taken] == ["A"]


async def test_an_alert_that_is_refused_keeps_no_other_back() -> None:
    class Picky(KeptInbox):
        async def take(self, envelope: Envelope) -> bool:
            if envelope.labels["alertname"] == "poison":
                raise InvalidField("content", "is poison")
            return await super().take(envelope)

    inbox = Picky()
    alerts = [{**ALERT, "labels": {"alertname": name}, "fingerprint": name} for name in ("a", "poison", "b")]
    reply = await channel(hook_token=TOKEN).hook(posted(call(*alerts)), inbox)
    assert (reply.status, reply.body) == (422, b"1 of 3 not taken: content: is poison\n")
    assert [envelope.labels["alertname"] for envelope in inbox.taken] == ["a", "b"]


async def test_a_flood_of_wrong_calls_is_one_line_of_the_log() -> None:
    hooked = channel(hook_token=TOKEN)
    with capture_logs() as logs:
        for _ in range(100):
            await hooked.hook(posted(call(ALERT), "Bearer wrong"), KeptInbox())
    assert [entry["event"] for entry in logs] == ["hook_calls_refused"]


async def test_what_alertmanager_left_out_is_told(tmp_path: Path) -> None:
    with calling(tmp_path, channel(hook_token=TOKEN), BEARER, max_alerts=1) as (receiver, alertmanager):
        alertmanager.post(*({"labels": {"alertname": "Many", "n": str(number)}} for number in range(4)))
        await until(lambda: len(receiver.inbox.taken) >= 2, 20)
    told = [envelope for envelope in receiver.inbox.taken if "left out 3 more alerts" in str(envelope.content)]
    assert [envelope.kind for envelope in told] == ["event"], "it has no end that would be told"


async def test_an_alert_of_the_hub_comes_back_with_its_message_named(tmp_path: Path) -> None:
    """Grouped and silenced by Alertmanager, say; it is not sent there again."""
    hooked = channel(hook_token=TOKEN)
    with calling(tmp_path, hooked, BEARER) as (receiver, alertmanager):
        sender = channel(alertmanager.url)
        assert await send(sender, message(labels={"产线": "7"})) == "accepted"
        await sender.aclose()
        await until(lambda: receiver.inbox.taken, 20)
    labels = receiver.inbox.taken[0].labels
    assert (labels["产线"], labels["autoglm_id"]) == ("7", "m-1")


def call(*alerts: dict[str, Any], **fields: Any) -> bytes:
    head = {"version": "4", "groupKey": '{}:{job="db"}', "truncatedAlerts": 0, "receiver": "hub", "status": "firing"}
    return json.dumps(head | {"alerts": alerts} | fields).encode()


ALERT = {"status": "firing", "labels": {"alertname": "A"}, "startsAt": "2026-11-27T21:00:00.123456789Z",
         "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "0123456789abcdef"}  # fmt: skip


def posted(body: bytes, authorization: str = f"Bearer {TOKEN}", method: str = "POST") -> HookCall:
    return HookCall(method, {}, {"authorization": authorization}, body)


async def test_a_repeated_call_is_taken_once() -> None:
    inbox = KeptInbox()
    hooked = channel(hook_token=TOKEN)
    for body in (call(ALERT), call(ALERT), call({**ALERT, "status": "resolved"})):
        assert (await hooked.hook(posted(body), inbox)).status == 200
    assert [envelope.labels["state"] for envelope in inbox.taken] == ["firing", "resolved"]


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Basic %%%", f"Digest {TOKEN}", "Bearer \xff压"],
)
async def test_calls_without_the_secret_are_refused(authorization: str) -> None:
    basic = {"hook_username": "am", "hook_password": "secret-enough"}
    for hooked in (channel(hook_token=TOKEN), channel(), channel(**basic)):
        assert (await hooked.hook(posted(call(ALERT), authorization), KeptInbox())).status == 401
    wrong = base64.b64encode(b"am:secret-enougx").decode()
    assert (await channel(**basic).hook(posted(call(ALERT), f"Basic {wrong}"), KeptInbox())).status == 401


async def test_only_posts_are_calls() -> None:
    assert (await channel(hook_token=TOKEN).hook(posted(b"", method="GET"), KeptInbox())).status == 405


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", InvalidJson),
        (b"\xff\xfe", InvalidJson),
        (b"[]", InvalidField),
        (call(ALERT, version="5"), InvalidField),
        (call({**ALERT, "status": "odd"}), InvalidField),
        (call({**ALERT, "startsAt": "yesterday"}), InvalidField),
        (call({**ALERT, "labels": {"alertname": 7}}), InvalidField),
        (b"[" * 100_000, InvalidField),
    ],
)
async def test_what_is_no_call_of_alertmanager_is_a_clear_error(body: bytes, error: type[HubError]) -> None:
    with pytest.raises(error):
        await channel(hook_token=TOKEN).hook(posted(body), KeptInbox())


def test_an_alert_beyond_an_envelopes_bounds_is_cut_to_them() -> None:
    labels = {f"label{number:03}": "v" * 2000 for number in range(100)} | {"alertname": "压" * 500, "x" * 300: "y"}
    notice = read_notice(
        call({**ALERT, "labels": labels, "annotations": {"summary": "s" * 100_000}}, receiver="压 / a")
    )
    (envelope,) = envelopes_of(notice, channel="am", to="user:a", severities={})
    assert len(envelope.labels) <= 64
    assert max(map(len, envelope.labels)) <= 128
    assert max(map(len, envelope.labels.values())) <= 1024
    assert (envelope.labels["labels_left_out"], envelope.from_) == ("42", "channel:am/----a")
    assert len(str(envelope.content).encode()) <= 32 * 1024
