"""How many tokens an answer can have taken at most, whatever its instance tells.

What is told is charged to fair shares and budgets, and one absurd number would shut a tenant out for weeks. The bounds
are generous, for a number that is too low cheats whoever pays:

- The prompt: a token has at least one byte of the body. Templates add some, and pictures or files may be named by a
  short address: 4,096 more are believed, and up to 1,048,576 where the body names such things, or a
  conversation that the provider keeps (the Responses API).
- The answer: what the client allows, else 32,768. Thoughts may be hidden, and some providers count them beside what the
  client allows (DashScope's `thinking_budget`), but they take time: 5,000 more for each second since the request was
  sent. The fastest that is sold writes about 3,000 (cerebras.ai, inference speeds of 2025).
"""

from autoglm.core.errors import InvalidField
from autoglm.inference.budget.estimate import most_tokens_out
from autoglm.inference.call import Call

TEMPLATE_TOKENS = 4096
MOST_PROMPT_TOKENS = 1 << 20
"""The longest context that is widely sold."""
UNBOUNDED_TOKENS = 32_768
TOKENS_PER_S = 5_000
_NAMED_ELSEWHERE = (b'_url"', b'"file')


def most_prompt_tokens(call: Call) -> int:
    body = call.body
    if call.api == "/responses" or any(name in body for name in _NAMED_ELSEWHERE):
        return max(MOST_PROMPT_TOKENS, len(body))
    return len(body) + TEMPLATE_TOKENS


def most_answer_tokens(bound: int | None, took_s: float) -> int:
    """bound: of the client, None when it has given none; took_s: since the request was sent."""
    return (UNBOUNDED_TOKENS if bound is None else bound) + int(TOKENS_PER_S * took_s)


def credible(call: Call, tokens_in: int, tokens_out: int, took_s: float) -> tuple[int, int]:
    """The same numbers, no higher than can be. Costs three comparisons where nothing is odd."""
    if tokens_in > TEMPLATE_TOKENS + len(call.body):
        tokens_in = min(tokens_in, most_prompt_tokens(call))
    if tokens_out > call.bound_tokens or tokens_out > UNBOUNDED_TOKENS:
        tokens_out = min(tokens_out, most_answer_tokens(_bound_of(call), took_s))
    return tokens_in, tokens_out


def _bound_of(call: Call) -> int | None:
    """None also for a bound that no answer can have, which a hub without budgets leaves to the instance."""
    try:
        return most_tokens_out(call.body)
    except InvalidField:
        return None
