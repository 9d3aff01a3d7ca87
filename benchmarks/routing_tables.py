"""The tables of docs/routing.md: what the hub does to requests beside what it is compared with.

Each function takes the figures of the benchmark of its name.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.markdown import Cell, Language, percent, table

Words = Mapping[str, tuple[str, str]]
"""English and Chinese, by the name in the saved result."""
ROUTERS: Words = {
    "hub": ("**hub**", "**中枢**"),
    "hub, no shedding": ("hub that refuses none", "从不拒绝的中枢"),
    "least outstanding": ("least outstanding", "最少未完成"),
    "power of two": ("power of two", "二选一"),
    "round robin": ("round robin", "轮询"),
    "random": ("random", "随机"),
    "cooldown": ("cooldown (LiteLLM)", "冷却（LiteLLM）"),
}
SCENARIOS: Words = {
    "CV 1": ("load 0.7, CV 1", "负载 0.7，CV 1"),
    "CV 3": ("load 0.7, CV 3", "负载 0.7，CV 3"),
    "CV 5": ("load 0.7, CV 5", "负载 0.7，CV 5"),
    "overload, CV 3": ("load 1.1, CV 3", "负载 1.1，CV 3"),
    "burst": ("ten times as many for a while", "一段时间内请求增至十倍"),
    "becomes slow": ("one becomes slow", "一个变慢"),
    "dead": ("one dies", "一个死掉"),
    "hung": ("one hangs", "一个僵住"),
    "flapping": ("one dies and returns, often", "一个反复死掉又恢复"),
}
POLICIES: Words = {
    "stable_and_panic": ("**hub**: stable and panic window", "**中枢**：稳定窗口与恐慌窗口"),
    "stable_only": ("stable window only", "只有稳定窗口"),
    "all_the_time": ("ten all the time", "始终十个"),
    "one_all_the_time": ("one all the time", "始终一个"),
}
CHOOSERS: Words = {
    "engine": ("**engine**", "**引擎**"),
    "engine_as_set": ("engine with its quality floor", "带质量下限的引擎"),
    "linucb": ("LinUCB", "LinUCB"),
    "epsilon_greedy": ("epsilon-greedy", "ε-贪心"),
    "random": ("random", "随机"),
    "oracle": ("oracle", "先知"),
}
WORLDS: Words = {
    "usual": ("usual", "普通"),
    "graded": ("graded judgements", "分级评价"),
    "sparse": ("30% judged, late", "30% 有评价，且滞后"),
    "drift": ("best model gets worse", "最好的模型变差"),
    "sparse drift": ("the same, 30% judged", "同上，30% 有评价"),
    "rise": ("weakest model gets better", "最弱的模型变好"),
    "newcomer": ("better model comes", "更好的模型加入"),
    "blocks": ("one intent at a time", "一段时间只有一种意图"),
    "strange": ("features say nothing", "特征毫无信息"),
}
KINDS: Words = {
    "none": ("none of them", "都没有"),
    "idle": ("a budget and a cache for others", "只涉及他人的预算和缓存"),
    "budget": ("a budget", "预算"),
    "cache": ("the cache, answers kept", "缓存命中"),
    "spans": ("OpenTelemetry spans", "OpenTelemetry 追踪"),
}


def word(words: Words, name: str, language: Language) -> str:
    """Of what has none, the name itself."""
    return words[name][0 if language == "en" else 1] if name in words else name


WORTH_CLOSING = 1.03
"""The oracle's reward to the best fixed model's, from which on a share of their gap says something."""
ENGINE_PICTURE: dict[Language, str] = {
    "en": """![Reward and regret over the requests, through a drift and past a newcomer](images/engine.svg)

*What to see: at 2,000 requests the best model gets worse (left), or a better one comes (right). Above, the reward as a
share of the oracle's: how deep a chooser falls, and how soon it is back. Below, the regret against the oracle: the
flatter the line, the less is lost. Drawn by `benchmarks/plots/engine.py`.*""",
    "zh": """![漂移与新模型加入时，收益和遗憾随请求数的变化](images/engine.svg)

