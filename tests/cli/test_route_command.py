"""`autoglm route`: what the hub understands, and how it is taught."""

import json
from pathlib import Path

from cli.terminal import autoglm


def test_what_is_understood_is_shown(data: Path) -> None:
    lines = autoglm("route", "intent", "请把这封信翻译成法语", data=data).out.splitlines()
    shown = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in lines[1:]}
    assert shown["intent"] == "translation (0.95, rule)"
    assert shown["language"] == "zh"
    features = json.loads(autoglm("route", "intent", "print(1)", "--json", data=data).out)
    assert features["has_code"] is True


def test_nothing_understood_is_a_dash(data: Path) -> None:
    assert "intent    -" in autoglm("route", "intent", "здравствуйте", data=data).out.replace("\t", " ")


def test_an_intent_is_taught_listed_and_forgotten(data: Path) -> None:
    examples = ("who takes over at six", "note for the night shift", "交接班记录")
    assert autoglm("route", "teach", "handover", *examples, data=data).out == (
        "handover is known by 3 examples, 3 of them taught\n"
    )
    listed = {row.split()[0]: row.split()[1:] for row in autoglm("route", "intents", data=data).out.splitlines()[1:]}
    assert listed["handover"] == ["3", "3"]
    assert listed["chat"][1] == "0"
    assert autoglm("route", "forget", "handover", data=data).out == "handover is forgotten\n"
    names = [entry["name"] for entry in json.loads(autoglm("route", "intents", "--json", data=data).out)]
    assert "handover" not in names


def test_why_nothing_was_taught_is_told(data: Path) -> None:
    few = autoglm("route", "teach", "handover", "only one", data=data)
    assert (few.status, "needs 3 examples" in few.err) == (1, True)
    named = autoglm("route", "teach", "Shift change", "one", "two", "three", data=data)
    assert (named.status, "name: must be 1 to 64 of a-z, 0-9, - and _, not 'Shift change'" in named.err) == (1, True)
    missing = autoglm("route", "forget", "handover", data=data)
    assert (missing.status, "no taught intent 'handover'" in missing.err) == (1, True)
