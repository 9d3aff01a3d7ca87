"""What model servers answer, and what names them: streams, pages of metrics, lists of targets."""

from autoglm.core.errors import DiscoveryFailed
from autoglm.inference.providers.engine_metrics import DIALECTS, read_load
from autoglm.inference.providers.targets_file import parse_targets
from autoglm.inference.sse import Events, flaw_of_end, has_event, split_events
from autoglm.inference.usage import has_content, has_reasoning, usage_of
from fuzzing.target import Target


def fuzz_sse(data: bytes) -> None:
    """A stream's events are the same however its bytes are cut."""
    whole, pieces = Events(), Events()
    found = list(whole.feed(data))
    assert [event for at in range(len(data)) for event in pieces.feed(data[at : at + 1])] == found
    events, rest = split_events(data)
    assert events + rest == data
    has_event(data)
    flaw_of_end(data)
    has_content(data)
    has_reasoning(data)
    assert min(usage_of(data)) >= 0


def fuzz_metrics(data: bytes) -> None:
    for provider in DIALECTS:
        load = read_load(data, provider)
        assert load is None or (load.running >= 0 and load.waiting >= 0)


def fuzz_targets_file(data: bytes) -> None:
    for target in parse_targets(data, 8000, "file"):
        assert 0 < target.port < 65_536


TARGETS = (
    Target("sse", fuzz_sse, (
        b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,'
        b'"completion_tokens":2}}\n\ndata: [DONE]\n\n',
        b"event: a\r\ndata: b\r\ndata:c\r\n\r\n: comment\n\n",
        b'data: {"error":{"message":"x"}}\n\n{"finish_reason":"network_error"}',
    ), words=(b"data:", b"\r\n", b"\n\r\n", b"\r", b"\n\n", b"event:", b'"usage":', b"[DONE]")),
    Target("engine-metrics", fuzz_metrics, (
        b'vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc 0.5\n',
        b'sglang:num_running_reqs{tp_rank="0"} 2\nsglang:num_running_reqs{tp_rank="1"} 2\nsglang:token_usage NaN\n',
        b"llamacpp:requests_processing 1e400\nllamacpp:requests_deferred -1\n",
    ), words=(b'{a="\\n"}', b"+Inf", b"vllm:num_requests_running", b"\n")),
    Target("targets-file", fuzz_targets_file, (b'[{"targets":["a:80","[::1]:81","c"],"labels":{"x":"y"}}]',),
           (DiscoveryFailed,), (b":99999", b":0", b"[::", b'"a"', b"\\u0000")),
)  # fmt: skip
