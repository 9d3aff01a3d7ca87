"""Web Push against a strict push service that decrypts with http_ece."""

import json
import logging
import re
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from autoglm.channels import web
from autoglm.channels.adapters.web_push import channel as web_push
from autoglm.channels.adapters.web_push.channel import WebPush
from autoglm.channels.adapters.web_push.encryption import decode_base64url
from autoglm.channels.adapters.web_push.endpoint import origin_of
from autoglm.channels.adapters.web_push.notice import topic_of
from autoglm.channels.adapters.web_push.subscriptions import Keys, Subscriptions
from autoglm.channels.channel import Cannot, Parcel
from autoglm.channels.delivery import Delivery
from autoglm.channels.outbox.digest import DIGEST, packed
from autoglm.core.clock import now_ms
from autoglm.core.ports import KeyValue
from channels.adapters.web_push.desk import channel, settings, subscribe, subscribed
from contracts.channel_contract import FAMILY, ChannelContract, NoInbox, Rig, message
from fakes.push_service import PushService
from fakes.vendor import HTTP_FAULTS, Fault


@pytest.fixture
async def push(keyvalue: KeyValue) -> AsyncIterator[WebPush]:
    made = channel(keyvalue)
    yield made
    await made.aclose()


async def send(push: WebPush, target: str = "alice", key: str = "m-1.0", **fields: Any) -> Delivery:
    [parcel] = push.compose(message(**{"timestamp": now_ms(), **fields}), target)
    return await push.send(parcel, key)


class TestContract(ChannelContract):
    @pytest.fixture
    async def rig(self, service: PushService, keyvalue: KeyValue, push: WebPush) -> Rig:
        [browser] = await subscribed(keyvalue, service)
        return Rig(
            push, target="alice", texts=lambda: [notice["text"] for notice in browser.notices],
            misbehave=service.faults.append, stop=service.__exit__, secrets=(browser.token,), limit=3993,
            unknown_target=None,
            faults=HTTP_FAULTS,
        )  # fmt: skip


# --- one browser --------------------------------------------------------------------------------------


