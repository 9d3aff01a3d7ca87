"""The cache as clients meet it: equal questions of one tenant, and nothing of anybody else's."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventually import wait_until
from gateway.budget_hub import BudgetHub, budget_hub
from scripted_model import Behaviour, Gate, Request, answering, completion, echo, event, response, streaming

SETTINGS = """
[cache]
mode = "on"
ttl_s = 3600
max_entry_bytes = 65536

[[model]]
name = "talker"
strip = ["<think>...</think>"]

[[key]]
name = "narrow"
value = "sk-narrow"
tenant = "ward-3"
scopes = ["model:use:other-*"]

[[key]]
name = "hasty"
value = "sk-hasty"
tenant = "ward-3"
prefer = "fast"

[[budget]]
name = "gate"
key = "gate"
tokens = 1000
requests = 100
"""
DONE = b"data: [DONE]\n\n"
_texts = count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BudgetHub]:
    with budget_hub(tmp_path_factory.mktemp("cache"), SETTINGS) as running:
        yield running


@pytest.fixture
def hub(shared: BudgetHub) -> BudgetHub:
    shared.model.behaviour = echo
    shared.model.requests.clear()
    assert shared.client.post("/api/pool/a/resume").status_code == 200
    shared.forget_use()
    return shared


@pytest.fixture
def text() -> str:
    """What no test has asked before."""
    return f"question {next(_texts)}"


def numbered() -> Behaviour:
    """Each answer differs from the one before."""
    numbers = count(1)

    async def behave(request: Request, reader: Any, writer: Any) -> None:
        writer.write(response(200, completion(f"answer {next(numbers)}")))

    return behave


def said(reply: Any) -> tuple[str, str | None]:
    """(content, what the cache says)."""
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"], reply.headers.get("x-autoglm-cache")


def test_what_a_key_prefers_is_part_of_a_question_to_auto(hub: BudgetHub, text: str) -> None:
    kept = [said(hub.ask(text, key=key, model="auto"))[1] for key in ("sk-ward", "sk-hasty", "sk-ward-b", "sk-hasty")]
    assert kept == ["miss", "miss", "hit", "hit"]


def test_the_same_question_is_asked_once(hub: BudgetHub, text: str) -> None:
    hub.model.behaviour = numbered()
    first, second = hub.ask(text), hub.ask(text)
    assert [said(first), said(second)] == [("answer 1", "miss"), ("answer 1", "hit")]
    assert second.content == first.content
    for name in ("content-type", "x-autoglm-model", "x-autoglm-instance"):
        assert second.headers[name] == first.headers[name]
    assert len(hub.model.requests) == 1


@pytest.mark.parametrize("name", ["x-autoglm-priority", "x-autoglm-deadline", "x-autoglm-first-token"])
def test_how_urgent_a_question_is_makes_no_other_one_of_it(hub: BudgetHub, text: str, name: str) -> None:
    kept = [said(hub.ask(text, headers=headers))[1] for headers in ({}, {name: "9"})]
    assert kept == ["miss", "hit"]


def test_whatever_differs_in_the_body_is_another_question(hub: BudgetHub, text: str) -> None:
    """Also what hardly matters: an exact match promises no more than that."""
    hub.model.behaviour = numbered()
    for fields in ({}, {"temperature": 0}, {"temperature": 0.0}, {"seed": 1}, {"user": "x"}):
        assert said(hub.ask(text, **fields))[1] == "miss"
    assert len(hub.model.requests) == 5


def test_pictures_are_part_of_the_question(hub: BudgetHub, text: str) -> None:
    def ask(picture: bytes) -> Any:
        url = "data:image/png;base64," + base64.b64encode(picture).decode()
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
        return hub.ask(messages=[{"role": "user", "content": content}])

    hub.model.behaviour = numbered()
    left, right = b"\x89PNG" + b"\x00" * 100_000, b"\x89PNG" + b"\x00" * 99_999 + b"\x01"
    assert [said(ask(picture)) for picture in (left, right, left, right)] == [
        ("answer 1", "miss"), ("answer 2", "miss"), ("answer 1", "hit"), ("answer 2", "hit"),
    ]  # fmt: skip


def test_nothing_crosses_from_one_tenant_to_another(hub: BudgetHub, text: str) -> None:
    """Keys of one tenant share; another tenant, by its own key or by a header, does not."""
    hub.model.behaviour = numbered()
    site = {"x-autoglm-tenant": "site-1"}
    assert said(hub.ask(text, key="sk-ward")) == ("answer 1", "miss")
    assert said(hub.ask(text, key="sk-ward-b")) == ("answer 1", "hit")
    assert said(hub.ask(text, key="sk-gate")) == ("answer 2", "miss")
    assert said(hub.ask(text, key="sk-gate", headers=site)) == ("answer 3", "miss")
    assert said(hub.ask(text, key="sk-gate", headers={"x-autoglm-tenant": "site-2"})) == ("answer 4", "miss")
    assert said(hub.ask(text)) == ("answer 5", "miss")
    assert said(hub.ask(text, key="sk-gate", headers=site)) == ("answer 3", "hit")


def test_a_key_with_other_rights_gets_nothing_that_it_could_not_have_asked(hub: BudgetHub, text: str) -> None:
    assert said(hub.ask(text, key="sk-ward", model="auto"))[1] == "miss"
    assert hub.ask(text, key="sk-narrow", model="auto").status_code == 403
    assert hub.ask(text, key="sk-narrow").status_code == 403


def test_off_neither_looks_nor_keeps_and_refresh_keeps_anew(hub: BudgetHub, text: str) -> None:
    hub.model.behaviour = numbered()

    def ask(wish: str) -> tuple[str, str | None]:
        return said(hub.ask(text, headers={"x-autoglm-cache": wish} if wish else {}))

    assert ask("off") == ("answer 1", None)
    assert ask("") == ("answer 2", "miss")
    assert ask("off") == ("answer 3", None)
    assert ask("on") == ("answer 2", "hit")
    assert ask("refresh") == ("answer 4", "miss")
    assert ask("") == ("answer 4", "hit")
    reply = hub.ask(text, headers={"x-autoglm-cache": "maybe"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "x-autoglm-cache")


@pytest.mark.parametrize(
    "broken",
    [
        answering(400, {"error": {"message": "no"}}),
        answering(500, {"error": {"message": "no"}}),
        answering(200, b'{"id": "1", "choices": ['),
        streaming(event("half"), closes=True),
        streaming(event("no finish reason")),
        answering(200, completion("", reasoning_content="thoughts only")),
        answering(200, completion("x" * 70_000)),
        answering(201, completion("created")),
    ],
    ids=["400", "500", "cut", "cut stream", "stream without end", "only thoughts", "long", "201"],
)
def test_only_whole_and_good_answers_are_kept(hub: BudgetHub, text: str, broken: Behaviour) -> None:
    hub.model.behaviour = broken
    is_stream = "stream" in (broken.__qualname__ or "")
    hub.ask(text, stream=is_stream)
    hub.model.behaviour = numbered() if not is_stream else streaming(event("good"), event(None, "stop"), DONE)
    reply = hub.ask(text, stream=is_stream)
    assert (reply.status_code, reply.headers["x-autoglm-cache"]) == (200, "miss")
    assert hub.ask(text, stream=is_stream).headers["x-autoglm-cache"] == "hit"


def test_a_stream_is_given_again_event_by_event(hub: BudgetHub, text: str) -> None:
    hub.model.behaviour = streaming(event("one"), event(" two"), event(None, "stop"), DONE)
    first, second = hub.ask(text, stream=True), hub.ask(text, stream=True)
    assert first.content == second.content == event("one") + event(" two") + event(None, "stop") + DONE
    assert second.headers["content-type"] == first.headers["content-type"] == "text/event-stream"
    assert (first.headers["x-autoglm-cache"], second.headers["x-autoglm-cache"]) == ("miss", "hit")
    assert len(hub.model.requests) == 1
    hub.model.behaviour = numbered()
    assert said(hub.ask(text))[1] == "miss"  # whole: another body


def test_a_hit_counts_as_a_request_and_takes_no_tokens(hub: BudgetHub, text: str) -> None:
    hub.model.behaviour = answering(200, {**completion("x"), "usage": {"prompt_tokens": 900, "completion_tokens": 100}})
    assert [hub.ask(text, key="sk-gate").status_code for _ in range(3)] == [200] * 3
    assert hub.ask(text + "?", key="sk-gate").status_code == 429
    assert (hub.used("gate", "gate"), hub.used("gate", "gate", "requests")) == (1000, 3)


def test_clients_who_ask_the_same_at_once_share_one_answer(hub: BudgetHub, text: str) -> None:
    gate = Gate()
    hub.model.behaviour = gate.before(numbered())
    with ThreadPoolExecutor(8) as threads:
        replies = [threads.submit(hub.ask, text) for _ in range(8)]
        wait_until(lambda: gate.waiting == 1)
        gate.open()
        answers = [said(reply.result()) for reply in replies]
    assert sorted(answers) == [("answer 1", "hit")] * 7 + [("answer 1", "miss")]
    assert len(hub.model.requests) == 1


def test_a_client_that_leaves_does_not_take_the_answer_from_the_others(hub: BudgetHub, text: str) -> None:
    gate = Gate()
    hub.model.behaviour = gate.before(numbered())
    hasty = hub.process.client()
    hasty.timeout = 0.5
    body = {"model": "echo-model", "messages": [{"role": "user", "content": text}]}
    with ThreadPoolExecutor(4) as threads:
        leader = threads.submit(hasty.post, "/v1/chat/completions", json=body)
        wait_until(lambda: gate.waiting == 1)
        followers = [threads.submit(hub.ask, text) for _ in range(3)]
        assert leader.exception() is not None
        wait_until(lambda: gate.left_s)
        wait_until(lambda: len(hub.model.requests) == 2)  # one of them asks now, for all
        gate.open()
        assert len({said(follower.result())[0] for follower in followers}) == 1
    assert len(hub.model.requests) == 2
    hasty.close()


def test_an_urgent_request_does_not_wait_behind_one_that_is_not(tmp_path: Path) -> None:
    gate, first = Gate(), Gate()
    with budget_hub(tmp_path, '[cache]\nmode = "on"\n', slots=1) as hub, ThreadPoolExecutor(4) as threads:
        hub.model.behaviour = first.before(echo)
        running = threads.submit(hub.ask, "the slot's")
        wait_until(lambda: first.waiting == 1)
        hub.model.behaviour = gate.before(numbered())
        low = threads.submit(hub.ask, "same", headers={"x-autoglm-priority": "0"})
        wait_until(lambda: hub.metric("autoglm_queue_length") == 1)
        between = threads.submit(hub.ask, "other", headers={"x-autoglm-priority": "5"})
        wait_until(lambda: hub.metric("autoglm_queue_length") == 2)
        high = threads.submit(hub.ask, "same", headers={"x-autoglm-priority": "9"})
        wait_until(lambda: hub.metric("autoglm_queue_length") == 3)
        first.open()
        gate.open()
        assert said(running.result())[0] == "You said: the slot's"
        assert (said(high.result()), said(between.result())) == (("answer 1", "miss"), ("answer 2", "miss"))
        assert said(low.result())[1] == "miss"


def test_control_text_is_out_of_what_is_kept(tmp_path: Path) -> None:
    settings = SETTINGS.replace("talker", "echo-model")
    with budget_hub(tmp_path, settings) as hub:
        stream = [event("<think>secret"), event("</think>hello"), event(None, "stop"), DONE]
        hub.model.behaviour = streaming(*stream)
        first, second = hub.ask(stream=True), hub.ask(stream=True)
        assert second.headers["x-autoglm-cache"] == "hit"
        assert first.content == second.content
        assert b"secret" not in second.content
        assert hub.metric('autoglm_cache_lookups_total{result="hit"}') == 1
        assert hub.metric('autoglm_cache_lookups_total{result="miss"}') == 1
        assert hub.metric("autoglm_cache_entries") == 1
        assert hub.metric("autoglm_cache_bytes") == len(first.content) + 1024


@pytest.mark.parametrize(("mode", "wanted"), [("off", [None] * 3), ("on_request", [None, "miss", "hit"])])
def test_nothing_is_kept_unless_it_is_wanted(tmp_path: Path, mode: str, wanted: list[str | None]) -> None:
    with budget_hub(tmp_path, f'[cache]\nmode = "{mode}"\n') as hub:
        headers = {"x-autoglm-cache": "on"}
        replies = [hub.ask(), hub.ask(headers=headers), hub.ask(headers=headers)]
        assert [reply.headers.get("x-autoglm-cache") for reply in replies] == wanted
        assert len(hub.model.requests) == (3 if mode == "off" else 2)


def test_a_long_answer_that_fits_is_kept(tmp_path: Path) -> None:
    """Over 1 MiB an answer is passed on in pieces."""
    with budget_hub(tmp_path, '[cache]\nmode = "on"\nmax_entry_bytes = 4000000\n') as hub:
        hub.model.behaviour = answering(200, completion("word " * 500_000))
        first, second = hub.ask(), hub.ask()
        assert len(first.content) > 2_500_000
        assert second.content == first.content
        assert second.headers["x-autoglm-cache"] == "hit"
