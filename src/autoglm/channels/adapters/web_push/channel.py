"""Web Push to the browsers in which somebody has switched notifications on, by the browsers' push services.

A message is one push to each of them. What happened to each is kept until all have it: an attempt is made only at
those that have it not yet. Should one reach a browser twice all the same, because an answer was lost, the page's
worker shows one notification: it knows the message's id.
Sources: RFC 8030 (Web Push), RFC 8291 (encryption), RFC 8292 (VAPID).
"""

from collections.abc import Callable, Sequence
from typing import cast

import anyio
import structlog

from autoglm.channels.adapters.web_push.encryption import encrypt
from autoglm.channels.adapters.web_push.endpoint import EndpointRule
from autoglm.channels.adapters.web_push.notice import Pushed, notices_of
from autoglm.channels.adapters.web_push.outcome import NO_SUBSCRIPTION, of_answer, summed
from autoglm.channels.adapters.web_push.progress import Progress, ProgressTable
from autoglm.channels.adapters.web_push.settings import WebPushSettings
from autoglm.channels.adapters.web_push.subscriptions import Subscription, Subscriptions, owner_of
from autoglm.channels.adapters.web_push.vapid import VapidKey
from autoglm.channels.channel import Health, Inbox, Limits, Parcel, Resources
from autoglm.channels.delivery import Delivery, Words, permanent, throttled, transient
from autoglm.channels.web import NoAnswer, Web
from autoglm.core.clock import monotonic_s, now_ms
from autoglm.core.envelope import Envelope
from autoglm.core.errors import HubError, QueueFull, StorageFull
from autoglm.core.lasting import RightState

PER_MINUTE = 20
"""Notifications to one person; what is beyond becomes a digest. Ours: nobody reads more."""
MAX_ROUNDS = 3
"""Once one browser has a message, others are tried so often and no more: while they are, the outbox takes the target
for one that fails, and holds back what comes after."""
LONGEST_ROUND_S = 600.0
"""An answer `Retry-After` that is longer is not waited for, when one browser has the message."""
_DIGEST_BYTES = 1_200
"""Fits into one push, however long the addresses are, and were it all quotation marks, which are two bytes in JSON."""
_ANSWER_BYTES = 4_096
_CHECKED = 10
"""Push services that a check asks."""
_REFUSED = ("http_401", "http_403")
_MAX_RESTING = 10_000
_NO_RIGHT = Words(
    "who switched this browser on may not read these messages now", "开启该浏览器通知的人目前无权读取这些消息"
)
_SAVE_S = 5.0
_DAY_MS = 86_400_000

log = structlog.get_logger()


