"""How much of a local model's speed the hub lets through: tokens a second by it and straight from llama.cpp's server.

One worker, as the hub starts it (`autoglm.inference.local`), and a hub in front of it. The same request goes straight
to the worker and through the hub by turns: the same prompt, temperature 0, one seed, 128 tokens to the end, no reuse
of the prompt. Speed is the tokens of an answer by the time from the request to the last of them. The share is the
median over the pairs of answers that ran one after the other, for the machine may grow slower or faster meanwhile.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/local.py`

from autoglm.cli.logs import quiet_logs
from autoglm.inference.local import LocalChild, LocalSpec, run_child
from benchmarks.hub import running_hub
from benchmarks.outcome import SCRATCH, Options, Target, conclude, options, say, this_machine
from benchmarks.processes import priority
from benchmarks.samples import middle, now_s
from benchmarks.startup import has_text

MODELS = ("qwen2.5-coder-0.5b", "smollm2-135m")
TOKENS = 128
PROMPT = "Write a short story about a ship that has lost its radio."
KEY = "sk-benchmark"
CONFIG = """
[[instance]]
name = "worker"
provider = "openai"
base_url = "{url}/v1"
api_key = "{api_key}"
models = ["{model}"]

[[key]]
name = "benchmark"
value = "sk-benchmark"
scopes = ["model:use:*"]
"""


class Answer(NamedTuple):
    """One answer of TOKENS tokens, streamed."""

    first_token_s: float
    whole_s: float

    @property
    def tokens_per_s(self) -> float:
        return TOKENS / self.whole_s


def main() -> int:
    quiet_logs()
    return anyio.run(_main, options(__doc__ or "", needs_models=True), backend_options={"use_uvloop": True})


async def _main(chosen: Options) -> int:
    machine = this_machine()
    rounds = 3 if chosen.is_quick else 12
    here = [name for name in MODELS if (chosen.models / f"{name}.gguf").exists()]
    absent = [f"model {name} in {chosen.models}" for name in MODELS if name not in here]
    figures = {}
    with priority():
        for name in here:
            async with worker(name, chosen.models) as child:
                figures[name] = await anyio.to_thread.run_sync(compare, name, child, rounds)
    targets = [
        Target(
            claim=f"tokens a second of {name} through the hub, as a share of llama.cpp's own server",
            measured=figures[name]["share"] if name in figures else None,
            bound=0.97,
            unit="",
            relation="at least",
        )
        for name in MODELS
    ]
    return conclude("local", chosen, machine, {"models": figures}, targets, absent)


@asynccontextmanager
async def worker(name: str, models: Path) -> AsyncIterator[LocalChild]:
    threads = max(1, (os.cpu_count() or 1) - 1)  # as the hub would choose for a lone instance
    async with run_child(LocalSpec(name="worker", model=name, path=models / f"{name}.gguf", threads=threads)) as child:
        yield child


def compare(name: str, child: LocalChild, rounds: int) -> dict[str, Any]:
    config = CONFIG.format(url=child.url, api_key=child.api_key, model=name)
    direct: list[Answer] = []
    through: list[Answer] = []
    with running_hub(SCRATCH / "local", config) as hub:
        ways = [(direct, child.url, child.api_key), (through, hub.url, KEY)]
        for _, url, key in ways:
            ask(url, key, name)  # loads what the first request needs
        for number in range(rounds):
            for answers, url, key in ways if number % 2 == 0 else reversed(ways):
                answers.append(ask(url, key, name))
            straight, by_hub = direct[-1].tokens_per_s, through[-1].tokens_per_s
            say(f"{name} {straight:7.2f} tokens/s straight, {by_hub:7.2f} through the hub")
    pairs = [ours.tokens_per_s / theirs.tokens_per_s for ours, theirs in zip(through, direct, strict=True)]
    return {
        "share": middle(pairs, 3),
        "share_lowest": round(min(pairs), 3),
        "share_highest": round(max(pairs), 3),
        "tokens_per_s_direct": middle(answer.tokens_per_s for answer in direct),
        "tokens_per_s_hub": middle(answer.tokens_per_s for answer in through),
        "first_token_ms_direct": middle(answer.first_token_s * 1000 for answer in direct),
        "first_token_ms_hub": middle(answer.first_token_s * 1000 for answer in through),
        "whole_s_direct": middle((answer.whole_s for answer in direct), 3),
        "whole_s_hub": middle((answer.whole_s for answer in through), 3),
        "answers": rounds,
    }


def ask(url: str, key: str, model: str) -> Answer:
    """Raises RuntimeError when the answer has not TOKENS tokens."""
    body = msgspec.json.encode(
        {
            "model": model,
            "messages": [{"role": "user", "content": PROMPT}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": TOKENS,
            "temperature": 0,
            "seed": 1,
            # llama.cpp's own fields: generate all tokens, and begin each time from the start of the prompt.
            "ignore_eos": True,
            "cache_prompt": False,
        }
    )
    connection = HTTPConnection(url.removeprefix("http://"), timeout=300)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        started_s = now_s()
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        first_token_s, last_token_s, lines = 0.0, 0.0, b""
        while line := answer.readline():
            lines += line
            if has_text(line):
                last_token_s = now_s() - started_s
                first_token_s = first_token_s or last_token_s
    finally:
        connection.close()
    if f'"completion_tokens":{TOKENS}'.encode() not in lines:
        raise RuntimeError(f"{url} answered {answer.status} without {TOKENS} tokens: {lines[-500:]!r}")
    return Answer(first_token_s, last_token_s)


if __name__ == "__main__":
    sys.exit(main())
