"""The process that speaks to Ray for the hub: starts or joins a cluster, deploys the workers, tells where they are.

Run as `python -m autoglm.inference.providers.ray_serve_child` by `ray_cluster.py`. Ray takes 150 MB, threads and signal
handlers, which the hub is to be spared. The end of stdin, SIGTERM, or the hub's death takes everything down.
"""

import ctypes
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec

from autoglm.inference.local import LocalSpec
from autoglm.inference.providers.ray_order import RayEvent, RayFailed, RayMembers, RayOrder
from autoglm.inference.providers.ray_replica import HEALTH_PERIOD_S, Registry, Replica

_PR_SET_PDEATHSIG = 1  # prctl(2)
_ORDER_LIMIT_BYTES = 65_536
_LOOK_S = 0.5
_ANSWER_TIMEOUT_S = 30.0
_END_S = 5.0
_END_LOOK_S = 0.02
_OBJECT_STORE_BYTES = 80 << 20
"""Next to Ray's minimum: nothing large goes through it."""


def main() -> int:
    """Exit status 0 when it was told to end, 1 when the cluster could not be had or was lost (an event says why).

    Ray lives in a child of this process and may take it down with it, at any moment and in any way; this one stays to
    leave nothing behind.
    """
    signal.signal(signal.SIGTERM, _leave)
    _end_with_parent()
    events = _take_stdout()
    line = sys.stdin.buffer.readline(_ORDER_LIMIT_BYTES)
    if not line.endswith(b"\n"):
        return 0  # the hub is gone already
    order = msgspec.json.decode(line, type=RayOrder)
    if os.getppid() != order.parent_pid:  # it died before the kernel knew of our wish
        return 0
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until both know what to do with it
    driver_pid = os.fork()
    if driver_pid:
        signal.signal(signal.SIGTERM, lambda *_: _tell(driver_pid))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        return _outlive(driver_pid, order)
    _end_with_parent()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_watch_stdin, name="stdin", daemon=True).start()
    return _live(order, events)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def _tell(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def _outlive(driver_pid: int, order: RayOrder) -> int:
    """Wait for the end of the process that speaks to Ray, end what it left, remove its files, pass on its status."""
    _, status = os.waitpid(driver_pid, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the number of the process is no longer ours
    _end_rest()
    shutil.rmtree(order.temporary, ignore_errors=True)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        sys.stderr.write(f"the process that speaks to Ray was killed by {signal.Signals(-code).name}\n")
        return 1
    return code


def _live(order: RayOrder, events: BinaryIO) -> int:
    """From the import of Ray to the end of the cluster."""
    try:
        import ray
        from ray import serve
    except ImportError as error:
        _send(events, RayFailed(reason=str(error), is_missing_package=True))
        return 1
    try:
        _run(order, events, ray, serve)
    except Exception as error:  # noqa: BLE001  # the process's outer edge; Ray raises bare Exceptions, too
        _send(events, RayFailed(reason=" ".join(str(error).split())[:400]))
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end has begun
        _take_down(order, ray, serve)


def _run(order: RayOrder, events: BinaryIO, ray: Any, serve: Any) -> NoReturn:
    """Deploy, and tell the members at each change, until a signal ends it. Raises what Ray raises."""
    _join(order, ray)
    signal.signal(signal.SIGTERM, _leave)  # Ray has set its own
    registry = ray.remote(num_cpus=0, max_restarts=-1)(Registry).remote()
    deployment = serve.deployment(
        Replica,
        name="worker",
        num_replicas=order.replicas,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=5 * HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=1.0,
        ray_actor_options={"num_cpus": order.cores_per_replica},
    )
    spec = LocalSpec(
        name=order.name,
        model=order.model,
        path=Path(order.path),
        context_tokens=order.context_tokens,
        slots=order.slots,
        threads=max(1, int(order.cores_per_replica)),
    )
    serve.start(proxy_location="Disabled")
    application = deployment.bind(registry, spec, is_loopback=order.address is None)
    target = serve.RunTarget(target=application, name=order.name, route_prefix=None)
    # Not until all run: a cluster that has room for some of them serves with those.
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    told: RayMembers | None = None
    while True:
        report: RayMembers = ray.get(registry.report.remote(), timeout=_ANSWER_TIMEOUT_S)
        if len(report.members) < order.replicas and not report.trouble:
            report = RayMembers(members=report.members, trouble=_trouble(order, serve))
        if report != told:
            told = report
            _send(events, report)
        time.sleep(_LOOK_S)


def _trouble(order: RayOrder, serve: Any) -> str:
    """What Serve says of replicas that it cannot place or start; empty while it says nothing."""
    application = serve.status().applications.get(order.name)
    messages = [] if application is None else [each.message for each in application.deployments.values()]
    return " ".join(" ".join(messages).split())[:400]


def _join(order: RayOrder, ray: Any) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if order.address is not None:
        ray.init(address=order.address, namespace="autoglm", **quiet)
        return
    ray.init(
        address="local",
        num_cpus=order.cores,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=f"{order.temporary}/r",  # Ray opens it to everybody; what is above it stays ours
        **quiet,
    )


def _take_down(order: RayOrder, ray: Any, serve: Any) -> None:
    """A cluster of its own ends whole; on another one only the application does."""
    if ray.is_initialized():
        if order.address is not None:
            serve.delete(order.name)
        ray.shutdown()


def _end_rest() -> None:
    """Ray's agents outlive its end for a minute and would go on writing into a folder that is being removed.

    They are in this process's group, which `run_cluster` began; waits for a few seconds at most.
    """
    give_up_s = time.monotonic() + _END_S
    while (rest := _group()) and time.monotonic() < give_up_s:
        for pid in rest:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_END_LOOK_S)


def _group() -> list[int]:
    """The others of this group that live. Source: proc(5), `stat`: state, parent, group after the name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group, *_ = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(group) == os.getpgrp() and state not in b"ZX" and int(stat.parent.name) != os.getpid():
            found.append(int(stat.parent.name))
    return found


def _watch_stdin() -> None:
    while os.read(0, 1):  # not by sys.stdin, whose lock a daemon thread would hold when Python ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # interrupts the main thread, whatever it waits for


def _leave(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the end
    raise SystemExit(0)


def _take_stdout() -> BinaryIO:
    """Keep stdout for events; what libraries print goes to stderr."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return events


def _send(events: BinaryIO, event: RayEvent) -> None:
    events.write(msgspec.json.encode(event) + b"\n")
    events.flush()


if __name__ == "__main__":
    sys.exit(main())
