"""Hint, rule, classifier, or nothing: who names the intent of a request."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from autoglm.inference.features import Features
from autoglm.inference.intent.examples import default_examples
from autoglm.inference.intent.reader import ABSTAIN_BELOW, IntentReader
from autoglm.inference.intent.rules import RULES, named_by_rule

CHAT = "/chat/completions"
MEASURED_ON = Path(__file__).parents[2] / "benchmarks" / "data"


@pytest.fixture(scope="module")
def reader() -> IntentReader:
    reader = IntentReader({"handover": ("who takes over at six", "note for the night shift", "交接班记录写好了吗")})
    reader.prepare()
    return reader


def body(text: str) -> bytes:
    return json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]}).encode()


def named(features: Features) -> tuple[str, str]:
    return features.intent, features.source


def test_a_hint_goes_before_all(reader: IntentReader) -> None:
    features = reader.read(body("translate this: hello"), CHAT, "my-own")
    assert (named(features), features.confidence) == (("my-own", "hint"), 1.0)


def test_a_rule_goes_before_the_classifier(reader: IntentReader) -> None:
    assert named(reader.read_text("Please translate: how is the weather in Oslo tomorrow?")) == ("translation", "rule")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("打开办公室的灯", "control"), ("the boiler room is on fire", "alarm"), ("我头疼得厉害", "health"),
        ("write a poem about snow", "creative"), ("用 rust 写一个二分查找", "code"),
        ("who is the king of sweden", "fact"),
        ("what do you know of the note for the night shift", "handover"), ("交接班记录还没写好", "handover"),
    ],
)  # fmt: skip
def test_the_classifier_names_what_it_knows(reader: IntentReader, text: str, name: str) -> None:
    assert reader.read_text(text).intent == name


@pytest.mark.parametrize(
    "text", ["asdf qwer zxcv", "здравствуйте", "Ωμέγα", "...", "", " ", "@@##$$", "kjhgfd lkjh", "\ud800"]
)
def test_noise_has_no_intent(reader: IntentReader, text: str) -> None:
    features = reader.read_text(text) if text != "\ud800" else reader.read(b'{"prompt": "\\ud800"}', "/completions")
    assert (named(features), features.confidence) == (("", "none"), 0.0)


def test_a_text_to_be_turned_into_a_vector_has_no_intent(reader: IntentReader) -> None:
    assert named(reader.read(json.dumps({"input": "translate this"}).encode(), "/embeddings")) == ("", "none")


def test_an_order_is_found_at_either_end_of_a_long_text(reader: IntentReader) -> None:
    page = "\n".join(["The pump of line two was serviced on Monday and runs well since then."] * 200)
    assert reader.read_text(f"Summarize the report below.\n{page}").intent == "summary"
    assert reader.read_text(f"{page}\n把上面的内容翻译成中文").intent == "translation"


def test_without_a_classifier_there_are_hints_and_rules() -> None:
    fresh = IntentReader()
    assert not fresh.is_ready
    assert named(fresh.read_text("打开办公室的灯")) == ("", "none")
    assert fresh.read_text("打开办公室的灯").language == "zh"
    assert named(fresh.read_text("1 + 1 = ?")) == ("mathematics", "rule")


def test_what_is_taught_is_known_after_the_next_preparation() -> None:
    reader = IntentReader()
    reader.prepare()
    text = "is berth seven free for the ferry"
    assert reader.read_text(text).intent != "berth"
    reader.teach({"berth": ("is berth three free", "which ferry lies at berth two", "assign a berth to the ferry")})
    assert reader.read_text(text).intent != "berth"
    reader.prepare()
    assert named(reader.read_text(text)) == ("berth", "classifier")
    assert reader.read_text(text).confidence >= ABSTAIN_BELOW


def test_preparing_again_without_a_change_learns_nothing(reader: IntentReader) -> None:
    before = reader._classifier
    reader.prepare()
    assert reader._classifier is before


def test_numpy_is_not_loaded_before_it_is_needed() -> None:
    code = (
        "import sys; from autoglm.inference.intent.reader import IntentReader; reader = IntentReader();"
        "reader.read_text('translate this'); print('numpy' in sys.modules);"
        "reader.prepare(); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("order", "name"),
    [
        ("请帮我把这封信翻译成法语", "translation"), ("翻译一下", "translation"),
        ("Could you translate this?", "translation"),
        ("summarize this", "summary"), ("总结一下这篇文章", "summary"), ("TL;DR", "summary"),
        ("12 * (3 + 4)", "mathematics"),
        ("37×48 等于几", "mathematics"), ("Traceback (most recent call last)\n  File", "debugging"),
        ("KeyError: 'id'", "debugging"), ("write a python script", "code"), ("用 Python 写个脚本", "code"),
        ("rephrase this", "rewriting"), ("润色这段话", "rewriting"), ("write me a poem", "creative"),
        ("写一首诗", "creative"),
    ],
)  # fmt: skip
def test_rules_name_what_leaves_no_doubt(order: str, name: str) -> None:
    assert named_by_rule(order) == name


@pytest.mark.parametrize(
    "order",
    [
        "", "How do translators work?", "the summary was wrong", "2026-11-27", "call 555-1234-99", "write a letter",
        "python snakes in the garden", "x" * 1000, "翻" * 300,
    ],
)  # fmt: skip
def test_rules_say_nothing_where_there_is_doubt(order: str) -> None:
    assert named_by_rule(order) == ""


def test_rules_name_intents_that_there_are() -> None:
    assert {rule.intent for rule in RULES} <= set(default_examples())


@pytest.mark.parametrize("name", ["intents_zh.tsv", "intents_en_mixed.tsv"])
def test_nothing_that_is_measured_on_is_learned(name: str) -> None:
    known = default_examples()
    learned = {"".join(text.lower().split()) for examples in known.values() for text in examples}
    rows = [line.split("\t") for line in (MEASURED_ON / name).read_text("utf-8").splitlines()]
    assert {intent for intent, _ in rows} == set(known)
    assert [text for _, text in rows if "".join(text.lower().split()) in learned] == []
