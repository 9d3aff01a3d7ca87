"""What engines say of their own load is read, counted against other clients' requests, and forgotten when old."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from autoglm.core.clock import monotonic_s
from autoglm.inference.dispatch import Dispatcher
from autoglm.inference.engine_load import EngineLoad
from autoglm.inference.instance import Instance
from autoglm.inference.local import LocalSpec, run_child
from autoglm.inference.providers.engine_metrics import DIALECTS, metrics_endpoint, read_load
from autoglm.inference.settings import PoolSettings
from cli.terminal import autoglm
from eventually import until, wait_until
from hub import instance_config, running_hub
from inference.calls import call, make_known, ready
from inference.pool import instance, rest_of, running_pool
from scripted_engine import PAGES, ScriptedEngine, page
from scripted_model import Gate, Request, ScriptedModel, echo

EAGER = PoolSettings(probe_interval_s=0.1, probe_timeout_s=0.5, metrics_interval_s=0.1)
PROVIDERS = tuple(DIALECTS)


def only(dispatcher: Dispatcher, name: str = "a") -> Instance:
    return dispatcher.scheduler.instances[name]


# --- the text ---


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_dialect_is_read(provider: str) -> None:
    load = read_load(page(provider, 5, 2, 0.75).encode(), provider)
    assert load == EngineLoad(running=5, waiting=2, cache_use=0.75)


def test_the_older_name_of_vllms_cache_use_is_known() -> None:
    text = page("vllm", 1, 0, 0.5).replace("kv_cache", "gpu_cache")
    assert read_load(text.encode(), "vllm") == EngineLoad(running=1, waiting=0, cache_use=0.5)


def test_engines_of_one_server_are_summed_and_the_fullest_cache_counts() -> None:
    text = page("vllm", 3, 1, 0.2).replace('{engine="1",model_name="Qwen/Qwen3-8B"} 0.0', '{engine="1"} 0.9')
    text = text.replace('vllm:num_requests_running{engine="1"} 0.9', 'vllm:num_requests_running{engine="1"} 4.0')
    assert read_load(text.encode(), "vllm") == EngineLoad(running=7, waiting=1, cache_use=0.9)


def test_an_engine_without_a_figure_for_its_cache_has_none() -> None:
    lines = [line for line in page("llamacpp", 1, 2, 0.5).splitlines() if "kv_cache" not in line]
    assert read_load("\n".join(lines).encode(), "llamacpp") == EngineLoad(running=1, waiting=2, cache_use=None)


def test_labels_may_hold_anything() -> None:
    text = (
        rb'vllm:num_requests_running{model_name="a} 9 \"{x\\"} 4'
        + b"\r\n"
        + b"vllm:num_requests_waiting 1 1795761481\n"
    )
    assert read_load(text, "vllm") == EngineLoad(running=4, waiting=1, cache_use=None)


@pytest.mark.parametrize("figure", ["NaN", "+Inf", "-1", "x", "1_0x", ""])
def test_a_figure_that_is_none_counts_for_nothing(figure: str) -> None:
    text = f"llamacpp:requests_processing {figure}\nllamacpp:requests_deferred 3\n"
    assert read_load(text.encode(), "llamacpp") is None


@pytest.mark.parametrize("text", ["", "hello", "other:num_requests_running 3", " vllm:num_requests_running 3"])
def test_a_page_without_the_gauge_has_no_load(text: str) -> None:
    assert read_load(text.encode(), "vllm") is None


@given(st.binary(max_size=300), st.sampled_from(PROVIDERS), st.integers(0, 300))
def test_any_bytes_are_a_load_in_range_or_none(noise: bytes, provider: str, at: int) -> None:
    text = PAGES[provider].encode()
    load = read_load(text[:at] + noise + text[at:], provider)
    if load is not None:
        assert min(load.running, load.waiting) >= 0
        assert load.cache_use is None or 0 <= load.cache_use <= 1


def test_a_hostile_page_of_megabytes_takes_a_fraction_of_a_second() -> None:
    opened = b'vllm:num_requests_running{a="' * 100_000
    many = b'vllm:num_requests_running{a="}} "} 1\n' * 100_000
    started_s = time.thread_time()
    assert read_load(opened, "vllm") is None
    assert read_load(many, "vllm") == EngineLoad(running=100_000, waiting=0, cache_use=None)
    assert time.thread_time() - started_s < 2.0


# --- the watch ---


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_load_of_other_clients_is_known_apart_from_ours(provider: str) -> None:
    gate = Gate()
    with ScriptedEngine(provider, behaviour=gate.before(echo)) as engine:
        engine.load = (3, 2, 0.5)
        settings = instance("a", engine.url, provider=provider, api_key="sk-1")
        async with running_pool(settings, pool=EAGER) as dispatcher:
            await until(lambda: only(dispatcher).foreign_running == 5)
            assert engine.metrics_headers["authorization"] == "Bearer sk-1"
            asking = asyncio.create_task(dispatcher.answer(call("echo-model")))
            await until(lambda: gate.waiting == 1)
            engine.load = (4, 2, 0.5)
            await until(lambda: (load := only(dispatcher).engine_load) is not None and load.running == 4)
            assert only(dispatcher).foreign_running == 5
            gate.open()
            await rest_of(await asking)
        assert only(dispatcher).engine_load is None


async def test_the_engine_with_fewer_foreign_requests_is_chosen() -> None:
    with ScriptedEngine("vllm") as busy, ScriptedEngine("vllm") as idle:
        busy.load = (60, 20, 0.95)
        settings = (instance("busy", busy.url, provider="vllm"), instance("idle", idle.url, provider="vllm"))
        async with running_pool(*settings, pool=EAGER) as dispatcher:
            await until(lambda: only(dispatcher, "busy").foreign_running == 80)
            for entry in dispatcher.scheduler.instances.values():
                make_known(entry, 0.2)
            for _ in range(8):
                await rest_of(await dispatcher.answer(call("echo-model")))
            assert (only(dispatcher, "busy").served, only(dispatcher, "idle").served) == (0, 8)
            busy.load, idle.load = idle.load, busy.load
            await until(lambda: only(dispatcher, "idle").foreign_running == 80)
            await until(lambda: only(dispatcher, "busy").foreign_running == 0)
            for entry in dispatcher.scheduler.instances.values():
                make_known(entry, 0.2)
            await rest_of(await dispatcher.answer(call("echo-model")))
            assert only(dispatcher, "busy").served == 1


def test_foreign_requests_take_no_slots() -> None:
    entry = ready("a", slots=2)
    make_known(entry, 1.0)
    entry.take_load(EngineLoad(running=100, waiting=0, cache_use=1.0), 100)
    assert entry.is_free(0.0)
    assert entry.load == 100


async def test_a_reading_is_forgotten_when_no_newer_one_comes() -> None:
    with ScriptedEngine("vllm") as engine:
        engine.load = (3, 0, 0.5)
        async with running_pool(instance("a", engine.url, provider="vllm"), pool=EAGER) as dispatcher:
            await until(lambda: only(dispatcher).foreign_running == 3)
            engine.load = None
            read_s = [0.0]

            def is_forgotten() -> bool:
                load = only(dispatcher).engine_load
                read_s.append(read_s[-1] if load is None else load.at_s)
                return load is None

            await until(is_forgotten)
            assert monotonic_s() - read_s[-1] > 3 * EAGER.metrics_interval_s
            assert only(dispatcher).foreign_running == 0
            assert only(dispatcher).state == "ready"
            engine.load = (1, 0, 0.5)
            await until(lambda: only(dispatcher).foreign_running == 1)


@pytest.mark.parametrize("status", [404, 501, 401])
async def test_a_server_without_metrics_is_used_and_seldom_asked_again(status: int) -> None:
    with ScriptedEngine("llamacpp") as engine, capture_logs() as logs:
        engine.load, engine.metrics_status = None, status
        async with running_pool(instance("a", engine.url, provider="llamacpp"), pool=EAGER) as dispatcher:
            await until(lambda: engine.looks == 1)
            await rest_of(await dispatcher.answer(call("echo-model")))
            probes = engine.probes
            await until(lambda: engine.probes >= probes + 4)
            assert engine.looks == 1
    assert [line["instance"] for line in logs if line["event"] == "engine_metrics_absent"] == ["a"]


async def test_other_providers_are_not_asked_for_metrics() -> None:
    with ScriptedEngine("vllm") as engine:
        async with running_pool(instance("a", engine.url, provider="openai"), pool=EAGER):
            probes = engine.probes
            await until(lambda: engine.probes >= probes + 3)
    assert engine.looks == 0


async def test_metrics_that_never_end_hold_up_nothing() -> None:
    with ScriptedModel() as model:
        model.answer_to_get = endless(model.answer_to_get)  # type: ignore[assignment, method-assign]  # for one page
        settings = instance("a", model.url, provider="vllm")
        async with running_pool(settings, pool=EAGER) as dispatcher:
            probes = model.probes
            await until(lambda: model.probes >= probes + 6)
            await rest_of(await dispatcher.answer(call("echo-model")))
            assert only(dispatcher).engine_load is None


def endless(whole: Callable[[Request], bytes]) -> Callable[[Request], bytes]:
    """Its metrics stop in the middle; all else is whole."""
    cut = b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\nv"
    return lambda request: cut if request.path == "/metrics" else whole(request)


def test_metrics_lie_at_the_servers_root() -> None:
    for url, place in (
        ("http://h:1/v1", ""),
        ("http://h:1", ""),
        ("http://h:1/team/v1", "/team"),
        ("http://h:1/x", "/x"),
    ):
        assert metrics_endpoint(instance("a", url, provider="vllm")).target("/metrics") == f"{place}/metrics"


# --- shown ---


def test_the_pool_shows_what_the_engine_says(tmp_path: Path) -> None:
    with ScriptedEngine("sglang") as engine:
        engine.load = (12, 3, 0.404)
        config = instance_config("a", engine.url, provider="sglang") + "\n[pool]\nmetrics_interval_s = 0.1\n"
        with running_hub(tmp_path / "hub", config) as hub, hub.client() as http:
            wait_until(lambda: http.get("/api/pool").json()["instances"][0]["engine"])
            shown = http.get("/api/pool").json()["instances"][0]["engine"]
            assert "0/64     0        12+3 40%  echo-model" in autoglm("pool", data=hub.data_dir).out
    assert 0 <= shown.pop("age_s") < 60
    assert shown == {"running": 12, "waiting": 3, "foreign": 15, "cache_use": 0.404}


# --- a real engine ---


@pytest.mark.model
async def test_the_metrics_of_a_real_llama_cpp_are_read(small_model_path: Path) -> None:
    """Another client keeps it busy; the hub sees that, and that it is over."""
    spec = LocalSpec(name="small", model="small", path=small_model_path, context_tokens=2048, slots=2)
    async with run_child(spec) as child:
        url = f"{child.url}/v1"
        settings = instance("a", url, "small", provider="llamacpp", api_key=child.api_key)
        async with running_pool(settings, pool=EAGER) as seeing, running_pool(settings, pool=EAGER) as other:
            await until(lambda: only(seeing).engine_load is not None, 30.0)
            assert only(seeing).foreign_running == 0
            wanted = call("small", max_tokens=1500, ignore_eos=True, stream=True)
            answer = await other.answer(wanted)
            await until(lambda: only(seeing).foreign_running == 1, 30.0)
            assert only(other).foreign_running == 0
            await answer.finish()
            await until(lambda: only(seeing).foreign_running == 0, 30.0)
