"""Instances whose addresses a file or a DNS name tells: they come, stay, drain and go with it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from autoglm.core.errors import DiscoveryFailed
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.engine.engine import Engine
from autoglm.inference.providers.discovery import MAX_MEMBERS, Discovery, Source, bounded, member_name
from autoglm.inference.providers.dns import DnsName
from autoglm.inference.providers.targets_file import MAX_FILE_BYTES, Target, TargetsFile, parse_targets
from autoglm.inference.scheduler import Scheduler
from autoglm.inference.settings import DiscoverySettings, PoolSettings, SchedulerSettings
from eventually import until, wait_until
from hub import running_hub
from inference.calls import call
from inference.pool import rest_of
from model_process import model_process
from scripted_model import Gate, ScriptedModel, echo

EAGER = PoolSettings(probe_interval_s=0.1, probe_timeout_s=0.5)


def write(path: Path, *targets: object, **labels: str) -> None:
    """Replaced in one step, as the format's own documentation asks of writers."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps([{"targets": [str(target) for target in targets], "labels": labels}]))
    draft.rename(path)


def place(model: Any) -> str:
    return f"127.0.0.1:{model.port}"


@asynccontextmanager
async def discovering(
    source: Source | None = None, pool: PoolSettings = EAGER, **fields: Any
) -> AsyncIterator[Dispatcher]:
    settings = DiscoverySettings.model_validate(
        {"name": "gpu", "provider": "vllm", "interval_s": 0.1, "models": ["echo-model"], **fields}
    )
    scheduler = Scheduler(SchedulerSettings())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Discovery(settings, pool, scheduler, source).run, scheduler.changed)
        yield Dispatcher(scheduler, Engine(scheduler))
        tasks.cancel_scope.cancel()


def states(dispatcher: Dispatcher) -> dict[str, str]:
    return {name: entry.shown_state for name, entry in dispatcher.scheduler.instances.items()}


def ready(*models: Any) -> dict[str, str]:
    return {f"gpu-127.0.0.1-{model.port}": "ready" for model in models}


async def ask(dispatcher: Dispatcher) -> str:
    answer = await dispatcher.answer(call("echo-model"))
    assert b"You said: hi" in await rest_of(answer)
    return answer.instance.name


class Scripted:
    """A source whose word the test writes; None is a failure."""

    place = "the script"

    def __init__(self, *targets: Target) -> None:
        self.targets: Sequence[Target] | None = targets
        self.looks = 0

    async def look(self) -> list[Target]:
        self.looks += 1
        if self.targets is None:
            raise DiscoveryFailed(self.place, "says nothing")
        return list(self.targets)

    async def twice(self) -> None:
        """Returns when what is written now has been looked at for sure, and acted upon."""
        looks = self.looks
        await until(lambda: self.looks >= looks + 2)


# --- files ---


async def test_instances_come_and_go_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with ScriptedModel() as one, ScriptedModel() as two:
        write(path, place(one), rack="a")
        async with discovering(file=path) as dispatcher:
            await until(lambda: states(dispatcher) == ready(one))
            assert await ask(dispatcher) == f"gpu-127.0.0.1-{one.port}"
            write(path, place(one), place(two))
            await until(lambda: states(dispatcher) == ready(one, two))
            write(path, place(two))
            await until(lambda: states(dispatcher) == ready(two))
            assert await ask(dispatcher) == f"gpu-127.0.0.1-{two.port}"


