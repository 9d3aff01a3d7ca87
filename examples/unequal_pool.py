"""Three unequal models behind one name: watch `auto` learn, lose an instance, and go on.

.venv/bin/python examples/unequal_pool.py                       # the models of the catalogue; missing ones are fetched
.venv/bin/python examples/unequal_pool.py --models FOLDER --rounds 2

Starts a hub of its own with each model as a local instance, sends it a mixed stream of questions in Chinese and English
whose answers a program can check, judges each answer, and kills the worker that is used most in the middle of it.
"""

import argparse
import io
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

try:
    import anyio
    import anyio.to_thread
    import structlog

    from autoglm import Client, Hub
    from autoglm.cli.models import pull_with_bar
    from autoglm.cli.screen import table
    from autoglm.core.clock import monotonic_s
    from autoglm.core.errors import HubError
    from autoglm.inference.models import ModelFolder
    from autoglm.settings import load_settings
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is missing: use the Python of 'make up', .venv/bin/python examples/unequal_pool.py")

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

    def __init__(self, client: Client, models: list[str]) -> None:
        self._client = client
        self._models = models
        self._started_s = monotonic_s()
        self._killed: tuple[str, int, float] | None = None
        self.used: Counter[str] = Counter()
        self.right: Counter[tuple[str, str]] = Counter()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.failed = 0

    def ask(self, question: Question) -> bool:
        """True when the answer is right."""
        began_s = monotonic_s()
        try:
            answer = self._client.ask(question.text, temperature=0, max_tokens=48)
            text = answer.read()
        except HubError as error:
            self.failed += 1
            self.tell(f"FAILED {question.kind:10}  {error}")
            return False
        took_s = monotonic_s() - began_s
        is_right = question.is_right(text)
        self.used[answer.model] += 1
        self.asked[question.kind, answer.model] += 1
        self.right[question.kind, answer.model] += is_right
        thoughts = self._judged(answer.decision, is_right, answer.model)
        self.tell(f"{'right' if is_right else 'WRONG'}  {question.kind:10} {took_s:5.1f} s {thoughts}")
        self.look_after_the_killed()
        return is_right

    def _judged(self, decision: str, is_right: bool, answered_by: str) -> str:
        """Tell the hub how good it was; what it thought of each model before, a column for each."""
        if not decision:
            return "in order: nothing is learned yet"
        self._client.feedback(decision, quality=float(is_right))
        made = self._client.decision(decision)["decision"]
        thoughts = {entry["arm"]["model"]: entry for entry in made["candidates"]}
        mark = "?" if made["is_exploration"] else ">"
        return " ".join(
            f"{mark if model == answered_by else ' '}{_thought(thoughts.get(model)):<11}" for model in self._models
        ).rstrip()

    def kill_the_most_used(self) -> None:
        if not self.used:
            return
        victim = self.used.most_common(1)[0][0]
        pid = self._pid(victim)
        if pid:
            os.kill(pid, signal.SIGKILL)
            self._killed = victim, pid, monotonic_s()
            self.tell(f"------ killed the worker of {victim} (kill -9 {pid}) ------")

    def look_after_the_killed(self, *, patience_s: float = 0.0) -> None:
        """Say when the killed worker has a successor."""
        while self._killed is not None:
            victim, dead, killed_s = self._killed
            if (pid := self._pid(victim)) not in (None, 0, dead):
                self._killed = None
                self.tell(f"------ {victim} is back {monotonic_s() - killed_s:.1f} s later (process {pid}) ------")
            elif monotonic_s() - killed_s > patience_s:
                return
            else:
                time.sleep(0.2)

    def _pid(self, model: str) -> Any:
        """Of its ready worker."""
        return next(
            (row["pid"] for row in self._client.pool() if model in row["models"] and row["state"] == "ready"), None
        )

    def tell(self, line: str) -> None:
        print(f"{monotonic_s() - self._started_s:6.1f} s  {line}", flush=True)

    def tell_all(self) -> None:
        """Who was asked what, and how well that went."""
        kinds = list(dict.fromkeys(kind for kind, _ in self.asked))
        rows = [(kind, *(self._share(kind, model) for model in self._models)) for kind in kinds]
        print(f"\nright answers, by kind and model\n{table(('', *map(_short, self._models)), rows)}\n")

    def _share(self, kind: str, model: str) -> str:
        asked = self.asked[kind, model]
        return f"{self.right[kind, model]} of {asked}" if asked else "-"


def _short(model: str) -> str:
    return model.rsplit("-", 1)[-1]


def _thought(candidate: Any) -> str:
    return "-" if candidate is None else f"{candidate['quality']:.2f} {100 * candidate['propensity']:3.0f}%"


def main() -> None:
    chosen = options()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors only
    folder = chosen.models.absolute()
    try:
        for name in chosen.only:
            pull_with_bar(name, ModelFolder(folder))  # returns at once when it is here
        anyio.run(run, list(chosen.only), folder, chosen.rounds)
    except HubError as error:
        sys.exit(f"unequal_pool: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def options() -> argparse.Namespace:
    class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
        pass

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    own = Path("~/.local/share/autoglm/models").expanduser()
    parser.add_argument("--models", type=Path, default=own, metavar="FOLDER", help="where the model files lie")
    parser.add_argument("--only", nargs="+", default=CATALOGUE, metavar="MODEL", help="models to use")
    parser.add_argument("--rounds", type=int, default=6, help="how often each question is asked")
    chosen = parser.parse_args()
    if chosen.rounds < 1:
        parser.error("--rounds: must be 1 or more")
    return chosen


async def run(models: list[str], folder: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "autoglm.toml"
        file.write_text(settings_for(models, folder))
        settings = load_settings(file, environ={}).settings
        print(f"starting a hub with {', '.join(models)} ...", flush=True)
        async with Hub(settings, Path(scratch) / "data", access_log=io.StringIO()) as hub:
            client = Client(url=hub.url, key=hub.admin_key_file.read_text().strip())
            stream = Stream(client, models)
            await anyio.to_thread.run_sync(partial(follow, stream, models, rounds))
            client.close()
            if stream.failed:
                sys.exit(1)


def follow(stream: Stream, models: list[str], rounds: int) -> None:
    """Ask everything, kill in the middle, and say what came of it."""
    print("\nOf each model: the quality that is predicted, and the chance to be chosen.")
    print("'>' answered; '?' answered in order to learn how it does.\n")
    names = "  ".join(f"{_short(name):<11}" for name in models)
    print(f"{'time':>8}  {'answer':6} {'kind':10} {'took':>7}  {names}".rstrip())
    questions = QUESTIONS * rounds
    right, halves_s = [], [monotonic_s()]
    for number, question in enumerate(questions):
        if number == len(questions) // 2:
            halves_s.append(monotonic_s())
            stream.kill_the_most_used()
        right.append(stream.ask(question))
    halves_s.append(monotonic_s())
    stream.look_after_the_killed(patience_s=60.0)
    stream.tell_all()
    half = len(questions) // 2
    for name, answers, took_s in (
        ("first half: ", right[:half], halves_s[1] - halves_s[0]),
        ("second half:", right[half:], halves_s[2] - halves_s[1]),
    ):
        print(f"{name} {sum(answers)} of {len(answers)} right, in {took_s:.0f} s")
    shares = ", ".join(f"{name} {count}" for name, count in stream.used.most_common())
    print(f"all: {sum(right)} of {len(questions)} right, {stream.failed} failed; answered by: {shares}")


if __name__ == "__main__":
    main()
