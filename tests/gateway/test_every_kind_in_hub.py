"""One hub with a channel of each kind: the doctor finds each ready, a message to each arrives once, with its receipt.

Behind each channel is the strict fake of its vendor, or the real server.
"""

import base64
import importlib.util
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote

import httpx2
import pytest
import trustme
from anyio.from_thread import BlockingPortal, start_blocking_portal

from alertmanager_process import PROGRAM as ALERTMANAGER
from alertmanager_process import AlertmanagerProcess
from autoglm.channels.adapters.wechat.crypto import CallbackCipher, signature_of
from autoglm.channels.kinds import KINDS
from cli.terminal import autoglm
from eventually import wait_until
from fakes import (
    dingtalk_app,
    dingtalk_robot,
    elasticsearch,
    feishu_app,
    feishu_robot,
    imap_server,
    ntfy,
    sms_aliyun,
    sms_gateway,
    sms_tencent,
    smtp_server,
    telegram,
    wechat_official,
    wecom_aibot,
    wecom_app,
    wecom_robot,
)
from fakes.alertmanager import FaultyFront
from fakes.apprise_json import JsonServer
from fakes.push_service import PushService
from fakes.webhooks import WebhookReceiver
from hub import HubProcess, running_hub
from mosquitto import Device, Mosquitto
from toml_text import toml_text

T = TypeVar("T")
KIND = pytest.mark.parametrize("kind", KINDS)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "channels" / "README.md"
HOOK_TOKEN = "a-token-that-is-long-enough"
CALLBACK_TOKEN, AES_KEY = "callback-token", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"of the ERP" * 3).decode()
NUMBERS = {"alice": "+8613800138000"}
MISSING = {
    "alertmanager": "" if shutil.which(ALERTMANAGER) else ALERTMANAGER,
    "apprise": "" if importlib.util.find_spec("apprise") else "the extra apprise",
    "mqtt": "" if shutil.which("mosquitto") else "mosquitto",
}
"""What this machine lacks for a kind."""


class Scene:
    """Where fakes are started; they end with it."""

    def __init__(self, folder: Path, stack: ExitStack, portal: BlockingPortal) -> None:
        self.folder = folder
        self._stack, self._portal = stack, portal

    def enter(self, fake: AbstractContextManager[T]) -> T:
        return self._stack.enter_context(fake)

    def enter_async(self, fake: AbstractAsyncContextManager[T]) -> T:
        """One that runs on an event loop: on that of another thread."""
        return self._stack.enter_context(self._portal.wrap_async_context_manager(fake))


class Station(NamedTuple):
    """The far end of a channel."""

    settings: dict[str, Any]
    """Of its `[[channel]]`, beside name and kind."""
    target: str
    texts: Callable[[], Sequence[str]]
    """What arrived, in order."""
    receipt: Literal["sent", "delivered", "unknown"] = "sent"
    """How the message ends. unknown: `sent`, with words that nothing is known."""
    is_up: Callable[[], bool] = lambda: True
    """Whether the connection stands that the hub opens by itself."""
    prepare: Callable[[HubProcess], None] = lambda hub: None
    """What a recipient does before messages come."""
    report: Callable[[HubProcess], None] = lambda hub: None
    """The vendor tells what became of the message, where it does so later."""


def of_alertmanager(scene: Scene) -> Station:
    process = scene.enter(AlertmanagerProcess(scene.folder / "alertmanager"))
    front = scene.enter(FaultyFront(process.url))
    return Station({"servers": {"main": {"url": front.url}}}, "main", lambda: front.texts)


def of_apprise(scene: Scene) -> Station:
    server = scene.enter(JsonServer())
    services = {"desk": {"url": server.apprise_url}}
    return Station({"services": services}, "desk", lambda: server.texts, "unknown")


def of_elasticsearch(scene: Scene) -> Station:
    vendor = scene.enter(elasticsearch.FakeElasticsearch())
    settings = {"url": vendor.url, "api_key": elasticsearch.API_KEY, "indexes": {"main": vendor.indexes[0]}}
    return Station(settings, "main", lambda: vendor.texts, "delivered")


def of_ntfy(scene: Scene) -> Station:
    vendor = scene.enter(ntfy.FakeNtfy())
    settings = {"url": vendor.url, "token": ntfy.TOKEN, "topics": {"line": {"topic": ntfy.TOPIC}}}
    return Station(settings, "line", lambda: vendor.texts)