async def test_another_order_and_repeats_leave_all_instances_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    with ScriptedModel() as one, ScriptedModel() as two:
        write(path, place(one), place(two))
        async with discovering(file=path) as dispatcher:
            await until(lambda: states(dispatcher) == ready(one, two))
            before = dict(dispatcher.scheduler.instances)
            write(path, place(two), place(one), place(two))
            with ScriptedModel() as three:  # when this one is there, the new order has been seen
                write(path, place(two), place(one), place(three))
                await until(lambda: states(dispatcher) == ready(one, two, three))
            after = dispatcher.scheduler.instances
            assert {name: after[name] for name in before} == before
            assert all(before[name] is after[name] for name in before)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[1]",
        '[{"targets": "10.0.0.1:8000"}]',
        '[{"targets": ["no port:x"]}]',
        '[{"targets": ["a:70000"]}]',
        "[" * 9999,
    ],
)
async def test_a_bad_file_changes_nothing_and_says_why_once(tmp_path: Path, content: str) -> None:
    path = tmp_path / "targets.json"
    with ScriptedModel() as one, ScriptedModel() as two, capture_logs() as logs:
        write(path, place(one))
        async with discovering(file=path, keep_s=0) as dispatcher:
            await until(lambda: states(dispatcher) == ready(one))
            path.write_text(content)
            await until(lambda: any(line["event"] == "discovery_failed" for line in logs))
            assert await ask(dispatcher) == f"gpu-127.0.0.1-{one.port}"
            path.unlink()
            await until(lambda: any("No such file" in line.get("reason", "") for line in logs))
            assert states(dispatcher) == ready(one)
            write(path, place(two))
            await until(lambda: states(dispatcher) == ready(two))
    failures = [line for line in logs if line["event"] == "discovery_failed"]
    assert [line["kept"] for line in failures] == [1, 1]
    assert all(str(path) == line["place"] for line in failures)


