"""kill -9, again and again, while sixteen clients send: what was acknowledged is there, once, and in order.

AUTOGLM_TEST_KILL_MESSAGES and AUTOGLM_TEST_KILLS change the size (`make soak`).
"""

import json
import os
import random
import threading
import time
from functools import partial
from pathlib import Path

from eventually import wait_until
from gateway.wire import Wire, call
from hub import HubProcess, running_hub

MESSAGES = int(os.environ.get("AUTOGLM_TEST_KILL_MESSAGES", "20000"))  # noqa: TID251  # tests only
KILLS = int(os.environ.get("AUTOGLM_TEST_KILLS", "10"))  # noqa: TID251  # tests only
SENDERS = 16
EACH = MESSAGES // SENDERS
INBOX = "user:inbox"


class Sender(threading.Thread):
    """Sends its messages one after the other, each until it is acknowledged. Retries are repeats of the same id."""

    def __init__(self, number: int, hub: HubProcess, key: str) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.hub = hub
        self.key = key
        self.acknowledged: list[tuple[str, int]] = []
        self.retries = 0
        self.failure = ""

    def run(self) -> None:
        wire: Wire | None = None
        while len(self.acknowledged) < EACH and not self.failure:
            try:
                if wire is None:
                    wire = Wire(self.hub.port, self.key)
                self._send(wire, len(self.acknowledged))
            except OSError:  # the hub is dead, or died while it answered
                self.retries += 1
                if wire is not None:
                    wire.close()
                wire = None
                time.sleep(0.005)  # the pause of a client that tries again
        if wire is not None:
            wire.close()

    def _send(self, wire: Wire, count: int) -> None:
        message = {
            "id": f"{self.number}-{count}", "from": f"device:s{self.number}", "to": INBOX, "content": str(count),
            "timestamp": count,
        }  # fmt: skip
        wire.request("POST", "/api/messages", json.dumps(message).encode())
        reply = wire.reply()
        if reply.status not in (200, 202):
            self.failure = f"{reply.status} {reply.body!r}"
            return
        answer = reply.json()
        self.acknowledged.append((answer["id"], answer["seq"]))


def test_what_was_acknowledged_survives_ten_kills(tmp_path: Path) -> None:
    chance = random.Random(20_260_101)
    moments = sorted(chance.randrange(MESSAGES // 20, MESSAGES * 19 // 20) for _ in range(KILLS))
    with running_hub(tmp_path / "data") as hub:
        senders = [Sender(number, hub, hub.admin_key) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        for moment in moments:
            wait_until(partial(have_come_to, senders, moment), 300, every_s=0.0005)
            hub.kill()
            hub.start()
        for sender in senders:
            sender.join(300)
        assert [sender.failure for sender in senders] == [""] * SENDERS
        read = everything(hub)
        assert hub.log().count("hub_recovered") == KILLS
    promised = {id: seq for sender in senders for id, seq in sender.acknowledged}
    assert len(promised) == SENDERS * EACH
    assert sum(sender.retries for sender in senders) >= KILLS  # else no kill hit anybody
    assert dict(read) == promised
    assert len(read) == len(promised)  # none is there twice
    assert [seq for _, seq in read] == sorted(seq for _, seq in read)
    for number in range(SENDERS):
        assert [id for id, _ in read if id.startswith(f"{number}-")] == [f"{number}-{count}" for count in range(EACH)]


def have_come_to(senders: list[Sender], count: int) -> bool:
    failures = [sender.failure for sender in senders if sender.failure]
    assert not failures, failures
    return sum(len(sender.acknowledged) for sender in senders) >= count


def everything(hub: HubProcess) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    after = 0
    while True:
        page = call(hub.port, hub.admin_key, "GET", f"/api/messages?to={INBOX}&after={after}&limit=1000").json()
        if not page["messages"]:
            return found
        found += [(message["id"], message["seq"]) for message in page["messages"]]
        after = page["next"]
