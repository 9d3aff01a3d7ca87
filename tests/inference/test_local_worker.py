"""Local instances with a real model: they answer, they are noticed when they die, and they never outlive the hub."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL

import anyio
import httpx2
import msgspec
import pytest

from autoglm.core.clock import monotonic_s
from autoglm.inference.context_size import with_way_out
from autoglm.inference.local import BackOff, Down, LocalProvider, LocalSpec, LocalState, Ready, run_child
from inference.tiny_models import gguf

pytestmark = pytest.mark.model


@pytest.fixture
def spec(small_model_path: Path) -> LocalSpec:
    return LocalSpec(
        name="small", model="small", path=small_model_path, context_tokens=512, slots=2, health_interval_s=0.2,
        health_timeout_s=2.0, stop_timeout_s=0.5,
    )  # fmt: skip


@asynccontextmanager
async def client(base_url: str, api_key: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"authorization": f"Bearer {api_key}"}
    async with httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=60, trust_env=False) as opened:
        yield opened


def is_gone(pid: int) -> bool:
    """True when the process has ended; one that init has yet to reap counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def is_stopped(pid: int) -> bool:
    """True when SIGSTOP has reached every thread; before that, one of them might still act on a SIGTERM."""
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")} == {
        "T"
    }


async def until(claim: Callable[[], bool], timeout_s: float = 60.0) -> None:
    with anyio.fail_after(timeout_s):
        while not claim():  # noqa: ASYNC110  # another process decides; there is no event to wait for
            await anyio.sleep(0.01)


async def test_a_worker_answers_in_the_name_of_its_model(spec: LocalSpec) -> None:
    async with run_child(spec) as child, client(child.url, child.api_key) as http:
        body = {"model": "small", "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 8}
        reply = (await http.post("/v1/chat/completions", json=body)).json()
        models = (await http.get("/v1/models")).json()["data"]
        slots = (await http.get("/slots")).json()
        metrics = (await http.get("/metrics")).text
    assert reply["choices"][0]["message"]["content"]
    assert reply["usage"]["completion_tokens"] <= 8
    assert [model["id"] for model in models] == ["small"]
    assert [slot["n_ctx"] for slot in slots] == [512, 512]
    assert "requests_processing" in metrics


async def test_a_request_that_is_too_long_is_refused_by_the_name_that_the_hub_looks_for(spec: LocalSpec) -> None:
    async with run_child(spec) as child, client(child.url, child.api_key) as http:
        body = {"model": "small", "messages": [{"role": "user", "content": "hello " * 600}], "stream": True}
        reply = await http.post("/v1/chat/completions", json=body)
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "exceed_context_size_error")
    assert b"context_tokens of the [[instance]] 'small'" in with_way_out(reply.content, "small")


async def test_requests_without_the_key_are_refused(spec: LocalSpec) -> None:
    """The port is open to every user of the machine."""
    async with run_child(spec) as child, client(child.url, "wrong") as http:
        for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/v1/embeddings"):
            assert (await http.post(path, json={})).status_code == 401, path
        for path in ("/slots", "/metrics", "/props", "/v1/models"):
            assert (await http.get(path)).status_code == 401, path


async def test_each_start_has_its_own_key_and_shows_it_to_nobody(spec: LocalSpec) -> None:
    async with run_child(spec) as one:
        process = Path(f"/proc/{one.pid}")
        told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        async with run_child(spec) as other:
            assert one.api_key != other.api_key
    assert len(one.api_key) >= 32
    assert one.api_key.encode() not in told
    assert one.api_key not in repr(Ready(base_url="u", api_key=one.api_key, context_tokens=1, start_s=0.0))


async def test_a_worker_inherits_no_secret_and_dumps_no_core(spec: LocalSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOGLM_SECRET", "sesame")
    async with run_child(msgspec.structs.replace(spec, environment={"GGML_X": "1"})) as child:
        process = Path(f"/proc/{child.pid}")
        names = {line.partition(b"=")[0] for line in (process / "environ").read_bytes().split(b"\0") if line}
        limits = (process / "limits").read_text()
    assert names - {b"LC_CTYPE"} == {b"PATH", b"PYTHONPATH", b"GGML_X"}  # of PEP 538
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]


async def test_a_worker_in_embedding_mode_embeds(spec: LocalSpec) -> None:
    long_text = "word " * 700  # over llama.cpp's default batch of 512 tokens
    spec = msgspec.structs.replace(spec, mode="embedding", context_tokens=1024)
    async with run_child(spec) as child, client(child.url, child.api_key) as http:
        reply = await http.post("/v1/embeddings", json={"model": "small", "input": ["a cat", "a kitten", long_text]})
    vectors = [item["embedding"] for item in reply.json()["data"]]
    assert [len(vector) for vector in vectors] == [576] * 3
    assert sum(figure * figure for figure in vectors[0]) == pytest.approx(1.0, abs=1e-3)


async def test_the_context_is_no_longer_than_the_model_was_trained_with(spec: LocalSpec) -> None:
    async with run_child(msgspec.structs.replace(spec, context_tokens=100_000, slots=1)) as child:
        assert child.context_tokens == 8192


