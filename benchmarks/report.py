"""Writes the tables of docs/performance.md, docs/routing.md and their Chinese twins from benchmarks/results/*.json.

Each table lies between two comments, `<!-- figures: NAME -->` and `<!-- end -->`; what is between them is replaced, by
a line that says so where nothing has been measured yet.
`--check` changes nothing and exits 1 when a page is not up to date.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/report.py`

from benchmarks import channel_tables, routing_tables
from benchmarks.markdown import Cell, Language, table
from benchmarks.outcome import RESULTS, Outcome

DOCS = Path(__file__).parents[1] / "docs"
PAGES: dict[Language, tuple[Path, ...]] = {
    "en": (DOCS / "performance.md", DOCS / "routing.md"),
    "zh": (DOCS / "performance.zh-CN.md", DOCS / "routing.zh-CN.md"),
}
_PLACE = re.compile(r"(<!-- figures: ([a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


ABSENT: dict[Language, str] = {
    "en": "*Not measured yet: {command} has no saved result.*",
    "zh": "*尚未测量：{command} 还没有保存的结果。*",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a page is not up to date")
    is_check = parser.parse_args().check
    outcomes = load(RESULTS)
    stale = []
    for language, page in ((language, page) for language, pages in PAGES.items() for page in pages):
        before = page.read_text()
        after = fill(before, outcomes, language)
        if after != before:
            stale.append(page.name)
            if not is_check:
                page.write_text(after)
    if stale:
        sys.stderr.write(f"{'out of date' if is_check else 'written'}: {', '.join(stale)}\n")
    return 1 if stale and is_check else 0


def load(folder: Path) -> dict[str, Outcome]:
    files = sorted(folder.glob("*.json"))
    return {file.stem: msgspec.json.decode(file.read_bytes(), type=Outcome) for file in files}


def fill(page: str, outcomes: dict[str, Outcome], language: Language) -> str:
    """The page with all its tables written anew."""

    def write(found: re.Match[str]) -> str:
        outcome = outcomes.get(found[2])
        if found[2] not in TABLES:
            return found[0]
        if outcome is None:
            command = f"`python benchmarks/{found[2]}.py --save`"
            return f"{found[1]}{ABSENT[language].format(command=command)}\n\n{found[3]}"
        return f"{found[1]}{caption(outcome, language)}\n\n{TABLES[found[2]](outcome.figures, language)}\n\n{found[3]}"

    return _PLACE.sub(write, page)


def caption(outcome: Outcome, language: Language) -> str:
    """When and where, and which targets were met."""
    machine = outcome.machine
    missed = [str(target) for target in outcome.targets if target.verdict != "met"]
    goals = outcome.figures.get("goals_missed", 0)
    if language == "zh":
        place = f"{machine.processor}，{machine.cores} 核，{machine.memory_gb} GB 内存，Linux {machine.kernel}"
        text = f"*{outcome.at} UTC；{place}，Python {machine.python}；开始时系统负载 {machine.load}。"
        text += "短时运行，仅供参考。" if outcome.is_quick else ""
        text += "未达到：" + "；".join(missed) + "。" if missed else "全部目标达到。"
        return text + (f"另有 {goals} 项更高的期望未达到（ADR 10）。*" if goals else "*")
    place = f"{machine.processor}, {machine.cores} cores, {machine.memory_gb} GB, Linux {machine.kernel}"
    text = f"*{outcome.at} UTC; {place}, Python {machine.python}; load of the machine at the start {machine.load}. "
    text += "A short run, not for the record. " if outcome.is_quick else ""
    text += "Not met: " + "; ".join(missed) + "." if missed else "All targets are met."
    return text + (f" Beyond them, {goals} goals are missed (ADR 10).*" if goals else "*")


def gateway_table(figures: dict[str, Any], language: Language) -> str:
    columns: dict[str, dict[Language, str]] = {
        "us_per_request": {"en": "us a request", "zh": "每请求 µs"},
        "us_per_request_fresh": {"en": "us, fresh head", "zh": "每请求 µs（新请求头）"},
        "requests_per_s": {"en": "requests/s", "zh": "请求/秒"},
        "p50_ms": {"en": "p50 ms", "zh": "p50 毫秒"},
        "p99_ms": {"en": "p99 ms", "zh": "p99 毫秒"},
        "us_per_chunk_burst": {"en": "us a chunk, burst", "zh": "每块 µs（突发）"},
        "us_per_chunk_paced": {"en": "us, paced", "zh": "每块 µs（匀速）"},
        "rss_mb": {"en": "MB", "zh": "内存 MB"},
    }
    head = ["gateway" if language == "en" else "网关", *(names[language] for names in columns.values())]
    costs = sorted(figures["gateways"].items(), key=lambda item: float(item[1]["us_per_request"]))
    return table(head, [[name, *(cost[column] for column in columns)] for name, cost in costs])


_WORDS: dict[str, tuple[str, str]] = {
    "mailbox_per_s": ("durable messages/s, 128 senders, each awaited", "持久消息/秒（128 个发送者，逐条等待落盘）"),
    "awaited_rows_per_s": (
        "raw SQLite, rows/s, 128 senders, each awaited (unique ids, indexed by recipient)",
        "裸 SQLite，行/秒（128 个发送者，逐行等待落盘；编号唯一，按收件人索引）",
    ),
    "share_of_awaited": ("share", "比值"),
    "messages_per_s": ("durable messages/s over HTTP, 128 senders", "经 HTTP 的持久消息/秒（128 个发送者）"),
    "http_share_of_awaited": ("share of the awaited rows, over HTTP", "经 HTTP 时与逐行等待之比"),
    "raw_rows_per_s": (
        "raw SQLite, rows/s, one bare table in groups of 128 that nobody awaits",
        "裸 SQLite，行/秒（一张裸表，每组 128 行，无人等待）",
    ),
    "http_share_of_raw": ("share of the bare table, over HTTP", "经 HTTP 时与裸表之比"),
    "cpu_us_per_message": ("CPU a message over HTTP, us", "经 HTTP 每条消息 CPU，µs"),
    "ack_p50_ms": ("POST to its acknowledgement, p50, ms", "POST 到确认，p50，毫秒"),
    "ack_p99_ms": ("the same, p99, ms", "同上，p99，毫秒"),
    "delay_p50_ms": ("POST to a waiting reader, p50, ms", "POST 到等待中的读者，p50，毫秒"),
    "delay_p99_ms": ("the same, p99, ms", "同上，p99，毫秒"),
    "readers": ("readers that wait meanwhile", "同时等待的读者数"),
    "kib_per_reader": ("memory of a waiting reader, KiB", "每个等待的读者占用内存，KiB"),
    "ready_s": ("ready without a model, s", "无模型时就绪，秒"),
    "rss_mb": ("memory then, MB", "此时内存，MB"),
    "first_token_s": ("first token of {model} after a cold start, s", "{model}：冷启动到首个词元，秒"),
    "tokens_per_s_direct": ("{model}: tokens/s, llama.cpp's server alone", "{model}：词元/秒，直连 llama.cpp 服务"),
    "tokens_per_s_hub": ("{model}: tokens/s, through the hub", "{model}：词元/秒，经中枢"),
    "share": ("{model}: share", "{model}：比值"),
}


def figure_table(rows: Sequence[tuple[str, str, Cell]], language: Language) -> str:
    """rows: (name in _WORDS, model, value)."""
    heads = {"en": ("what", "figure"), "zh": ("项目", "数值")}[language]
    column = 0 if language == "en" else 1
    return table(heads, [(_WORDS[name][column].format(model=model), value) for name, model, value in rows])


def messages_table(figures: dict[str, Any], language: Language) -> str:
    durable, delay, memory = figures["durable"], figures["delay"], figures["memory"]
    names = (
        "mailbox_per_s", "awaited_rows_per_s", "share_of_awaited", "messages_per_s", "http_share_of_awaited",
        "raw_rows_per_s", "http_share_of_raw", "cpu_us_per_message",
    )  # fmt: skip
    rows: list[tuple[str, str, Cell]] = [
        *((name, "", durable[name]) for name in names),
        ("ack_p50_ms", "", durable["p50_ms"]),
        ("ack_p99_ms", "", durable["p99_ms"]),
        ("readers", "", delay["readers"]),
        ("delay_p50_ms", "", delay["p50_ms"]),
        ("delay_p99_ms", "", delay["p99_ms"]),
        ("kib_per_reader", "", memory["kib_per_reader"]),
    ]
    return figure_table(rows, language)


def trust_table(figures: dict[str, Any], language: Language) -> str:
    en = language == "en"
    rows: list[tuple[Cell, ...]] = [
        ("token, proof and decision, us" if en else "令牌、证明与决定（微秒）", figures["proof_us"]),
        ("known key and decision, us" if en else "已知密钥与决定（微秒）", figures["key_us"]),
        ("10,000 policies: a first decision, ms" if en else "一万条策略：首次决定（毫秒）", figures["policy_cold_ms"]),
        ("the same again, us" if en else "再次决定（微秒）", figures["policy_warm_us"]),
        ("10,000 revocations load, s" if en else "载入一万条吊销（秒）", figures["revocations_s"]),
        ("their memory, MB" if en else "占用内存（MB）", figures["revocations_mb"]),
        ("an audit entry, us" if en else "一条审计记录（微秒）", round(figures["entry_us"], 1)),
        ("a million entries verify, s" if en else "核验一百万条（秒）", round(figures["verify_s_per_million"], 1)),
        ("100,000 operations judged again, s" if en else "重审十万次操作（秒）", round(figures["rejudge_s"], 2)),
    ]  # fmt: skip
    return table(("what", "figure") if en else ("项目", "数值"), rows)


def startup_table(figures: dict[str, Any], language: Language) -> str:
    bare = figures["without_model"]
    rows: list[tuple[str, str, Cell]] = [(name, "", bare[name]) for name in ("ready_s", "rss_mb")]
    rows += [("first_token_s", model, one["first_token_s"]) for model, one in figures["models"].items()]
    return figure_table(rows, language)


def local_table(figures: dict[str, Any], language: Language) -> str:
    names = ("tokens_per_s_direct", "tokens_per_s_hub", "share")
    rows: list[tuple[str, str, Cell]] = [
        (name, model, one[name]) for model, one in figures["models"].items() for name in names
    ]
    return figure_table(rows, language)


TABLES: dict[str, Callable[[dict[str, Any], Language], str]] = {
    "gateway": gateway_table,
    "messages": messages_table,
    "startup": startup_table,
    "trust": trust_table,
    "local": local_table,
    "delivery": channel_tables.delivery,
    "truth": channel_tables.truth,
    "mqtt": channel_tables.mqtt,
    "added": routing_tables.added,
    "budgets": routing_tables.budgets,
    "intent": routing_tables.intent,
    "engine": routing_tables.engine,
    "scheduling": routing_tables.scheduling,
    "faults": routing_tables.faults,
    "scaling": routing_tables.scaling,
    "routing": routing_tables.routing,
    "routing_hub": routing_tables.routing_hub,
}

if __name__ == "__main__":
    sys.exit(main())
