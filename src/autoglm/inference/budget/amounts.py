"""What is counted: tokens, requests, money. Whole numbers, so that parts always sum up to the total."""

import msgspec

NANO = 10**9


class Amounts(msgspec.Struct, frozen=True):
    tokens: int = 0
    """Of prompt and answer together."""
    requests: int = 0
    money_nano: int = 0
    """Billionths of the currency of `models.currency`: a token at 0.1 a million costs 100 of them."""

    def plus(self, other: "Amounts") -> "Amounts":
        return Amounts(self.tokens + other.tokens, self.requests + other.requests, self.money_nano + other.money_nano)

    def minus(self, other: "Amounts") -> "Amounts":
        return Amounts(self.tokens - other.tokens, self.requests - other.requests, self.money_nano - other.money_nano)


NOTHING = Amounts()


class Price(msgspec.Struct, frozen=True):
    """Of one model, for a million tokens."""

    per_million_in: float = 0.0
    per_million_out: float = 0.0

    def cost_nano(self, tokens_in: int, tokens_out: int) -> int:
        return round(tokens_in * self.per_million_in * 1000 + tokens_out * self.per_million_out * 1000)


FREE = Price()
