"""One request for a model: what the scheduler and the pool need to know of it."""

import math
from typing import Literal

import msgspec

from autoglm.core.clock import monotonic_s
from autoglm.core.envelope import invalid_field
from autoglm.core.errors import InvalidField, InvalidJson
from autoglm.core.preference import PreferenceName
from autoglm.inference.decision import Arm, Decision, PreferenceSource

Api = Literal["/chat/completions", "/completions", "/embeddings", "/responses"]

AUTO = "auto"


class _Body(msgspec.Struct):
    """The two fields of the body that decide where it goes; all others travel untouched."""

    model: str
    stream: bool | None = None


_decode = msgspec.json.Decoder(_Body).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_options = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_encode = msgspec.json.Encoder().encode


def _fields_of(body: bytes) -> dict[str, msgspec.Raw]:
    """All fields at the top. Raises InvalidJson for a name that is no text, which reading two fields does not show."""
    try:
        return _decode_fields(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(str(error)) from error


def _with_one_model(body: bytes) -> bytes:
    """A body that names the model once, so that every reader of JSON sees the one that the key was checked for.

    Of names that are there twice, most readers take the last, as we do, some the first; some take `Model` for `model`
    (Go's encoding/json, which Ollama reads with). Raises InvalidField for such a name, and InvalidJson.
    """
    fields = _fields_of(body)
    for name in fields:
        if name != "model" and name.lower() == "model":
            raise InvalidField(name, "some models would read it as 'model': write that in small letters, once")
    return _encode(fields)


class Call:
    """A request on its way. `model` is what the client asked for; the engine replaces `auto` by a choice."""

    arrival = 0
    """Its place among those who wait, given by the scheduler and kept when it has to wait again."""
    hint = ""
    """The intent, where the client names it."""
    prefer: PreferenceName | None = None
    """What the client wants of a model that the hub chooses."""
    preferred_by: PreferenceSource = "settings"
    """Who said so; the settings where `prefer` is None."""
    decision: Decision | None = None
    """Why it goes where it goes, where the hub chose; until the engine has heard what came of it."""
    applied: Arm | None = None
    """The model and the parameters that it goes out with, where the hub chose."""
    client_body = b""
    """The body as it came, where the hub chose."""
    question = b""
    """A digest of what is asked, where the hub chose."""
    first_token_by_s: float | None = None
    """Monotonic time by which its first token should come; None when no objective was set."""
    was_started = False
    """True once it had a slot."""
    estimate: tuple[float, float] | None = None
    """(tokens of the prompt, tokens of the answer), as fairness.py guesses; None until somebody has looked."""
    bound_tokens = math.inf
    """About what the client lets its answer take; infinite when it says nothing, or nobody has looked."""
    prefix: int | None = None
    """Names the start of its conversation, see affinity.py; None until somebody has looked."""
    is_open = False
    """True while its answer goes out as events, so that one more event can tell the client of a failure."""

    def __init__(
        self, api: Api, body: bytes, *, priority: int = 5, deadline_s: float | None = None, tenant: str = ""
    ) -> None:
        """deadline_s: monotonic time by which the answer must be complete. Raises InvalidJson, InvalidField."""
        try:
            fields = _decode(body)
        except msgspec.ValidationError as error:
            raise invalid_field(error, _Body, body) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidJson(str(error)) from error
        if not fields.model or len(fields.model) > 256:
            raise InvalidField("model", "must have 1 to 256 characters; 'auto' lets the hub choose")
        if fields.model == AUTO and not body.isascii():
            _fields_of(body)  # for the hub will rewrite it
        self.api: Api = api
        self.body = body if body.lower().count(b'"model"') == 1 and b"\\u00" not in body else _with_one_model(body)
        self.wanted = self.model = fields.model
        self.is_stream = bool(fields.stream)
        self.priority = priority
        self.deadline_s = deadline_s
        self.tenant = tenant
        self.arrived_s = monotonic_s()

    @property
    def patience_s(self) -> float:
        """From its arrival to its deadline, for the words of an error; 0 when it has none."""
        return 0.0 if self.deadline_s is None else self.deadline_s - self.arrived_s

    def ask_for_usage(self) -> bool:
        """Have a stream tell its usage, whatever the client says; True when the client did not want that.

        OpenAI and servers like it (vLLM, SGLang) stream no usage unless they are asked for it. Raises InvalidField,
        InvalidJson.
        """
        if not self.is_stream or self.api not in ("/chat/completions", "/completions"):
            return False
        fields = _fields_of(self.body)
        wanted = fields.get("stream_options")
        try:
            options = None if wanted is None else _decode_options(wanted)
        except msgspec.ValidationError as error:
            raise InvalidField("stream_options", "must be an object or null") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidJson(str(error)) from error
        is_wanted = options is not None and bytes(options.get("include_usage", b"")) == b"true"
        # Also where it is wanted: of options that are there twice, some servers would take the first.
        fields["stream_options"] = msgspec.Raw(_encode({**(options or {}), "include_usage": True}))
        self.body = _encode(fields)
        return not is_wanted

    def name_model(self, model: str) -> None:
        """Choose the model: rewrites that one field and keeps the values of all others byte for byte."""
        if model == self.model:
            return
        fields = _fields_of(self.body)
        fields["model"] = msgspec.Raw(_encode(model))
        self.body = _encode(fields)
        self.model = model