*看点：到第 2,000 个请求时，最好的模型变差（左），或更好的模型加入（右）。
上图是收益与先知之比：跌得多深、多久恢复；下图是相对先知的累计遗憾：线越平，损失越少。
由 `benchmarks/plots/engine.py` 绘制。engine 为引擎，always 为始终用某个模型，random 为随机。*""",
}


def scheduling(figures: dict[str, Any], language: Language) -> str:
    """In time, and p99 of those that were answered; then tenants and classes, and how soon a fault was noticed."""
    scenarios = figures["scenarios"]
    head = [{"en": "in time (p99, s)", "zh": "及时（p99，秒）"}[language]]
    rows = [
        [word(SCENARIOS, name, language)]
        + [f"{percent(runs[router]['attained'])} ({runs[router]['ttft_p99_s']:,.1f})" for router in ROUTERS]
        for name, runs in scenarios.items()
    ]
    routed = table(head + [word(ROUTERS, router, language) for router in ROUTERS], rows)
    backlog, light, classes = figures["backlog"], figures["heavy_and_light"], figures["classes"]
    names = ("hub", "least outstanding", "round robin")
    titles = {
        "en": (
            "fairness",
            "four equal tenants under backlog: the most tokens over the least",
            "a light tenant beside a heavy one: in time",
            "the lowest class under a flood of the highest: longest wait, of its bound",
        ),
        "zh": (
            "公平",
            "四个同等租户积压时：最多词元比最少多",
            "轻租户与重租户并存：轻租户及时",
            "最高级洪流下的最低级：最长等待与上限之比",
        ),
    }[language]
    gaps = [percent(backlog[name]["gap"]) if name in backlog else None for name in names]
    shares = [percent(light[name]["light"]) if name in light else None for name in names]
    fair = table(
        [titles[0], *(word(ROUTERS, name, language) for name in names)],
        [[titles[1], *gaps], [titles[2], *shares], [titles[3], percent(classes["share_of_bound"]), None, None]],
    )
    heads = {
        "en": ("the hub notices that", "after, s", "after requests to it"),
        "zh": ("中枢发现", "用时，秒", "其间发给它的请求数"),
    }[language]
    noticed = table(
        heads,
        [
            [word(SCENARIOS, name, language), *((found["after_s"], found["after_requests"]) if found else (None, None))]
            for name, found in figures["notices"].items()
        ],
    )
    return f"{routed}\n\n{fair}\n\n{noticed}"


def faults(figures: dict[str, Any], language: Language) -> str:
    dead, hung, slow, killed = (figures[name] for name in ("dead", "hung", "slow", "killed"))
    heads = {"en": ("real instances with a fault", "figure"), "zh": ("真实实例的故障", "数值")}[language]
    rows: list[tuple[str, str, Cell]] = [
        ("killed while idle: attempts that failed", "空闲时被杀：失败的尝试", dead["idle"]["failed_attempts"]),
        ("the same: requests that failed", "同上：失败的请求", dead["idle"]["failed_requests"]),
        ("killed under load: attempts that failed", "负载下被杀：失败的尝试", dead["under_load"]["failed_attempts"]),
        ("the same: requests that failed", "同上：失败的请求", dead["under_load"]["failed_requests"]),
        ("stopped (SIGSTOP): noticed after, s", "暂停（SIGSTOP）：多久发现，秒", hung["noticed_s"]),
        ("the same: requests that failed", "同上：失败的请求", hung["failed_requests"]),
        (
            "slow: requests that it got until it was taken out",
            "变慢：被移出之前得到的请求",
            slow["requests_until_noticed"],
        ),
        ("drained: requests lost", "排空：丢失的请求", figures["drain"]["lost"]),
        ("scaled in: requests lost", "缩容：丢失的请求", figures["scale_in"]["lost"]),
        (
            f"kill -9 of the hub with {killed['requests']} requests before their first byte: lost after one retry",
            f"中枢被 kill -9，{killed['requests']} 个请求尚无首字节：重试一次后丢失",
            killed["lost"],
        ),
    ]
    return table(heads, [(row[0 if language == "en" else 1], row[2]) for row in rows])


def scaling(figures: dict[str, Any], language: Language) -> str:
    columns: dict[str, tuple[str, str]] = {
        "burst_wait_p50_s": ("wait in the burst, p50, s", "突发时等待 p50，秒"),
        "burst_wait_p99_s": ("p99, s", "p99，秒"),
        "burst_longest_wait_s": ("longest, s", "最长，秒"),
        "recovered_s": ("until waits are usual again, s", "等待恢复正常用时，秒"),
        "share_of_most": ("worker-seconds, of ten all the time", "工作进程秒数，与始终十个之比"),
        "unanswered": ("unanswered", "未回答"),
    }
    head = [{"en": "workers", "zh": "工作进程"}[language], *(word(columns, name, language) for name in columns)]
    rows = [
        [word(POLICIES, name, language)]
        + [percent(row[column]) if column == "share_of_most" else row[column] for column in columns]
        for name, row in figures["policies"].items()
    ]
    return table(head, rows)


def engine(figures: dict[str, Any], language: Language) -> str:
    """Rewards as shares of the best fixed model's; then the replay."""
    head = {
        "en": ("reward of the best fixed model = 100%", "gap to the oracle closed", "adapted in, worst"),
        "zh": ("最好固定模型的收益 = 100%", "缩小与先知差距的份额", "最慢多少请求后适应"),
    }[language]
    rows: list[list[Cell]] = []
    for name, world in figures["worlds"].items():
        for part, title in (("early", ("before", "之前")), ("late", ("after", "之后"))):
            shares = [percent(_mean(world["choosers"][chooser], part)) for chooser in CHOOSERS]
            ours = world["choosers"]["engine"]
            is_change = part == "late" and name in ("drift", "sparse drift")
            adapted = int(ours["adapted_in"]["worst"]) if is_change else None
            place = f"{word(WORLDS, name, language)}{'，' if language == 'zh' else ', '}{title[language == 'zh']}"
            oracle = _mean(world["choosers"]["oracle"], part)
            closed = _mean(ours, f"gap_{part}") if oracle is not None and oracle >= WORTH_CLOSING else None
            rows.append([place, *shares, percent(closed), adapted])
    learned = table([head[0], *(word(CHOOSERS, name, language) for name in CHOOSERS), *head[1:]], rows)
    titles = {
        "en": ("replay of a policy", "intervals that hold the truth", "error", "error of the model alone",
               "error of the weights alone"),
        "zh": ("回放的策略", "含真值的区间", "误差", "仅用模型的误差", "仅用权重的误差"),
    }[language]  # fmt: skip
    fields = ("error", "error_of_model_alone", "error_of_weights_alone")
    replays = table(
        titles,
        [
            [f"`{name}`", percent(row["covered"]), *(row[field] for field in fields)]
            for name, row in figures["replay"]["policies"].items()
        ],
    )
    return f"{ENGINE_PICTURE[language]}\n\n{learned}\n\n{replays}"