class WebPush:
    """Satisfies `Channel`."""

    Settings = WebPushSettings

    def __init__(self, settings: WebPushSettings, resources: Resources) -> None:
        assert resources.keyvalue is not None, "subscriptions are kept there"
        self._settings = settings
        self._subscriptions = Subscriptions(resources.keyvalue)
        self._key = VapidKey(resources.keyvalue)
        self._progress = ProgressTable(resources.keyvalue, resources.name)
        self.rule = EndpointRule(settings.allow)
        self._web = Web(guard=self.rule.guard)
        self.right_of: Callable[[str, Subscription], RightState] = lambda owner, subscription: "holds"
        """Whether the owner's browser may still be told; the composition root says."""
        self._not_before_s: dict[str, float] = {}
        """By the id of a subscription, until when its push service wants nothing more for it; monotonic."""

    def limits(self, target: str) -> Limits:
        count = self._settings.per_minute or PER_MINUTE
        return Limits(windows=((count, 60.0),), per="target", parallel=2, digest_bytes=_DIGEST_BYTES)

    def compose(self, envelope: Envelope, target: str) -> Sequence[Parcel]:
        """One parcel for all browsers: which there are is not known here, and may change between two attempts."""
        return [Parcel(target=target, body=pushed) for pushed in notices_of(envelope)]

    async def send(self, parcel: Parcel, key: str) -> Delivery:
        owner = owner_of(parcel.target)
        try:
            subscriptions = await self._subscriptions.of(owner)
            progress = await self._progress.get(key)
        except HubError as error:
            return _store_failed(error)
        attempt = _Attempt(parcel, progress or Progress(begun=now_ms()), owner)
        try:
            async with anyio.create_task_group() as tasks:
                for one in subscriptions:
                    if one.id not in attempt.ends:
                        tasks.start_soon(self._push, one, attempt)
            return attempt.result(self._settings.give_up_after_s)
        finally:  # also where it was cut off: who has it, has it
            with anyio.move_on_after(_SAVE_S, shield=True):
                await self._keep(key, attempt, was_kept=progress is not None)

    async def check(self) -> Health:
        """Asks each push service that the browsers use, signed and without a message.

        That it does not take such a question is well: it answers. Few look at the signature then. Endpoints come from
        clients, so one that does not answer is no fault of the channel while others do.
        """
        found: list[Health] = []
        services = [one for one in await self._subscriptions.by_origin(_CHECKED) if not self.rule.refusal(one.endpoint)]

        async def ask(one: Subscription) -> None:
            found.append(await self._asked(one))

        async with anyio.create_task_group() as tasks:
            for one in services:
                tasks.start_soon(ask, one)
        if not services:
            words = Words("no browser takes notifications yet", "还没有浏览器开启通知")
            return Health(ok=True, reason=words, code=NO_SUBSCRIPTION)
        failed = [health for health in found if not health.ok]
        if len(failed) == len(found) or any(health.code in _REFUSED for health in failed):
            return next((health for health in failed if health.code in _REFUSED), failed[0])
        count = len(found) - len(failed)
        return Health(
            ok=True,
            reason=Words(
                f"{count} of {len(found)} push services that browsers use answer",
                f"浏览器所用的 {len(found)} 个推送服务中，{count} 个有应答",
            ),
        )

    async def _asked(self, one: Subscription) -> Health:
        try:
            headers = {"Authorization": await self._key.authorization(one.endpoint, self._settings.contact)}
            answer = await self._web.request("OPTIONS", one.endpoint, headers=headers, limit_bytes=_ANSWER_BYTES)
        except NoAnswer as error:
            return Health(ok=False, reason=error.delivery.reason, code=error.delivery.code)
        found = of_answer(answer)
        if found is not None and (found.failure == "auth" or answer.status >= 500):
            return Health(ok=False, reason=found.reason, code=found.code)
        return Health(ok=True, reason=Words("", ""))

    async def run(self, inbox: Inbox) -> None:
        """Nothing comes in. Once a day, what was kept of messages that were given up is forgotten."""
        kept_ms = round(1000 * self._settings.give_up_after_s) + _DAY_MS
        while True:
            try:
                await self._progress.drop_begun_before(now_ms() - kept_ms)
            except (StorageFull, QueueFull) as error:
                log.warning("push_progress_left", reason=str(error))
            await anyio.sleep(_DAY_MS / 1000)

    async def aclose(self) -> None:
        await self._web.aclose()

    # --- one attempt ---

    async def _push(self, one: Subscription, attempt: "_Attempt") -> None:
        """Try one browser, and note what came of it."""
        right = self.right_of(attempt.owner, one)
        if right == "over":
            attempt.gone.append(one.id)
            return
        if right == "rests":
            attempt.ends[one.id] = permanent("no_right", _NO_RIGHT)
            return
        delivery = await self._pushed(one, attempt.pushed)
        if delivery is None:
            attempt.gone.append(one.id)
            return
        if delivery.retry_after_s is not None:
            self._rest(one.id, delivery.retry_after_s)
        is_end = delivery.is_settled or (delivery.is_in_doubt and self._settings.on_doubt == "fail")
        (attempt.ends if is_end else attempt.waiting)[one.id] = delivery

    def _rest(self, id: str, wait_s: float) -> None:
        now_s = monotonic_s()
        if len(self._not_before_s) >= _MAX_RESTING:  # of subscriptions that are no more, as well
            self._not_before_s = {known: at_s for known, at_s in self._not_before_s.items() if at_s > now_s}
        if len(self._not_before_s) < _MAX_RESTING:
            self._not_before_s[id] = now_s + wait_s

    async def _pushed(self, one: Subscription, pushed: Pushed) -> Delivery | None:
        """None: the subscription is no more."""
        rest_s = self._not_before_s.pop(one.id, 0.0) - monotonic_s()
        if rest_s > 0:
            words = Words("the push service wants nothing more for this browser yet", "推送服务要求稍后再发往该浏览器")
            return throttled("retry_after", words, rest_s)
        if (reason := self.rule.refusal(one.endpoint)) is not None:
            return permanent("endpoint_refused", reason)
        try:
            headers = {
                "Authorization": await self._key.authorization(one.endpoint, self._settings.contact),
                "Content-Encoding": "aes128gcm",
                "Content-Type": "application/octet-stream",
                "TTL": str(pushed.ttl_s(now_ms(), self._settings.ttl_s)),
                "Urgency": pushed.urgency,
            }
            if pushed.topic is not None:
                headers["Topic"] = pushed.topic
            body = encrypt(pushed.plaintext, one.receiver)
            answer = await self._web.request(
                "POST", one.endpoint, headers=headers, body=body, limit_bytes=_ANSWER_BYTES
            )
        except NoAnswer as error:
            return error.delivery
        except HubError as error:
            return _store_failed(error)
        return of_answer(answer)

    async def _keep(self, key: str, attempt: "_Attempt", *, was_kept: bool) -> None:
        """What the next attempt has to know, and no more."""
        try:
            for id in attempt.gone:
                await self._subscriptions.forget(attempt.owner, id)
                log.info("push_subscription_ended", owner=attempt.owner, subscription=id)
            if attempt.is_settled:
                if was_kept:
                    await self._progress.drop(key)
            elif attempt.ends:
                await self._progress.put(key, attempt.progress)
        except HubError as error:  # a later attempt may reach a browser twice, which its worker shows as one
            log.warning("push_progress_not_kept", reason=str(error))