async def test_a_removed_instance_ends_its_stream_and_gets_no_more(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    gate = Gate()
    with ScriptedModel() as leaving, ScriptedModel() as staying:
        leaving.behaviour = gate.within(b"data: 1\n\n", b"data: [DONE]\n\n")
        write(path, place(leaving))
        async with discovering(file=path) as dispatcher:
            await until(lambda: states(dispatcher) == ready(leaving))
            answer = await dispatcher.answer(call("echo-model", stream=True))
            write(path, place(staying))
            await until(lambda: states(dispatcher) == {f"gpu-127.0.0.1-{leaving.port}": "draining", **ready(staying)})
            assert [await ask(dispatcher) for _ in range(5)] == [f"gpu-127.0.0.1-{staying.port}"] * 5
            gate.open()
            assert (await rest_of(answer)).endswith(b"[DONE]\n\n")
            await until(lambda: states(dispatcher) == ready(staying))
            await until(lambda: leaving.open_connections == 0)


async def test_who_comes_back_while_it_drains_is_used_again() -> None:
    gate = Gate()
    with ScriptedModel() as model:
        source = Scripted(Target("127.0.0.1", model.port))
        model.behaviour = gate.within(b"data: 1\n\n", b"data: [DONE]\n\n")
        async with discovering(source, file="unused") as dispatcher:
            await until(lambda: states(dispatcher) == ready(model))
            answer = await dispatcher.answer(call("echo-model", stream=True))
            source.targets = ()
            await until(lambda: "draining" in states(dispatcher).values())
            source.targets = (Target("127.0.0.1", model.port),)
            await until(lambda: states(dispatcher) == ready(model))
            model.behaviour = echo
            assert await ask(dispatcher) == f"gpu-127.0.0.1-{model.port}"
            gate.open()
            assert (await rest_of(answer)).endswith(b"[DONE]\n\n")
            await source.twice()
            assert states(dispatcher) == ready(model)


async def test_a_request_without_a_byte_leaves_a_frozen_instance_that_drains() -> None:
    with model_process() as frozen, ScriptedModel() as other:
        source = Scripted(Target("127.0.0.1", frozen.port))
        async with discovering(source, file="unused") as dispatcher:
            await until(lambda: states(dispatcher) == ready(frozen))
            frozen.freeze()
            asking = asyncio.create_task(ask(dispatcher))
            await until(lambda: dispatcher.scheduler.instances[f"gpu-127.0.0.1-{frozen.port}"].running == 1)
            source.targets = (Target("127.0.0.1", other.port),)
            assert await asyncio.wait_for(asking, 10) == f"gpu-127.0.0.1-{other.port}"
            await until(lambda: states(dispatcher) == ready(other))


async def test_a_name_that_is_taken_is_passed_over_with_one_warning() -> None:
    with ScriptedModel() as model, capture_logs() as logs:
        source = Scripted(Target("127.0.0.1", model.port))
        async with discovering(source, file="unused") as dispatcher:
            await until(lambda: states(dispatcher) == ready(model))
            mine = dispatcher.scheduler.instances[f"gpu-127.0.0.1-{model.port}"]
            async with anyio.create_task_group() as tasks:
                settings = DiscoverySettings(name="gpu", provider="vllm", file=Path("unused"), interval_s=0.1)
                rival = Scripted(Target("127.0.0.1", model.port))
                tasks.start_soon(Discovery(settings, EAGER, dispatcher.scheduler, rival).run, lambda: None)
                await rival.twice()
                tasks.cancel_scope.cancel()
            assert dispatcher.scheduler.instances == {mine.name: mine}
    assert [line["reason"] for line in logs if line["event"] == "instance_passed_over"] == [
        "another instance has this name"
    ]


async def test_an_address_that_cannot_be_written_spoils_no_other() -> None:
    with ScriptedModel() as model:
        source = Scripted(Target("x" * 64 + ".plant", 80), Target("127.0.0.1", model.port))
        async with discovering(source, file="unused") as dispatcher:
            await until(lambda: states(dispatcher) == ready(model))


def test_more_than_the_bound_are_cut_whatever_their_order() -> None:
    targets = [Target(f"127.9.{number >> 8}.{number & 255}", 1) for number in range(MAX_MEMBERS + 5)]
    assert len(bounded(targets)) == MAX_MEMBERS
    assert set(bounded(targets[::-1])) == set(bounded(targets))
    assert bounded(targets[5:][::-1]) == targets[5:][::-1]


# --- DNS ---


class Records:
    """Stands in for the system's resolver, which a test cannot make forget names: what `socket.getaddrinfo` gives."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts

    def look_up(self, name: str, port: int, **_: object) -> list[Any]:
        if not self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in self.hosts]


async def test_the_systems_resolver_tells_the_addresses_of_a_real_name() -> None:
    assert Target("127.0.0.1", 8000) in await DnsName("localhost", 8000).look()


async def test_a_name_without_records_fails_with_the_resolvers_words() -> None:
    with pytest.raises(DiscoveryFailed, match=r"DNS name gpu\.plant: .*Name or service not known"):
        await DnsName("gpu.plant", 8000, Records().look_up).look()
    with pytest.raises(DiscoveryFailed, match="label"):  # refused before anything is sent
        await DnsName("x" * 64, 8000).look()


async def test_addresses_are_in_a_fixed_order_each_once_and_without_interfaces() -> None:
    name = DnsName("x", 80, Records("10.0.0.2", "10.0.0.1", "10.0.0.2", "fe80::1%eth0").look_up)
    assert await name.look() == [Target("10.0.0.1", 80), Target("10.0.0.2", 80)]


async def test_instances_follow_the_records_of_a_name() -> None:
    with ScriptedModel() as one:
        records = Records("127.0.0.1")
        source = DnsName("gpu.plant", one.port, records.look_up)
        async with discovering(source, dns="gpu.plant") as dispatcher:
            await until(lambda: states(dispatcher) == ready(one))
            assert await ask(dispatcher) == f"gpu-127.0.0.1-{one.port}"
            records.hosts = ("127.0.0.2", "127.0.0.1")
            await until(lambda: f"gpu-127.0.0.2-{one.port}" in states(dispatcher))
            records.hosts = ("127.0.0.2",)
            await until(lambda: list(states(dispatcher)) == [f"gpu-127.0.0.2-{one.port}"])


async def test_a_name_that_vanishes_keeps_its_instances_for_a_while() -> None:
    with ScriptedModel() as one:
        source = Scripted(Target("127.0.0.1", one.port))
        async with discovering(source, dns="gpu.plant", keep_s=3600) as dispatcher:
            await until(lambda: states(dispatcher) == ready(one))
            source.targets = None
            await source.twice()
            assert states(dispatcher) == ready(one)
        source.targets = (Target("127.0.0.1", one.port),)
        async with discovering(source, dns="gpu.plant", keep_s=0.3) as dispatcher:
            await until(lambda: states(dispatcher) == ready(one))
            source.targets = None
            await until(lambda: not states(dispatcher))


# --- pure parts ---


def test_targets_are_read_in_all_their_forms() -> None:
    groups = [
        {"targets": ["10.0.0.1:8000", "gpu-2.plant", "[2001:db8::7]:9", "[::1]"], "labels": {"a": "b"}},
        {"targets": []},
    ]
    assert parse_targets(json.dumps(groups).encode(), 8000, "x") == [
        Target("10.0.0.1", 8000),
        Target("gpu-2.plant", 8000),
        Target("2001:db8::7", 9),
        Target("::1", 8000),
    ]


@pytest.mark.parametrize("text", ["http://a:1", "a:0", "a:65536", "a b", "a/b", "::1", "a:", "", "é", "a:1\n"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(DiscoveryFailed, match="is no HOST:PORT"):
        parse_targets(json.dumps([{"targets": [text]}]).encode(), 8000, "x")


@given(st.binary(max_size=200))
def test_any_bytes_are_targets_or_a_failure(content: bytes) -> None:
    with suppress(DiscoveryFailed):
        assert all(0 < target.port < 65_536 for target in parse_targets(content, 8000, "x"))


async def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    path.write_text("[" + " " * MAX_FILE_BYTES + "]")
    with pytest.raises(DiscoveryFailed, match="is over 4 MiB"):
        await TargetsFile(path, 8000).look()


def test_names_of_members_are_names_of_instances() -> None:
    assert member_name("gpu", Target("10.0.0.1", 8000)) == "gpu-10.0.0.1-8000"
    assert member_name("gpu", Target("2001:db8::7", 1)) == "gpu-2001-db8--7-1"
    long = [member_name("g" * 32, Target("h" * 200 + end, 8000)) for end in ("a", "b")]
    assert [len(name) for name in long] == [64, 64]
    assert long[0] != long[1]


def test_settings_want_exactly_one_source() -> None:
    for fields in ({}, {"file": "a", "dns": "b"}):
        with pytest.raises(ValidationError, match="give either file or dns"):
            DiscoverySettings.model_validate({"name": "a", "provider": "vllm", **fields})


def test_members_have_all_that_the_group_says() -> None:
    settings = DiscoverySettings.model_validate(
        {"name": "a", "provider": "sglang", "dns": "b", "slots": 7, "api_key": "k", "read_timeout_s": 3, "path": ""}
    )
    assert settings.port_or_preset == 30_000
    member = settings.member("a-1", "::1", 30_000)
    assert (member.url, member.slots, member.read_timeout_s) == ("http://[::1]:30000", 7, 3)
    assert member.api_key is not None
    assert member.api_key.get_secret_value() == "k"


# --- the whole hub ---


def test_a_hub_finds_its_instances_in_a_file_beside_its_settings(tmp_path: Path) -> None:
    with ScriptedModel() as model:
        data_dir = tmp_path / "hub"
        data_dir.mkdir()
        write(data_dir / "targets.json", place(model))
        (data_dir / "key").write_text("sk-gpu\n")
        config = '[[discovery]]\nname = "gpu"\nprovider = "vllm"\nfile = "targets.json"\napi_key_file = "key"\n'
        with running_hub(data_dir, config) as hub, hub.client() as http:

            def found() -> list[tuple[str, str, list[str]]]:
                instances = http.get("/api/pool").json()["instances"]
                return [(entry["name"], entry["state"], entry["models"]) for entry in instances]

            wait_until(lambda: found() == [(f"gpu-127.0.0.1-{model.port}", "ready", ["echo-model"])])
            body = {"model": "echo-model", "messages": [{"role": "user", "content": "hi"}]}
            reply = http.post("/v1/chat/completions", json=body)
            assert reply.json()["choices"][0]["message"]["content"] == "You said: hi"
            assert model.requests[0].headers["authorization"] == "Bearer sk-gpu"
            write(data_dir / "targets.json")
            wait_until(lambda: not found(), 20.0)