def _mean(row: Mapping[str, Mapping[str, float]], field: str) -> float | None:
    """None where there is none: no model is there from the begin, or the best one is the oracle."""
    return row[field]["mean"] if field in row else None


def intent(figures: dict[str, Any], language: Language) -> str:
    own, encoder = figures["own"], figures.get("encoder") or {}
    clinc, banking = figures.get("clinc150") or {}, figures.get("banking77") or {}  # data that may be absent
    with_encoder = encoder.get("own") or {}
    heads = {
        "en": ("accuracy", "queries", "n-grams (no download)", "with the encoder"),
        "zh": ("准确率", "问句数", "n-gram（无需下载）", "用编码器"),
    }[language]
    names = {
        "en": ("the project's own set, Chinese", "the same, English and mixed", "CLINC150 in scope, 150 intents",
               "BANKING77, 77 intents", "CLINC150, 5 examples an intent", "out of scope found at 95% precision",
               "queries a second on one core", "p99 of a query, ms", "a prompt of 100,000 characters, ms"),
        "zh": ("本项目自有问句，中文", "同上，英文与混合", "CLINC150 范围内，150 种意图", "BANKING77，77 种意图",
               "CLINC150，每种意图 5 个例句", "范围内精度 95% 时发现的范围外问句", "单核每秒问句数", "单句 p99，毫秒",
               "十万字符的提示，毫秒"),
    }[language]  # fmt: skip

    def encoded(name: str) -> str | None:
        return percent(with_encoder[name]["accuracy"]) if name in with_encoder else None

    rows: list[list[Cell]] = [
        [names[0], own["zh"]["asked"], percent(own["zh"]["accuracy"]), encoded("zh")],
        [names[1], own["en_mixed"]["asked"], percent(own["en_mixed"]["accuracy"]), encoded("en_mixed")],
        [names[2], clinc.get("asked"), percent(clinc.get("accuracy")), None],
        [names[3], banking.get("asked"), percent(banking.get("accuracy")), None],
        [names[4], None, percent(encoder.get("clinc150_5_shot_without")), percent(encoder.get("clinc150_5_shot_with"))],
        [names[5], clinc.get("out_of_scope"), percent(clinc.get("out_of_scope_recall")), None],
        [names[6], None, clinc.get("queries_per_s"), None],
        [names[7], None, None, encoder.get("query_p99_ms")],
        [names[8], None, None, encoder.get("long_query_ms")],
    ]
    return table(heads, rows)


