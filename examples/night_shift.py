"""A night in a plant: an alarm finds somebody, whatever is throttled or asleep, and the log can say how.

.venv/bin/python examples/night_shift.py                 # the model of `make up`, if it is there, writes the summary
.venv/bin/python examples/night_shift.py --models FOLDER

A press publishes an alarm and readings by MQTT. The group's robot is throttled, so what piles up goes out in one
digest. The shift leader has a mail and does not confirm; an SMS goes to the boss. Then the leader answers the mail, and
that acknowledges the alarm: nobody else is woken. The model sums the night up, and the receipts print as a timeline.
The robot's service, the SMS gateway and the mail server are stand-ins on this machine; the broker is the hub's own.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import anyio
    import anyio.to_thread
    import structlog
    from night_shift_town import PASSWORD, Town, town
    from paho.mqtt.client import Client as Sensor
    from paho.mqtt.enums import CallbackAPIVersion

    from autoglm import Client, Hub
    from autoglm.cli.timeline import timeline
    from autoglm.core.clock import monotonic_s
    from autoglm.core.errors import HubError
    from autoglm.settings import load_settings
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is missing: 'make .venv/.test' installs it; then .venv/bin/python examples/night_shift.py")

READINGS = ("hydraulics 61 C", "hydraulics 64 C", "oil pressure falls", "oil pressure 2.1 bar", "motor current 118 %")
SETTINGS = """
[mqtt_broker]
enabled = true
port = 0
[[mqtt_broker.user]]
name = "press-7"
password = "a press has secrets"
publish = ["plant/#"]

[[channel]]
name = "mqtt"
kind = "mqtt"
url = "mqtt://own"
[[channel.topics]]
topic = "plant/+/alarm"
from = "device:{{1}}"
kind = "alert"
priority = 7
[[channel.topics]]
topic = "plant/+/reading"
from = "device:{{1}}"
kind = "log"

[[channel]]
name = "robot"
kind = "wecom-robot"
base_url = "http://127.0.0.1:{town.web_port}"
per_minute = 2
[channel.robots.ops]
key = "robot-key"

[[channel]]
name = "sms"
kind = "http-sms"
url = "http://127.0.0.1:{town.web_port}/sms"
body = '{{"mobile": "{{to}}", "content": "{{text}}", "ref": "{{id}}"}}'
code_path = "code"
ticket_path = "id"
[channel.numbers]
boss = "+8613800138000"

[[channel]]
name = "mail"
kind = "mail"
address = "hub@plant.example"
senders = ["lead@plant.example"]
[channel.smtp]
host = "127.0.0.1"
port = {town.smtp_port}
security = "none"
[channel.imap]
host = "127.0.0.1"
port = {town.imap_port}
security = "none"
username = "hub"
password = "{password}"
poll_s = 1

[[route]]
name = "alarms"
match = {{ kinds = ["alert"] }}
to = ["channel:robot/ops", "channel:mail/lead@plant.example"]
[[route.then]]
after_s = 5
to = ["channel:sms/boss"]
[[route.then]]
after_s = 3600
to = ["user:director"]

