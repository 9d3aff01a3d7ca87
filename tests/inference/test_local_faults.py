"""A worker whose llama.cpp crashes, hangs or is missing: the failure is told in a sentence, and nothing stays behind.

A package named xllamacpp, put before the real one, is the fault.
"""

import os
from pathlib import Path

import anyio
import pytest

from autoglm.core.errors import HubError, MissingExtra, UpstreamFailed, UpstreamTimeout
from autoglm.inference.local import BackOff, Down, LocalProvider, LocalSpec, LocalState, Starting, run_child
from autoglm.inference.local.post_mortem import cause_of
from inference.tiny_models import TINY

PARAMS = """
class Anything:
    def __getattr__(self, name):
        value = Anything()
        object.__setattr__(self, name, value)
        return value
CommonParams = Anything
"""


def broken(tmp_path: Path, code: str) -> LocalSpec:
    """A spec for a worker whose xllamacpp runs `code` when a server is made."""
    (tmp_path / "xllamacpp.py").write_text(PARAMS + code)
    (tmp_path / "tiny.gguf").write_bytes(TINY)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2] / "src"), *_site_packages()])
    return LocalSpec(
        name="broken", model="tiny", path=tmp_path / "tiny.gguf", stop_timeout_s=0.2, environment={"PYTHONPATH": path}
    )


def _site_packages() -> list[str]:
    import msgspec

    return [str(Path(msgspec.__file__).parents[1])]


async def start_error(spec: LocalSpec) -> HubError:
    with anyio.fail_after(30), pytest.raises(HubError) as caught:
        async with run_child(spec):
            pass
    return caught.value


async def test_an_aborted_start_names_the_signal_and_the_cause(tmp_path: Path) -> None:
    code = (
        "import os, sys\ndef Server(params):\n    print('GGML_ASSERT(n > 0) failed', file=sys.stderr)\n    os.abort()"
    )
    error = await start_error(broken(tmp_path, code))
    assert isinstance(error, UpstreamFailed)
    assert str(error) == "instance 'broken' failed: the worker was killed by SIGABRT: GGML_ASSERT(n > 0) failed"


async def test_a_refused_model_names_the_first_error_of_the_log(tmp_path: Path) -> None:
    code = (
        "import sys\ndef Server(params):\n"
        "    print('0.00.033.830 E llama_model_load: error loading model: wrong shape', file=sys.stderr)\n"
        "    print('0.00.033.844 E srv    load_model: failed to load model', file=sys.stderr)\n"
        "    raise RuntimeError('Failed to init server, please check the input params.')"
    )
    error = await start_error(broken(tmp_path, code))
    assert str(error).endswith("llama_model_load: error loading model: wrong shape")


async def test_a_file_that_is_no_model_is_refused_before_llama_sees_it(tmp_path: Path) -> None:
    spec = broken(tmp_path, "def Server(params):\n    raise AssertionError")
    spec.path.write_bytes(b"PK\x03\x04")
    assert "tiny.gguf is not a usable model file: it starts with" in str(await start_error(spec))


async def test_a_missing_package_names_the_extra_to_install(tmp_path: Path) -> None:
    error = await start_error(broken(tmp_path, "raise ImportError('libcuda.so.1 is missing')"))
    assert isinstance(error, MissingExtra)
    assert "autoglm-hub[local]" in str(error)


async def test_a_start_that_hangs_is_given_up_and_killed(tmp_path: Path) -> None:
    """It ignores SIGTERM, too."""
    code = "import signal, time\ndef Server(params):\n    signal.signal(15, signal.SIG_IGN)\n    time.sleep(600)"
    spec = broken(tmp_path, code)
    spec = LocalSpec(**{name: getattr(spec, name) for name in spec.__struct_fields__} | {"start_timeout_s": 1.0})
    assert isinstance(await start_error(spec), UpstreamTimeout)
    assert _workers() == []


def _workers() -> list[str]:
    """Pids of this process's workers that are not reaped; other tests have children of other kinds."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in children if b"inference.local.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_failures_follow_each_other_more_and_more_slowly(tmp_path: Path) -> None:
    spec = broken(tmp_path, "def Server(params):\n    raise RuntimeError('no')")
    states: list[LocalState] = []
    pauses: list[float] = []

    def on_state(state: LocalState) -> None:
        states.append(state)
        if isinstance(state, Down) and state.retry_in_s is not None:
            pauses.append(state.retry_in_s)
            if len(pauses) == 4:
                scope.cancel()

    with anyio.CancelScope() as scope, anyio.fail_after(60):
        await LocalProvider(spec, on_state, back_off=BackOff(first_s=0.01, limit_s=0.04)).run()
    assert [isinstance(state, Starting) for state in states] == [True, False] * 4 + [False]
    assert 0.0075 <= pauses[0] <= 0.01 < 0.015 <= pauses[1] <= 0.02 < 0.03 <= pauses[2] <= 0.04
    assert pauses[3] <= 0.04
    assert states[-1] == Down(reason="the instance was stopped")


def test_the_pause_never_passes_the_limit_even_after_years() -> None:
    assert 45.0 <= BackOff().pause_s(1_000_000) <= 60.0


@pytest.mark.parametrize(
    ("lines", "is_running", "cause"),
    [
        ([], True, ""),
        (["0.01.1 I srv init: listening", "0.02.0 W srv x: slow"], True, ""),
        (["0.01.1.2 E srv  send_error: old", "0.02.1.2 E srv  loop: new"], True, "loop: new"),
        (["0.01.1.2 E llama_model_load: cause", "0.02.1.2 E srv  init: effect"], False, "llama_model_load: cause"),
        (["Traceback (most recent call last):", "  x", "MemoryError: no memory"], False, "MemoryError: no memory"),
        (
            ["terminate called after throwing 'std::bad_alloc'"],
            True,
            "terminate called after throwing 'std::bad_alloc'",
        ),
    ],
)
def test_the_useful_line_of_a_log_is_found(lines: list[str], is_running: bool, cause: str) -> None:
    assert cause_of(lines, is_running=is_running) == cause


async def test_one_that_gives_up_tells_why_and_ends(tmp_path: Path) -> None:
    """Those who wait for a start are to know at once that it failed; it is not tried again behind their backs."""
    states: list[LocalState] = []
    spec = broken(tmp_path, "def Server(params):\n    raise RuntimeError('no luck')")
    with anyio.fail_after(30):
        reason = await LocalProvider(spec, states.append, gives_up=True).run()
    assert reason == "instance 'broken' failed: no luck"
    assert states == [Starting(), Down(reason=reason)]