def routing(figures: dict[str, Any], language: Language) -> str:
    """Each model, coins, `auto`, and what more knowledge would bring."""
    is_english = language == "en"
    rows: list[tuple[str, dict[str, Any]]] = list(figures["models"].items())
    rows.append(("random, each as often" if is_english else "随机，机会均等", figures["even_mix"]))
    rows += [
        (f"**`auto`**, {name}" if is_english else f"**`auto`**，{name}", row) for name, row in figures["auto"].items()
    ]
    rows += [
        (
            f"`auto`, floor {row['quality_floor']}, objective {row['slo_s']:g} s"
            if is_english
            else f"`auto`，下限 {row['quality_floor']}，目标 {row['slo_s']:g} 秒",
            row,
        )
        for row in figures.get("auto_with_other_settings", [])
        if row["prefer"] == "balanced"
    ]
    rows += [
        (f"bandit alone, {name}" if is_english else f"只用多臂老虎机，{name}", row)
        for name, row in figures.get("auto_as_bandit", {}).items()
        if name in ("balanced", "fast")
    ]
    rows.append(
        ("told the kind, its best model" if is_english else "已知类别，用该类最好的模型", figures["best_by_group"])
    )
    rows.append(("oracle: all answers known" if is_english else "先知：知道所有答案", figures["oracle"]))
    return _shares(rows, language)


def routing_hub(figures: dict[str, Any], language: Language) -> str:
    rows = [
        (f"`auto`, {name}, through a hub" if language == "en" else f"`auto`，{name}，经由中枢", row)
        for name, row in figures["auto"].items()
    ]
    return _shares(rows, language)


def _shares(rows: list[tuple[str, dict[str, Any]]], language: Language) -> str:
    head = {
        "en": ("", "score", "compute time, s", "score, of the best", "time, of the best", "above a coin, points"),
        "zh": ("", "得分", "计算时间，秒", "得分与最好模型之比", "时间与最好模型之比", "高于随机混用，百分点"),
    }[language]
    has_mix = all("above_mix" in row for _, row in rows)
    cells = [
        [name, percent(row["score"]), row["cpu_s"], percent(row["score_share"]), percent(row["compute_share"])]
        + ([f"{round(100 * row['above_mix'], 1) + 0.0:+.1f}"] if has_mix else [])
        for name, row in rows
    ]
    return table(head if has_mix else head[:-1], cells)


def budgets(figures: dict[str, Any], language: Language) -> str:
    columns: dict[str, tuple[str, str]] = {
        "us_per_request": ("us a request", "每请求 µs"),
        "added_us": ("added, us", "增加，µs"),
        "requests_per_s": ("requests/s", "请求/秒"),
        "p50_ms": ("p50 ms", "p50 毫秒"),
        "p99_ms": ("p99 ms", "p99 毫秒"),
    }
    head = [{"en": "hub with", "zh": "中枢配置"}[language], *(word(columns, name, language) for name in columns)]
    return table(
        head, [[word(KINDS, name, language), *(row[column] for column in columns)] for name, row in figures.items()]
    )


def added(figures: dict[str, Any], language: Language) -> str:
    heads = {
        "en": ("instances", "us a request before", "us a request now", "added, us (median of the rounds)"),
        "zh": ("实例数", "之前每请求 µs", "现在每请求 µs", "增加 µs（各轮中位数）"),
    }[language]
    costs, differences = figures.get("us_per_request", {}), figures.get("added_us", {})  # a clone without history
    return table(
        heads, [[count, costs[f"before_{count}"], costs[f"now_{count}"], us] for count, us in differences.items()]
    )