def of_telegram(scene: Scene) -> Station:
    vendor = scene.enter(telegram.FakeTelegram())
    settings = {"base_url": vendor.url, "token": telegram.TOKEN, "chats": {"li": telegram.CHAT}}
    return Station(settings, "li", lambda: vendor.texts)


def of_dingtalk_app(scene: Scene) -> Station:
    vendor = scene.enter(dingtalk_app.DingTalkOpenApi())
    stream = scene.enter_async(dingtalk_app.DingTalkStream(vendor))
    credentials = {"client_id": dingtalk_app.CLIENT_ID, "client_secret": dingtalk_app.CLIENT_SECRET}
    is_up = lambda: bool(stream.connections)  # noqa: E731
    return Station({"base_url": vendor.url, **credentials}, "manager7", lambda: vendor.texts, is_up=is_up)


def of_dingtalk_robot(scene: Scene) -> Station:
    vendor = scene.enter(dingtalk_robot.DingTalkRobots())
    robot = {"access_token": dingtalk_robot.TOKEN, "secret": dingtalk_robot.SECRET}
    return Station({"base_url": vendor.url, "robots": {"ops": robot}}, "ops", lambda: vendor.texts)


def of_feishu_app(scene: Scene) -> Station:
    vendor = scene.enter(feishu_app.FeishuOpenApi())
    connection = scene.enter_async(feishu_app.FeishuConnection(vendor))
    credentials = {"app_id": feishu_app.APP_ID, "app_secret": feishu_app.APP_SECRET}
    is_up = lambda: bool(connection.connections)  # noqa: E731
    return Station({"base_url": vendor.url, **credentials}, "ou_18eac8", lambda: vendor.texts, is_up=is_up)


def of_feishu_robot(scene: Scene) -> Station:
    vendor = scene.enter(feishu_robot.FeishuRobots())
    robot = {"token": feishu_robot.TOKEN, "secret": feishu_robot.SECRET}
    return Station({"base_url": vendor.url, "robots": {"ops": robot}}, "ops", lambda: vendor.texts)


def of_http_sms(scene: Scene) -> Station:
    gateway = scene.enter(sms_gateway.SmsGateway())
    body = {"account": sms_gateway.ACCOUNT, "mobile": "{to}", "content": "{text}", "ref": "{id}"}
    settings = {
        "url": f"{gateway.url}/json", "headers": {"X-Password": sms_gateway.PASSWORD}, "body": json.dumps(body),
        "numbers": NUMBERS, "code_path": "result.code", "ticket_path": "data.0.id",
    }  # fmt: skip
    return Station(settings, "alice", lambda: gateway.texts)


def of_mail(scene: Scene) -> Station:
    authority = trustme.CA()
    ca_file = scene.folder / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    outgoing = scene.enter_async(smtp_server.mail_server(authority))
    mailbox = scene.enter_async(imap_server.imap_server(authority))
    common = {"host": "localhost", "ca_file": str(ca_file)}
    smtp = {"port": outgoing.port, "username": smtp_server.USER, "password": smtp_server.PASSWORD, **common}
    imap = {"port": mailbox.port, "username": imap_server.USER, "password": imap_server.PASSWORD, **common}
    settings = {"address": "hub@hub.example", "smtp": smtp, "imap": imap}
    return Station(settings, "alice@example.org", lambda: [text.strip() for text in outgoing.texts])


def of_sms_aliyun(scene: Scene) -> Station:
    vendor = scene.enter(sms_aliyun.AliyunSms())

    def report(hub: HubProcess) -> None:
        (ticket,) = vendor.statuses
        found = {"biz_id": ticket, "phone_number": "13800138000", "success": True, "err_code": "DELIVERED"}
        url = f"{hub.url}/api/hooks/sms-aliyun?token={HOOK_TOKEN}"
        assert httpx2.post(url, json=[found], timeout=20).json()["code"] == 0

    settings = {
        "base_url": vendor.url, "access_key_id": sms_aliyun.KEY_ID, "access_key_secret": sms_aliyun.KEY_SECRET,
        "sign_name": sms_aliyun.SIGN_NAME, "template_code": sms_aliyun.TEMPLATE, "numbers": NUMBERS,
        "hook_token": HOOK_TOKEN,
    }  # fmt: skip
    return Station(settings, "alice", lambda: vendor.texts, "delivered", report=report)


