"""Whose browsers get what, in the store."""

from typing import Any

import pytest

from autoglm.channels.adapters.web_push.subscriptions import MAX_PER_OWNER, Keys, Subscriptions, owner_of
from autoglm.core.errors import InvalidField, NotFound, RevisionMismatch
from autoglm.core.ports import KeyValue
from channels.adapters.web_push.desk import subscribe, subscribed
from fakes.push_service import PushService


@pytest.mark.parametrize(
    ("target", "owner"), [("alice", "user:alice"), ("user:alice", "user:alice"), ("device:wall", "device:wall")]
)
def test_targets_are_people_unless_they_say_otherwise(target: str, owner: str) -> None:
    assert owner_of(target) == owner


async def test_a_browser_that_subscribes_again_is_one(service: PushService, keyvalue: KeyValue) -> None:
    browser = service.browser()
    first, second = [await subscribe(keyvalue, browser) for _ in range(2)]
    assert first == second
    assert await Subscriptions(keyvalue).of("user:alice") == [first]


async def test_new_keys_of_a_browser_take_the_place_of_the_old(service: PushService, keyvalue: KeyValue) -> None:
    browser, other = service.browser(), service.browser()
    await subscribe(keyvalue, browser)
    keys = Keys(**other.subscription()["keys"])
    new = await Subscriptions(keyvalue).add("user:alice", browser.endpoint, keys)
    assert await Subscriptions(keyvalue).of("user:alice") == [new]
    assert new.keys == keys


async def test_a_browser_belongs_to_whoever_switched_it_on_last(service: PushService, keyvalue: KeyValue) -> None:
    """Also when it goes back and forth, as on a machine that two share."""
    browser = service.browser()
    subscriptions = Subscriptions(keyvalue)
    for owner, other in (("user:alice", "user:bob"), ("user:bob", "user:alice"), ("user:alice", "user:bob")):
        await subscribe(keyvalue, browser, owner)
        assert len(await subscriptions.of(owner)) == 1
        assert await subscriptions.of(other) == []


async def test_nobody_has_more_browsers_than_the_limit(service: PushService, keyvalue: KeyValue) -> None:
    first, *_ = await subscribed(keyvalue, service, MAX_PER_OWNER)
    before = await keyvalue.list("push/")
    with pytest.raises(InvalidField, match="20 browsers already; switch one off"):
        await subscribe(keyvalue, service.browser())
    assert await keyvalue.list("push/") == before, "what was refused leaves nothing"
    await subscribe(keyvalue, first)
    await subscribe(keyvalue, service.browser(), "user:bob")


async def test_only_its_owner_removes_a_subscription(service: PushService, keyvalue: KeyValue) -> None:
    one = await subscribe(keyvalue, service.browser())
    subscriptions = Subscriptions(keyvalue)
    with pytest.raises(NotFound):
        await subscriptions.remove("user:bob", one.id)
    await subscriptions.remove("user:alice", one.id)
    with pytest.raises(NotFound):
        await subscriptions.remove("user:alice", one.id)
    assert await keyvalue.list("push/") == []


async def test_one_that_another_hub_writes_at_the_same_moment_is_not_lost(
    service: PushService, keyvalue: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several hubs may share a store."""
    subscriptions = Subscriptions(keyvalue)
    put: Any = keyvalue.put
    tries: list[str] = []

    async def slow_put(key: str, value: bytes, **options: Any) -> int:
        tries.append(key)
        if len(tries) == 1:
            monkeypatch.setattr(keyvalue, "put", put)
            await subscribe(keyvalue, service.browser())
            monkeypatch.setattr(keyvalue, "put", slow_put)
        revision: int = await put(key, value, **options)
        return revision

    monkeypatch.setattr(keyvalue, "put", slow_put)
    json = service.browser().subscription()
    await subscriptions.add("user:alice", json["endpoint"], Keys(**json["keys"]))
    assert len(await subscriptions.of("user:alice")) == 2
    with pytest.raises(RevisionMismatch):
        await put("push/owner/user:alice", b"", expected_revision=1)


@pytest.mark.parametrize(
    "endpoint",
    [
        "", "push.example/x", "ftp://push.example/x", "https://", "https:///x", "https://u:p@push.example/x",
        "https://push.example/x#y", "https://push.example/a b", "https://push.example/\n", "https://push.example:0/",
        "https://push.example:99999/", "https://[::1/x", "https://推送.example/", "https://push.example/" + "x" * 2_048,
    ],
)  # fmt: skip
async def test_what_is_no_endpoint_is_refused(service: PushService, keyvalue: KeyValue, endpoint: str) -> None:
    keys = Keys(**service.browser().subscription()["keys"])
    with pytest.raises(InvalidField, match="endpoint"):
        await Subscriptions(keyvalue).add("user:alice", endpoint, keys)
    assert await keyvalue.list("push/") == []


@pytest.mark.parametrize("wrong", [{"auth": "AAAA"}, {"p256dh": "BAAA"}, {"p256dh": "B" + "A" * 86}, {"auth": "💥"}])
async def test_keys_that_nothing_can_be_encrypted_with_are_refused(
    service: PushService, keyvalue: KeyValue, wrong: dict[str, str]
) -> None:
    keys = Keys(**{**service.browser().subscription()["keys"], **wrong})
    with pytest.raises(InvalidField, match="keys"):
        await Subscriptions(keyvalue).add("user:alice", "https://push.example/x", keys)
