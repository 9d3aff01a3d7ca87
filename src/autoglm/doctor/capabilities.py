"""The functions people ask for: available here or not, why, and what replaces them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from autoglm.core.errors import PULL, install_command
from autoglm.doctor.environment import find_spec


class Capability(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One function. Texts are for people, in English and Chinese."""

    name: str
    """Stable, for programs: `local_models`."""
    available: bool
    why: str
    why_zh: str
    instead: str = ""
    """What serves the purpose here when the function is not available."""
    instead_zh: str = ""
    fix: str = ""
    """The command or setting that makes it available; empty when nothing does."""

    def seen_from(self, *, inside_wechat: bool) -> "Capability":
        """The same, as it looks to a client inside WeChat's own browser."""
        if not inside_wechat or self.name not in _INSIDE_WECHAT:
            return self
        return msgspec.structs.replace(self, **_INSIDE_WECHAT[self.name])


_INSIDE_WECHAT: dict[str, dict[str, Any]] = {
    "wechat_login": {
        "why": "the page runs inside WeChat, but this hub belongs to no Official Account and reaches no WeChat server",
        "why_zh": "页面虽在微信内打开，但本中枢没有绑定公众号，也不连接微信服务器",
    },
    "wechat_template_message": {
        "why": "being inside WeChat does not help: template messages go out by a verified Official Account's server",
        "why_zh": "在微信内打开也无济于事：模板消息须由已认证公众号的服务器发出",
    },
    "file_download": {
        "available": False,
        "why": "WeChat's browser blocks downloads",
        "why_zh": "微信内置浏览器会拦截下载",
        "instead": "open the page in the system's browser by the ... menu",
        "instead_zh": "点右上角菜单，选择“在浏览器打开”",
    },
    "push": {
        "available": False,
        "why": "WeChat's browser has no Web Push",
        "why_zh": "微信内置浏览器不支持 Web Push",
        "instead": "keep the page open, or use another channel",
        "instead_zh": "请保持页面打开，或改用其他渠道",
        "fix": "",
    },
}


