"""How soon the hub is of use: ready without a model, and the first token of a local model after `autoglm up`.

Each start is a new process with a new data folder. The files of Python, of the packages and of the model are in the
page cache (a start before the first that counts sees to that), so a cold disk adds the time to read them. The first
token is asked for as soon as the hub is ready; the request waits in the hub's queue while the model loads.
"""

import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/startup.py`

from benchmarks.hub import RunningHub, running_hub
from benchmarks.outcome import SCRATCH, Target, conclude, options, say, this_machine
from benchmarks.processes import priority, usage
from benchmarks.samples import middle, now_s

MODEL_BOUNDS_S = {"qwen2.5-coder-0.5b": 8.0, "smollm2-135m": 3.0}
"""The default model, and the small one."""


def main() -> int:
    chosen = options(__doc__ or "", needs_models=True)
    machine = this_machine()
    starts, model_starts = (3, 1) if chosen.is_quick else (9, 5)
    here = [name for name in MODEL_BOUNDS_S if (chosen.models / f"{name}.gguf").exists()]
    absent = [f"model {name} in {chosen.models}" for name in MODEL_BOUNDS_S if name not in here]
    with priority():
        bare = start_bare(starts)
        models = {name: start_with_model(name, chosen.models, model_starts) for name in here}
    targets = [
        Target(claim="ready without a model", measured=bare["ready_s"], bound=1.5, unit="s"),
        Target(claim="memory when ready without a model", measured=bare["rss_mb"], bound=110.0, unit="MB"),
        *(
            Target(
                claim=f"first token of {name} after a cold start",
                measured=models[name]["first_token_s"] if name in models else None,
                bound=bound_s,
                unit="s",
            )
            for name, bound_s in MODEL_BOUNDS_S.items()
        ),
    ]
    return conclude("startup", chosen, machine, {"without_model": bare, "models": models}, targets, absent)


def start_bare(starts: int) -> dict[str, Any]:
    ready_s, rss_mb = [], []
    for number in range(starts + 1):
        with running_hub(SCRATCH / "startup") as hub:
            if number:  # the one before the first fills the page cache
                ready_s.append(hub.start_s)
                rss_mb.append(usage(hub.pid).rss_bytes / 1e6)
    figures = {
        "ready_s": middle(ready_s),
        "ready_s_max": round(max(ready_s), 2),
        "rss_mb": middle(rss_mb, 1),
        "starts": starts,
    }
    say(f"without a model: {figures}")
    return figures


def start_with_model(name: str, models: Path, starts: int) -> dict[str, Any]:
    config = f'[models]\nfolder = "{models}"\ndefault = "{name}"\n'
    first_token_s, rss_mb = [], []
    for number in range(starts + 1):
        with running_hub(SCRATCH / "startup", config) as hub:
            token_s = hub.start_s + seconds_to_first_token(hub, name)
            if number:
                first_token_s.append(token_s)
                rss_mb.append(usage(hub.pid).rss_bytes / 1e6)
    figures = {
        "first_token_s": middle(first_token_s),
        "first_token_s_max": round(max(first_token_s), 2),
        "rss_mb": middle(rss_mb, 1),
        "starts": starts,
    }
    say(f"{name}: {figures}")
    return figures


def seconds_to_first_token(hub: RunningHub, model: str) -> float:
    """From now until the first event with text arrives. Raises RuntimeError when there is none."""
    body = msgspec.json.encode(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Say hello."}],
            "stream": True,
            "max_tokens": 8,
        }
    )
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=120)
    started_s = now_s()
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {hub.admin_key}"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        seen = b""
        while line := answer.readline():
            seen += line
            if has_text(line):
                return now_s() - started_s
    finally:
        connection.close()
    raise RuntimeError(f"{model} answered {answer.status} without a token: {seen[:500]!r}")


def has_text(line: bytes) -> bool:
    """True for an event of a chat completion whose delta has content."""
    if not line.startswith(b"data: {"):
        return False
    choices = msgspec.json.decode(line[6:]).get("choices")
    return bool(choices and choices[0].get("delta", {}).get("content"))


if __name__ == "__main__":
    sys.exit(main())
