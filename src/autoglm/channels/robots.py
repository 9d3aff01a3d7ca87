"""What the channels of groups' robots share."""

from collections.abc import Iterable, Mapping

from autoglm.channels.channel import Channel, Health, Parcel
from autoglm.channels.delivery import Words


async def check_robots(channel: Channel, targets: Iterable[str], body: Mapping[str, object], good: Words) -> Health:
    """body: without a message, so that nobody sees it. The vendor refuses it, but first it says whether it knows the
    robot and its signature, and whether it takes messages now.
    """
    for target in targets:
        found = await channel.send(Parcel(target=target, body=body), "")
        if found.failure in ("auth", "transient", "throttled"):
            return Health(ok=False, reason=found.reason, code=found.code)
    return Health(ok=True, reason=good)
