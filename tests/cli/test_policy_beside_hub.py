"""`autoglm policy pull` on the folder of a hub that runs: the hub goes by the new policy at once."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auth.policy.authority import Authority, policy_files, revoking
from autoglm.client import Client, HubProblem
from autoglm.client.device import Device
from autoglm.core.clock import now_ms
from cli.terminal import Finished, autoglm
from gateway.inside import Inside, hub_inside, settings
from gateway.test_enrolled_devices import Raw, invite, reason
from gateway.wire import call


class Place:
    """An authority, and a hub that has neither its address nor its root in the settings."""

    def __init__(self, hub: Inside, authority: Authority) -> None:
        self.hub, self.authority = hub, authority
        self.root = authority.folder / "metadata" / "1.root.json"

    def pull(self, *args: str | Path, source: Path | None = None, key: str = "") -> Finished:
        environ = {"AUTOGLM_KEY": key} if key else None
        place = self.authority.folder if source is None else source
        return autoglm("policy", "pull", place, *args, data=self.hub.hub.data_dir, environ=environ)

    def state(self) -> dict[str, Any]:
        return dict(call(self.hub.port, self.hub.key, "GET", "/api/policy").json())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    authority = Authority(tmp_path / "authority")
    authority.clock.now_ms = now_ms()
    authority.publish(policy_files())
    with hub_inside(tmp_path / "data", settings()) as hub:
        yield Place(hub, authority)


@pytest.mark.attack("a device revoked on a stick")
def test_a_device_that_a_stick_revokes_is_refused_at_once(place: Place, tmp_path: Path) -> None:
    code = invite(place.hub, "lost")
    raw = Raw(place.hub, Device.enrol(tmp_path / "lost.json", code, url=place.hub.hub.url))
    begun = place.pull("--root", place.root)
    assert (begun.status, begun.out.split(";")[0]) == (0, "policy 1 holds"), begun.err
    assert (place.state()["version"], raw.send("GET", "/api/me").status) == (1, 200)
    place.authority.publish(revoking("device:lost"))
    stick = shutil.make_archive(str(tmp_path / "stick"), "zip", place.authority.folder)
    pulled = place.pull("--json", source=Path(stick))
    assert (pulled.status, json.loads(pulled.out)["revocations"]) == (0, 1), pulled.err
    assert reason(raw.send("GET", "/api/me")) == (401, "revoked")
    assert place.state() | {"expires_at": 0} == {
        "version": 2, "stage": "fresh", "expires_at": 0, "pull": "ok", "problem": "",
    }  # fmt: skip


@pytest.mark.attack("a clock with two writers")
def test_the_clock_has_one_writer(place: Place) -> None:
    """A second clock would take the signed time down in the file, and the hub's own write over it."""
    clock, signed_ms = place.hub.hub._trust.clock, now_ms() + 3_600_000
    place.authority.clock.now_ms = signed_ms
    place.authority.publish(policy_files())
    assert place.pull("--root", place.root).status == 0
    assert clock.now_ms() >= signed_ms - 1000  # TUF's times have whole seconds
    clock.save()
    kept = json.loads((place.hub.hub.data_dir / "trust" / "clock.json").read_bytes())
    assert kept["floor_ms"] >= signed_ms - 1000


def test_what_is_older_or_forged_is_refused_by_the_hub(place: Place, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(place.authority.folder, old)
    place.authority.publish(revoking("device:lost"))
    assert place.pull("--root", place.root).status == 0
    rolled_back = place.pull(source=old)
    assert (rolled_back.status, "its version is 1, and 2 was seen before" in rolled_back.err) == (1, True), (
        rolled_back.err
    )
    other = Authority(tmp_path / "other")
    other.clock.now_ms = now_ms()
    other.publish(policy_files())
    assert place.pull(source=other.folder).status == 1
    assert place.pull(source=tmp_path / "nowhere").status == 1
    assert (place.state()["version"], place.state()["pull"], place.state()["problem"]) == (2, "ok", "")
    assert place.pull("--root", other.folder / "metadata" / "1.root.json", source=other.folder).status == 0
    assert place.state()["version"] == 1  # begun anew, by who may write in the trusted folder


def test_it_takes_the_right_to_administer_policies(place: Place) -> None:
    assert place.pull("--root", place.root).status == 0
    keys = {
        scope: call(place.hub.port, place.hub.key, "POST", "/api/keys", {"name": scope[6:], "scopes": [scope]}).json()
        for scope in ("admin:keys", "admin:policy")
    }
    place.authority.publish(revoking("device:lost"))
    refused = place.pull(key=keys["admin:keys"]["key"])
    assert (refused.status, "admin:policy" in refused.err, place.state()["version"]) == (1, True, 1)
    assert place.pull(key=keys["admin:policy"]["key"]).status == 0
    assert place.state()["version"] == 2


def test_the_client_brings_a_zip_file_and_nothing_else(place: Place, tmp_path: Path) -> None:
    stick = Path(shutil.make_archive(str(tmp_path / "stick"), "zip", place.authority.folder))
    with Client(data_dir=place.hub.hub.data_dir) as client:
        with pytest.raises(HubProblem, match=r"policy\.root_file"):
            client.bring_policy(stick.read_bytes())
        assert place.pull("--root", place.root).status == 0
        assert client.bring_policy(stick.read_bytes())["version"] == 1
        for bad in (b"", b"no zip", stick.read_bytes()[:-40]):
            with pytest.raises(HubProblem, match="zip file"):
                client.bring_policy(bad)
        half = tmp_path / "half"
        shutil.copytree(place.authority.folder / "metadata", half / "metadata")
        (half / "metadata" / "timestamp.json").unlink()
        packed = Path(shutil.make_archive(str(tmp_path / "half"), "zip", half))
        with pytest.raises(HubProblem, match="not complete"):
            client.bring_policy(packed.read_bytes())
    assert place.state()["pull"] == "ok"


def test_without_a_hub_the_folder_is_locked_meanwhile(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    authority.clock.now_ms = now_ms()
    authority.publish(policy_files())
    data = tmp_path / "data"
    root = authority.folder / "metadata" / "1.root.json"
    assert autoglm("policy", "pull", authority.folder, "--root", root, data=data).status == 0
    assert (data / "hub.lock").exists()
    with hub_inside(data, settings()) as hub:
        assert call(hub.port, hub.key, "GET", "/api/policy").json()["version"] == 1