class _Attempt:
    """At one message, to all browsers of its owner that do not have it yet."""

    def __init__(self, parcel: Parcel, before: Progress, owner: str) -> None:
        self._target = parcel.target
        self._before = before
        self.pushed = cast(Pushed, parcel.body)
        self.owner = owner
        self.ends = dict(before.ends)
        self.waiting: dict[str, Delivery] = {}
        self.gone: list[str] = []
        self.is_settled = False

    @property
    def progress(self) -> Progress:
        """With this attempt."""
        return Progress(begun=self._before.begun, ends=self.ends, rounds=self._before.rounds + 1)

    def result(self, give_up_after_s: float) -> Delivery:
        """Once each browser was tried."""
        delivery = self._summed(may_wait=True)
        # The outbox gives up by the message's age, and would tell of none what one browser has.
        age_s = (now_ms() - self.pushed.time) / 1000
        if (
            self.progress.rounds >= MAX_ROUNDS
            or (delivery.retry_after_s or 0.0) > LONGEST_ROUND_S
            or age_s > give_up_after_s / 4
        ):
            delivery = self._summed(may_wait=False)
        self.is_settled = delivery.is_settled
        return delivery

    def _summed(self, *, may_wait: bool) -> Delivery:
        return summed(
            self._target, list(self.ends.values()), list(self.waiting.values()), has_ended=bool(self.gone),
            may_wait=may_wait,
        )  # fmt: skip


def _store_failed(error: HubError) -> Delivery:
    words = Words(f"the hub's own store fails: {error}", "本机存储出错，暂时无法读取推送订阅")
    return transient("store", words)
