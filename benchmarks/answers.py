"""Asks each model of the catalogue each task of `benchmarks/tasks`, by the hub, and notes score, tokens and CPU time.

The table that comes of it, `results/answers.jsonl`, is what `benchmarks/routing.py` learns and measures on. One hub
with three local instances of one slot and one thread; one request at a time, temperature 0, no reuse of prompts. The
three models answer a task one after the other, so that what else runs on the machine weighs on all of them alike.
Compute time is the processor time of the worker's process. What the table has already is not asked again.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/answers.py`

from benchmarks.hub import RunningHub, running_hub
from benchmarks.outcome import RESULTS, SCRATCH, say
from benchmarks.processes import tree
from benchmarks.samples import now_s
from benchmarks.tasks.grading import Json, score
from benchmarks.tasks.task import ByChoice, ByJson, ByNumber, Task, load_tasks, shuffled

TABLE = RESULTS / "answers.jsonl"
MODELS = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
"""From the smallest to the largest."""
KEY = "sk-benchmark"
_ANSWER_TIMEOUT_S = 300.0
_INSTANCE = """
[[instance]]
name = "{model}"
provider = "local"
models = ["{model}"]
slots = 1
threads = 1
context_tokens = 2048
"""
_REST = """
[models]
folder = "{folder}"

[[key]]
name = "benchmark"
value = "sk-benchmark"
scopes = ["model:use:*"]
"""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one model made of one task."""

    task: str
    model: str
    score: float
    cpu_s: float
    """Of the worker's process, all threads."""
    wall_s: float
    tokens_in: int
    tokens_out: int
    is_cut_off: bool
    """By the task's `max_tokens`."""
    reply: str


class Refused(RuntimeError):
    """The hub answered with another status than 2xx."""

    def __init__(self, path: str, status: int, document: bytes) -> None:
        super().__init__(f"{path} answered {status}: {document[:500]!r}")
        self.status = status


Table = Mapping[tuple[str, str], Answer]
"""By task and model."""


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends the hub, too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[1] / "data" / "models")
    parser.add_argument("--table", type=Path, default=TABLE, help="JSONL file to append to (%(default)s)")
    parser.add_argument("--first", type=int, help="ask only so many tasks, in the order of the run")
    parser.add_argument("--regrade", action="store_true", help="score the answers in the table anew, and ask nothing")
    chosen = parser.parse_args()
    if chosen.regrade:
        regrade(chosen.table)
        return 0
    tasks = shuffled(load_tasks(), seed=2)[: chosen.first]
    missing = [name for name in MODELS if not (chosen.models / f"{name}.gguf").exists()]
    if missing:
        say(f"absent: {', '.join(missing)} in {chosen.models}; `autoglm models pull NAME` fetches a model")
        return 1
    gather(tasks, chosen.models.resolve(), chosen.table)
    return 0


def gather(tasks: Iterable[Task], models: Path, table: Path) -> None:
    """Append what the table lacks. Raises RuntimeError when the hub does not start, or Refused."""
    known = load_table(table)
    todo = [(task, model) for task in tasks for model in MODELS if (task.id, model) not in known]
    if not todo:
        return
    table.parent.mkdir(exist_ok=True)
    with running_hub(SCRATCH / "answers", config_of(models)) as hub, table.open("ab") as lines:
        workers = {model: worker_pid(hub, models / f"{model}.gguf") for model in MODELS}
        for model, pid in workers.items():
            ask(hub, model, pid, todo[0][0])  # loads what the first request needs
        for number, (task, model) in enumerate(todo, 1):
            answer = ask(hub, model, workers[model], task)
            lines.write(msgspec.json.encode(answer) + b"\n")
            lines.flush()
            say(f"{number}/{len(todo)} {task.id} {model} {answer.score:.0f} {answer.cpu_s:.2f} s {answer.reply[:60]!r}")


def regrade(table: Path) -> None:
    """After a change of a grader, or of what a task accepts."""
    tasks = {task.id: task for task in load_tasks()}
    answers = [
        msgspec.structs.replace(answer, score=score(tasks[answer.task], answer.reply))
        for answer in load_table(table).values()
    ]
    table.write_bytes(b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers))


