"""How many failures are told truly: Apprise and this hub's channels send to the same strict stand-ins for the vendors.

Each case is one message to a stand-in that refuses it as its vendor does (with HTTP 200 and an error code), fails, cuts
the connection or answers what no vendor says, as a captive portal does. Told truly is a failure that is not reported as
a success. Of a long text, the truth is whether the whole of it arrived. A message that nothing is wrong with shows that
the peer works at all.
"""

import asyncio
import importlib
import logging
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/truth.py`
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the stand-ins

from autoglm.channels.channel import Channel, Resources
from autoglm.channels.kinds import channel_class
from autoglm.channels.settings import parse_channel
from benchmarks.outcome import Target, conclude, options, say, this_machine
from contracts.channel_contract import message
from fakes import dingtalk_robot, feishu_robot, wecom_robot
from fakes.vendor import Fault, Vendor

DOUBTS: tuple[Fault, ...] = ("bad_gateway", "silent", "cut", "garbage", "empty_json")
"""After these nobody knows whether the message arrived."""
FAULTS: tuple[Fault, ...] = ("throttled", "transient", "auth", "permanent", "server_error", *DOUBTS)
LONG = "压机停了。" * 800
"""4,000 characters, 12,000 bytes."""


class Robot(NamedTuple):
    """A vendor's group robot, its stand-in, and how each side is told to use it."""

    name: str
    stand_in: Callable[[], Any]
    settings: dict[str, object]
    apprise_url: str
    plugin: str
    """module:class of Apprise's, whose fixed address is replaced by the stand-in's."""
    path: str


ROBOTS = (
    Robot(
        "wecom", wecom_robot.WeComRobots, {"kind": "wecom-robot", "robots": {"ops": {"key": wecom_robot.KEY}}},
        f"wecombot://{wecom_robot.KEY}", "wecombot:NotifyWeComBot", "/cgi-bin/webhook/send?key={key}",
    ),
    Robot(  # without a secret: Apprise 2.3 encodes its signature twice, and is refused
        "dingtalk", lambda: dingtalk_robot.DingTalkRobots(secret=None),
        {"kind": "dingtalk-robot", "robots": {"ops": {"access_token": dingtalk_robot.TOKEN}}},
        f"dingtalk://{dingtalk_robot.TOKEN}", "dingtalk:NotifyDingTalk", "/robot/send?access_token={token}",
    ),
    Robot(  # without a secret: Apprise does not sign for Feishu
        "feishu", lambda: feishu_robot.FeishuRobots(secret=None),
        {"kind": "feishu-robot", "robots": {"ops": {"token": feishu_robot.TOKEN}}},
        f"feishu://{feishu_robot.TOKEN}", "feishu:NotifyFeishu", "/open-apis/bot/v2/hook/{token}",
    ),
)  # fmt: skip


class Case(NamedTuple):
    vendor: str
    case: str
    arrived: bool
    reported: bool
    """As a success."""

    @property
    def is_true(self) -> bool:
        """Without the vendor's answer nobody knows: a failure or a doubt is true, a success is a guess."""
        return not self.reported if self.case in DOUBTS else self.reported == self.arrived


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    logging.disable(logging.CRITICAL)
    ours = [case for robot in ROBOTS for case in asyncio.run(_cases(robot, _ours))]
    try:
        import apprise
    except ModuleNotFoundError:
        theirs, absent = [], ["apprise"]
    else:
        theirs, absent = [case for robot in ROBOTS for case in asyncio.run(_cases(robot, _apprise))], []
        say(f"apprise {apprise.__version__}")
    figures: dict[str, Any] = {}
    for name, cases in (("ours", ours), ("apprise", theirs)):
        wrong = [case for case in cases if _is_failure(case) and not case.is_true]
        figures[name] = {
            "failures": sum(map(_is_failure, cases)),
            "told_truly": sum(_is_failure(case) and case.is_true for case in cases),
            "works": sum(case.case == "fine" and case.is_true for case in cases),
            "untrue": [f"{case.vendor} {case.case}" for case in wrong],
        }
        say(f"{name:8} {figures[name]['told_truly']} of {figures[name]['failures']} told truly; untrue: "
            + (", ".join(figures[name]["untrue"]) or "none"))  # fmt: skip
    told = figures["ours"]
    targets = [
        Target(
            claim="failures that the hub's channels tell truly, in percent",
            measured=round(100 * told["told_truly"] / told["failures"], 1), bound=100, unit="%", relation="at least",
        ),
        Target(
            claim="robots that work for the peer when nothing is wrong",
            measured=figures["apprise"]["works"] if theirs else None, bound=len(ROBOTS), unit="", relation="at least",
        ),
    ]  # fmt: skip
    return conclude("truth", chosen, machine, figures, targets, absent)


def _is_failure(case: Case) -> bool:
    """Everything but the message that nothing is wrong with."""
    return case.case != "fine"


Send = Callable[[Robot, Vendor, str], Any]


async def _cases(robot: Robot, send: Send) -> list[Case]:
    found = []
    for case in ("fine", "long", *FAULTS):
        with robot.stand_in() as vendor:
            text = LONG if case == "long" else f"during {case}"
            if case in FAULTS:
                vendor.faults.append(case)
            reported = await send(robot, vendor, text)
            texts: Sequence[str] = list(vendor.texts)
            has_arrived = _joined(texts).find(text) >= 0
            found.append(Case(robot.name, case, has_arrived, reported))
    return found


def _joined(texts: Sequence[str]) -> str:
    return "".join(re.sub(r"^\(\d+/\d+\) ", "", text) for text in texts)


async def _ours(robot: Robot, vendor: Vendor, text: str) -> bool:
    settings = parse_channel({"name": "c", "base_url": vendor.url, **robot.settings})
    made = channel_class(settings.kind)
    assert made is not None
    channel: Channel = made(settings, Resources("c", _no_blob))
    try:
        parcels = channel.compose(message(text), "ops")
        ends = [await channel.send(parcel, f"k.{number}") for number, parcel in enumerate(parcels)]
        return all(end.outcome in ("accepted", "delivered") for end in ends)
    finally:
        await channel.aclose()


async def _no_blob(_: str) -> bytes | None:
    return None


async def _apprise(robot: Robot, vendor: Vendor, text: str) -> bool:
    return await asyncio.to_thread(_apprise_sends, robot, vendor.url, text)


def _apprise_sends(robot: Robot, url: str, text: str) -> bool:
    import apprise

    module, name = robot.plugin.split(":")
    plugin = getattr(importlib.import_module(f"apprise.plugins.{module}"), name)
    plugin.notify_url = url + robot.path
    plugin.request_rate_per_sec = 0  # it waits seconds between two requests
    sender = apprise.Apprise()
    if not sender.add(robot.apprise_url):
        raise RuntimeError(f"Apprise does not take the address of {robot.name}")
    return bool(sender.notify(body=text))


if __name__ == "__main__":
    sys.exit(main())