def of_sms_tencent(scene: Scene) -> Station:
    vendor = scene.enter(sms_tencent.TencentSms())

    def report(hub: HubProcess) -> None:
        found = {"SerialNo": "2019:538884000001", "ReportStatus": "SUCCESS", "Description": "DELIVRD"}
        vendor.statuses.append({**found, "PhoneNumber": NUMBERS["alice"], "UserReceiveTime": 1_570_526_317})

    settings = {
        "base_url": vendor.url, "secret_id": sms_tencent.SECRET_ID, "secret_key": sms_tencent.SECRET_KEY,
        "sdk_app_id": sms_tencent.APP, "sign_name": sms_tencent.SIGN_NAME, "template_id": "1110", "numbers": NUMBERS,
        "pull_every_s": 1,
    }  # fmt: skip
    return Station(settings, "alice", lambda: vendor.texts, "delivered", report=report)


def of_web_push(scene: Scene) -> Station:
    service = scene.enter(PushService())
    browser = service.browser()

    def switch_on(hub: HubProcess) -> None:
        url, headers = f"{hub.url}/api/push/subscriptions", {"Authorization": "Bearer sk-alice"}
        httpx2.post(url, json=browser.subscription(), headers=headers, timeout=20).raise_for_status()

    settings = {"contact": "mailto:it@example.org", "allow": ["127.0.0.1"]}
    return Station(settings, "alice", lambda: [notice["text"] for notice in browser.notices], prepare=switch_on)


def of_webhook(scene: Scene) -> Station:
    receiver = scene.enter(WebhookReceiver(WEBHOOK_SECRET))
    endpoint = {"url": f"{receiver.url}/hooks", "secret": WEBHOOK_SECRET}
    settings = {"allow": ["127.0.0.1"], "endpoints": {"erp": endpoint}}
    return Station(settings, "erp", lambda: receiver.texts, "delivered")


def of_mqtt(scene: Scene) -> Station:
    broker = scene.enter(Mosquitto(scene.folder))
    device = scene.enter(Device(broker.port, "press/#"))
    return Station({"url": broker.url}, "press/orders", lambda: device.texts)


def of_wecom_robot(scene: Scene) -> Station:
    vendor = scene.enter(wecom_robot.WeComRobots())
    return Station({"base_url": vendor.url, "robots": {"ops": {"key": wecom_robot.KEY}}}, "ops", lambda: vendor.texts)


def of_wecom_app(scene: Scene) -> Station:
    vendor = scene.enter(wecom_app.WeComApps())
    credentials = {"corp_id": wecom_app.CORP_ID, "agent_id": wecom_app.AGENT_ID, "secret": wecom_app.SECRET}
    return Station({"base_url": vendor.url, **credentials}, "alice", lambda: vendor.texts)


def of_wecom_aibot(scene: Scene) -> Station:
    vendor = scene.enter(wecom_aibot.WeComAiBots())
    settings = {"url": vendor.url, "bot_id": wecom_aibot.BOT_ID, "secret": wecom_aibot.SECRET}
    return Station(settings, "alice", lambda: vendor.texts, is_up=lambda: vendor.subscriptions == 1)


def of_wechat_official(scene: Scene) -> Station:
    """By a template, which is what has a receipt."""
    vendor = scene.enter(wechat_official.WeChatOfficials())

    def report(hub: HubProcess) -> None:
        event = "<Event>TEMPLATESENDJOBFINISH</Event><MsgID>200228332</MsgID><Status>success</Status>"
        inner, stamp = f"<xml><MsgType>event</MsgType>{event}</xml>", str(int(time.time()))
        text = CallbackCipher(AES_KEY, wechat_official.APP_ID).encrypt(inner)
        signature = signature_of(CALLBACK_TOKEN, stamp, "n", text)
        query = {"timestamp": stamp, "nonce": "n", "msg_signature": signature}
        url, body = f"{hub.url}/api/hooks/wechat-official", f"<xml><Encrypt>{text}</Encrypt></xml>"
        assert httpx2.post(url, params=query, content=body, timeout=20).text == "success"

    fields = {"thing1": "{text}", "time2": "{time}", "character_string3": "{priority}"}
    settings = {
        "base_url": vendor.url, "app_id": wechat_official.APP_ID, "secret": wechat_official.SECRET,
        "token": CALLBACK_TOKEN, "aes_key": AES_KEY,
        "templates": {"alarm": {"id": wechat_official.ALARM, "fields": fields}},
    }  # fmt: skip
    texts = lambda: [body["data"]["thing1"]["value"] for _, body in vendor.shown]  # noqa: E731
    return Station(settings, wechat_official.ALICE, texts, "delivered", report=report)