async def test_a_cut_model_file_is_told_with_its_cause(spec: LocalSpec, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with spec.path.open("rb") as whole:
        cut.write_bytes(whole.read(4_000_000))
    down = await first_down(msgspec.structs.replace(spec, path=cut))
    assert "data is not within the file bounds, model is corrupted or incomplete" in down.reason


async def test_a_model_without_tensors_is_told_with_its_cause(spec: LocalSpec, tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").write_bytes(gguf())
    down = await first_down(msgspec.structs.replace(spec, path=tmp_path / "empty.gguf"))
    assert "error loading model" in down.reason


async def first_down(spec: LocalSpec) -> Down:
    seen: list[Down] = []

    def on_state(state: LocalState) -> None:
        if isinstance(state, Down) and state.retry_in_s is not None:
            seen.append(state)
            scope.cancel()

    with anyio.CancelScope() as scope, anyio.fail_after(60):
        await LocalProvider(spec, on_state).run()
    return seen[0]


class Watched:
    """A provider that runs, and the states it has told."""

    def __init__(self, spec: LocalSpec) -> None:
        self.states: list[LocalState] = []
        self.provider = LocalProvider(spec, self.states.append, back_off=BackOff(first_s=0.01))

    def ready(self) -> list[Ready]:
        return [state for state in self.states if isinstance(state, Ready)]

    def down(self) -> list[Down]:
        return [state for state in self.states if isinstance(state, Down)]


@asynccontextmanager
async def watched(spec: LocalSpec) -> AsyncIterator[Watched]:
    """Yields once the instance is ready."""
    provider = Watched(spec)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(provider.provider.run)
        await until(lambda: bool(provider.ready()), 60)
        yield provider
        tasks.cancel_scope.cancel()


def children() -> list[int]:
    """Pids of this process's workers. It has other children, too: hubs of other tests."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids if b"inference.local.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_a_killed_worker_is_noticed_at_once_and_replaced(spec: LocalSpec) -> None:
    async with watched(spec) as provider:
        began_s = monotonic_s()
        os.kill(children()[0], signal.SIGKILL)
        await until(lambda: bool(provider.down()))
        assert monotonic_s() - began_s < 1.0
        assert provider.down()[0].reason == "the worker was killed by SIGKILL"
        await until(lambda: len(provider.ready()) == 2, 60)
        old, new = provider.ready()
        assert old.api_key != new.api_key
        async with client(new.base_url, new.api_key) as http:
            assert (await http.get("/models")).status_code == 200
    assert children() == []


async def test_a_hung_worker_is_noticed_and_replaced(spec: LocalSpec) -> None:
    async with watched(msgspec.structs.replace(spec, health_timeout_s=0.2)) as provider:
        os.kill(stopped := children()[0], signal.SIGSTOP)
        await until(lambda: len(provider.ready()) == 2, 60)
        assert provider.down()[0].reason == "the worker hangs: 3 health checks in a row had no answer"
        assert is_gone(stopped)
    assert children() == []


async def test_stopping_a_stopped_process_takes_no_longer_than_the_grace(spec: LocalSpec) -> None:
    async with run_child(spec) as child:
        os.kill(child.pid, signal.SIGSTOP)
        await until(lambda: is_stopped(child.pid))
        began_s = monotonic_s()
    assert 0.5 <= monotonic_s() - began_s < 2.0
    assert is_gone(child.pid)


async def test_a_healthy_worker_stops_at_the_first_word(spec: LocalSpec) -> None:
    spec = msgspec.structs.replace(spec, stop_timeout_s=30.0)
    async with run_child(spec) as child:
        began_s = monotonic_s()
    assert monotonic_s() - began_s < 2.0
    assert is_gone(child.pid)


async def test_a_busy_worker_stays_healthy(spec: LocalSpec) -> None:
    """/health is answered beside the requests, even when every slot is taken and more are waiting."""
    async with watched(spec) as provider, client(provider.ready()[0].base_url, provider.ready()[0].api_key) as http:
        body = {"model": "small", "prompt": "Once", "max_tokens": 100, "ignore_eos": True}

        async def ask() -> None:
            (await http.post("/completions", json=body)).raise_for_status()

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask)
        assert provider.down() == []


HUB = """
import json, sys, anyio, msgspec
from autoglm.inference.local import LocalSpec, run_child

async def main():
    spec = msgspec.json.decode(sys.argv[1], type=LocalSpec, dec_hook=lambda kind, text: kind(text))
    async with run_child(spec) as child:
        print(json.dumps(child.pid), flush=True)
        await anyio.sleep_forever()

anyio.run(main, backend_options={"use_uvloop": sys.argv[2] == "uvloop"})
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("prepare", [None, signal.SIGSTOP], ids=["running", "stopped"])
async def test_a_killed_hub_leaves_no_worker_behind(spec: LocalSpec, prepare: signal.Signals | None, loop: str) -> None:
    """Not even a stopped one, which cannot see that its stdin has ended."""
    order = msgspec.json.encode(spec, enc_hook=str).decode()
    async with await anyio.open_process([sys.executable, "-c", HUB, order, loop], stdin=DEVNULL, stderr=None) as hub:
        assert hub.stdout is not None
        pid = json.loads(await hub.stdout.receive())
        assert not is_gone(pid)
        if prepare is not None:
            os.kill(pid, prepare)
            await until(lambda: is_stopped(pid))
        hub.kill()
        await until(lambda: is_gone(pid))


async def test_a_worker_without_a_parent_does_not_even_start(spec: LocalSpec) -> None:
    """The order names the parent: when that is another one now, the real one died before the kernel knew our wish."""
    from autoglm.inference.local.order import Order

    order = Order(
        parent_pid=1, path=str(spec.path), model="m", api_key="k", context_tokens=256, slots=1, threads=1, mode="chat",
        prompt_cache_bytes=0,
    )  # fmt: skip
    line = msgspec.json.encode(order) + b"\n"
    with anyio.fail_after(60):
        done = await anyio.run_process([sys.executable, "-m", "autoglm.inference.local.worker"], input=line)
    assert (done.returncode, done.stdout) == (0, b"")