def load_table(path: Path = TABLE) -> Table:
    """Empty when the file is not there. Raises msgspec.DecodeError for a line that is no Answer."""
    if not path.exists():
        return {}
    answers = (msgspec.json.decode(line, type=Answer) for line in path.read_bytes().splitlines())
    return {(answer.task, answer.model): answer for answer in answers}


def config_of(models: Path) -> str:
    return "".join(_INSTANCE.format(model=model) for model in MODELS) + _REST.format(folder=models)


def worker_pid(hub: RunningHub, file: Path) -> int:
    """The process under the hub that has the model file mapped. Raises RuntimeError when none has it in a minute."""
    until_s = now_s() + 60.0
    while now_s() < until_s:
        for pid in tree(hub.pid):
            if str(file) in Path(f"/proc/{pid}/maps").read_text():
                return pid
        time.sleep(0.2)
    raise RuntimeError(f"no worker has loaded {file}")


def cpu_s(pid: int) -> float:
    """Processor time of all threads that the process has had; clock_getcpuclockid(3) in Linux's encoding."""
    return time.clock_gettime((~pid << 3) | 2)


def ask(hub: RunningHub, model: str, pid: int, task: Task) -> Answer:
    """Raises Refused."""
    before_s, started_s = cpu_s(pid), now_s()
    document, _ = post(hub, body_of(task, model), {})
    wall_s, spent_s = now_s() - started_s, cpu_s(pid) - before_s
    return Answer(
        task=task.id,
        model=model,
        score=score(task, text_of(document)),
        cpu_s=round(spent_s, 4),
        wall_s=round(wall_s, 4),
        tokens_in=document["usage"]["prompt_tokens"],
        tokens_out=document["usage"]["completion_tokens"],
        is_cut_off=document["choices"][0]["finish_reason"] == "length",
        reply=text_of(document),
    )


def body_of(task: Task, model: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": task.messages(),
        "max_tokens": task.max_tokens,
        "temperature": 0,
        "seed": 1,
        "cache_prompt": False,  # llama.cpp's own: else the order of the tasks would change what they cost
    }
    if (schema := wanted_schema(task)) is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return body


def wanted_schema(task: Task) -> dict[str, Any] | None:
    """What a program that must read the answer would ask for; None where the form is the task, or there is none."""
    match task.grade:
        case ByNumber():
            return {"type": "integer"}
        case ByChoice(among=among):
            return {"enum": list(among)}
        case ByJson(answer=answer) if task.kind == "extraction":
            return schema_of(json.loads(answer))
        case _:
            return None


def schema_of(value: Json) -> dict[str, Any]:
    """The keys and types that the prompt names, and no values."""
    match value:
        case dict():
            keys = {key: schema_of(one) for key, one in value.items()}
            return {"type": "object", "properties": keys, "required": list(keys), "additionalProperties": False}
        case list():
            return {"type": "array", "items": schema_of(value[0])}
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number"}
        case _:
            return {"type": ["string", "null"]} if value is None else {"type": "string"}


def text_of(document: Mapping[str, Any]) -> str:
    return str(document["choices"][0]["message"].get("content") or "")


def post(
    hub: RunningHub, body: Mapping[str, Any], headers: Mapping[str, str], path: str = "/v1/chat/completions"
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The answer's document and headers (names in lower case). Raises Refused."""
    return _exchange(hub, "POST", path, msgspec.json.encode(body), headers)


def get(hub: RunningHub, path: str, headers: Mapping[str, str]) -> tuple[dict[str, Any], Mapping[str, str]]:
    """As `post`."""
    return _exchange(hub, "GET", path, b"", headers)


def _exchange(
    hub: RunningHub, method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[dict[str, Any], Mapping[str, str]]:
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=_ANSWER_TIMEOUT_S)
    try:
        head = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}", **headers}
        connection.request(method, path, body, head)
        response = connection.getresponse()
        document = response.read()
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        raise Refused(path, response.status, document)
    return msgspec.json.decode(document or b"{}"), {name.lower(): value for name, value in response.getheaders()}


if __name__ == "__main__":
    sys.exit(main())