async def test_a_browser_gets_the_message_and_the_service_only_what_it_needs(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    [browser] = await subscribed(keyvalue, service)
    assert (await send(push, content="压机停了。", priority=9, kind="alert", thread="t-1")).outcome == "accepted"
    [request], [notice] = browser.received, browser.notices
    time_ms = notice.pop("time")
    assert notice == {
        "id": "m-1", "from": "user:alice", "text": "压机停了。", "kind": "alert", "priority": 9, "thread": "t-1",
    }  # fmt: skip
    assert abs(time_ms - now_ms()) < 60_000
    headers = {name: request.headers[name] for name in ("ttl", "urgency", "topic")}
    assert headers == {"ttl": "86400", "urgency": "high", "topic": topic_of("t-1")}
    assert "压机".encode() not in request.body
    assert service.complaints == []


@pytest.mark.parametrize(
    ("priority", "urgency"), [(0, "very-low"), (1, "very-low"), (2, "low"), (5, "normal"), (7, "normal"), (8, "high")]
)
async def test_urgency_follows_from_the_priority(
    service: PushService, keyvalue: KeyValue, push: WebPush, priority: int, urgency: str
) -> None:
    [browser] = await subscribed(keyvalue, service)
    await send(push, priority=priority)
    assert browser.received[0].headers["urgency"] == urgency


@pytest.mark.parametrize(("left_ms", "ttl_s"), [(90_500, 90), (10**12, 2_419_200), (-5_000, 0)])
async def test_the_service_keeps_a_push_as_long_as_the_message_lives(
    service: PushService, keyvalue: KeyValue, push: WebPush, monkeypatch: pytest.MonkeyPatch, left_ms: int, ttl_s: int
) -> None:
    sent_ms = now_ms()
    monkeypatch.setattr(web_push, "now_ms", lambda: sent_ms)
    [browser] = await subscribed(keyvalue, service)
    await send(push, expires_at=sent_ms + left_ms)
    assert int(browser.received[0].headers["ttl"]) == ttl_s


async def test_of_a_thread_the_newest_push_waits_and_of_no_thread_all(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    [browser] = await subscribed(keyvalue, service)
    browser.is_on = False
    for number, thread in enumerate(("t-1", None, "t-1", None, "t-2")):
        await send(push, content=f"{number}", thread=thread, key=f"{number}")
    browser.turn_on()
    assert [notice["text"] for notice in browser.notices] == ["1", "2", "3", "4"]


async def test_a_long_text_goes_in_pieces_without_a_topic_that_would_drop_them(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    [browser] = await subscribed(keyvalue, service)
    browser.is_on = False
    text = ('"压机"\n' + FAMILY) * 300
    parcels = push.compose(message(text, thread="t-1"), "alice")
    assert {(await push.send(parcel, f"k{index}")).outcome for index, parcel in enumerate(parcels)} == {"accepted"}
    browser.turn_on()
    assert "".join(notice["text"] for notice in browser.notices) == text
    assert [notice.get("piece", 0) for notice in browser.notices] == list(range(len(parcels)))
    assert {notice["pieces"] for notice in browser.notices} == {len(parcels)}
    assert max(len(request.body) for request in browser.received) > 4_000, "pieces are as long as can be"


async def test_the_longest_names_leave_room_for_text(service: PushService, keyvalue: KeyValue, push: WebPush) -> None:
    [browser] = await subscribed(keyvalue, service)
    names = {"id": '"' * 128, "thread": "\\" * 128, "from": f"user:{'👩' * 205}"}
    parcels = push.compose(message("x" * 4_000, **names), "alice")
    assert [(await push.send(parcel, f"k{index}")).outcome for index, parcel in enumerate(parcels)] == ["accepted"] * 2
    assert "".join(notice["text"] for notice in browser.notices) == "x" * 4_000


def test_a_digest_is_one_push_whatever_is_in_it() -> None:
    push = channel(NOTHING_KEPT)
    names = {"id": '"' * 128, "from": f"user:{'👩' * 205}"}
    [_] = push.compose(message('"' * push.limits("alice").digest_bytes, labels={DIGEST: "2"}, **names), "alice")


async def test_a_digest_is_told_from_its_first_message(service: PushService, keyvalue: KeyValue, push: WebPush) -> None:
    """Opened or acknowledged as that one, the others in it would be lost, or look as if somebody had seen to them."""
    [browser] = await subscribed(keyvalue, service)
    found = packed([message("a", id="m-1"), message("b", id="m-2")], push.limits("alice").digest_bytes)
    assert found is not None
    for key, envelope in enumerate((found[0], message("c", id="m-3"))):
        [parcel] = push.compose(envelope, "alice")
        await push.send(parcel, f"{key}")
    assert [(one["id"], one.get("is_digest", False)) for one in browser.notices] == [
        ("m-1.digest", True),
        ("m-3", False),
    ]


def test_a_text_that_is_no_notification_any_more_is_refused_with_the_way_out() -> None:
    with pytest.raises(Cannot, match="the whole to the mailbox") as caught:
        compose("x" * 10_000_000)
    assert caught.value.delivery.failure == "too_large"


@pytest.mark.parametrize("content", ["", " \n", []])
def test_a_message_that_shows_nothing_is_refused(content: Any) -> None:
    with pytest.raises(Cannot) as caught:
        compose(content)
    assert caught.value.delivery.code == "empty"


def test_what_a_notification_cannot_hold_is_named() -> None:
    parts = [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
        {"type": "file", "file": {"filename": "log.txt"}},
        {"type": "json", "json": {}},
    ]
    [parcel] = compose(parts)
    text = json.loads(parcel.body.plaintext)["text"]  # type: ignore[attr-defined]  # of this kind
    assert text == "See:\n[图片 / picture]\n[文件 / file: log.txt]\n[数据 / data]"


def compose(content: Any) -> list[Parcel]:
    return list(channel(NOTHING_KEPT).compose(message(content), "alice"))


NOTHING_KEPT: Any = object()
"""For what does not look into the store."""


# --- VAPID --------------------------------------------------------------------------------------------


async def test_the_key_is_made_once_and_lasts_over_a_restart(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    await subscribed(keyvalue, service)
    await send(push)
    again = channel(keyvalue)
    await send(again)
    await again.aclose()
    assert len(service.keys) == 1


async def test_a_token_is_made_anew_before_it_ends_and_after_the_clock_was_set_back(
    service: PushService, keyvalue: KeyValue, push: WebPush, monkeypatch: pytest.MonkeyPatch
) -> None:
    [browser] = await subscribed(keyvalue, service)
    now_s = time.time()
    for hours in (0, 5, 13, -24):  # the service, which checks `exp`, has the same clock
        monkeypatch.setattr(time, "time", lambda hours=hours: now_s + hours * 3600)
        assert (await send(push)).outcome == "accepted"
    tokens = [request.headers["authorization"] for request in browser.received]
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 3


@pytest.mark.parametrize("skew_h", [-11, 11])
async def test_a_clock_that_is_wrong_by_half_a_day_does_not_matter(
    service: PushService, keyvalue: KeyValue, push: WebPush, skew_h: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await subscribed(keyvalue, service)
    with monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda now=time.time: now() + skew_h * 3600)
        await push._key.authorization(service.url, "mailto:it@example.org")
    token = await push._key.authorization(service.url, "mailto:it@example.org")
    [claims] = re.findall(r"\.([\w-]+)\.", token)
    exp = json.loads(decode_base64url(claims, "claims"))["exp"]
    assert time.time() < exp <= time.time() + 86_400


async def test_a_subscription_that_is_bound_to_another_key_says_what_an_operator_can_do(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    await subscribe(keyvalue, service.browser(application_server_key="BAAA"))
    found = await send(push)
    assert (found.failure, found.code) == ("auth", "http_403")
    assert "clock" in found.reason.en
    assert service.complaints == ["the subscription is bound to another key"]


# --- several browsers ---------------------------------------------------------------------------------


async def test_all_browsers_of_somebody_get_it_and_nobody_elses(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    of_alice = await subscribed(keyvalue, service, 3)
    [of_bob] = await subscribed(keyvalue, service, owner="user:bob")
    [of_wall] = await subscribed(keyvalue, service, owner="device:wall")
    assert (await send(push)).outcome == "accepted"
    assert [len(browser.notices) for browser in (*of_alice, of_bob, of_wall)] == [1, 1, 1, 0, 0]
    assert (await send(push, "device:wall", key="m-2.0")).outcome == "accepted"
    assert (len(of_wall.notices), len(of_bob.notices)) == (1, 0)


@pytest.mark.parametrize("fault", ["throttled", "transient", "auth", "server_error"])
async def test_a_browser_that_has_it_is_left_alone_when_another_is_tried_again(
    service: PushService, keyvalue: KeyValue, push: WebPush, fault: Fault
) -> None:
    first, second = await subscribed(keyvalue, service, 2)
    second.faults.append(fault)
    found = await send(push)
    assert (found.outcome, found.failure, found.is_in_doubt) == ("retry", "transient", False)
    assert "1 of 2 browsers" in found.reason.en
    assert (await send(push)).outcome == "accepted"
    assert (len(first.notices), len(second.notices)) == (1, 1)


async def test_not_even_after_a_restart(service: PushService, keyvalue: KeyValue, push: WebPush) -> None:
    first, second = await subscribed(keyvalue, service, 2)
    second.faults.append("transient")
    await send(push)
    again = channel(keyvalue)
    assert (await send(again)).outcome == "accepted"
    await again.aclose()
    assert (len(first.notices), len(second.notices)) == (1, 1)
    assert await keyvalue.list("push/progress/") == []


async def test_nor_after_an_attempt_that_was_cut_off(service: PushService, keyvalue: KeyValue, push: WebPush) -> None:
    first, second = await subscribed(keyvalue, service, 2)
    second.faults.append("silent")
    with anyio.move_on_after(0.5) as deadline:
        await send(push)
    assert deadline.cancelled_caught
    assert (await send(push)).outcome == "accepted"
    assert (len(first.notices), len(second.notices)) == (1, 2)


async def test_messages_do_not_share_their_progress(service: PushService, keyvalue: KeyValue, push: WebPush) -> None:
    first, second = await subscribed(keyvalue, service, 2)
    second.faults.append("transient")
    await send(push, key="m-1.0")
    assert (await send(push, key="m-2.0")).outcome == "accepted"
    assert (len(first.notices), len(second.notices)) == (2, 1)


async def test_what_one_browser_has_is_not_given_up_for_another(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    first, second = await subscribed(keyvalue, service, 2)
    second.faults.extend(["transient"] * 3)
    found = [await send(push) for _ in range(web_push.MAX_ROUNDS)]
    assert [delivery.outcome for delivery in found] == ["retry", "retry", "accepted"]
    assert "1 of 2 browsers' push services have it; of another: the vendor's service fails" in found[-1].reason.en
    assert "1 个" in found[-1].reason.zh
    assert (len(first.notices), len(second.notices)) == (1, 0)


async def test_a_message_that_is_old_already_is_not_risked_for_one_more_browser(
    service: PushService, keyvalue: KeyValue
) -> None:
    """The outbox gives a message up by its age, whatever a part of its browsers have."""
    push = channel(keyvalue, give_up_after_s=100)
    _, second = await subscribed(keyvalue, service, 2)
    second.faults.append("transient")
    assert (await send(push, timestamp=now_ms() - 30_000)).outcome == "accepted"
    await push.aclose()


async def test_all_browsers_that_fail_alike_are_one_failure(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    await subscribed(keyvalue, service, 2)
    service.faults.extend(["throttled", "throttled"])
    found = await send(push)
    assert (found.outcome, found.failure, found.code) == ("retry", "throttled", "http_429")
    service.faults.extend(["throttled", "transient"])
    assert (await send(push)).failure == "transient"


async def test_a_refusal_for_good_is_final_for_its_browser_only(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    first, second = await subscribed(keyvalue, service, 2)
    first.faults.append("permanent")
    found = await send(push)
    assert found.outcome == "accepted"
    assert "1 of 2" in found.reason.en
    assert "HTTP 400" in found.reason.en
    assert len(second.notices) == 1


@pytest.mark.parametrize("fault", ["silent", "cut"])
async def test_where_settings_say_so_a_browser_in_doubt_is_never_tried_again(
    service: PushService, keyvalue: KeyValue, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.5)
    push = channel(keyvalue, on_doubt="fail")
    first, second, third = await subscribed(keyvalue, service, 3)
    second.faults.append(fault)
    third.faults.append("transient")
    assert (await send(push)).outcome == "retry"
    found = await send(push)
    assert found.outcome == "accepted"
    assert "2 of 3" in found.reason.en
    assert [len(browser.notices) for browser in (first, second, third)] == [1, 1, 1]
    await push.aclose()


async def test_where_all_are_in_doubt_the_outbox_is_told(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    await subscribed(keyvalue, service, 2)
    service.faults.extend(["cut", "cut"])
    found = await send(push)
    assert (found.outcome, found.is_in_doubt, found.code) == ("retry", True, "cut")


# --- the end of a subscription ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [404, 410])
async def test_a_subscription_that_has_ended_is_forgotten(
    service: PushService, keyvalue: KeyValue, push: WebPush, status: int
) -> None:
    gone, other = await subscribed(keyvalue, service, 2)
    gone.gone = status
    assert (await send(push)).outcome == "accepted"
    before = len(service.requests)
    await send(push, key="m-2.0")
    assert len(service.requests) == before + 1
    assert len(other.notices) == 2


async def test_who_has_no_browser_any_more_is_told_how_to_have_one(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    [browser] = await subscribed(keyvalue, service)
    browser.gone = 410
    ended = await send(push)
    never = await send(push, "bob")
    for found in (ended, never):
        assert (found.outcome, found.code) == ("permanent", "no_subscription")
        assert "console's settings" in found.reason.en
        assert "控制台" in found.reason.zh
    assert "any more" in ended.reason.en
    assert "any more" not in never.reason.en


async def test_a_browser_that_left_between_two_attempts_is_not_missed(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    _, second = await subscribed(keyvalue, service, 2)
    second.faults.append("transient")
    assert (await send(push)).outcome == "retry"
    second.gone = 410
    assert (await send(push)).outcome == "accepted"


# --- what services answer -----------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["seconds", "date"])
async def test_a_browser_rests_as_long_as_its_service_says_and_others_do_not(
    service: PushService, keyvalue: KeyValue, push: WebPush, wait: str
) -> None:
    first, second = await subscribed(keyvalue, service, 2)
    service.retry_after = "120" if wait == "seconds" else formatdate(time.time() + 120, usegmt=True)
    second.faults.append("throttled")
    found = await send(push, key="m-1.0")
    assert found.failure == "transient"
    assert found.retry_after_s is not None
    assert 110 < found.retry_after_s <= 120
    found = await send(push, key="m-2.0")
    assert found.code == "retry_after"
    assert (len(first.notices), len(second.received), len(service.requests)) == (2, 0, 3)


async def test_a_rest_of_hours_is_not_waited_for_when_one_browser_has_it(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    _, second = await subscribed(keyvalue, service, 2)
    service.retry_after = "7200"
    second.faults.append("throttled")
    assert (await send(push)).outcome == "accepted"


async def test_a_service_with_a_lower_limit_says_too_large(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    await subscribed(keyvalue, service)
    service.limit_bytes = 1_000
    found = await send(push, content="x" * 2_000)
    assert (found.outcome, found.failure, found.code) == ("permanent", "too_large", "http_413")


@pytest.mark.parametrize(("status", "outcome"), [(201, "accepted"), (202, "accepted"), (200, "retry"), (204, "retry")])
async def test_only_what_the_rfc_calls_a_success_is_one(
    service: PushService, keyvalue: KeyValue, push: WebPush, status: int, outcome: str
) -> None:
    await subscribed(keyvalue, service)
    service.created_status = status
    found = await send(push)
    assert (found.outcome, found.is_in_doubt) == (outcome, outcome == "retry")


# --- where pushes may go ------------------------------------------------------------------------------


@pytest.mark.parametrize("allow", [[], ["10.0.0.0/8"], ["localhost"]])
async def test_a_private_endpoint_is_never_called_unless_it_is_allowed(
    service: PushService, keyvalue: KeyValue, allow: list[str]
) -> None:
    push = channel(keyvalue, allow=allow)
    await subscribed(keyvalue, service)
    found = await send(push)
    assert (found.outcome, found.code) == ("permanent", "endpoint_refused")
    assert "`allow`" in found.reason.en
    assert service.requests == []
    await push.aclose()


async def test_a_name_that_leads_into_a_private_network_is_refused_when_it_is_called(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    """`localhost` is not allowed here, 127.0.0.1 is not what the endpoint says."""
    browser = service.browser()
    browser.endpoint = browser.endpoint.replace("http://127.0.0.1", "https://localhost")
    guarded = channel(keyvalue, allow=[])
    await subscribe(keyvalue, browser)
    found = await send(guarded)
    assert (found.outcome, found.code) == ("permanent", "address_refused")
    assert service.requests == []
    await guarded.aclose()


@pytest.mark.parametrize(
    ("endpoint", "is_refused"),
    [
        ("https://fcm.googleapis.com/fcm/send/x", False),
        ("http://fcm.googleapis.com/fcm/send/x", True),
        ("http://push.intranet/x", False),
        ("https://10.1.2.3/x", False),
        ("https://10.2.2.3/x", True),
        ("https://169.254.169.254/latest", True),
        ("https://[::ffff:127.0.0.1]/x", True),
        ("https://2130706433/x", False),  # a name to us; refused when it is called, see the guard's own tests
    ],
)
def test_endpoints_are_public_and_by_https_or_allowed(endpoint: str, is_refused: bool) -> None:
    push = channel(NOTHING_KEPT, allow=["push.intranet", "10.1.0.0/16"])
    assert (push.rule.refusal(endpoint) is not None) is is_refused


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        ("https://Push.example:443/x?y", "https://push.example"), ("https://push.example:8443/x", None),
        ("http://push.example:80/", "http://push.example"), ("https://[2001:db8::1]:444/x", None),
    ],
)  # fmt: skip
def test_a_token_is_for_the_origin_of_the_endpoint(endpoint: str, origin: str | None) -> None:
    assert origin_of(endpoint) == (origin or endpoint.removesuffix("/x"))


# --- the rest -----------------------------------------------------------------------------------------


async def test_a_check_asks_each_service_once_and_pushes_nothing(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    browsers = await subscribed(keyvalue, service, 3)
    assert (await push.check()).ok
    assert [request.method for request in service.requests] == ["OPTIONS"]
    assert [browser.received for browser in browsers] == [[], [], []]


async def test_an_endpoint_that_leads_nowhere_does_not_make_the_channel_ill(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    with PushService() as other:
        nowhere = other.browser()
    await subscribe(keyvalue, nowhere)
    assert not (await push.check()).ok
    await subscribed(keyvalue, service)
    health = await push.check()
    assert (health.ok, health.reason.en) == (True, "1 of 2 push services that browsers use answer")
    service.faults.append("auth")
    assert (await push.check()).code == "http_403"


async def test_a_check_without_a_browser_says_so(push: WebPush) -> None:
    health = await push.check()
    assert (health.ok, health.code) == (True, "no_subscription")


async def test_what_was_kept_of_messages_that_were_given_up_is_forgotten(
    service: PushService, keyvalue: KeyValue, push: WebPush, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = await subscribed(keyvalue, service, 2)
    second.faults.append("transient")
    await send(push)
    for days, kept in ((3, 1), (5, 0)):
        monkeypatch.setattr(web_push, "now_ms", lambda days=days: now_ms() + days * 86_400_000)
        with anyio.move_on_after(0.2):
            await push.run(NoInbox())
        assert len(await keyvalue.list("push/progress/")) == kept


async def test_nothing_secret_is_shown_or_logged(
    service: PushService, keyvalue: KeyValue, push: WebPush, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    first, second = await subscribed(keyvalue, service, 2)
    first.gone = 410
    second.faults.append("permanent")
    found = await send(push, content="the text")
    entry = await keyvalue.get("push/key")
    assert entry is not None
    shown = f"{found!r} {push!r} {vars(push)!r} {capsys.readouterr()} {caplog.text}"
    assert "push_subscription_ended" in shown
    secrets = (first.token, second.token, repr(entry.value), entry.value.hex(), "the text")
    assert [secret for secret in secrets if secret in shown] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"contact": "it@example.org"}, {"contact": "mailto:nobody"}, {"contact": "http://example.org"},
        {"ttl_s": 2_419_201}, {"ttl_s": -1}, {"allow": ["10.1.2.3/8"]},
    ],
)  # fmt: skip
def test_settings_that_no_service_would_take_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**fields)


async def test_the_fake_takes_nothing_that_another_browser_would_have_to_read(
    service: PushService, keyvalue: KeyValue, push: WebPush
) -> None:
    """The oracle can say no."""
    mine, other = service.browser(), service.browser()
    json = {**mine.subscription(), "keys": other.subscription()["keys"]}
    await Subscriptions(keyvalue).add("user:alice", json["endpoint"], Keys(**json["keys"]))
    assert (await send(push)).code == "http_400"
    assert "cannot be decrypted" in service.complaints[0]
