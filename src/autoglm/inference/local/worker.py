"""The child process of a local instance: llama.cpp's OpenAI server around one model file.

Run as `python -m autoglm.inference.local.worker` by `child.py`. It must never outlive its parent: a model holds a
gigabyte and a core. Two ropes: the kernel kills it when the parent dies (even while it is stopped or stuck), and the
end of its stdin ends it.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from autoglm.core.errors import ModelFileError
from autoglm.inference.local.order import Event, Order, ServerFailed, ServerReady
from autoglm.inference.models.gguf import read_gguf

_PR_SET_PDEATHSIG = 1  # prctl(2)
_ORDER_LIMIT_BYTES = 65_536
_BATCH_TOKENS = 2048


def main() -> int:
    """Exit status 0 after the end of stdin, 1 when the server could not be started (an event says why)."""
    _die_with_parent()
    events = _take_stdout()
    line = sys.stdin.buffer.readline(_ORDER_LIMIT_BYTES)
    if not line.endswith(b"\n"):
        return 0  # the parent is gone already
    order = msgspec.json.decode(line, type=Order)
    if os.getppid() != order.parent_pid:  # it died before the kernel knew of our wish
        return 0
    _behave_as_a_guest()
    try:
        ready, server = _serve(order)
    except ModelFileError as error:
        _send(events, ServerFailed(reason=str(error)))
        return 1
    except ImportError as error:
        _send(events, ServerFailed(reason=str(error), is_missing_package=True))
        return 1
    except RuntimeError as error:  # the only one of xllamacpp, always the same words; the log has the cause
        _send(events, ServerFailed(reason=str(error)))
        return 1
    _send(events, ready)
    while sys.stdin.buffer.read(1):
        pass
    assert server is not None  # kept alive until here
    os._exit(0)  # llama.cpp's orderly end waits for running requests; the pool has drained us, or the hub is gone


def _serve(order: Order) -> tuple[ServerReady, object]:
    """Load the model and listen. Raises ModelFileError, ImportError, RuntimeError."""
    import xllamacpp  # not at the top: a missing package is to be reported, not to be a traceback

    trained_tokens = read_gguf(Path(order.path)).context_tokens or order.context_tokens
    context_tokens = min(order.context_tokens, trained_tokens)
    params = xllamacpp.CommonParams()
    params.model.path = order.path
    params.model_alias = {order.model}
    params.hostnames = [order.host]
    params.port = 0  # the kernel chooses; listening_address tells
    params.api_keys = [order.api_key]
    params.n_ctx = context_tokens * order.slots  # llama.cpp divides it by the slots
    params.n_parallel = order.slots
    params.cpuparams.n_threads = order.threads
    params.cpuparams_batch.n_threads = order.threads
    params.use_jinja = True
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    params.verbosity = 2  # warnings; one level more writes 8 lines a request, and from 4 on prompts
    params.cache_ram_mib = order.prompt_cache_bytes >> 20  # 8 GB unless told
    if order.sleep_after_s is not None:
        params.sleep_idle_seconds = order.sleep_after_s
    # A kept-alive connection holds one of the server's threads, and health checks must find a free one.
    params.n_threads_http = 2 * order.slots + 6
    if order.mode == "embedding":
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        # A text to embed must fit into one batch, else it is refused; llama.cpp's default is 512.
        params.n_batch = params.n_ubatch = min(context_tokens, _BATCH_TOKENS)
        params.cache_ram_mib = 0
    server = xllamacpp.Server(params)
    return ServerReady(url=server.listening_address, context_tokens=context_tokens), server


def _die_with_parent() -> None:
    """SIGKILL when the thread that forked us ends: `child.py` starts us from the event loop's thread. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _behave_as_a_guest() -> None:
    """When memory runs out the kernel is to take us, not the hub.

    Our priority stays as it is: at nice 5, beside two busy processes on two cores, 35 tokens/s instead of 84.
    """
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        return


def _take_stdout() -> BinaryIO:
    """Keep stdout for events; what libraries print goes to stderr."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return events


def _send(events: BinaryIO, event: Event) -> None:
    events.write(msgspec.json.encode(event) + b"\n")
    events.flush()


if __name__ == "__main__":
    sys.exit(main())
