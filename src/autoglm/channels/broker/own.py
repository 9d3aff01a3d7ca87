"""The hub's own broker as a channel."""

from collections.abc import Sequence

from pydantic import SecretStr

from autoglm.channels.adapters.mqtt.settings import OWN_BROKER, is_own_broker
from autoglm.channels.broker.supervisor import Broker
from autoglm.channels.settings import ChannelSettings, parse_channel


def with_own_broker(channels: Sequence[ChannelSettings], broker: Broker | None) -> list[ChannelSettings]:
    """Those of the settings, and one named mqtt where none speaks to the broker; `mqtt://own` gets its place."""
    wanted = list(channels)
    if broker is None:
        return wanted
    fields = broker.channel_fields()
    if not any(is_own_broker(entry) for entry in wanted) and all(entry.name != "mqtt" for entry in wanted):
        wanted.append(parse_channel({"name": "mqtt", "kind": "mqtt", "url": OWN_BROKER}))
    return [
        entry.model_copy(update={**fields, "password": SecretStr(str(fields["password"]))})
        if is_own_broker(entry)
        else entry
        for entry in wanted
    ]