STATIONS: dict[str, Callable[[Scene], Station]] = {
    "alertmanager": of_alertmanager,
    "apprise": of_apprise,
    "elasticsearch": of_elasticsearch,
    "ntfy": of_ntfy,
    "telegram": of_telegram,
    "dingtalk-app": of_dingtalk_app,
    "dingtalk-robot": of_dingtalk_robot,
    "feishu-app": of_feishu_app,
    "feishu-robot": of_feishu_robot,
    "http-sms": of_http_sms,
    "mail": of_mail,
    "sms-aliyun": of_sms_aliyun,
    "sms-tencent": of_sms_tencent,
    "web-push": of_web_push,
    "webhook": of_webhook,
    "mqtt": of_mqtt,
    "wecom-robot": of_wecom_robot,
    "wecom-app": of_wecom_app,
    "wecom-aibot": of_wecom_aibot,
    "wechat-official": of_wechat_official,
}


class Hall:
    """The hub and its stations, each channel named as its kind."""

    def __init__(self, hub: HubProcess, stations: dict[str, Station]) -> None:
        self.hub = hub
        self._stations = stations
        self.doctor = autoglm("doctor", "channels", data=hub.data_dir)
        self.doctor_json = autoglm("doctor", "channels", "--json", data=hub.data_dir)

    def station(self, kind: str) -> Station:
        """Skips where this machine lacks what the kind needs."""
        if missing := MISSING.get(kind):
            pytest.skip(f"{missing} is not installed")
        return self._stations[kind]


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    folder = tmp_path_factory.mktemp("kinds")
    with start_blocking_portal() as portal, ExitStack() as stack:
        scene = Scene(folder, stack, portal)
        stations = {kind: made(scene) for kind, made in STATIONS.items() if not MISSING.get(kind)}
        channels = [{"name": kind, "kind": kind, **station.settings} for kind, station in stations.items()]
        alice = {"name": "alice", "value": "sk-alice", "address": "user:alice", "scopes": ["read:message:user:alice"]}
        with running_hub(folder / "hub", toml_text({"channel": channels, "key": [alice]})) as hub:
            for station in stations.values():
                wait_until(station.is_up)
                station.prepare(hub)
            yield Hall(hub, stations)


def documented_receipts(kind: str) -> str:
    """What the docs' table says under `receipts`."""
    (row,) = re.findall(rf"^\| \[`{kind}`\]\(.*\|$", PAGE.read_text(), re.MULTILINE)
    return str(row.split(" | ")[3])


def steps(http: httpx2.Client, id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(f"/api/messages/{quote(id, safe='')}/receipts").json()["receipts"]
    return found


def test_each_kind_has_a_station() -> None:
    assert sorted(STATIONS) == sorted(KINDS)


@KIND
def test_the_doctor_finds_it_ready(hall: Hall, kind: str) -> None:
    hall.station(kind)
    (found,) = [channel for channel in json.loads(hall.doctor_json.out) if channel["name"] == kind]
    assert (found["kind"], found["health"]["ok"], found["health"]["code"]) == (kind, True, "")
    assert re.search(rf"^ok +{kind} +{kind} ", hall.doctor.out, re.MULTILINE)


def test_the_doctor_ends_well_with_a_line_for_each(hall: Hall) -> None:
    assert (hall.doctor.status, hall.doctor_json.status) == (0, 0)
    assert len(json.loads(hall.doctor_json.out)) == len(hall.doctor.out.splitlines()) - 1  # its heading


@KIND
def test_a_message_arrives_once_and_ends_as_the_docs_say(hall: Hall, kind: str) -> None:
    station, text = hall.station(kind), f"{kind} 停了"  # short enough for a field of a template
    with hall.hub.client() as http:
        reply = http.post("/api/messages", json={"to": f"channel:{kind}/{station.target}", "content": text})
        assert reply.status_code == 202, reply.text
        id = reply.json()["id"]
        wait_until(lambda: len(steps(http, id)) == 2)
        station.report(hall.hub)
        last = "delivered" if station.receipt == "delivered" else "sent"
        wait_until(lambda: steps(http, id)[-1]["state"] == last)
        accepted, *_, end = steps(http, id)
    assert accepted["state"] == "accepted"
    assert ("not known" in end.get("detail", "")) is (station.receipt == "unknown")
    assert list(station.texts()) == [text]
    words = {"sent": "accepted", "delivered": "delivered", "unknown": "delivery unknown"}
    assert words[station.receipt] in documented_receipts(kind)