WEB_PUSH = "web-push"
_MAIL, _MAIL_ZH = "messages between people and devices work", "人与设备之间的消息仍可使用"
_ADDRESS = "an [[instance]] at an address: vLLM, Ollama, GLM by key"
_ADDRESS_ZH = "用地址配置 [[instance]]：vLLM、Ollama、GLM 密钥"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the running hub knows of itself."""

    models_here: list[str]
    models_served: list[str]
    page: Path
    is_exposed: bool
    pull: str = PULL
    """The command that fetches a model for this hub."""
    channel_kinds: frozenset[str] = frozenset()
    """Kinds of the channels in the settings."""
    models_missing: dict[str, str] = {}
    """Models of local instances that are not here, and the command that brings each."""


def _channel(facts: Facts, name: str, kind: str, what: str, what_zh: str) -> Capability:
    """A function that is there as soon as a channel of the kind is set up."""
    if kind in facts.channel_kinds:
        return Capability(
            name=name, available=True,
            why=f"a [[channel]] of the kind {kind} is set up; autoglm doctor channels asks the vendor",
            why_zh=f"已配置 {kind} 渠道；autoglm doctor channels 可询问服务方",
        )  # fmt: skip
    return Capability(
        name=name, available=False,
        why=f"{what} needs a [[channel]] of the kind {kind}, and its vendor's servers",
        why_zh=f"{what_zh}需要配置 {kind} 渠道，并能访问服务方",
        instead="the mailbox (POST /api/messages), or another channel: mail, MQTT, webhooks",
        instead_zh="信箱（POST /api/messages），或其他渠道：邮件、MQTT、Webhook",
        fix=f"write a [[channel]] with kind = \"{kind}\" (docs/channels)",
    )  # fmt: skip


def capabilities(read_facts: Callable[[], Facts]) -> list[Capability]:
    """What this hub can do now."""
    facts = read_facts()
    return [
        _chat(facts),
        _local_models(facts),
        _ray_workers(),
        Capability(
            name="messages", available=True,
            why="kept in this hub's own store, no network needed", why_zh="保存在本机，无需网络",
        ),
        _console(facts),
        Capability(
            name="login", available=True,
            why="local keys, checked without a network", why_zh="本地密钥，离线校验",
        ),
        Capability(
            name="wechat_login", available=False,
            why="needs WeChat's servers and a registered Official Account", why_zh="需要微信服务器与已注册的公众号",
            instead="local keys (Authorization: Bearer KEY)", instead_zh="本地密钥（Authorization: Bearer KEY）",
        ),
        _channel(
            facts, "wechat_template_message", "wechat-official",
            "a template message of an Official Account", "公众号模板消息",
        ),
        _channel(facts, "wecom_robot", "wecom-robot", "a WeCom group robot", "企业微信群机器人"),
        _push(facts),
        Capability(
            name="file_download", available=True,
            why="the page offers plain files", why_zh="页面提供普通文件下载",
        ),
        _encrypted_transport(facts),
    ]  # fmt: skip


def _console(facts: Facts) -> Capability:
    if (facts.page / "index.html").exists():
        return Capability(name="console", available=True, why="the page is built", why_zh="页面已构建")
    return Capability(
        name="console", available=False,
        why="the page is not built", why_zh="页面尚未构建",
        instead="autoglm ask and autoglm inbox in a terminal",
        instead_zh="在终端使用 autoglm ask 和 autoglm inbox",
        fix="make up",
    )  # fmt: skip


def _encrypted_transport(facts: Facts) -> Capability:
    if not facts.is_exposed:
        return Capability(
            name="encrypted_transport", available=True,
            why="the hub listens on this machine only, or TLS is on", why_zh="仅监听本机，或已启用 TLS",
        )  # fmt: skip
    return Capability(
        name="encrypted_transport", available=False,
        why="the hub listens beyond this machine without TLS", why_zh="中枢在未启用 TLS 的情况下对外监听",
        instead="an SSH tunnel or a VPN", instead_zh="SSH 隧道或 VPN",
        fix='gateway.tls = "own-ca", or gateway.tls_certificate_file and gateway.tls_key_file, in autoglm.toml',
    )  # fmt: skip


def _push(facts: Facts) -> Capability:
    if WEB_PUSH not in facts.channel_kinds:
        return Capability(
            name="push", available=False,
            why="no channel of the kind web-push is set up", why_zh="未配置 web-push 类型的渠道",
            instead="SSE (/api/messages/stream) or the WebSocket while the page is open",
            instead_zh="页面打开时使用 SSE（/api/messages/stream）或 WebSocket",
            fix=f'write a [[channel]] with kind = "{WEB_PUSH}" (docs/channels)',
        )  # fmt: skip
    why = "in browsers where it is switched on in the console's settings; the browser and the hub must both reach the"
    why_zh = "发到已在控制台“设置”中开启通知的浏览器；浏览器和本机都须能访问浏览器厂商的推送服务"
    if facts.is_exposed:
        return Capability(
            name="push", available=True,
            why=f"{why} push service of the browser's maker; without TLS, on this machine only",
            why_zh=f"{why_zh}；未启用 TLS 时仅限本机上的浏览器",
            fix='for others: gateway.tls = "own-ca" in autoglm.toml',
        )  # fmt: skip
    return Capability(name="push", available=True, why=f"{why} push service of the browser's maker", why_zh=why_zh)


def _missing(facts: Facts) -> dict[str, str]:
    """Why models of local instances do not work, and what brings them."""
    names = ", ".join(facts.models_missing)
    return {
        "why": f"an [[instance]] shall serve it, but it is not here: {names}",
        "why_zh": f"[[instance]] 要提供的模型不在本机：{names}",
        "fix": "; ".join(facts.models_missing.values()),
    }


def _chat(facts: Facts) -> Capability:
    if facts.models_served:
        names = ", ".join(facts.models_served[:5])
        return Capability(name="chat", available=True, why=f"served here: {names}", why_zh=f"可用模型：{names}")
    if facts.models_missing:
        return Capability(name="chat", available=False, instead=_MAIL, instead_zh=_MAIL_ZH, **_missing(facts))
    return Capability(
        name="chat", available=False,
        why="no instance serves a model", why_zh="还没有提供模型的实例",
        instead=_MAIL, instead_zh=_MAIL_ZH,
        fix=f"{facts.pull}, or an [[instance]] in autoglm.toml",
    )  # fmt: skip


def _ray_workers() -> Capability:
    if find_spec("ray"):
        return Capability(
            name="ray_workers", available=True,
            why="[[ray]] in autoglm.toml starts workers on the machines of a Ray cluster",
            why_zh="在 autoglm.toml 中写 [[ray]]，即可在 Ray 集群的各台机器上启动工作进程",
        )  # fmt: skip
    return Capability(
        name="ray_workers", available=False,
        why="the package ray is not installed", why_zh="未安装 ray",
        instead="[[discovery]] finds servers that run on other machines already",
        instead_zh="其他机器上已经运行的服务，可用 [[discovery]] 接入",
        fix=install_command("ray"),
    )  # fmt: skip


def _local_models(facts: Facts) -> Capability:
    if not find_spec("xllamacpp"):
        return Capability(
            name="local_models", available=False,
            why="the package xllamacpp is not installed", why_zh="未安装 xllamacpp",
            instead=_ADDRESS, instead_zh=_ADDRESS_ZH,
            fix=install_command("local"),
        )  # fmt: skip
    if facts.models_missing:
        return Capability(
            name="local_models", available=False, instead=_ADDRESS, instead_zh=_ADDRESS_ZH, **_missing(facts)
        )
    if not facts.models_here:
        return Capability(
            name="local_models", available=False,
            why="no model file is here yet", why_zh="本机还没有模型文件",
            instead=_ADDRESS, instead_zh=_ADDRESS_ZH,
            fix=facts.pull,
        )  # fmt: skip
    names = ", ".join(facts.models_here)
    return Capability(name="local_models", available=True, why=f"here: {names}", why_zh=f"已有：{names}")
