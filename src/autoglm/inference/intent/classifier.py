"""Names the intent of a text by examples, and says how sure it is: pieces of the text and linear machines, no download.

A text is a vector of blocks, each of length 1 before they are joined: runs of characters, words, and where there is an
encoder its vector. Within a block a piece weighs (1 + ln n) for n occurrences, times the root of its inverse document
frequency. Measured by `benchmarks/intent.py`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from autoglm.inference.intent.ngrams import WORDS_FROM, Codes, codes_of
from autoglm.inference.intent.svm import Floats, Machines, Sample, train

ENCODED_BYTES = 60
"""So much of a text in UTF-8 an encoder gets, from both ends: its time grows with the length. On CLINC150 with 5
examples an intent 83.5% are named right, and 83.7% with the whole texts."""
_HELD_OUT = 5
"""One example in so many is kept out of a first training, to see how sure the machines may be."""
_STRANGE = 0.2
"""And one intent in so many is unknown to that first training: its examples stand for requests of a kind that nobody
thought of. Each of them counts for so much of an example that was held out."""
_PRIOR = np.array([2.0, 1.5, 0.5])
"""What the sureness is made of where there are too few examples to see it; see `_calibrated`."""


class Encoder(Protocol):
    """Turns texts into vectors of meaning. The second way beside the pieces, hence a protocol."""

    width: int

    def encode(self, texts: Sequence[str]) -> Floats:
        """(len(texts), width), rows of length 1."""
        ...


class Guess(NamedTuple):
    name: str
    confidence: float
    """How probable it is that the name is right, in [0, 1], for a text that is as unlike the examples as they are
    unlike each other."""


class _Pieces(NamedTuple):
    """A text before it is known which of its pieces matter."""

    codes: Codes
    """(m,) sorted, each once."""
    weights: Floats
    """(m,) from how often each occurs."""


class _Vector(NamedTuple):
    sample: Sample
    share: float
    """How much of the text the examples have anything of, in [0, 1]; little of a text in an unknown tongue."""


def _pieces(text: str) -> _Pieces:
    codes, occurrences = np.unique(codes_of(text), return_counts=True)
    return _Pieces(codes, (1 + np.log(occurrences)).astype(np.float32))


def _meanings(texts: Sequence[str], encoder: Encoder | None) -> list[Floats | None]:
    return [None] * len(texts) if encoder is None else list(encoder.encode([_ends(text) for text in texts]))


def _ends(text: str) -> str:
    """The beginning of a text and a little of its end, for what is wanted stands there."""
    coded = text.encode("utf-8", "ignore")
    if len(coded) <= ENCODED_BYTES:
        return coded.decode()
    last = ENCODED_BYTES * 2 // 5
    return f"{coded[: ENCODED_BYTES - last].decode('utf-8', 'ignore')} {coded[-last:].decode('utf-8', 'ignore')}"


class _Vocabulary:
    """The pieces that the examples have."""

    def __init__(self, examples: Sequence[_Pieces]) -> None:
        self._codes, seen_in = np.unique(np.concatenate([pieces.codes for pieces in examples]), return_counts=True)
        # The last weight is that of all pieces that no example has.
        rarity = np.log((1 + len(examples)) / (1 + np.append(seen_in, 0))) + 1
        self._weights = np.sqrt(rarity).astype(np.float32)
        self._first_word = int(self._codes.searchsorted(np.uint64(WORDS_FROM)))

    def __len__(self) -> int:
        return len(self._codes)

    def vector(self, pieces: _Pieces, meaning: Floats | None) -> _Vector:
        places = self._codes.searchsorted(pieces.codes)
        places[places == len(self)] = 0
        is_known = self._codes[places] == pieces.codes
        rows = places[is_known]
        values = pieces.weights[is_known] * self._weights[rows]
        known = float(values @ values)
        if not known and meaning is None:
            return _Vector(Sample(rows, values), 0.0)
        unknown = pieces.weights[~is_known] * self._weights[-1]
        share = math.sqrt(known / (known + float(unknown @ unknown)))
        middle = int(rows.searchsorted(self._first_word))
        blocks = 0
        for block in (values[:middle], values[middle:]):
            if length := math.sqrt(float(block @ block)):
                np.divide(block, length, out=block)
                blocks += 1
        if meaning is not None:
            rows = np.concatenate([rows, np.arange(len(self), len(self) + len(meaning))])
            values = np.concatenate([values, meaning])
            blocks += 1
        return _Vector(Sample(rows, values / np.float32(math.sqrt(blocks))), share)


class Classifier:
    """Immutable once it is trained; threads may share it."""

    def __init__(
        self, names: tuple[str, ...], vocabulary: _Vocabulary, machines: Machines, calibration: npt.NDArray[np.float64],
        encoder: Encoder | None,
    ) -> None:  # fmt: skip
        self.names = names
        self._vocabulary = vocabulary
        self._machines = machines
        self._calibration = calibration
        self._encoder = encoder

    @classmethod
    def train(cls, examples: Mapping[str, Sequence[str]], *, encoder: Encoder | None = None, seed: int = 0) -> Self:
        """examples: texts by the name of their intent, two names or more. Equal examples give an equal classifier."""
        names = tuple(examples)
        if len(names) < 2:
            raise ValueError(f"a classifier needs two intents or more, not {len(names)}")
        texts = [text for name in names for text in examples[name]]
        classes = np.repeat(np.arange(len(names)), [len(examples[name]) for name in names])
        pieces = [_pieces(text) for text in texts]
        meanings, width = _meanings(texts, encoder), 0 if encoder is None else encoder.width

        def fit(chosen: npt.NDArray[np.intp]) -> tuple[_Vocabulary, Machines]:
            vocabulary = _Vocabulary([pieces[index] for index in chosen])
            samples = [vocabulary.vector(pieces[index], meanings[index]).sample for index in chosen]
            features = len(vocabulary) + width
            return vocabulary, train(samples, classes[chosen], features=features, count=len(names), seed=seed)

        held_out = _one_in(classes, _HELD_OUT, seed)
        is_strange = classes % _HELD_OUT == seed % _HELD_OUT if len(names) >= 2 * _HELD_OUT else classes < 0
        learned = np.flatnonzero(~held_out & ~is_strange)
        first = cls(names, *fit(learned), _PRIOR, encoder)
        seen = np.flatnonzero(held_out | is_strange)
        evidence = [first._evidence(pieces[index], meanings[index]) for index in seen]
        is_right = np.array([best for best, _ in evidence], dtype=np.intp) == classes[seen]
        facts = np.array([facts for _, facts in evidence]).reshape(-1, 3)
        calibration = _calibrated(facts, is_right, np.where(is_strange[seen], _STRANGE, 1.0))
        return cls(names, *fit(np.arange(len(texts))), calibration, encoder)

    def classify(self, *texts: str) -> Guess:
        """The most probable intent, however improbable; a text without anything known has confidence 0.

        texts: those parts of a request of which one says what is wanted.
        """
        [meaning] = _meanings([" ".join(texts)], self._encoder)
        guesses = (self._guess(text, meaning) for text in texts)
        return max(guesses, key=lambda guess: guess.confidence)

    def _guess(self, text: str, meaning: Floats | None) -> Guess:
        best, facts = self._evidence(_pieces(text), meaning)
        if not facts[2]:
            return Guess(self.names[best], 0.0)
        return Guess(self.names[best], 1 / (1 + math.exp(-float(facts @ self._calibration))))

    def _evidence(self, pieces: _Pieces, meaning: Floats | None) -> tuple[int, npt.NDArray[np.float64]]:
        """(the best class, (3,) its score, its lead over the next, and 1 for a constant; zeros when nothing is known).

        Score and lead count for as much of the text as is known: noise that shares a letter or two with the examples
        would else be as sure as a sentence.
        """
        (rows, values), share = self._vocabulary.vector(pieces, meaning)
        if not len(rows):
            return 0, np.zeros(3)
        pulled = values @ self._machines.weights[rows]
        scores = pulled + self._machines.bias
        best = int(scores.argmax())
        lead = scores[best] - np.partition(scores, -2)[-2]
        return best, np.array([share * pulled[best] + self._machines.bias[best], share * lead, 1.0])


def _one_in(classes: npt.NDArray[np.intp], divisor: int, seed: int) -> npt.NDArray[np.bool_]:
    """(samples,) True for one in `divisor` of each class, drawn at random; never all of a class."""
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(classes), dtype=np.bool_)
    for number in range(int(classes.max()) + 1):
        members = np.flatnonzero(classes == number)
        chosen[random.permutation(members)[: len(members) // divisor]] = True
    return chosen


def _calibrated(
    facts: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_], counts: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(3,) weights of a logistic regression that tells from the facts how probable it is that a guess is right.

    facts: (n, 3). counts: (n,) how much each weighs. Starts from a prior and stays near it when n is small.
    Source: Platt 1999, "Probabilistic outputs for support vector machines"; Newton's method.
    """
    weights = _PRIOR.copy()
    for _ in range(30):
        probable = 1 / (1 + np.exp(-np.clip(facts @ weights, -30, 30)))
        slope = facts.T @ (counts * (probable - is_right)) + (weights - _PRIOR)
        curvature = (facts * (counts * probable * (1 - probable))[:, None]).T @ facts + np.eye(3)
        step = np.linalg.solve(curvature, slope)
        weights = weights - step / max(1.0, float(np.linalg.norm(step)))  # a full step may jump over the valley
    return weights
