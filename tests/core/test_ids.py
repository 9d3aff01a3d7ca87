import threading
import uuid

import pytest

from autoglm.core import ids
from autoglm.core.ids import uuid7


def test_an_id_is_a_uuid_of_version_7_and_tells_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "now_ms", lambda: 1_790_000_000_123)
    monkeypatch.setattr(ids, "_last", 0)
    made = uuid.UUID(uuid7())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == 1_790_000_000_123


def test_ids_grow_while_the_clock_stands_still_or_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1000] * 500 + [500] * 500)
    monkeypatch.setattr(ids, "now_ms", lambda: next(times))
    monkeypatch.setattr(ids, "_last", 0)
    made = [uuid7() for _ in range(1000)]
    assert made == sorted(set(made))
    assert all(uuid.UUID(text).version == 7 for text in made)


def test_counting_on_past_the_variant_bits_keeps_version_and_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    full = 1000 << 80 | 0x7 << 76 | 0b10 << 62 | (1 << 62) - 1
    monkeypatch.setattr(ids, "now_ms", lambda: 1)
    monkeypatch.setattr(ids, "_last", full)
    following = uuid.UUID(uuid7())
    assert following.int > full
    assert (following.version, following.variant) == (7, uuid.RFC_4122)


def test_threads_never_make_the_same_id() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend(uuid7() for _ in range(2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000
