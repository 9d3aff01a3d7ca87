"""The classifier learns from examples, always the same, and knows when it does not know."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.inference.intent.classifier import Classifier
from autoglm.inference.intent.examples import default_examples, merged
from autoglm.inference.intent.ngrams import codes_of, normalized
from autoglm.inference.intent.svm import Sample, train

EXAMPLES = {
    "light": ("turn on the lamp", "switch the light off", "make it darker", "开灯", "把灯关掉", "调暗一点"),
    "music": ("play a song", "next track please", "stop the music", "放首歌", "下一首", "别放音乐了"),
    "heat": ("it is too cold", "raise the temperature", "heating off", "太冷了", "把暖气打开", "温度调高"),
}


@pytest.fixture(scope="module")
def small() -> Classifier:
    return Classifier.train(EXAMPLES)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("switch on the lamp", "light"), ("lamp off", "light"), ("play the next song", "music"),
        ("raise the heating", "heat"),
        ("关灯", "light"), ("放一首歌", "music"), ("暖气太冷", "heat"), ("TURN ON THE LAMP!!", "light"),
        ("ｐｌａｙ ａ ｓｏｎｇ", "music"),
    ],
)  # fmt: skip
def test_like_texts_get_the_name_of_the_example(small: Classifier, text: str, name: str) -> None:
    assert small.classify(text).name == name


def test_an_example_is_surer_than_noise(small: Classifier) -> None:
    known = min(small.classify(text).confidence for texts in EXAMPLES.values() for text in texts)
    noise = max(small.classify(text).confidence for text in ("Ω", "здравствуйте", "9987", "卍卍卍", "㌔㌔"))
    assert noise < known


@given(st.text())
@settings(max_examples=50)
def test_any_text_has_a_guess(small: Classifier, text: str) -> None:
    guess = small.classify(text)
    assert guess.name in EXAMPLES
    assert 0.0 <= guess.confidence <= 1.0


def test_the_same_examples_give_the_same_classifier(small: Classifier) -> None:
    again = Classifier.train(EXAMPLES)
    for one, other in zip(small._machines, again._machines, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(small._calibration, again._calibration)
    assert small.classify("lamp, please") == again.classify("lamp, please")


def test_another_seed_gives_other_weights_but_the_same_names(small: Classifier) -> None:
    other = Classifier.train(EXAMPLES, seed=1)
    assert not np.array_equal(small._machines.weights, other._machines.weights)
    for name, texts in EXAMPLES.items():
        assert {other.classify(text).name for text in texts} == {name}


def test_two_intents_are_needed() -> None:
    with pytest.raises(ValueError, match="two intents"):
        Classifier.train({"light": EXAMPLES["light"]})


def test_machines_separate_what_can_be_separated() -> None:
    points = [((0,), 0), ((0, 1), 0), ((2,), 1), ((2, 1), 1), ((3,), 2), ((3, 1), 2)]
    samples = [
        Sample(np.array(rows, dtype=np.intp), np.full(len(rows), 1 / len(rows) ** 0.5, dtype=np.float32))
        for rows, _ in points
    ]
    classes = np.array([number for _, number in points], dtype=np.intp)
    machines = train(samples, classes, features=4, count=3, passes=50, tolerance=1e-4)
    scores = np.stack([values @ machines.weights[rows] + machines.bias for rows, values in samples])
    assert np.array_equal(scores.argmax(axis=1), classes)
    assert np.array_equal(scores > 0, np.eye(3, dtype=bool)[classes])  # each against all others


def test_pieces_are_the_same_in_every_process() -> None:
    """A hash that Python salts would not be."""
    assert int(np.bitwise_xor.reduce(codes_of("开灯, turn on the lamp 42"))) == 0xC9D168395CEDC302


def test_texts_have_one_form() -> None:
    assert normalized("  ＡＢＣ\n１２　Ⅻ ") == "abc 00 xii"


def test_each_default_intent_has_examples_in_both_languages_and_shares_none() -> None:
    known = default_examples()
    assert len(known) == 20
    texts = [text for examples in known.values() for text in examples]
    assert len(set(texts)) == len(texts)
    for name, examples in known.items():
        chinese = sum(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in examples)
        assert min(chinese, len(examples) - chinese) >= 20, name


def test_the_last_who_claims_an_example_has_it() -> None:
    together = merged({"a": ("x", "y"), "b": ("z",)}, {"b": ("x",)}, {"c": ("z",)})
    assert together == {"a": ("y",), "b": ("x",), "c": ("z",)}
    assert merged({"a": ("x",)}, {"b": ("x",)}) == {"b": ("x",)}
