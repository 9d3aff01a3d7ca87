"""A scripted model that has an engine's own metrics, as vLLM, SGLang or llama.cpp write them."""

from typing import Any

from scripted_model import Request, ScriptedModel, response

PAGES = {
    # Two engines of one server (data parallelism), as vLLM's per-engine label has it.
    "vllm": """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="Qwen/Qwen3-8B"}} {running}.0
vllm:num_requests_running{{engine="1",model_name="Qwen/Qwen3-8B"}} 0.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="Qwen/Qwen3-8B"}} {waiting}.0
vllm:num_requests_waiting_by_reason{{engine="0",reason="capacity"}} 77.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="Qwen/Qwen3-8B"}} {cache_use}
vllm:kv_cache_usage_perc{{engine="1",model_name="Qwen/Qwen3-8B"}} 0.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{engine="0",le="0.001",model_name="Qwen/Qwen3-8B"}} 3.0
""",
    "sglang": """# HELP sglang:num_running_reqs The number of running requests
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{model_name="m",tp_rank="0",pp_rank="0"}} {running}.0
sglang:num_running_reqs{{model_name="m",tp_rank="1",pp_rank="0"}} {running}.0
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{{model_name="m",tp_rank="0",pp_rank="0"}} {waiting}.0
# TYPE sglang:token_usage gauge
sglang:token_usage{{model_name="m",tp_rank="0",pp_rank="0"}} {cache_use}
""",
    "llamacpp": """# HELP llamacpp:kv_cache_usage_ratio KV-cache usage. 1 means 100 percent usage.
# TYPE llamacpp:kv_cache_usage_ratio gauge
llamacpp:kv_cache_usage_ratio {cache_use}
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing {running}
# HELP llamacpp:requests_deferred Number of requests deferred.
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred {waiting}
""",
}


def page(provider: str, running: int, waiting: int, cache_use: float) -> str:
    return PAGES[provider].format(running=running, waiting=waiting, cache_use=cache_use)


class ScriptedEngine(ScriptedModel):
    """`engine.load = (running, waiting, cache_use)` is what its metrics say; None: they cannot be had."""

    def __init__(self, provider: str, **options: Any) -> None:
        super().__init__(**options)
        self.provider = provider
        self.load: tuple[int, int, float] | None = (0, 0, 0.0)
        self.metrics_status = 503
        """With no load."""
        self.looks = 0
        self.metrics_headers: dict[str, str] = {}
        """Of the last look."""

    def answer_to_get(self, request: Request) -> bytes:
        if request.path != "/metrics":
            return super().answer_to_get(request)
        self.looks += 1
        self.metrics_headers = request.headers
        if self.load is None:
            return response(self.metrics_status, b"no metrics")
        return response(200, page(self.provider, *self.load).encode(), {"Content-Type": "text/plain; version=0.0.4"})
