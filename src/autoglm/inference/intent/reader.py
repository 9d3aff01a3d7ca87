"""`IntentReader`: what the hub asks to understand a request; a hint goes before rules, these before the classifier."""

import threading
from typing import TYPE_CHECKING

import msgspec

from autoglm.inference.features import Features
from autoglm.inference.intent.examples import Examples, default_examples, merged
from autoglm.inference.intent.features import Reading, read_request
from autoglm.inference.intent.rules import named_by_rule

if TYPE_CHECKING:
    from autoglm.inference.intent.classifier import Classifier

ABSTAIN_BELOW = 0.25
"""A guess that is less sure than this is none. By chance one of twenty intents is right in 0.05 of all cases; noise and
unknown tongues stay below 0.25, and of the queries of `benchmarks/data` few do (`benchmarks/intent.py`)."""
RULE_CONFIDENCE = 0.95
"""What a rule is worth; `benchmarks/intent.py` reports how often rules are right."""
_encode = msgspec.json.Encoder().encode


class IntentReader:
    """Reads in the event loop: 15 us, and 0.3 ms more where the classifier is asked. Learns in a thread, by `prepare`.

    Before the first `prepare` it goes by hints and rules only. numpy is imported by `prepare`, not before.
    """

    def __init__(self, configured: Examples | None = None, *, with_encoder: bool = False) -> None:
        """configured: the examples of the settings. with_encoder: needs the extra `encoder`; see `encoder.py`."""
        self._configured: Examples = configured or {}
        self._taught: Examples = {}
        self._with_encoder = with_encoder
        self._classifier: Classifier | None = None
        self._version = 0
        """Of the examples; `_learned` is that of the classifier in force."""
        self._learned = -1
        self._learning = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """True once a classifier is in force."""
        return self._classifier is not None

    @property
    def is_current(self) -> bool:
        """True while the classifier in force has learned all examples."""
        return self._learned == self._version

    def read(self, body: bytes, api: str, hint: str = "") -> Features:
        """What is known of a request; whatever the body is, it has features. api: below `/v1`.

        hint: the client's own name for what it wants, checked by the gateway, empty when there is none. An unknown
        name is kept, for the engine learns by names.
        """
        reading = read_request(body, api)
        if hint:
            return msgspec.structs.replace(reading.features, intent=hint, confidence=1.0, source="hint")
        return self._understood(reading)

    def read_text(self, text: str) -> Features:
        """As `read`, for a text that a user would send in a chat."""
        body = _encode({"messages": [{"role": "user", "content": text}]})
        return self._understood(read_request(body, "/chat/completions"))

    def _understood(self, reading: Reading) -> Features:
        features = reading.features
        if features.api == "/embeddings":  # a text to be turned into a vector asks for nothing
            return features
        for order in reading.orders:
            if name := named_by_rule(order):
                return msgspec.structs.replace(features, intent=name, confidence=RULE_CONFIDENCE, source="rule")
        if self._classifier is None or not reading.orders:
            return features
        guess = self._classifier.classify(*reading.orders)
        if guess.confidence < ABSTAIN_BELOW:
            return features
        return msgspec.structs.replace(
            features, intent=guess.name, confidence=round(guess.confidence, 4), source="classifier"
        )

    def examples(self) -> dict[str, tuple[str, ...]]:
        """By name, of all intents, in force after the next `prepare`."""
        return merged(default_examples(), self._configured, self._taught)

    def teach(self, taught: Examples) -> None:
        """Replace what was taught; in force after the next `prepare`."""
        self._taught = taught
        self._version += 1

    def prepare(self) -> None:
        """Learn the examples, where the classifier in force has not: about 1 s of one core. Call it in a thread.

        Two at once do the work once. Raises MissingExtra when an encoder is wanted and not installed.
        """
        from autoglm.inference.intent.classifier import Classifier

        with self._learning:
            version = self._version
            if version == self._learned:
                return
            encoder = None
            if self._with_encoder:
                from autoglm.inference.intent.encoder import SentenceEncoder

                encoder = SentenceEncoder()
            self._classifier = Classifier.train(self.examples(), encoder=encoder)
            self._learned = version
