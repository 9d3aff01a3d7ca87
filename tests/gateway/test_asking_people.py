"""Questions on a hub from outside: asked over HTTP, answered in Telegram or by a program, kept over kill -9."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from eventually import wait_until
from fakes.telegram import CHAT, TOKEN, FakeTelegram
from gateway.inside import hub_inside
from gateway.wire import Wire, call
from hub import HubProcess, running_hub

CONFIG = f"""
[[channel]]
name = "tg"
kind = "telegram"
token = "{TOKEN}"
base_url = "{{url}}"
incoming_to = "user:desk"
senders = ["li"]
chats.li = {CHAT}

[[person]]
address = "user:li"
reach = [{{{{ by = "channel:tg/li" }}}}]

[[key]]
name = "li"
value = "sk-li"
address = "user:li"
scopes = ["send:message:user:li", "read:message:user:li"]
"""


@pytest.fixture
def telegram() -> Iterator[FakeTelegram]:
    with FakeTelegram() as telegram:
        yield telegram


@pytest.fixture
def hub(telegram: FakeTelegram, tmp_path: Path) -> Iterator[HubProcess]:
    with running_hub(tmp_path / "hub", CONFIG.format(url=telegram.url)) as hub:
        yield hub
        assert "Traceback" not in hub.log()


def ask(http: httpx2.Client, to: str = "user:li", **fields: Any) -> str:
    reply = http.post("/api/questions", json={"to": to, "question": "Stop press 7?", **fields})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def question(http: httpx2.Client, id: str, wait: int = 20) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/api/questions/{id}?wait={wait}").json()
    return found


def test_a_button_in_telegram_answers(hub: HubProcess, telegram: FakeTelegram) -> None:
    with hub.client() as http:
        id = ask(http, choices=["Yes", "No"])
        wait_until(lambda: telegram.sent)
        [row_yes, row_no] = telegram.sent[0][1]["reply_markup"]["inline_keyboard"]
        assert (row_yes[0]["text"], row_no[0]["text"]) == ("Yes", "No")
        wait_until(lambda: "sent" in [step["state"] for step in question(http, id, 0)["ways"][1]["steps"]])
        telegram.presses(row_no[0]["callback_data"], 101)
        answer = question(http, id)["answer"]
    assert (answer["choice"], answer["by"]) == ("No", "channel:tg/li")


def test_a_reply_in_telegram_answers(hub: HubProcess, telegram: FakeTelegram) -> None:
    with hub.client() as http:
        id = ask(http, "channel:tg/li")
        wait_until(lambda: "sent" in [step["state"] for step in question(http, id, 0)["ways"][0]["steps"]])
        asked = {"message_id": 101, "date": 0, "chat": {"id": CHAT, "type": "private"}}
        telegram.writes("In ten minutes.", reply_to_message=asked)
        found = question(http, id)
    assert (found["state"], found["answer"]["text"]) == ("answered", "In ten minutes.")


def test_an_answer_that_comes_while_the_hub_is_dead_is_there_afterwards(
    hub: HubProcess, telegram: FakeTelegram
) -> None:
    with hub.client() as http:
        id = ask(http, choices=["yes", "no"])
        wait_until(lambda: "sent" in [step["state"] for step in question(http, id, 0)["ways"][1]["steps"]])
    hub.kill()
    wait_until(lambda: not telegram.polls)
    telegram.writes("yes")
    hub.start()
    with hub.client() as http:
        found = question(http, id)
        assert (found["state"], found["answer"]["choice"]) == ("answered", "yes")
        assert telegram.texts.count(found["question"] + "\n1. yes\n2. no\n（回复编号或文字 / answer with the number or "
                                    "the words）") == 1  # fmt: skip


def test_a_person_answers_with_a_key_of_his_own(hub: HubProcess) -> None:
    with hub.client() as http:
        id = ask(http)
        assert call(hub.port, "sk-li", "GET", f"/api/questions/{id}").status == 404, "who asked is told, nobody else"
        reply = {"to": "user:admin", "content": "Yes.", "reply_to": id}
        assert call(hub.port, "sk-li", "POST", "/api/messages", reply).status == 202
        assert question(http, id)["answer"]["by"] == "user:li"
        assert call(hub.port, "sk-li", "POST", "/api/questions", {"to": "user:x", "question": "?"}).status == 202
        forged = {"to": "user:x", "question": "?", "from": "user:admin"}
        assert call(hub.port, "sk-li", "POST", "/api/questions", forged).status == 403


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"to": "user:a"}, 400, "question"), ({"question": "x"}, 400, "to"), ({"to": "user:a", "question": ""}, 400,
        "question"), ({"to": "user:a", "question": "x", "expires_in_s": 0}, 400, "expires_in_s"),
        ({"to": "user:a", "question": "x", "choices": [""]}, 400, "choices[0]"),
        ({"to": "user:a", "question": "x", "choice": []}, 400, "choice"),
        ({"to": "channel:none/x", "question": "x"}, 404, "to"), ({"to": "group:none", "question": "x"}, 404, "to"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_told(hub: HubProcess, body: dict[str, Any], status: int, field: str) -> None:
    reply = call(hub.port, hub.admin_key, "POST", "/api/questions", body)
    assert (reply.status, reply.json()["field"]) == (status, field)


def test_whoever_waits_at_a_shutdown_gets_the_question_as_it_is(tmp_path: Path) -> None:
    with hub_inside(tmp_path / "data") as inside, Wire(inside.port, inside.key) as wire:
        call(inside.port, inside.key, "POST", "/api/questions", {"to": "user:a", "question": "?", "id": "q"})
        readers = inside.count(lambda: inside.readers)
        wire.request("GET", "/api/questions/q?wait=60")
        wait_until(lambda: inside.count(lambda: inside.readers) > readers)
        inside.stop()
        assert wire.reply().json()["state"] == "open"
