"""An entry's bytes are canonical, and what is personal is bound to it but apart from it."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.auth.audit.entry import (
    KINDS,
    OUTCOMES,
    Entry,
    Fact,
    Personal,
    clipped,
    commits_to,
    draft,
    read_entry,
)
from autoglm.core.errors import InvalidField
from autoglm.core.ports import NewJournalEntry

texts = st.text(st.characters(exclude_categories=["Cs"]))
facts = st.builds(
    Fact,
    version=st.just(1), kind=st.sampled_from(KINDS), action=texts, outcome=st.sampled_from(OUTCOMES),
    at_ms=st.integers(0, 2**53), is_clock_trusted=st.booleans(), reason=texts, count=st.integers(1, 1000),
    erased=st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99))).map(tuple), commitment=st.just(""),
)  # fmt: skip


def placed(new: NewJournalEntry) -> bytes:
    """As the journal does it."""
    return new.body[:-1] + b',"seq":7,"prev":"' + b"0" * 64 + b'"}'


@given(facts, st.builds(Personal, who=texts, name=texts, resource=texts, text=texts))
def test_what_was_said_is_what_is_read(fact: Fact, personal: Personal) -> None:
    new = draft(fact, personal)
    entry = read_entry(placed(new))
    assert (entry.seq, entry.prev) == (7, "0" * 64)
    for name in Fact.__struct_fields__:
        if name != "commitment":
            assert getattr(entry, name) == getattr(fact, name)
    if personal == Personal():
        assert (new.salt, new.personal, entry.commitment) == (None, None, "")
    else:
        assert new.salt is not None
        assert new.personal is not None
        assert commits_to(entry, new.salt, new.personal)
        assert not commits_to(entry, new.salt, new.personal + b" ")
        assert not commits_to(entry, bytes(16), new.personal)


def test_the_body_tells_nothing_of_what_is_personal() -> None:
    """Nor does it show that two entries are about the same person."""
    fact = Fact(version=1, kind="act", action="keys:issue", outcome="allowed", at_ms=5)
    bodies = {draft(fact, Personal(who="user:alice", text="for the ward")).body for _ in range(20)}
    assert len(bodies) == 20
    assert not any(b"alice" in body or b"ward" in body for body in bodies)


@pytest.mark.parametrize(
    "body",
    [
        b'{"version":1, "kind":"act","action":"a","outcome":"allowed","at_ms":5,"seq":7,"prev":""}',
        b'{"kind":"act","version":1,"action":"a","outcome":"allowed","at_ms":5,"seq":7,"prev":""}',
        b'{"version":1,"kind":"act","action":"a","action":"b","outcome":"allowed","at_ms":5,"seq":7,"prev":""}',
        b'{"version":1,"kind":"act","action":"a","outcome":"allowed","at_ms":5,"count":1,"seq":7,"prev":""}',
        b'{"version":1,"kind":"act","action":"a","outcome":"allowed","at_ms":5,"seq":7,"prev":"","more":1}',
        b'{"version":1,"kind":"gossip","action":"a","outcome":"allowed","at_ms":5,"seq":7,"prev":""}',
        b'{"version":1,"kind":"act","action":"\\u0061","outcome":"allowed","at_ms":5,"seq":7,"prev":""}',
        b"{}",
        b"\xff",
    ],
)
def test_there_is_one_way_to_write_an_entry(body: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        read_entry(body)


def test_the_form_is_kept() -> None:
    """Entries of years ago are verified byte by byte: whoever changes the form makes a new version of it."""
    fact = Fact(version=1, kind="act", action="keys:issue", outcome="denied", at_ms=5, reason="no_scope", about=3)
    body = placed(draft(fact))
    assert body == (
        b'{"version":1,"kind":"act","action":"keys:issue","outcome":"denied","at_ms":5,"reason":"no_scope","about":3,'
        b'"seq":7,"prev":"' + b"0" * 64 + b'"}'
    )
    assert list(Entry.__struct_fields__)[:5] == ["version", "kind", "action", "outcome", "at_ms"]
    assert list(json.loads(body))[-2:] == ["seq", "prev"]


def test_half_a_surrogate_pair_is_refused_before_it_can_hold_up_the_journal() -> None:
    fact = Fact(version=1, kind="act", action="a", outcome="allowed", at_ms=5)
    with pytest.raises(InvalidField, match="surrogate"):
        draft(fact, Personal(who="user:\ud800"))


def test_free_text_is_bounded() -> None:
    assert clipped("x" * 2000) == "x" * 2000
    assert clipped("x" * 2001) == "x" * 1999 + "…"
