"""Three unequal models behind one name: watch `auto` learn, lose an instance, and go on.

python examples/unequal_pool.py                          # the models of the catalogue; missing ones are fetched
python examples/unequal_pool.py --models FOLDER --rounds 2

Starts a hub with each model as a local instance, sends it a mixed stream of questions in Chinese and English whose
answers a program can check, judges each answer, and kills the worker that is used most in the middle of it.
"""

import argparse
import io
import json
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import structlog

from autoglm import Client, Hub
from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError
from autoglm.inference.models import ModelFolder, pull
from autoglm.settings import load_settings

CATALOGUE = ("smollm2-135m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")


class Question(NamedTuple):
    kind: str
    text: str
    is_right: Callable[[str], bool]


def has(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.search(pattern, text, re.IGNORECASE) is not None


def has_json(**wanted: object) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        found = re.search(r"\{.*?\}", text, re.DOTALL)
        try:
            return found is not None and json.loads(found[0]) == wanted
        except ValueError:
            return False

    return check


QUESTIONS = (
    Question("arithmetic", "What is 17 + 25? Answer with the number only.", has(r"\b42\b")),
    Question("arithmetic", "三个箱子，每箱 24 件，一共多少件？只回答数字。", has(r"(?<!\d)72(?!\d)")),
    Question("arithmetic", "What is 13 times 12? Answer with the number only.", has(r"\b156\b")),
    Question(
        "extract", 'Give {"name": ..., "age": ...} as JSON for: Anna is 31 years old.', has_json(name="Anna", age=31)
    ),
    Question("extract", '用 JSON 给出 {"city": ...}：他昨天到了上海。', has_json(city="上海")),
    Question(
        "classify", "Is this review positive or negative? 'It broke on the first day.' One word.", has("negative")
    ),
    Question("classify", "这条消息是“报警”还是“闲聊”？“三号泵漏油，压力下降。”只回答一个词。", has("报警")),
    Question("translate", "Translate into English, one word: 医院", has("hospital")),
    Question("translate", "翻译成中文，只写译文：water", has("水")),
    Question("code", "Write the Python expression for the sum of the list xs. Only the expression.", has(r"sum\(xs\)")),
    Question("fact", "What is the capital of France? One word.", has("paris")),
    Question("fact", "中国的首都是哪里？只回答城市名。", has("北京")),
)


def settings_for(models: list[str], folder: Path) -> str:
    # As many cores as models: all run at once, also where there are fewer cores.
    head = f"gateway.port = 0\nmodels.folder = {json.dumps(str(folder))}\nscaling.cores = {len(models)}\n"
    tables = [f'[[instance]]\nname = "{name}"\nprovider = "local"\nmodels = ["{name}"]\nslots = 1\n' for name in models]
    return head + "".join(f"{table}threads = 1\n" for table in tables)


class Stream:
    """Asks, judges, and tells what happens, a line for each question."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._started_s = monotonic_s()
        self.used: Counter[str] = Counter()
        self.right = self.failed = self.asked = 0

    def ask(self, question: Question) -> None:
        began_s = monotonic_s()
        self.asked += 1
        try:
            answer = self._client.ask(question.text, temperature=0, max_tokens=48)
            text = answer.read()
        except HubError as error:
            self.failed += 1
            self.tell(f"FAILED    {question.text[:40]}  {error}")
            return
        is_right = question.is_right(text)
        self.right += is_right
        self.used[answer.model] += 1
        chances = self._judged(answer.decision, is_right)
        took_s = monotonic_s() - began_s
        self.tell(f"{'right' if is_right else 'wrong'} {question.kind:10} {answer.model:19} {took_s:5.1f} s  {chances}")

    def _judged(self, decision: str, is_right: bool) -> str:
        """Tell the hub how good it was; what it thought of each model before."""
        if not decision:
            return "in order: nothing is learned yet"
        self._client.feedback(decision, quality=float(is_right))
        candidates = self._client.decision(decision)["decision"]["candidates"]
        return "  ".join(
            f"{entry['arm']['model'].rsplit('-', 1)[-1]} {entry['quality']:.2f}/{100 * entry['propensity']:.0f}%"
            for entry in candidates
        )

    def kill_the_most_used(self) -> None:
        victim = self.used.most_common(1)[0][0]
        pid = next(entry["pid"] for entry in self._client.pool() if victim in entry["models"])
        if pid:
            os.kill(pid, signal.SIGKILL)
            self.tell(f"--- killed the worker of {victim} (kill -9 {pid}) ---")

    def tell(self, line: str) -> None:
        print(f"{monotonic_s() - self._started_s:6.1f} s  {line}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("data/models"), help="folder of model files")
    parser.add_argument("--only", nargs="*", default=CATALOGUE, help="models to use")
    parser.add_argument("--rounds", type=int, default=6, help="how often each question is asked")
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors only
    folder = ModelFolder(chosen.models.absolute())
    for name in chosen.only:
        await pull(name, folder)  # returns at once when it is here
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "autoglm.toml"
        file.write_text(settings_for(list(chosen.only), chosen.models.absolute()))
        settings = load_settings(file, environ={}).settings
        async with Hub(settings, Path(scratch) / "data", access_log=io.StringIO()) as hub:
            client = Client(url=hub.url, key=hub.admin_key_file.read_text().strip())
            stream = Stream(client)
            stream.tell("what is predicted for each model: quality / chance to be chosen")
            total = chosen.rounds * len(QUESTIONS)
            for number in range(total):
                if number == total // 2:
                    await anyio.to_thread.run_sync(stream.kill_the_most_used)
                await anyio.to_thread.run_sync(partial(stream.ask, QUESTIONS[number % len(QUESTIONS)]))
            shares = ", ".join(f"{name} {count}" for name, count in stream.used.most_common())
            stream.tell(f"{stream.right} of {stream.asked} right, {stream.failed} failed; answered by: {shares}")
            client.close()
            if stream.failed:
                sys.exit(1)


if __name__ == "__main__":
    anyio.run(main)
