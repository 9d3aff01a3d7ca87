"""What messages and tasks cost is charged to the key that posted them, whoever's address they come from."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from eventually import wait_until
from gateway.budget_hub import BudgetHub, budget_hub
from scripted_model import Gate, Request, answering, completion, event, streaming

SETTINGS = """
[[key]]
name = "bob"
value = "sk-bob"
address = "user:bob"
scopes = ["model:use:*", "send:message:user:bob", "read:message:user:bob"]

[[key]]
name = "robot"
value = "sk-robot"
address = "user:bob"
tenant = "robots"
scopes = ["model:use:*", "send:message:user:*", "read:message:user:*"]

[[budget]]
name = "keys"
key = "*"
tokens = 100000

[[budget]]
name = "tenants"
tenant = "*"
tokens = 100000
"""
TOKENS = 50
USAGE = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": TOKENS}
USAGE_EVENT = event(None).replace(b'"choices"', b'"usage":' + json.dumps(USAGE).encode() + b',"choices"', 1)


async def told(request: Request, *stream: Any) -> None:
    """An answer that tells its usage, streamed or whole, as it is asked for."""
    if request.json().get("stream"):
        behave = streaming(event("hello"), event(None, "stop"), USAGE_EVENT, b"data: [DONE]\n\n")
    else:
        behave = answering(200, {**completion("hello"), "usage": USAGE})
    await behave(request, *stream)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BudgetHub]:
    with budget_hub(tmp_path_factory.mktemp("payers"), SETTINGS) as running:
        yield running


@pytest.fixture
def hub(shared: BudgetHub) -> BudgetHub:
    """Nothing is used of any budget."""
    shared.model.behaviour = told
    shared.forget_use()
    return shared


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def message(**fields: Any) -> dict[str, Any]:
    return {"id": f"m-{time.monotonic_ns()}", "to": "model:echo-model", "from": "user:bob", "content": "hi", **fields}


def post(hub: BudgetHub, key: str, wanted: dict[str, Any]) -> int:
    return int(hub.client.post("/api/messages", json=wanted, headers=bearer(key)).status_code)


def used(hub: BudgetHub) -> dict[str, float]:
    """What keys and tenants have used, where they have."""
    return {
        subject: entry["tokens"]["used"] for (_, subject), entry in hub.budgets().items() if entry["tokens"]["used"]
    }


def test_a_message_is_paid_by_the_key_that_posted_it(hub: BudgetHub) -> None:
    """Both keys have the same address, and the first of them would be taken by it."""
    assert post(hub, "sk-robot", message()) == 202
    wait_until(lambda: used(hub) == {"robot": TOKENS, "robots": TOKENS})
    assert post(hub, "sk-robot", message(**{"from": "user:eve"})) == 202
    wait_until(lambda: used(hub) == {"robot": 2 * TOKENS, "robots": 2 * TOKENS})
    assert post(hub, "sk-robot", message(expires_at=(int(time.time()) + 600) * 1000)) == 202
    wait_until(lambda: used(hub) == {"robot": 3 * TOKENS, "robots": 3 * TOKENS})
    assert post(hub, "sk-bob", message()) == 202
    wait_until(lambda: used(hub) == {"robot": 3 * TOKENS, "robots": 3 * TOKENS, "bob": TOKENS})


def test_so_are_tasks_and_what_comes_by_a_socket(hub: BudgetHub) -> None:
    task = {"request": {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}}
    assert hub.client.post("/api/tasks", json=task, headers=bearer("sk-robot")).status_code == 202
    wait_until(lambda: used(hub) == {"robot": TOKENS, "robots": TOKENS})
    url = f"ws://127.0.0.1:{hub.process.port}/api/ws"
    with connect(url, additional_headers=bearer("sk-robot"), proxy=None) as socket:
        socket.recv(timeout=20)
        socket.send(json.dumps({"type": "send", "message": message()}))
        assert json.loads(socket.recv(timeout=20))["type"] == "accepted"
        wait_until(lambda: used(hub) == {"robot": 2 * TOKENS, "robots": 2 * TOKENS})


def test_nobody_names_another_as_the_payer(hub: BudgetHub) -> None:
    assert post(hub, "sk-bob", message(payer="robot")) == 400
    assert post(hub, "sk-bob", message(id="payer m-1")) == 400
    wanted = message(labels={"payer": "robot", "key": "robot", "tenant": "robots"})
    assert post(hub, "sk-bob", wanted) == 202
    assert post(hub, "sk-robot", wanted) == 200, "who repeats it does not pay"
    wait_until(lambda: used(hub) == {"bob": TOKENS})
    shown = hub.client.get(f"/api/messages/{wanted['id']}").json()
    assert "robot" not in json.dumps({**shown, "labels": {}}), "nor is it said who pays"


@pytest.mark.parametrize("posts_again", [False, True])
def test_a_kill_changes_no_payer(tmp_path: Path, *, posts_again: bool) -> None:
    with budget_hub(tmp_path, SETTINGS) as hub:
        gate = Gate()
        hub.model.behaviour = gate.before(told)
        wanted = message()
        assert post(hub, "sk-robot", wanted) == 202
        wait_until(lambda: gate.waiting)
        hub.process.kill()
        hub.model.behaviour = told
        hub.process.start()
        hub.client.close()
        hub.client = hub.process.client()
        if posts_again:
            assert post(hub, "sk-bob", wanted) == 200
        wait_until(lambda: used(hub) == {"robot": TOKENS, "robots": TOKENS})


def test_over_budget_each_key_waits_for_itself(tmp_path: Path) -> None:
    with budget_hub(tmp_path, SETTINGS + '[[budget]]\nname = "few"\nkey = "robot"\nrequests = 1\n') as hub:
        hub.model.behaviour = told
        assert post(hub, "sk-robot", message()) == 202
        wait_until(lambda: used(hub) == {"robot": TOKENS, "robots": TOKENS})
        assert post(hub, "sk-robot", message()) == 202
        wait_until(lambda: "message_parked" in hub.process.log())
        assert post(hub, "sk-bob", message()) == 202
        wait_until(lambda: used(hub) == {"robot": TOKENS, "robots": TOKENS, "bob": TOKENS})
