"""What the scheduler, the watching of the pool and all else that learns add to a request through the gateway.

The hub of the last commit without them, taken from the repository's history, and the hub of now serve the same load
in alternate rounds, each with one instance and with four behind it: as in `gateway.py`, whose loads these are, CPU time
is that of the whole process, and the difference is taken within each round. The bound is 15 us on a machine where nginx
takes 11.6 us for a chunk of a paced stream; what it takes here is measured in the same rounds. A request names its
model; with `auto` it would also be read and a model be chosen for it, which `intent.py` and `engine.py` measure.
"""

import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `python benchmarks/added.py`

from benchmarks import routing_tables, wrk
from benchmarks.gateway import (
    CONFIG,
    GATEWAY_CORE,
    LOAD_CORE,
    PACED,
    PLAIN,
    Running,
    gateway,
    load,
    phase,
    wait_until_it_answers,
)
from benchmarks.hub import running_hub
from benchmarks.markdown import aligned
from benchmarks.mock_upstream import MockUpstream, running_mock
from benchmarks.outcome import SCRATCH, Target, conclude, options, say, this_machine
from benchmarks.peers import ALL
from benchmarks.processes import priority
from benchmarks.samples import middle, ratio

BEFORE = "a55b5996"
"""The last commit with a plain queue and the least loaded instance."""
ADDED_TO_NGINX = round(15 / 11.6, 2)
"""Microseconds a request to nginx's a chunk, as PACED_TO_NGINX in gateway.py: a processor's speed is not ours."""
NGINX = "nginx"
INSTANCES = (1, 4)
FULL_ROUNDS, QUICK_ROUNDS = 12, 3
_MORE = """
[[instance]]
name = "mock-{number}"
provider = "openai"
base_url = "{upstream}/v1"
models = ["glm-4"]
slots = 256
"""


class Pair(NamedTuple):
    before: Running
    now: Running


def main() -> int:
    chosen = options(__doc__ or "")
    machine = this_machine()
    source = package_of(BEFORE, SCRATCH / "before")
    if source is None:
        return conclude("added", chosen, machine, {}, targets({}, None), [f"{BEFORE}: a clone without its history"])
    peers = [peer for peer in ALL if peer.name == NGINX and peer.is_here()]
    costs: dict[str, list[float]] = {f"{version}_{count}": [] for count in INSTANCES for version in Pair._fields}
    chunk_us: list[float] = []
    with priority(), running_mock(LOAD_CORE) as mock, ExitStack() as stack:
        pairs = {count: stack.enter_context(both(count, source, mock)) for count in INSTANCES}
        nginx = [stack.enter_context(gateway(NGINX, peers, mock)) for _ in peers]
        for running in (one for pair in pairs.values() for one in pair):
            wrk.finish(load(running, PLAIN))  # connections, caches, lazy code
        for number in range(QUICK_ROUNDS if chosen.is_quick else FULL_ROUNDS):
            for count, pair in pairs.items():
                for version in Pair._fields if number % 2 == 0 else reversed(Pair._fields):
                    seen = phase(getattr(pair, version), mock, PLAIN)
                    if failures := seen.load.refused + seen.load.broken:
                        raise RuntimeError(f"{failures} requests through the hub ({version}, {count}) failed")
                    costs[f"{version}_{count}"].append(round(seen.cpu_us / max(1, seen.requests), 2))
            for running in nginx:
                paced = phase(running, mock, PACED)
                chunk_us.append(round(paced.cpu_us / max(1, paced.chunks), 2))
            say(f"round {number + 1}  " + "  ".join(f"{name} {values[-1]:5.1f} us" for name, values in costs.items()))
    added = {count: difference(costs[f"before_{count}"], costs[f"now_{count}"]) for count in INSTANCES}
    figures = {
        "us_per_request": {name: middle(values) for name, values in costs.items()},
        "us_per_request_rounds": costs,
        "added_us": {str(count): value for count, value in added.items()},
        "nginx_us_per_chunk": middle(chunk_us),
    }
    say("\n" + aligned(routing_tables.added(figures, "en")))
    return conclude("added", chosen, machine, figures, targets(added, middle(chunk_us)), [] if nginx else [NGINX])


def targets(added: Mapping[int, float | None], nginx_us: float | None) -> list[Target]:
    return [
        Target(
            claim=f"CPU that a request costs more than before, {count} instance{'s' if count > 1 else ''}"
            f" ({added.get(count)} us), to nginx's a chunk ({nginx_us} us)",
            measured=ratio(added.get(count), nginx_us),
            bound=ADDED_TO_NGINX,
            unit="x",
        )
        for count in INSTANCES
    ]


def difference(before: list[float], now: list[float]) -> float | None:
    return middle((late - early for early, late in zip(before, now, strict=True)), 2)


def package_of(commit: str, folder: Path) -> Path | None:
    """The source folder of another commit; None when the repository does not have it."""
    root = Path(__file__).parents[1]
    archive = subprocess.run(["git", "-C", str(root), "archive", commit, "src"], capture_output=True, check=False)
    if archive.returncode:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "src"


@contextmanager
def both(count: int, source: Path, mock: MockUpstream) -> Iterator[Pair]:
    more = (_MORE.format(number=number, upstream=mock.url) for number in range(2, count + 1))
    config = CONFIG.format(upstream=mock.url) + "".join(more)
    with (
        running_hub(SCRATCH / f"before_{count}", config, core=GATEWAY_CORE, source=source) as old,
        running_hub(SCRATCH / f"now_{count}", config, core=GATEWAY_CORE) as new,
    ):
        pair = Pair(*(Running(f"{name}_{count}", hub.port, hub.pid) for name, hub in (("before", old), ("now", new))))
        for running in pair:
            wait_until_it_answers(running.name, running.port)
        yield pair


if __name__ == "__main__":
    sys.exit(main())
