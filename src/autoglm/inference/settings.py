"""Which instances there are, how long a request may wait, and which models are kept here."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, StringConstraints, field_validator, model_validator

from autoglm.core.preference import PreferenceName
from autoglm.inference.features import INTENT_PATTERN

ProviderName = Literal["openai", "glm", "vllm", "sglang", "llamacpp", "ollama", "local"]

MODEL_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}$"
"""Models' names get into headers, logs and metrics."""
ModelName = Annotated[str, StringConstraints(pattern=MODEL_NAME_PATTERN)]
ProfileName = Literal["plain", "precise", "brief", "direct", "thinking"]
IntentExample = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
StripMarker = Annotated[str, StringConstraints(min_length=1, max_length=256)]

# Zhipu's two addresses, as their documentation gives them (docs.bigmodel.cn, docs.z.ai).
ADDRESSES = {
    "bigmodel": "https://open.bigmodel.cn/api/paas/v4",
    "z.ai": "https://api.z.ai/api/paas/v4",
}
PRESET_URLS: dict[ProviderName, str] = {
    "openai": "https://api.openai.com/v1",
    "glm": ADDRESSES["bigmodel"],
    "vllm": "http://127.0.0.1:8000/v1",
    "sglang": "http://127.0.0.1:30000/v1",
    "llamacpp": "http://127.0.0.1:8080/v1",
    "ollama": "http://127.0.0.1:11434/v1",
}
"""Where each server listens unless it is told otherwise; sources: their documentation."""
PRESET_SLOTS: dict[ProviderName, int] = {
    "openai": 16, "glm": 8, "vllm": 64, "sglang": 64, "llamacpp": 4, "ollama": 4, "local": 4,
}  # fmt: skip
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MAX_NAME_CHARACTERS = 64
_LOCAL_ONLY = ("mode", "context_tokens", "threads", "replicas_min", "replicas_max", "sleep_after_s")


class EndpointSettings(BaseModel, frozen=True, extra="forbid"):
    """How to speak to a server, wherever it is."""

    models: tuple[ModelName, ...] = Field(
        default=(),
        max_length=1000,
        description="Model names; when empty, the endpoint is asked. A local worker has one",
    )
    api_key: SecretStr | None = Field(default=None, description="Key for the endpoint")
    api_key_file: Path | None = Field(default=None, description="File that holds the key")
    slots: int | None = Field(default=None, ge=1, le=4096, description="Requests at one time; by provider when absent")
    proxy: str | None = Field(default=None, pattern=r"^https?://", description="HTTP proxy for this endpoint")
    ca_file: Path | None = Field(default=None, description="PEM bundle of authorities to trust instead of the system's")
    connect_timeout_s: float = Field(default=5.0, gt=0, le=300, description="Longest wait for a connection")
    first_byte_timeout_s: float = Field(default=300.0, gt=0, le=86_400, description="Longest silence before the answer")
    read_timeout_s: float = Field(default=120.0, gt=0, le=86_400, description="Longest silence within an answer")


