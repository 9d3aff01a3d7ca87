"""The other gateways: where they are installed and how they are started.

`python benchmarks/peers.py` sets them up: virtual environments under build/peers, and the system's packages wrk,
nginx-light and gcc. Those it installs when run by root; else it prints the command.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/peers.py`

from benchmarks.outcome import SCRATCH, say
from benchmarks.ports import free_port
from benchmarks.processes import running

PEERS = SCRATCH.parent / "peers"
PYTHON_PEERS = {
    "sglang-router": (("sglang-router==0.3.2",),),
    # Its own requirements bring all of vLLM along, several GB; these are what the router imports.
    "vllm-router": (
        ("--no-deps", "vllm-router==0.1.17"),
        (
            "setproctitle==1.3.8",
            "aiohttp==3.14.5",
            "fastapi==0.165.0",
            "uvicorn==0.54.0",
            "requests==2.34.2",
            "orjson==3.13.0",
        ),
    ),
}
"""For each the pip installs that make its environment."""
SYSTEM_PROGRAMS = ("wrk", "nginx", "gcc")
SYSTEM_TOOL = Path(__file__).parents[1] / "tools" / "system.py"


class Peer(NamedTuple):
    name: str
    is_here: Callable[[], bool]
    command: Callable[[int, str, Path], list[str]]
    """Of (its port, the upstream's URL, a folder of its own)."""


def _nginx(port: int, upstream: str, folder: Path) -> list[str]:
    user = "user root;" if os.geteuid() == 0 else ""  # its own user could not write into our folder
    folder.joinpath("nginx.conf").write_text(f"""{user}
daemon off; worker_processes 1; pid nginx.pid; error_log nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path bodies; proxy_temp_path answers;
  upstream mock {{ server {upstream.removeprefix("http://")}; keepalive 200; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 100000000;
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
""")
    return ["nginx", "-p", str(folder), "-e", "nginx.log", "-c", "nginx.conf"]


def _sglang(port: int, upstream: str, _: Path) -> list[str]:
    python = str(PEERS / "sglang-router" / "bin" / "python")
    return [python, "-m", "sglang_router.launch_router", *_router_options(port, upstream), "--log-level", "warn"]


def _vllm(port: int, upstream: str, _: Path) -> list[str]:
    program = str(PEERS / "vllm-router" / "bin" / "vllm-router")
    return [program, *_router_options(port, upstream), "--log-level", "error"]


def _router_options(port: int, upstream: str) -> list[str]:
    place = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port())]
    return [*place, "--worker-urls", upstream, "--policy", "round_robin"]


ALL = (
    Peer("nginx", lambda: shutil.which("nginx") is not None, _nginx),
    Peer("vllm-router", (PEERS / "vllm-router" / "installed").exists, _vllm),
    Peer("sglang-router", (PEERS / "sglang-router" / "installed").exists, _sglang),
)


@contextmanager
def running_peer(peer: Peer, upstream: str, *, core: int) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The process and the port that it is going to listen on."""
    folder = SCRATCH / peer.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    with running(peer.command(port, upstream, folder), folder / "output.log", core=core) as process:
        yield process, port


def set_up() -> int:
    """Install what is missing. Returns the exit status."""
    for name, installs in PYTHON_PEERS.items():
        _install(name, installs)
    return subprocess.run([sys.executable, str(SYSTEM_TOOL), *SYSTEM_PROGRAMS], check=False).returncode


def _install(name: str, installs: Sequence[Sequence[str]]) -> None:
    folder = PEERS / name
    mark, wanted = folder / "installed", repr(installs)
    if mark.exists() and mark.read_text() == wanted:
        return
    say(f"installing {name} in {folder}")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    for arguments in installs:
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *arguments], check=True)
    mark.write_text(wanted)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    sys.exit(set_up())
