"""WeCom and WeChat through a whole hub: a press acknowledges, an event is the receipt, a stranger's call is nothing."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from autoglm.channels.adapters.wechat.crypto import CallbackCipher, signature_of
from eventually import wait_until
from fakes.wechat_official import ALARM, ALICE, APP_ID, WeChatOfficials
from fakes.wechat_official import SECRET as OA_SECRET
from fakes.wecom_aibot import BOT_ID, WeComAiBots
from fakes.wecom_aibot import SECRET as BOT_SECRET
from fakes.wecom_app import AGENT_ID, CORP_ID, WeComApps
from fakes.wecom_app import SECRET as APP_SECRET
from hub import HubProcess, running_hub

TOKEN, AES_KEY = "callback-token", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"


class Vendors:
    def __init__(self, app: WeComApps, bot: WeComAiBots, account: WeChatOfficials) -> None:
        self.app, self.bot, self.account = app, bot, account


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    with WeComApps() as app, WeComAiBots() as bot, WeChatOfficials() as account:
        yield Vendors(app, bot, account)


@pytest.fixture
def hub(vendors: Vendors, tmp_path: Path) -> Iterator[HubProcess]:
    callback = f'token = "{TOKEN}"\naes_key = "{AES_KEY}"\nsenders = ["*"]'
    config = f"""
[[channel]]
name = "app"
kind = "wecom-app"
corp_id = "{CORP_ID}"
agent_id = {AGENT_ID}
secret = "{APP_SECRET}"
base_url = "{vendors.app.url}"
buttons = {{ ack = "Got it" }}
{callback}

[[channel]]
name = "bot"
kind = "wecom-aibot"
bot_id = "{BOT_ID}"
secret = "{BOT_SECRET}"
url = "{vendors.bot.url}"
buttons = {{ ack = "Got it" }}
senders = ["alice"]

[[channel]]
name = "oa"
kind = "wechat-official"
app_id = "{APP_ID}"
secret = "{OA_SECRET}"
base_url = "{vendors.account.url}"
{callback}
[channel.templates.alarm]
id = "{ALARM}"
fields = {{ thing1 = "{{title}}", time2 = "{{time}}", character_string3 = "{{priority}}" }}
"""
    with running_hub(tmp_path / "hub", config) as hub:
        yield hub


def send(http: httpx2.Client, to: str, **fields: str) -> str:
    reply = http.post("/api/messages", json={"to": to, "content": "The press is down. 压机停了。", **fields})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def states(http: httpx2.Client, id: str) -> list[str]:
    return [step["state"] for step in http.get(f"/api/messages/{quote(id, safe='')}/receipts").json()["receipts"]]


def call(http: httpx2.Client, name: str, receiver: str, inner: str) -> httpx2.Response:
    """The vendor's, from its servers: it has no key of the hub."""
    stamp, text = str(int(time.time())), CallbackCipher(AES_KEY, receiver).encrypt(inner)
    query = {"timestamp": stamp, "nonce": "n+1/=", "msg_signature": signature_of(TOKEN, stamp, "n+1/=", text)}
    body = f"<xml><Encrypt><![CDATA[{text}]]></Encrypt></xml>".encode()
    return http.post(f"/api/hooks/{name}", params=query, content=body, headers={"Content-Type": "text/xml"})


def test_a_press_on_a_card_acknowledges_the_alert(hub: HubProcess, vendors: Vendors) -> None:
    with hub.client() as http, httpx2.Client(base_url=hub.url) as outside:
        id = send(http, "channel:app/alice", kind="alert")
        wait_until(lambda: states(http, id) == ["accepted", "sent"])
        ((_, body),) = vendors.app.shown
        press = (
            f"<xml><ToUserName>{CORP_ID}</ToUserName><FromUserName>alice</FromUserName><CreateTime>1</CreateTime>"
            "<MsgType>event</MsgType><Event>template_card_event</Event><EventKey>ack</EventKey>"
            f"<TaskId>{body['template_card']['task_id']}</TaskId><CardType>button_interaction</CardType></xml>"
        )
        for _ in range(2):  # WeCom calls again
            reply = call(outside, "app", CORP_ID, press)
            assert (reply.status_code, b"Encrypt" in reply.content) == (200, True)
        assert states(http, id) == ["accepted", "sent", "acknowledged"]


def test_a_press_in_an_ai_bots_chat_does_as_well(hub: HubProcess, vendors: Vendors) -> None:
    with hub.client() as http:
        id = send(http, "channel:bot/alice", kind="alert")
        wait_until(lambda: states(http, id) == ["accepted", "sent"])
        task = vendors.bot.shown[0][1]["template_card"]["task_id"]
        event = {"eventtype": "template_card_event", "event_key": "ack", "task_id": task}
        press = {"msgid": "e1", "msgtype": "event", "from": {"userid": "alice"}, "event": event}
        vendors.bot.say(press, req_id="r1", cmd="aibot_event_callback")
        wait_until(lambda: states(http, id)[-1] == "acknowledged")


@pytest.mark.parametrize(("status", "state"), [("success", "delivered"), ("failed:user block", "failed")])
def test_the_event_of_a_template_message_is_its_receipt(hub: HubProcess, status: str, state: str) -> None:
    with hub.client() as http, httpx2.Client(base_url=hub.url) as outside:
        id = send(http, f"channel:oa/{ALICE}")
        wait_until(lambda: states(http, id) == ["accepted", "sent"])
        event = f"<Event>TEMPLATESENDJOBFINISH</Event><MsgID>200228332</MsgID><Status>{status}</Status>"
        assert call(outside, "oa", APP_ID, f"<xml><MsgType>event</MsgType>{event}</xml>").text == "success"
        assert states(http, id) == ["accepted", "sent", state]


def test_the_address_is_verified_to_the_byte_and_strangers_are_refused(hub: HubProcess) -> None:
    stamp, echo = str(int(time.time())), CallbackCipher(AES_KEY, CORP_ID).encrypt("1616140317555161061")
    query = {"timestamp": stamp, "nonce": "n", "echostr": echo, "msg_signature": signature_of(TOKEN, stamp, "n", echo)}
    with httpx2.Client(base_url=hub.url) as outside:
        assert outside.get("/api/hooks/app", params=query).content == b"1616140317555161061"
        assert outside.get("/api/hooks/app", params={**query, "nonce": "m"}).status_code == 403
        assert outside.post("/api/hooks/app", content=b"<xml/>").status_code == 403
        assert outside.get("/api/hooks/bot").status_code == 404  # an AI bot hears by its own connection
