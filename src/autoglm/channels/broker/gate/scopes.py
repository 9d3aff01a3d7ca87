"""The filters of MQTT that the scopes of a token stand for, such as `publish:topic:plant/7/*`. Pure."""

from collections.abc import Iterable
from typing import Literal

from autoglm.channels.adapters.mqtt.topics import topic_flaw


def filters_of(scopes: Iterable[str], action: Literal["publish:topic", "subscribe:topic"]) -> tuple[str, ...]:
    """What a device with these scopes may do; never more than they say.

    A scope's pattern is a topic, or a beginning and `*`. A beginning that ends within a level (`plant/7*`) has no
    filter and grants nothing; nor do topics with wildcards, which are none.
    """
    found: list[str] = []
    for scope in scopes:
        if scope in ("admin:*", action, f"{action}:*"):
            found.append("#")
        elif scope.startswith(f"{action}:"):
            pattern = scope[len(action) + 1 :]
            stem = pattern.removesuffix("/*")
            if stem and "*" not in stem and topic_flaw(stem) is None:
                found.append(stem if stem == pattern else f"{stem}/+/#")  # a/* is not a itself
    return tuple(dict.fromkeys(found))
