"""Worlds for the engine to learn in: models of unequal quality, time and cost, requests, and judgements, all seeded.

Nothing here is measured on a model: the figures say how the engine behaves when such differences are there. Time is
the number of requests.
"""

import math
import random
from collections.abc import Iterator
from typing import Literal

import msgspec

from autoglm.inference.decision import Arm
from autoglm.inference.features import Features

INTENTS = ("chat", "code", "mathematics", "translation", "extraction", "writing", "classification", "question")
_POPULARITY = tuple(1.0 / (rank + 1) for rank in range(len(INTENTS)))


class Model(msgspec.Struct, frozen=True, kw_only=True):
    arm: Arm
    quality: float
    """On an average request."""
    latency_s: float
    cost: float
    by_intent: dict[str, float] = {}
    """Added for these."""
    in_chinese: float = 0.0
    in_chinese_by_intent: dict[str, float] = {}
    """Added for these in Chinese: what no sum of single features can say."""
    by_length: float = 0.0
    """Added for each tenfold of the prompt above 200 tokens."""
    from_step: int = 0
    """The step at which it comes."""


MODELS = (
    Model(
        arm=Arm("tiny"), quality=0.5, latency_s=1.0, cost=0.03, by_intent={"chat": 0.2}, by_length=-0.1,
        in_chinese_by_intent={"chat": -0.3},
    ),
    Model(
        arm=Arm("small"), quality=0.62, latency_s=2.0, cost=0.1, in_chinese=0.1,
        by_intent={"extraction": 0.2, "classification": 0.2, "translation": -0.2},
        in_chinese_by_intent={"translation": 0.3, "writing": -0.3},
    ),
    Model(
        arm=Arm("coder"), quality=0.52, latency_s=2.5, cost=0.12, in_chinese=-0.1,
        by_intent={"code": 0.35, "mathematics": 0.15},
    ),
    Model(arm=Arm("large"), quality=0.82, latency_s=7.0, cost=0.6, by_length=0.03),
)  # fmt: skip


class World(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    models: tuple[Model, ...] = MODELS
    rewards: Literal["binary", "graded"] = "binary"
    judged: float = 1.0
    """Share of the requests that somebody judges."""
    delay: int = 0
    """Judgements come after up to this many further requests."""
    change_at: int | None = None
    changes: dict[str, float] = {}
    """What a model's quality gains from then on."""
    contexts: Literal["usual", "blocks", "strange"] = "usual"
    """`blocks`: one intent at a time; `strange`: each request has an intent of its own, and its features are noise."""

    def quality(self, model: Model, features: Features, step: int) -> float:
        """The true one, in [0.02, 0.98]."""
        value = model.quality
        if self.contexts != "strange":
            value += model.by_intent.get(features.intent, 0.0)
            if features.language == "zh":
                value += model.in_chinese + model.in_chinese_by_intent.get(features.intent, 0.0)
            value += model.by_length * math.log10(max(features.prompt_tokens, 1) / 200.0)
        if self.change_at is not None and step >= self.change_at:
            value += self.changes.get(model.arm.model, 0.0)
        return min(max(value, 0.02), 0.98)

    def requests(self, steps: int, seed: int) -> Iterator[Features]:
        chance = random.Random(f"{self.name} requests {seed}")
        for step in range(steps):
            if self.contexts == "blocks":
                intent = INTENTS[step * 2 * len(INTENTS) // steps % len(INTENTS)]
            else:
                intent = chance.choices(INTENTS, _POPULARITY)[0]
            yield Features(
                api="/chat/completions",
                language="zh" if chance.random() < 0.5 else "en",
                has_code=intent == "code" or chance.random() < 0.05,
                has_mathematics=intent == "mathematics" or chance.random() < 0.05,
                wants_json=intent == "extraction" and chance.random() < 0.7,
                prompt_tokens=int(10 ** chance.uniform(1.2, 3.8)),
                turns=chance.choice((1, 1, 1, 2, 3, 5, 9)),
                intent=f"strange-{step}" if self.contexts == "strange" else intent,
                confidence=chance.uniform(0.5, 1.0),
                source="classifier",
            )

    def judge(self, quality: float, chance: random.Random) -> float:
        if self.rewards == "binary":
            return float(chance.random() < quality)
        return min(max(chance.gauss(quality, 0.15), 0.0), 1.0)


NEWCOMER = Model(
    arm=Arm("newcomer"), quality=0.8, latency_s=2.5, cost=0.15, by_intent={"code": -0.3}, from_step=2000
)  # fmt: skip

WORLDS: tuple[World, ...] = (
    World(name="usual"),
    World(name="graded", rewards="graded"),
    World(name="sparse", judged=0.3, delay=100),
    World(name="drift", change_at=2000, changes={"small": -0.4}),
    World(name="sparse drift", judged=0.3, delay=20, change_at=2000, changes={"small": -0.4}),
    World(name="rise", change_at=2000, changes={"tiny": 0.4}),
    World(name="newcomer", models=(*MODELS, NEWCOMER)),
    World(name="blocks", contexts="blocks"),
    World(name="strange", contexts="strange"),
)
