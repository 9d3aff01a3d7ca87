"""SMS through a whole hub: what gateways report of a message decides whether an alarm's next step is taken."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from eventually import wait_until
from fakes.sms_aliyun import KEY_ID, KEY_SECRET, SIGN_NAME, TEMPLATE, AliyunSms
from fakes.sms_gateway import ACCOUNT, PASSWORD, SmsGateway
from hub import running_hub

TOKEN = "a-long-token-of-ours"
BODY = json.dumps({"account": ACCOUNT, "mobile": "{to}", "content": "{text}", "ref": "{id}"})
ALICE, BOB = "+8613800138000", "+8613900139000"
GATEWAY = f"""
[[channel]]
name = "sms"
kind = "http-sms"
url = "{{url}}/json"
headers = {{{{ X-Password = "{PASSWORD}" }}}}
body = '{BODY.replace("{", "{{").replace("}", "}}")}'
code_path = "result.code"
ticket_path = "data.0.id"
receipt_ticket_path = "msgid"
receipt_status_path = "status"
receipts = {{{{ DELIVRD = "delivered", UNDELIV = "permanent" }}}}
hook_token = "{TOKEN}"
numbers = {{{{ alice = "{ALICE}", bob = "{BOB}" }}}}

[[route]]
name = "alarms"
match = {{{{ kinds = ["alert"] }}}}
to = ["channel:sms/alice"]
then = [{{{{ after_s = {{after_s}}, unless = "delivered", to = ["channel:sms/bob"] }}}}]
"""
ALIYUN = f"""
[[channel]]
name = "sms"
kind = "sms-aliyun"
base_url = "{{url}}"
access_key_id = "{KEY_ID}"
access_key_secret = "{KEY_SECRET}"
sign_name = "{SIGN_NAME}"
template_code = "{TEMPLATE}"
hook_token = "{TOKEN}"
numbers = {{{{ alice = "{ALICE}" }}}}
senders = ["alice"]
incoming_to = "user:desk"

[[route]]
name = "alarms"
match = {{{{ kinds = ["alert"] }}}}
to = ["channel:sms/alice"]
then = [{{{{ after_s = 3600, unless = "delivered", to = ["user:boss"] }}}}]
"""


@pytest.fixture
def gateway() -> Iterator[SmsGateway]:
    with SmsGateway() as gateway:
        yield gateway


@pytest.fixture
def aliyun() -> Iterator[AliyunSms]:
    with AliyunSms() as aliyun:
        yield aliyun


def alarm(http: httpx2.Client, text: str) -> str:
    """Returns the event's id once its SMS is `sent`: its ticket is on disk then."""
    id: str = http.post("/api/events", json={"kind": "alert", "content": text, "labels": {"line": text}}).json()["id"]
    wait_until(lambda: told(http, id) == {"channel:sms/alice": ["sent"]})
    return id


def account(http: httpx2.Client, id: str) -> Any:
    return http.get(f"/api/events/{id}").json()


def told(http: httpx2.Client, id: str) -> dict[str, list[str]]:
    """The states of the event's message, by each address that it went to."""
    notices = account(http, id)["notices"]
    return {one["notice"]["to"]: [step["state"] for step in one["steps"]] for one in notices}


def hook(http: httpx2.Client, body: object) -> None:
    """As the gateway calls it: by its token alone."""
    reply = httpx2.post(f"{http.base_url}/api/hooks/sms", params={"token": TOKEN}, json=body)
    assert reply.status_code == 200


def test_the_next_step_is_taken_unless_the_gateway_reports_delivery(tmp_path: Path, gateway: SmsGateway) -> None:
    with running_hub(tmp_path, GATEWAY.format(url=gateway.url, after_s=5)) as hub, hub.client() as http:
        reported = alarm(http, "reported")
        hook(http, [{"msgid": 1, "status": "DELIVRD"}])
        unreported = alarm(http, "unreported")
        wait_until(lambda: told(http, unreported) == {"channel:sms/alice": ["sent"], "channel:sms/bob": ["sent"]})
        wait_until(lambda: not account(http, reported)["is_open"])  # its time came first, and it is decided
        assert told(http, reported) == {"channel:sms/alice": ["sent", "delivered"]}
    assert [(number, text) for number, text, _ in gateway.sent] == [
        (ALICE, "reported"), (ALICE, "unreported"), (BOB, "unreported"),
    ]  # fmt: skip


def test_the_next_step_is_taken_at_once_when_the_gateway_reports_a_failure(tmp_path: Path, gateway: SmsGateway) -> None:
    """Also where the hub is killed between the message and its report."""
    with running_hub(tmp_path, GATEWAY.format(url=gateway.url, after_s=3_600)) as hub:
        with hub.client() as http:
            id = alarm(http, "lost")
        hub.kill()
        hub.start()
        with hub.client() as http:
            hook(http, {"msgid": 1, "status": "UNDELIV"})
            wait_until(lambda: told(http, id).get("channel:sms/bob") == ["sent"])
            assert told(http, id)["channel:sms/alice"] == ["sent", "failed"]


def test_a_killed_hub_goes_on_asking_for_the_receipt(tmp_path: Path, aliyun: AliyunSms) -> None:
    """Else the SMS stayed `sent`, and nobody else were told for an hour."""
    with running_hub(tmp_path, ALIYUN.format(url=aliyun.url)) as hub:
        with hub.client() as http:
            id = alarm(http, "lost")
        hub.kill()
        aliyun.statuses = dict.fromkeys(aliyun.statuses, (2, "MK:0001"))
        hub.start()
        with hub.client() as http:
            wait_until(lambda: "user:boss" in told(http, id), timeout_s=40)
            (notice,) = [one for one in account(http, id)["notices"] if one["notice"]["to"] == "channel:sms/alice"]
    assert [(notice["steps"][-1][name]) for name in ("state", "code")] == ["failed", "MK:0001"]


def test_a_killed_hub_knows_what_a_reply_is_for(tmp_path: Path, aliyun: AliyunSms) -> None:
    """Whatever it says: a reply by SMS names no message."""
    with running_hub(tmp_path, ALIYUN.format(url=aliyun.url)) as hub:
        with hub.client() as http:
            id = alarm(http, "down")
        hub.kill()
        hub.start()
        with hub.client() as http:
            up = {"phone_number": ALICE[3:], "send_time": "2026-01-31 08:00:00", "content": "I am on my way"}
            hook(http, [{**up, "sequence_id": 7}])
            assert account(http, id)["acknowledged_by"] == "channel:sms/alice"
