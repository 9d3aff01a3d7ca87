"""The filters that the settings lost, in packets that the broker takes, and what the note of them says."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from autoglm.channels.adapters.mqtt.filters import MOST, PACKET_BYTES, PACKET_FILTERS, Filters
from autoglm.store import StoreSettings, open_store


def packets_of(filters: Filters, limit_bytes: int) -> list[list[str]]:
    filters.begin(has_session=True)
    found = []
    while packet := filters.next_packet(limit_bytes):
        found.append(packet)
    return found


def size_bytes(packet: list[str]) -> int:
    """Of an UNSUBSCRIBE without properties; at most, of its fixed header. Source: MQTT 5.0, sections 2.1.4 and 3.10."""
    return 1 + 4 + 2 + 1 + sum(2 + len(one.encode()) for one in packet)


@given(
    st.lists(st.text("a压/", min_size=1, max_size=9_000), max_size=20),
    st.sampled_from([64, 4_096, PACKET_BYTES, 268_435_460]),
)
def test_each_is_in_one_packet_and_no_packet_is_large(stale: list[str], limit_bytes: int) -> None:
    filters = Filters(None, "mqtt", [])
    filters._stale = stale
    packets = packets_of(filters, limit_bytes)
    assert [one for packet in packets for one in packet] == stale
    assert all(len(packet) == 1 or size_bytes(packet) <= min(limit_bytes, PACKET_BYTES) for packet in packets)


async def test_many_wanted_filters_do_not_push_out_those_to_be_given_up(tmp_path: Path) -> None:
    wanted = [f"new/{number}" for number in range(1_000)]
    old = [f"old/{number}" for number in range(MOST + 1)]
    async with open_store(tmp_path / "data", StoreSettings()) as store:
        await store.keyvalue.put("mqtt/mqtt/filters", json.dumps(old).encode())
        filters = Filters(store.keyvalue, "mqtt", wanted)
        await filters.note()
        packets = packets_of(filters, PACKET_BYTES)
        assert [one for packet in packets for one in packet] == old[:MOST]
        assert {len(packet) for packet in packets} == {PACKET_FILTERS}
        filters.give_up(old[: MOST - 1])
        await filters.forget()
        entry = await store.keyvalue.get("mqtt/mqtt/filters")
    assert entry is not None
    assert json.loads(entry.value) == [*wanted, old[MOST - 1]]
