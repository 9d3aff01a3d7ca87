"""Reads an engine's own metrics, so that load from other clients counts in the choice of an instance.

`/metrics` lies at the server's root, not below /v1, and is Prometheus's text format 0.0.4. A few gauges are wanted of
some hundred kilobytes.
Sources for the names: vLLM, "Production Metrics" and docs/design/metrics.md (`gpu_cache_usage_perc` in older releases);
SGLang, "Production Metrics" (the server needs --enable-metrics); llama.cpp, tools/server/README.md (needs --metrics;
only older builds tell `kv_cache_usage_ratio`).
"""

import math
import random
import re
from collections.abc import Mapping
from typing import NamedTuple

import anyio
import msgspec
import structlog

from autoglm.core.clock import monotonic_s
from autoglm.core.errors import HubError, UpstreamFailed
from autoglm.inference.engine_load import EngineLoad
from autoglm.inference.instance import Instance
from autoglm.inference.settings import InstanceSettings, PoolSettings
from autoglm.inference.upstream import Endpoint, open_upstream
from autoglm.inference.upstream.upstream import Upstream

log = structlog.get_logger()

STALE_INTERVALS = 3
"""A reading that is older than this many intervals says nothing about now."""
_MAX_BYTES = 4 << 20
_LINE_END = 10
_ABSENT_S = 60.0
"""Pause before asking again a server that has no metrics."""


class Dialect(NamedTuple):
    """The names of one engine's gauges."""

    running: str
    waiting: str
    cache_use: tuple[str, ...]


DIALECTS: Mapping[str, Dialect] = {
    "vllm": Dialect(
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
    "sglang": Dialect("sglang:num_running_reqs", "sglang:num_queue_reqs", ("sglang:token_usage",)),
    "llamacpp": Dialect(
        "llamacpp:requests_processing", "llamacpp:requests_deferred", ("llamacpp:kv_cache_usage_ratio",)
    ),
}

# What follows a name. Labels are taken whole: a value may hold any character, but a line break is written as \\n.
_SAMPLE = re.compile(rb"(\{[^\n]*\})?[ \t]+([^ \t\r\n]+)")
# With tensor or pipeline parallelism SGLang may show the same queue once for each rank.
_OTHER_RANK = re.compile(rb'\b[tp]p_rank="[1-9]')


def read_load(text: bytes, provider: str) -> EngineLoad | None:
    """The load in a page of metrics; None when it has no count of running requests. Never raises.

    Requests are summed over the engines of a server (data parallelism), and of their caches the fullest counts: what
    it cannot hold is preempted, whatever room the others have.
    """
    dialect = DIALECTS[provider]
    running = _samples(text, dialect.running)
    if not running:
        return None
    return EngineLoad(
        running=int(min(sum(running), 1e9)),
        waiting=int(min(sum(_samples(text, dialect.waiting)), 1e9)),
        cache_use=max((min(1.0, use) for name in dialect.cache_use for use in _samples(text, name)), default=None),
    )


def _samples(text: bytes, gauge: str) -> list[float]:
    """Its figures that are finite and not negative.

    Found by searching for the name: 0.6 ms for a page of 230 kB, where the client library's parser takes 130 ms, and
    the event loop waits meanwhile.
    """
    name = gauge.encode()
    found = []
    start = text.find(name)
    while start >= 0:
        end = start + len(name)
        if start == 0 or text[start - 1] == _LINE_END:
            sample = _SAMPLE.match(text, end)
            if sample is not None and not _OTHER_RANK.search(sample[1] or b""):
                found.append(_number(sample[2]))
        start = text.find(name, end)
    return [figure for figure in found if math.isfinite(figure) and figure >= 0]


def _number(figure: bytes) -> float:
    try:
        return float(figure)
    except ValueError:
        return math.nan


async def watch_load(instance: Instance, settings: InstanceSettings, pool: PoolSettings) -> None:
    """Keep `instance.engine_load` and `foreign_running` true until cancelled; for providers with a dialect."""
    upstream = open_upstream(metrics_endpoint(settings))
    is_told = False
    try:
        while True:
            pause_s = pool.metrics_interval_s
            before = instance.running
            try:
                load = await _look(upstream, settings, pool.probe_timeout_s)
            except HubError:
                _forget_stale(instance, pool)  # the health probe tells what is wrong with the server
            else:
                if load is not None:
                    # Of ours some began and some ended while we read; who counted more calls fewer foreign.
                    instance.take_load(load, load.foreign(max(before, instance.running)))
                else:
                    instance.take_load(None, 0)
                    pause_s = max(pause_s, _ABSENT_S)
                    if not is_told:
                        log.info("engine_metrics_absent", instance=instance.name, provider=settings.provider)
                        is_told = True
            await anyio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311  # looks must not march in step
    finally:
        instance.take_load(None, 0)
        with anyio.CancelScope(shield=True):  # closes sockets; waits for nobody
            await upstream.aclose()


async def _look(upstream: Upstream, settings: InstanceSettings, timeout_s: float) -> EngineLoad | None:
    """None when the server has no metrics of this dialect. Raises UpstreamFailed, UpstreamTimeout."""
    try:
        with anyio.fail_after(timeout_s):
            reply = await upstream.get("/metrics")
            body = await reply.read(_MAX_BYTES)
    except TimeoutError:
        raise UpstreamFailed(settings.name, f"no metrics within {timeout_s:.1f} s") from None
    if reply.status >= 500 and reply.status != 501:  # llama.cpp without --metrics says 501
        raise UpstreamFailed(settings.name, f"status {reply.status} to a look at its metrics")
    load = read_load(body, settings.provider) if reply.status == 200 else None
    return None if load is None else msgspec.structs.replace(load, at_s=monotonic_s())


def _forget_stale(instance: Instance, pool: PoolSettings) -> None:
    load = instance.engine_load
    if load is not None and monotonic_s() - load.at_s > STALE_INTERVALS * pool.metrics_interval_s:
        instance.take_load(None, 0)


def metrics_endpoint(settings: InstanceSettings) -> Endpoint:
    """The server's root: the base URL without its /v1."""
    return Endpoint(
        name=settings.name,
        base_url=settings.url.removesuffix("/v1"),
        api_key=settings.api_key,
        connect_timeout_s=settings.connect_timeout_s,
        max_connections=1,
        proxy=settings.proxy,
        ca_file=settings.ca_file,
    )
