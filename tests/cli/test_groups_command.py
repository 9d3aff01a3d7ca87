"""`autoglm groups`: groups are made, shown and removed."""

import json
from pathlib import Path

import pytest

from cli.terminal import autoglm


def test_a_group_is_made_used_shown_and_removed(data: Path) -> None:
    assert autoglm("send", "group:运维", "x", data=data).status == 1
    made = autoglm("groups", "set", "运维", "user:g-alice", "device:g-press", data=data)
    assert made == (0, "group:运维 reaches user:g-alice, device:g-press\n", "")
    assert autoglm("send", "group:运维", "Shift ends at six.", data=data).status == 0
    assert json.loads(autoglm("inbox", "user:g-alice", "--json", data=data).out)["content"] == "Shift ends at six."
    headers, row = autoglm("groups", data=data).out.splitlines()
    assert headers.split() == ["name", "size", "members"]
    assert row.split() == ["运维", "2", "user:g-alice", "device:g-press"]
    [group] = json.loads(autoglm("groups", "--json", data=data).out)
    assert group == {"name": "运维", "members": ["user:g-alice", "device:g-press"]}
    replaced = autoglm("groups", "set", "运维", "user:g-bob", "--json", data=data)
    assert json.loads(replaced.out) == {"name": "运维", "members": ["user:g-bob"]}
    assert autoglm("groups", "remove", "运维", data=data) == (0, "group:运维 is removed\n", "")
    assert f"groups set NAME MEMBER... --data {data} makes one" in autoglm("groups", data=data).out


def test_what_is_wrong_with_a_group_is_told(data: Path) -> None:
    assert autoglm("groups", "set", "ops", data=data).status == 2
    assert "did you mean 'user:alice'?" in autoglm("groups", "set", "ops", "alice", data=data).err
    assert "1 to 64 characters" in autoglm("groups", "set", "a/b", "user:alice", data=data).err
    gone = autoglm("groups", "remove", "none", data=data)
    assert (gone.status, gone.err) == (1, "autoglm: there is no group 'none' here\n")


@pytest.mark.parametrize("words", [("groups", "set", "ops", "user:a"), ("pool", "resume", "a")])
def test_an_option_before_a_subcommand_is_not_passed_over(data: Path, words: tuple[str, ...]) -> None:
    """Else the hub of the default folder would be asked in place of the one that was named."""
    group, *rest = words
    finished = autoglm(group, "--url", "http://127.0.0.1:9", *rest, data=data)
    assert finished.status == 2
    assert f"write --url behind '{rest[0]}'" in finished.err
