"""Where a vendor's answers lead: a vendor on the internet to public hosts, and nobody anywhere by a redirect."""

from http import HTTPStatus

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from autoglm.channels.adapters.dingtalk import openapi as dingtalk
from autoglm.channels.adapters.feishu import openapi as feishu
from autoglm.channels.adapters.wecom_aibot.channel import WeComAiBot
from autoglm.channels.adapters.wecom_aibot.settings import WeComAiBotSettings
from autoglm.channels.channel import Resources
from autoglm.channels.line import Line, NoLine
from autoglm.channels.web import Answer, vendor_guard
from scripted_model import ScriptedModel

PRIVATE = "wss://10.1.2.3/stream?service_id=1&device_id=2"


def test_only_a_vendor_on_the_internet_is_held_to_public_hosts() -> None:
    """A server that an operator named may stand in the site, and lead to its neighbours."""
    assert vendor_guard("https://api.dingtalk.com", "https://api.dingtalk.com") is not None
    assert vendor_guard("http://10.0.0.5", "https://api.dingtalk.com") is None


@pytest.mark.attack("server-side request forgery by a vendor's answer")
@pytest.mark.parametrize("base_url", ["usual", "http://10.0.0.5"])
async def test_a_vendor_s_stream_is_not_sought_in_a_private_network(
    monkeypatch: pytest.MonkeyPatch, base_url: str
) -> None:
    async def ding_answer(*_: object) -> Answer:
        return Answer(200, {}, b'{"endpoint": "%b", "ticket": "t"}' % PRIVATE.encode())

    async def feishu_answer(*_: object) -> Answer:
        return Answer(200, {}, b'{"code": 0, "data": {"URL": "%b"}}' % PRIVATE.encode())

    monkeypatch.setattr(dingtalk.OpenApi, "_post", ding_answer)
    monkeypatch.setattr(feishu.OpenApi, "_post", feishu_answer)
    is_usual = base_url == "usual"
    apis = (
        dingtalk.OpenApi(dingtalk.USUAL_URL if is_usual else base_url, "id", "secret", "robot"),
        feishu.OpenApi(feishu.USUAL_URL if is_usual else base_url, "id", "secret"),
    )
    for api in apis:
        if is_usual:
            with pytest.raises(NoLine, match="private network"):
                await api.place()
        else:
            assert "10.1.2.3" in str(await api.place())


@pytest.mark.attack("server-side request forgery by a message's picture")
async def test_a_picture_is_not_fetched_from_this_machine() -> None:
    """Who writes to the bot could else read what listens on the hub's loopback."""

    async def nothing(*_: object) -> bytes | None:
        return None

    settings = WeComAiBotSettings.model_validate(
        {"name": "bot", "kind": "wecom-aibot", "bot_id": "b", "secret": "s", "url": "wss://openws.work.weixin.qq.com"}
    )
    bot = WeComAiBot(settings, Resources(name="bot", read_blob=nothing))
    with ScriptedModel() as inner:
        for host in ("127.0.0.1", "localhost"):
            place = inner.url.replace("127.0.0.1", host)
            assert await bot._fetch(f"{place}/models", "") is None
        assert inner.requests == []
    await bot._web.aclose()


@pytest.mark.attack("redirect of a vendor's stream")
async def test_a_stream_follows_no_redirect() -> None:
    reached: list[str] = []

    async def elsewhere(connection: ServerConnection, _: Request) -> Response:
        reached.append("elsewhere")
        return connection.respond(HTTPStatus.OK, "")

    async def nothing(_: ServerConnection) -> None:
        return None

    async with serve(nothing, "127.0.0.1", 0, process_request=elsewhere) as target:
        place = f"ws://127.0.0.1:{target.sockets[0].getsockname()[1]}/"

        def lead(connection: ServerConnection, _: Request) -> Response:
            response = connection.respond(HTTPStatus.FOUND, "")
            response.headers["Location"] = place
            return response

        async with serve(nothing, "127.0.0.1", 0, process_request=lead) as vendor:
            url = f"ws://127.0.0.1:{vendor.sockets[0].getsockname()[1]}/"
            with pytest.raises(InvalidStatus, match="302"):
                async with Line("x", "X", "X").opened(url):
                    raise AssertionError("nobody connects")
    assert reached == []
