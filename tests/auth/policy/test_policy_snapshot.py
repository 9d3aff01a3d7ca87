"""What a snapshot may say, and how much of it."""

import json
import time
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.policy.authority import START_MS, policy_files
from autoglm.auth.policy.snapshot import MAX_REVOCATIONS, MAX_TIME_MS, Snapshot, parse_snapshot
from autoglm.core.errors import PolicyRefused

KEY = "A" * 43


def parse(files: dict[str, bytes]) -> Snapshot:
    return parse_snapshot(files, version=1, issued_ms=0, expires_ms=START_MS)


def test_roles_come_from_grants_to_the_address_and_to_its_groups() -> None:
    roles = {
        "roles": {"nurse": ["send:message"], "lead": ["admin:alarms"], "guest": []},
        "groups": {"group:nurses": ["user:alice", "device:cart-1"]},
        "grants": {
            "group:nurses": [{"role": "nurse"}],
            "user:alice": [{"role": "lead", "not_after_ms": START_MS}, {"role": "guest"}],
        },
    }
    snapshot = parse(policy_files(roles=roles))
    assert snapshot.roles_of("user:alice", START_MS - 1) == {"nurse", "lead", "guest"}
    assert snapshot.roles_of("user:alice", START_MS) == {"nurse", "guest"}
    assert snapshot.roles_of("device:cart-1", START_MS) == {"nurse"}
    assert snapshot.roles_of("user:bob", START_MS) == frozenset()
    assert (snapshot.next_end_ms(0), snapshot.next_end_ms(START_MS)) == (START_MS, MAX_TIME_MS)


WRONG: list[tuple[str, Any, str]] = [
    ("roles", {"roles": {"n": ["send:massage"]}}, "unknown scope"),
    ("roles", {"roles": {"n n": []}}, "no name of a role"),
    ("roles", {"grants": {"user:a": [{"role": "n"}]}}, "a role 'n' that there is not"),
    ("roles", {"roles": {"n": []}, "grants": {"alice": [{"role": "n"}]}}, "is not an address"),
    ("roles", {"roles": {"n": []}, "grants": {"model:x": [{"role": "n"}]}}, "can have no role"),
    ("roles", {"roles": {"n": []}, "grants": {"user:a": [{"role": "n", "not_after_ms": -1}]}}, "no time"),
    ("roles", {"roles": {"n": []}, "grants": {"user:a": [{"role": "n", "until": 1}]}}, "unknown field `until`"),
    ("roles", {"groups": {"nurses": []}}, "no group"),
    ("roles", {"groups": {"group:n": ["group:m"]}}, "be no member"),
    ("roles", {"roles": {f"r{n}": [] for n in range(1001)}}, "more than 1000 roles"),
    ("roles", {"roles": {"n": ["send:message"] * 101}}, "too many scopes"),
    ("roles", {"role": {}}, "unknown field `role`"),
    ("roles", [1], "Expected `object`"),
    ("revocations", {"alice": {"at_ms": 1}}, "is not an address"),
    ("revocations", {"jti:": {"at_ms": 1}}, "is not an address"),
    ("revocations", {"user:a": {"at_ms": "1"}}, "Expected `int`"),
    ("revocations", {"user:a": {"at_ms": MAX_TIME_MS + 1}}, "no time"),
    ("revocations", {"user:a": {"at_ms": 1, "reason": "x" * 501}}, "too long"),
    ("revocations", {"user:a": {}}, "missing required field `at_ms`"),
    ("pins", [{"kid": "k", "issuer": "i", "public_key": "A"}], "not 32 bytes"),
    ("pins", [{"kid": "k", "issuer": "i", "public_key": KEY}] * 2, "a kid is there twice"),
    ("pins", [{"kid": "k k", "issuer": "i", "public_key": KEY}], "no kid"),
    ("pins", [{"kid": "k", "issuer": "", "public_key": KEY}], "no issuer"),
]


@pytest.mark.parametrize(("file", "value", "reason"), WRONG, ids=[reason for *_, reason in WRONG])
def test_what_is_wrong_is_refused_and_named(file: str, value: object, reason: str) -> None:
    files = policy_files() | {f"{file}.json": json.dumps(value).encode()}
    with pytest.raises(PolicyRefused, match=rf"{file}\.json.*{reason}"):
        parse(files)


def test_all_kinds_of_names_can_be_revoked() -> None:
    names = ("user:alice", "device:press-7", "site:ward-3", "site:north/user:bob", "jti:x", "jkt:x", "kid:a/b", "key:x",
             "session:x")  # fmt: skip
    snapshot = parse(policy_files(revocations={name: {"at_ms": 1} for name in names}))
    assert set(snapshot.revocations) == set(names)


@pytest.mark.parametrize("name", sorted(policy_files()))
def test_all_four_files_are_wanted(name: str) -> None:
    files = policy_files()
    del files[name]
    with pytest.raises(PolicyRefused, match="missing"):
        parse(files)


@pytest.mark.attack("huge")
def test_files_are_bounded() -> None:
    with pytest.raises(PolicyRefused, match="bytes, and 1048576 are the limit"):
        parse(policy_files() | {"pins.json": b" " * ((1 << 20) + 1)})
    many = {f"jti:{number}": {"at_ms": 1} for number in range(MAX_REVOCATIONS + 1)}
    with pytest.raises(PolicyRefused, match="more than 100000 revocations"):
        parse(policy_files(revocations=many))


@pytest.mark.attack("duplicate JSON keys")
def test_a_role_cannot_be_there_twice() -> None:
    files = policy_files() | {"roles.json": b'{"roles": {"n": ["read:sensor"], "n": ["admin:*"]}}'}
    with pytest.raises(PolicyRefused, match="an object has a key twice"):
        parse(files)


@pytest.mark.attack("huge")
def test_a_snapshot_nests_no_deeper_than_the_stack() -> None:
    with pytest.raises(PolicyRefused, match=r"roles\.json: it is no strict JSON"):
        parse(policy_files() | {"roles.json": b"[" * 1_000_000})


def test_ten_thousand_revocations_are_read_in_a_second_and_thirty_megabytes() -> None:
    names = (f"{kind}:{number:043}" for number in range(2500) for kind in ("jti", "jkt", "user", "device"))
    files = policy_files(revocations={name: {"at_ms": START_MS, "reason": "lost on the ward"} for name in names})
    started_s = time.process_time()
    snapshot = parse(files)
    assert time.process_time() - started_s < 1
    assert len(snapshot.revocations) == 10_000
    tracemalloc.start()
    try:
        parse(files)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


@given(st.dictionaries(st.sampled_from(sorted(policy_files())), st.binary(max_size=200)))
def test_any_bytes_are_a_snapshot_or_refused(changed: dict[str, bytes]) -> None:
    with suppress(PolicyRefused):
        assert parse(policy_files() | changed).version == 1