[[route]]
name = "readings"
to = ["channel:robot/ops"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = Path("~/.local/share/autoglm/models").expanduser()
    parser.add_argument("--models", type=Path, default=own, metavar="FOLDER", help="where the model files lie")
    folder = parser.parse_args().models.absolute()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # nothing but the story
    try:
        anyio.run(run, folder)
    except HubError as error:
        sys.exit(f"night_shift: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


async def run(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        async with town() as around:
            file = Path(scratch) / "autoglm.toml"
            file.write_text(SETTINGS.format(town=around, password=PASSWORD) + f'\n[models]\nfolder = "{folder}"\n')
            settings = load_settings(file, environ={}).settings
            async with Hub(settings, Path(scratch) / "data", access_log=io.StringIO()) as hub:
                client = Client(url=hub.url, key=hub.admin_key_file.read_text().strip())
                night = Night(around, client)
                broker = hub.broker
                assert broker is not None, "the settings have one"
                night.tell(f"the hub is up; its MQTT broker is {broker.program}")
                await anyio.to_thread.run_sync(listens, client)  # a broker keeps nothing for who never came
                around.robot.clear()  # the check of the channels asked it, too
                around.throttles = 1
                await anyio.to_thread.run_sync(press, broker.device_url)
                await night.passes()
                if hub.models:
                    await anyio.to_thread.run_sync(night.sum_up)
                client.close()


def listens(client: Client) -> None:
    """Returns once the hub hears what is published."""
    while not all(channel["health"]["ok"] for channel in client.channels(check=True) if channel["kind"] == "mqtt"):
        time.sleep(0.1)


def press(url: str) -> None:
    """The press tells of its trouble, and waits until the broker has it."""
    host, port = url.removeprefix("mqtt://").split(":")
    sensor = Sensor(CallbackAPIVersion.VERSION2, client_id="press-7")
    sensor.username_pw_set("press-7", "a press has secrets")
    sensor.connect(host, int(port))
    sensor.loop_start()
    alarm = {"content": "Press 7 has stopped: oil pressure too low", "labels": {"title": "Press 7", "line": "3"}}
    sent = [sensor.publish("plant/press-7/alarm", json.dumps(alarm), qos=1)]
    sent += [sensor.publish("plant/press-7/reading", reading, qos=1) for reading in READINGS]
    for one in sent:
        one.wait_for_publish(10)
    sensor.disconnect()
    sensor.loop_stop()


class Night:
    def __init__(self, around: Town, client: Client) -> None:
        self._town = around
        self._client = client
        self._begun_s = monotonic_s()
        self._account: dict[str, Any] = {}

    async def passes(self) -> None:
        self.tell("press 7 tells of an alarm and of five readings; the robot's service throttles")
        await self._until(lambda: len(self._town.robot) >= 1)
        self.tell("the robot may speak again, and says in one digest:")
        for line in self._town.robot[0].split("\n"):
            print(f"            {line}")
        await self._until(lambda: self._town.mails)
        self.tell(f"a mail lies with {self._town.mails[0]['To']}, who sleeps")
        await self._until(lambda: self._town.sms)
        self.tell(f"nobody has confirmed: SMS to {self._town.sms[0][0]}: {self._town.sms[0][1].splitlines()[0]}")
        await anyio.to_thread.run_sync(self._town.reply, "I am on my way. Keep the press off.")
        self.tell("the leader wakes up and answers the mail")
        self._account = await anyio.to_thread.run_sync(self._wait)
        self.tell(f"acknowledged by {self._account['acknowledged_by']}: nobody else is woken")
        print("\nthe receipts of the alarm:")
        for line in timeline(self._account):
            print(f"  {line}")

    def sum_up(self) -> None:
        """The model's words for the log book."""
        text = "\n".join(timeline(self._account))
        question = f"Sum up what happened in the night, in two sentences, for the log book of the plant:\n{text}"
        answer = self._client.ask(question, max_tokens=120)
        print(f"\nthe model's summary:\n  {''.join(answer).strip()}")

    def tell(self, line: str) -> None:
        print(f"{monotonic_s() - self._begun_s:6.1f} s  {line}", flush=True)

    def _wait(self) -> dict[str, Any]:
        """Until the alarm is acknowledged."""
        alarm = next(one["event"] for one in self._client.events() if one["event"]["kind"] == "alert")
        while not (account := self._client.event(alarm["id"], wait_s=30.0))["acknowledged_by"]:
            pass
        return account

    async def _until(self, has_come: Callable[[], object]) -> None:
        with anyio.fail_after(90):
            while not has_come():  # noqa: ASYNC110  # what it waits for happens outside
                await anyio.sleep(0.05)


if __name__ == "__main__":
    main()
