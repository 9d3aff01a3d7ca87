"""A decision in words and a table, for people."""

from collections.abc import Sequence
from typing import Any

from autoglm.cli.screen import local_time, table

Json = dict[str, Any]

_SOURCES = {
    "header": ", said the request",
    "key": ", said its key",
    "tenant": ", by engine.prefer_by_tenant",
    "settings": ", by engine.prefer",
}
_JUDGES = {"person": "by a person", "program": "by a program", "retry": "since the same was asked again"}
"""In the order in which they are believed."""


def explanation(account: Json) -> str:
    """Of what `GET /api/decisions/{id}` answers."""
    decision, outcome, feedback = account["decision"], account["outcome"], account["feedback"]
    weights = decision["weights"]
    lines = [
        f"decision {decision['id']}, {local_time(decision['time_ms'])}, for {decision['tenant'] or '(nobody)'}",
        f"understood: {understood(decision['features'])}",
        f"wanted: {decision['prefer']} (quality {weights['quality']:g}, latency {weights['latency']:g}, "
        f"cost {weights['cost']:g}){_SOURCES.get(decision.get('preferred_by'), '')}",
        "",
        candidates(decision),
        "",
        f"chosen: {_name(decision['candidates'][decision['chosen']]['arm'])}, {_why(decision)}",
        f"outcome: {_came_out(outcome)}",
    ]
    counts = judgement_that_counts(feedback)
    lines += [
        f"judged: {entry['quality']:.2f} {_JUDGES.get(entry['source'], entry['source'])}, "
        f"{local_time(entry['time_ms'])}{', which counts' if entry is counts and len(feedback) > 1 else ''}"
        for entry in feedback
    ]
    return "\n".join(lines)


def judgement_that_counts(feedback: Sequence[Json]) -> Json | None:
    """A person is believed before a program, a program before a question that came again; of one, the latest."""
    for source in _JUDGES:
        judged = [entry for entry in feedback if entry["source"] == source]
        if judged:
            return max(judged, key=lambda entry: entry["time_ms"])
    return None


def understood(features: Json) -> str:
    """The features in a line: `intent translate (0.91, classifier), zh, 40 tokens, 1 turn`."""
    intent = features["intent"]
    parts = [f"intent {intent} ({features['confidence']:.2f}, {features['source']})" if intent else "no clear intent"]
    parts.append("no text" if features["language"] == "none" else features["language"])
    names = {
        "has_code": "code", "has_mathematics": "mathematics", "has_image": "pictures", "has_audio": "sound",
        "wants_tools": "tools", "wants_json": "JSON wanted",
    }  # fmt: skip
    parts += [word for name, word in names.items() if features[name]]
    parts.append(f"{features['prompt_tokens']} tokens")
    parts.append(f"{features['turns']} turn{'' if features['turns'] == 1 else 's'}")
    return ", ".join(parts)


def candidates(decision: Json) -> str:
    """A table, the best score first."""
    rows = [
        (
            ">" if index == decision["chosen"] else "",
            _name(entry["arm"]),
            f"{entry['quality']:.2f} ± {entry['deviation']:.2f}",
            f"{entry['output_tokens']:.0f}",
            f"{entry['latency_s']:.2f} s",
            f"{entry['cost']:.4g}",
            f"{entry['score']:.3f}",
            f"{100 * entry['propensity']:.1f}%",
            entry["ruled_out"],
        )
        for index, entry in enumerate(decision["candidates"])
    ]
    rows.sort(key=lambda row: -float(row[6]))
    return table(("", "model", "quality", "tokens", "latency", "cost", "score", "chance", "ruled out"), rows)


def _name(arm: Json) -> str:
    return arm["model"] if arm["profile"] == "plain" else f"{arm['model']} ({arm['profile']})"


def _why(decision: Json) -> str:
    if decision["is_exploration"]:
        return "to learn how it does: a share of the requests tries out others"
    open_ones = [entry for entry in decision["candidates"] if not entry["ruled_out"]]
    return "the only one that could" if len(open_ones) == 1 else "the best by what is known"


def _came_out(outcome: Json | None) -> str:
    if outcome is None:
        return "none yet, the request runs"
    if outcome["status"] == 499:
        return "the client left before the answer's end"
    if outcome["status"] >= 400:
        return f"no good answer (status {outcome['status']})"
    parts = [f"answered by {outcome['instance']}"]
    if outcome["moved_to"]:
        moved = {"model": outcome["moved_to"], "profile": outcome.get("moved_profile") or "plain"}
        parts.append(f"by {_name(moved)}, since the chosen model's instances failed")
    parts.append(f"first token {outcome['first_token_s']:.2f} s, whole {outcome['took_s']:.2f} s")
    about = "about " if outcome.get("is_guess") else ""
    parts.append(f"{about}{outcome['tokens_in']} + {outcome['tokens_out']} tokens, cost {about}{outcome['cost']:.4g}")
    flaws = [name for name, value in outcome["signals"].items() if value < 1]
    parts.append(f"flaws: {', '.join(flaws)}" if flaws else "no flaw seen" if outcome["signals"] else "not examined")
    return "; ".join(parts)


def what_if(answer: Json) -> str:
    """Of what `POST /api/decisions/replay` answers."""
    rows = [_measure(entry) for entry in answer["measures"]]
    lines = [
        f"policy {answer['policy']}, by {answer['decisions']} decisions",
        "",
        table(("", "as it was", "would be", "95% interval", "outcomes", "worth"), rows),
        "",
        "outcomes: how many are known; worth: how many of the policy's own would tell as much",
    ]
    if not any(entry["estimate"] for entry in answer["measures"]):
        lines += ["", "None of these decisions tells anything of this policy: no model that it wants was a candidate."]
    unsupported = max(
        (entry["estimate"]["unsupported"] for entry in answer["measures"] if entry["estimate"]), default=0
    )
    if unsupported > _MUCH:
        lines += [
            "",
            f"In {100 * unsupported:.0f}% of the cases this policy takes what could not have been chosen then: "
            "there the estimate is the engine's prediction alone.",
        ]
    return "\n".join(lines)


_MUCH = 0.1


def _measure(entry: Json) -> tuple[str, ...]:
    estimate, logged = entry["estimate"], entry["logged"]
    was = "-" if logged is None else f"{logged:.4g}"
    if estimate is None:
        return entry["measure"], was, "not known", "-", "0", "0"
    interval = f"{estimate['low']:.4g} to {estimate['high']:.4g}"
    worth = f"{estimate['effective_n']:.0f}"
    return entry["measure"], was, f"{estimate['value']:.4g}", interval, str(estimate["judged"]), worth