class InstanceSettings(EndpointSettings, frozen=True, extra="forbid"):
    """`[[instance]]`: one endpoint or local worker of the pool."""

    name: str = Field(min_length=1, max_length=MAX_NAME_CHARACTERS, pattern=NAME_PATTERN, description="Unique name")
    provider: ProviderName = Field(description="openai | glm | vllm | sglang | llamacpp | ollama | local")
    base_url: str | None = Field(
        default=None,
        description="Address up to and with /v1; 'bigmodel' or 'z.ai' for GLM; the provider's own when absent",
    )
    mode: Literal["chat", "embedding"] = Field(
        default="chat", description="local only: embeddings need their own worker"
    )
    context_tokens: int | None = Field(default=None, ge=256, le=1 << 21, description="local only: context of each slot")
    threads: int | None = Field(default=None, ge=1, le=1024, description="local only: cores the worker may use")
    replicas_min: int = Field(default=1, ge=0, le=64, description="local only: workers at least; 0: none when idle")
    replicas_max: int = Field(default=1, ge=1, le=64, description="local only: workers at most")
    sleep_after_s: int | None = Field(
        default=None, ge=1, le=604_800, description="local only: gives memory back after so long without requests"
    )

    @field_validator("base_url")
    @classmethod
    def _full_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        url = ADDRESSES.get(value, value).rstrip("/")
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is neither an http(s) address nor one of {', '.join(ADDRESSES)}")
        return url

    @model_validator(mode="after")
    def _fits_provider(self) -> Self:
        if self.provider == "local":
            if len(self.models) != 1:
                raise ValueError('a local instance serves exactly one model: models = ["qwen2.5-coder-0.5b"]')
            if self.base_url is not None:
                raise ValueError("a local instance has no base_url")
            if self.replicas_min > self.replicas_max:
                raise ValueError("replicas_min is more than replicas_max")
        else:
            fields = type(self).model_fields
            wrong = [name for name in _LOCAL_ONLY if getattr(self, name) != fields[name].default]
            if wrong:
                raise ValueError(f'{" and ".join(wrong)}: only for provider = "local"')
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Its own, and those of its further local workers."""
        return (self.name, *(f"{self.name}-{number}" for number in range(2, self.replicas_max + 1)))

    @property
    def url(self) -> str:
        """The address in force. Not for local instances."""
        return self.base_url or PRESET_URLS[self.provider]

    @property
    def slots_or_preset(self) -> int:
        return self.slots or PRESET_SLOTS[self.provider]


class IntentSettings(BaseModel, frozen=True, extra="forbid"):
    """`[[intent]]`: an intent of the operator's own, or more examples of one of the hub's."""

    name: str = Field(pattern=INTENT_PATTERN, description="Unique; that of an intent of the hub adds examples to it")
    examples: tuple[IntentExample, ...] = Field(
        min_length=3, max_length=1000, description="What users would write, 3 or more, in each of their languages"
    )
    description: str = Field(default="", max_length=500, description="For people")


class IntentsSettings(BaseModel, frozen=True, extra="forbid"):
    """`[intents]`: how requests for `auto` are understood."""

    encoder: bool = Field(default=False, description="Use a sentence encoder, too; needs the extra 'encoder'")


class DiscoverySettings(EndpointSettings, frozen=True, extra="forbid"):
    """`[[discovery]]`: instances at the addresses that a file or a DNS name gives; they come and go with it."""

    name: str = Field(
        min_length=1, max_length=32, pattern=NAME_PATTERN, description="Unique; instances are named NAME-HOST-PORT"
    )
    provider: Literal["openai", "vllm", "sglang", "llamacpp", "ollama"] = Field(
        description="What runs there: openai | vllm | sglang | llamacpp | ollama"
    )
    file: Path | None = Field(
        default=None, description="Targets in Prometheus's file_sd format, JSON; either file or dns"
    )
    dns: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="Name whose A and AAAA records are the addresses",
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of targets that name none; the provider's own when absent"
    )
    scheme: Literal["http", "https"] = Field(default="http", description="http | https")
    path: str = Field(default="/v1", pattern=r"^(/[!-~]*)?$", max_length=1024, description="What the API is below")
    interval_s: float = Field(
        default=5.0, ge=0.1, le=3600, description="Time between two looks at the file or the name"
    )
    keep_s: float = Field(
        default=300.0, ge=0, le=604_800, description="How long the last addresses stay when the name has none"
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.file is None) == (self.dns is None):
            raise ValueError("give either file or dns")
        return self

    @property
    def port_or_preset(self) -> int:
        """The port of targets that name none."""
        return self.port or urlsplit(PRESET_URLS[self.provider]).port or 443

    def member(self, name: str, host: str, port: int) -> InstanceSettings:
        """The settings of the instance at one address. host: an IPv6 address has no brackets."""
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        common = {field: getattr(self, field) for field in EndpointSettings.model_fields}
        return InstanceSettings(
            name=name, provider=self.provider, base_url=f"{self.scheme}://{place}{self.path}", **common
        )


class RaySettings(BaseModel, frozen=True, extra="forbid"):
    """`[[ray]]`: local model workers on the machines of a Ray cluster, each an instance of the pool."""

    name: str = Field(
        min_length=1, max_length=32, pattern=NAME_PATTERN, description="Unique; instances are named NAME-1, NAME-2, ..."
    )
    model: ModelName = Field(description="Model file that each worker serves")
    address: str | None = Field(
        default=None,
        min_length=1,
        max_length=300,
        pattern=r"^[!-~]+$",
        description="HOST:PORT of a running cluster, or 'auto'; a cluster on this machine alone when absent",
    )
    token: SecretStr | None = Field(default=None, description="Token of a cluster that asks for one")
    token_file: Path | None = Field(default=None, description="File that holds the token")
    folder: Path | None = Field(
        default=None, description="Where model files lie on the cluster's machines; as here when absent"
    )
    replicas: int = Field(default=1, ge=1, le=1000, description="Workers")
    cores: float = Field(default=1.0, ge=0.1, le=1024, description="Cores that one worker takes")
    slots: int = Field(default=4, ge=1, le=4096, description="Requests at one time, for each worker")
    context_tokens: int = Field(default=8192, ge=256, le=1 << 21, description="Context of each slot")


class ModelSettings(BaseModel, frozen=True, extra="forbid"):
    """`[[model]]`: what one model costs, and how its answers are treated."""

    name: ModelName = Field(description="The model whose answers are treated so")
    strip: tuple[StripMarker, ...] = Field(
        default=(),
        max_length=32,
        description="Control text to take out of answers; 'A...B' takes out all from A to B: '<think>...</think>'",
    )

    price_in: float = Field(default=0.0, ge=0, le=1e9, description="Price of a million tokens of the prompt")
    price_out: float = Field(default=0.0, ge=0, le=1e9, description="Price of a million tokens of the answer")
    context_tokens: int | None = Field(
        default=None, ge=256, le=1 << 24, description="auto: prompts longer than this go to other models"
    )
    inputs: tuple[Literal["text", "image", "audio"], ...] = Field(
        default=("text", "image", "audio"), min_length=1, description="auto: what the model takes"
    )
    profiles: tuple[ProfileName, ...] = Field(
        default=("plain",),
        min_length=1,
        max_length=8,
        description="auto: sets of parameters to choose from: plain | precise | brief | direct | thinking",
    )

    @field_validator("strip")
    @classmethod
    def _spans_have_a_start(cls, markers: tuple[str, ...]) -> tuple[str, ...]:
        for marker in markers:
            start, dots, end = marker.partition("...")
            if dots and not (start and end):
                raise ValueError(f"{marker!r}: a span needs a start and an end, as in '<think>...</think>'")
        return markers


class EngineSettings(BaseModel, frozen=True, extra="forbid"):
    """`[engine]`: how `auto` chooses."""

    learns: bool = Field(default=True, description="Learn from outcomes; else the first model in order that is free")
    prefer: PreferenceName = Field(
        default="balanced", description="fast | balanced | best | cheap, where the request does not say"
    )
    prefer_by_tenant: dict[str, PreferenceName] = Field(
        default={}, max_length=10_000, description="The same for single tenants, where neither request nor key say"
    )
    explore_share: float = Field(default=0.03, ge=0, le=0.2, description="Share of choices that try out another model")
    young_share: float = Field(
        default=0.3,
        ge=0,
        le=0.5,
        description="The same in the beginning, and where little is known; 0 with no share above",
    )
    quality_floor: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Models with a predicted quality below this share of the best are not chosen",
    )
    slo_s: float = Field(default=10.0, gt=0, le=86_400, description="A whole answer should be there by then")
    cost_scale: float | None = Field(
        default=None,
        gt=0,
        description="The cost of an answer that is as bad as any; twice the usual one when absent",
    )


class SchedulerSettings(BaseModel, frozen=True, extra="forbid"):
    """`[scheduler]`: requests that wait for a free slot."""

    max_queue: int = Field(default=1000, ge=0, le=1_000_000, description="Waiting requests; more get 429")
    max_wait_s: float = Field(default=120.0, gt=0, le=86_400, description="Longest wait for a slot")
    retries: int = Field(default=10, ge=0, le=100, description="Other instances to try before the first byte went out")
    first_token_s: float | None = Field(
        default=None,
        gt=0,
        le=86_400,
        description="Requests that wait and would get their first token later than this get 503",
    )
    aging_s: float = Field(
        default=10.0, gt=0, le=86_400, description="A request that waits so long counts as one class of priority higher"
    )
    input_weight: float = Field(
        default=1.0, ge=0, le=1000, description="What a token of a prompt counts in fair shares"
    )
    output_weight: float = Field(default=2.0, ge=0, le=1000, description="What a token of an answer counts there")
    shares: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        default={}, max_length=10_000, description="Weights of tenants; 1 for those that are not named"
    )


class PoolSettings(BaseModel, frozen=True, extra="forbid"):
    """`[pool]`: health of the instances."""

    probe_interval_s: float = Field(default=10.0, ge=0.1, le=3600, description="Time between two health probes")
    probe_timeout_s: float = Field(default=3.0, gt=0, le=300, description="A probe without an answer by then failed")
    failures_to_open: int = Field(default=5, ge=1, le=1000, description="Failures in a row that open the breaker")
    open_s: float = Field(default=30.0, gt=0, le=3600, description="First pause of a broken instance; grows by repeats")
    max_ejected_share: float = Field(
        default=0.1, ge=0, le=1, description="Of a model's instances, those ejected at one time; one always may be"
    )
    panic_share: float = Field(
        default=0.5, ge=0, le=1, description="With a smaller share of healthy ones, ejections are ignored; 0 = never"
    )
    slow_factor: float = Field(
        default=5.0, ge=0, le=1000, description="Ejected when so many times slower than its peers; 0 = never"
    )
    suspect_after_s: float = Field(
        default=0.8, gt=0, le=300, description="A longer wait for a first byte has the instance probed at once"
    )
    retry_share: float = Field(
        default=0.2, ge=0, le=10, description="Retries on doubtful instances, as a share of requests"
    )
    hedge_share: float = Field(
        default=0.05, ge=0, le=1, description="Share of requests that may be sent twice for speed; 0 = none"
    )
    metrics_interval_s: float = Field(
        default=5.0, ge=0.1, le=3600, description="Time between two looks at an engine's own metrics"
    )


class ModelsSettings(BaseModel, frozen=True, extra="forbid"):
    """`[models]`: model files on this machine."""

    folder: Path | None = Field(default=None, description="Where model files lie; DATA/models when absent")
    default: str = Field(
        default="qwen2.5-coder-0.5b",
        description="Served when there is no [[instance]]; another that is here if it is not",
    )
    currency: str = Field(default="CNY", pattern=r"^[A-Z]{3}$", description="Of all prices and budgets; ISO 4217")
