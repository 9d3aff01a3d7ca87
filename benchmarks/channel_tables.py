"""The tables of the channels' figures: delivery, truth and MQTT, in both languages."""

from typing import Any

from benchmarks.markdown import Cell, Language, table

_DELIVERY: dict[str, tuple[str, str]] = {
    "events": ("events", "事件"),
    "requests": ("requests to the receivers", "发往接收端的请求"),
    "arrived": ("arrived", "送达"),
    "refused": ("refused for good, each with a receipt that says so", "被最终拒绝，且各有如实的回执"),
    "without_receipt": ("ended in no receipt", "没有回执"),
    "lost": ("lost", "丢失"),
    "untrue": ("receipts that are not true", "不实的回执"),
    "duplicates_deduplicating": ("twice, where the receiver deduplicates", "接收端去重时的重复"),
    "duplicates_others": ("twice elsewhere", "其余接收端的重复"),
    "doubts_others": ("requests there whose end nobody knows", "其中结果不可知的请求"),
    "hub_cpu_us_per_event": ("CPU an event, us, four starts of the hub included", "每事件 CPU，µs（含中枢四次启动）"),
}
_BACKLOG: dict[str, tuple[str, str]] = {
    "events": ("backlog, events", "积压，事件"),
    "rss_before_mb": ("memory before, MB", "此前内存，MB"),
    "rise_mb": ("most memory beyond that, MB", "最多增加的内存，MB"),
    "drain_s": ("seconds to drain it", "清空所用秒数"),
    "least_drain_s": ("seconds that the receivers' limits alone take", "仅接收端限流就需要的秒数"),
    "share_of_limit": ("most requests in a minute, as a share of the limit", "任一分钟最多请求数与上限之比"),
}


def delivery(figures: dict[str, Any], language: Language) -> str:
    column = 0 if language == "en" else 1
    rows: list[list[Cell]] = [[words[column], figures["faults"][name]] for name, words in _DELIVERY.items()]
    rows += [[words[column], figures["backlog"][name]] for name, words in _BACKLOG.items()]
    return table({"en": ("what", "figure"), "zh": ("项目", "数值")}[language], rows)


def truth(figures: dict[str, Any], language: Language) -> str:
    heads = {
        "en": ("", "failures", "told truly", "told as a success"),
        "zh": ("", "失败次数", "如实报告", "误报为成功"),
    }[language]
    names = {"ours": {"en": "AutoGLM Hub", "zh": "AutoGLM Hub"}, "apprise": {"en": "Apprise", "zh": "Apprise"}}
    rows: list[list[Cell]] = [
        [names[side][language], figures[side]["failures"], figures[side]["told_truly"],
         ", ".join(figures[side]["untrue"]) or {"en": "none", "zh": "无"}[language]]
        for side in ("ours", "apprise")
    ]  # fmt: skip
    return table(heads, rows)


def mqtt(figures: dict[str, Any], language: Language) -> str:
    heads = {
        "en": ("", "messages/s", "broker, us a message", "hub, us a message"),
        "zh": ("", "消息/秒", "代理，每条 µs", "中枢，每条 µs"),
    }[language]
    names = {
        "alone": {"en": "Mosquitto alone", "zh": "仅 Mosquitto"},
        "through_the_hub": {"en": "through the hub", "zh": "经中枢"},
    }
    rows: list[list[Cell]] = [
        [names[way][language], *(figures[way][name] for name in ("per_s", "broker_us", "hub_us"))] for way in names
    ]
    return table(heads, rows)
