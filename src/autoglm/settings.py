"""Composes the parts' settings: defaults < autoglm.toml < AUTOGLM_* environment < options of the command line.

An environment variable names a key with two underscores for each dot: AUTOGLM_GATEWAY__PORT=9000. Lists of tables
(`[[instance]]`) are set in the file only. AUTOGLM_DATA, _CONFIG, _URL, _KEY and _CA_FILE are the CLI's options.
Paths in the file are relative to the file's folder, those in variables to the working directory; both become absolute.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, get_args

from pydantic import BaseModel, Field, SecretStr, ValidationError, model_validator

from autoglm.auth.audit.settings import AuditSettings
from autoglm.auth.clock import ClockSettings
from autoglm.auth.people.settings import PeopleSettings
from autoglm.auth.policy.settings import PolicySettings
from autoglm.auth.settings import FIRST_KEY_NAME, KeySettings, SecretsSettings
from autoglm.auth.tokens.settings import TrustSettings
from autoglm.channels.broker_settings import BrokerSettings
from autoglm.channels.kinds import settings_of
from autoglm.channels.routes.settings import InhibitSettings, PersonSettings, RouteSettings
from autoglm.channels.settings import ChannelSettings, OutboxSettings
from autoglm.core.errors import InvalidField, SettingsError, did_you_mean
from autoglm.gateway.settings import AcmeSettings, GatewaySettings, TelemetrySettings
from autoglm.inference.budget.settings import BudgetSettings
from autoglm.inference.cache.settings import CacheSettings
from autoglm.inference.scaling.settings import ScalingSettings
from autoglm.inference.settings import (
    DiscoverySettings,
    EngineSettings,
    InstanceSettings,
    IntentSettings,
    IntentsSettings,
    ModelSettings,
    ModelsSettings,
    PoolSettings,
    RaySettings,
    SchedulerSettings,
)
from autoglm.settings_files import (
    Tree,
    certificate_problems,
    is_reference,
    missing_files,
    read_channel_files,
    read_references,
    read_secret_files,
    read_toml,
    resolve_paths,
)
from autoglm.settings_reasons import plain_reason
from autoglm.store.settings import StoreSettings

if TYPE_CHECKING:
    from autoglm.auth.vault import Opener

ENV_PREFIX = "AUTOGLM_"
SECRETS_FOLDER = "secrets"
"""Of the data folder. Not `trust`: the clock takes a folder that holds anything for one that is not new."""
_CREDENTIAL = "autoglm.passphrase"
_OPTIONS = {"AUTOGLM_DATA", "AUTOGLM_CONFIG", "AUTOGLM_URL", "AUTOGLM_KEY", "AUTOGLM_CA_FILE"}
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/@\s\"']+(?=@)")


LISTS = (
    "instance", "discovery", "ray", "key", "model", "intent", "budget", "channel", "route", "inhibit", "person",
)  # fmt: skip
"""The tables that are lists of tables."""


class Settings(BaseModel, frozen=True, extra="forbid"):
    """Everything that can be set. One table of autoglm.toml for each field."""

    gateway: GatewaySettings = GatewaySettings()
    acme: AcmeSettings = AcmeSettings()
    store: StoreSettings = StoreSettings()
    trust: TrustSettings = TrustSettings()
    clock: ClockSettings = ClockSettings()
    policy: PolicySettings = PolicySettings()
    audit: AuditSettings = AuditSettings()
    people: PeopleSettings = PeopleSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    pool: PoolSettings = PoolSettings()
    engine: EngineSettings = EngineSettings()
    intents: IntentsSettings = IntentsSettings()
    scaling: ScalingSettings = ScalingSettings()
    models: ModelsSettings = ModelsSettings()
    cache: CacheSettings = CacheSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    outbox: OutboxSettings = OutboxSettings()
    mqtt_broker: BrokerSettings = BrokerSettings()
    secrets: SecretsSettings = SecretsSettings()
    instance: tuple[InstanceSettings, ...] = Field(default=(), max_length=1000)
    discovery: tuple[DiscoverySettings, ...] = Field(default=(), max_length=100)
    ray: tuple[RaySettings, ...] = Field(default=(), max_length=100)
    key: tuple[KeySettings, ...] = Field(default=(), max_length=10_000)
    model: tuple[ModelSettings, ...] = Field(default=(), max_length=1000)
    intent: tuple[IntentSettings, ...] = Field(default=(), max_length=200)
    budget: tuple[BudgetSettings, ...] = Field(default=(), max_length=100)
    channel: tuple[ChannelSettings, ...] = Field(default=(), max_length=1000)
    route: tuple[RouteSettings, ...] = Field(default=(), max_length=1000)
    inhibit: tuple[InhibitSettings, ...] = Field(default=(), max_length=1000)
    person: tuple[PersonSettings, ...] = Field(default=(), max_length=10_000)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for table in LISTS:
            names = [name for entry in getattr(self, table) for name in _names(entry)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two [[{table}]] are named {twice[0]!r}")
        return self


def _names(entry: Any) -> tuple[str, ...]:
    """What an entry of a list is known by."""
    if isinstance(entry, PersonSettings):
        return (entry.address,)
    return tuple(getattr(entry, "names", (entry.name,)))


class Loaded(NamedTuple):
    """Settings, and where each value that is no default came from (`gateway.port` -> `AUTOGLM_GATEWAY__PORT`)."""

    settings: Settings
    origins: dict[str, str]
    file: Path | None


def load_settings(
    file: Path | None = None, *, environ: Mapping[str, str] | None = None, options: Tree | None = None,
    data_dir: Path | None = None, ask_passphrase: Callable[[], str] | None = None,
) -> Loaded:  # fmt: skip
    """Read and check all settings. `options` is a tree as in the file, for what the command line says.

    data_dir: whose secrets `secret:NAME` stands for; the file's folder when absent. ask_passphrase: asks the person at
    the terminal, if there is one; called only where a secret is wanted that no file opens.
    Raises SettingsError with a sentence for every problem found, naming the key and the nearest known one.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251  # the one place that reads it
    origins: dict[str, str] = {}
    tree = read_toml(file) if file else {}
    for path, _ in _leaves(tree):
        origins[path] = str(file)
    problems: list[str] = []
    paths = _path_fields()
    resolve_paths(tree, paths, (file.parent if file else Path()).absolute(), problems)
    for steps, variable, value in _from_environment(environ, problems):
        is_path = steps[1] in paths[steps[0]] and not is_reference(value)
        _put(tree, steps, str(Path(value).absolute()) if is_path else value, problems, variable)
        origins[".".join(steps)] = variable
    for name, wanted in _leaves(options or {}):
        _put(tree, name.split("."), wanted, problems, "the command line")
        origins[name] = "the command line"
    opener = _opener(tree, data_dir or (file.parent if file else Path()), environ, ask_passphrase)
    read_references(tree, {table: _model_at([table]) for table in Settings.model_fields}, origins, problems, opener)
    read_secret_files(tree, origins, problems)
    read_channel_files(tree, (file.parent if file else Path()).absolute(), origins, problems)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += _sentences(error.errors(include_url=False, include_input=False), origins, tree)
        raise SettingsError(problems) from None  # the cause would print the input, secrets included
    gateway = settings.gateway
    problems += certificate_problems(gateway.tls_certificate_file, gateway.tls_key_file)
    problems += missing_files(
        {
            "gateway.tls_client_ca_file": gateway.tls_client_ca_file,
            "gateway.tls_client_crl_file": gateway.tls_client_crl_file,
            "acme.ca_file": settings.acme.ca_file,
            "people.password.breached_file": settings.people.password.breached_file,
        }
    )
    authorities = {
        f"{table}[{index}].ca_file": entry.ca_file
        for table, entries in (("instance", settings.instance), ("discovery", settings.discovery))
        for index, entry in enumerate(entries)
    }
    problems += missing_files(authorities)
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, origins, file)


def secrets_opener(
    file: Path | None, data_dir: Path, ask: Callable[[], str] | None, environ: Mapping[str, str] | None = None
) -> "Opener":
    """What opens the secrets of a data folder, by `[secrets]` alone: they may be wanted before all else is right.

    Raises SettingsError.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251  # the one place that reads it
    problems: list[str] = []
    tree = {"secrets": (read_toml(file) if file else {}).get("secrets", {})}
    resolve_paths(
        tree, {"secrets": list(SecretsSettings.model_fields)}, (file or Path("x")).parent.absolute(), problems
    )
    for field in SecretsSettings.model_fields:
        if value := environ.get(f"{ENV_PREFIX}SECRETS__{field.upper()}"):
            _put(tree, ["secrets", field], str(Path(value).absolute()), problems, "the environment")
    if problems:
        raise SettingsError(problems)
    return _made_opener(tree, data_dir, environ, ask)


def _made_opener(tree: Tree, data_dir: Path, environ: Mapping[str, str], ask: Callable[[], str] | None) -> "Opener":
    from autoglm.auth.sealing import read_passphrase
    from autoglm.auth.vault import KEY_FILE, Opener

    table = tree.get("secrets")
    wanted: Tree = table if isinstance(table, dict) else {}
    key_file, passphrase_file = (wanted.get(name) for name in ("key_file", "passphrase_file"))
    if not isinstance(passphrase_file, str) and (folder := environ.get("CREDENTIALS_DIRECTORY")):
        credential = Path(folder) / _CREDENTIAL  # systemd.exec(5), LoadCredential=
        passphrase_file = str(credential) if credential.is_file() else None
    if isinstance(passphrase_file, str):
        ask = partial(read_passphrase, Path(passphrase_file))
    return Opener(Path(key_file) if isinstance(key_file, str) else data_dir / SECRETS_FOLDER / KEY_FILE, ask)


def _opener(
    tree: Tree, data_dir: Path, environ: Mapping[str, str], ask: Callable[[], str] | None
) -> Callable[[Mapping[str, str]], tuple[dict[str, str], list[str]]]:
    def values_of(names: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        from autoglm.auth.vault import secrets_of  # cryptography, for those who keep secrets there

        return secrets_of(data_dir / SECRETS_FOLDER, names, _made_opener(tree, data_dir, environ, ask))

    return values_of


def check_start(settings: Settings) -> None:
    """What a hub needs beyond settings that can be read; commands that start none do without.

    Raises SettingsError with a sentence for every reason for which no hub starts with them.
    """
    # Here, because only a start and its check need them: 50 ms.
    from autoglm.auth.keys import check_fixed_keys
    from autoglm.inference.intent.encoder import check_encoder
    from autoglm.inference.providers.address import configured_endpoint

    checks: list[Callable[[], object]] = [
        partial(_check_exposure, settings.gateway),
        partial(_check_acme, settings),
        partial(check_fixed_keys, settings.key),
        partial(_check_budgets, settings),
        partial(_check_templates, settings),
    ]
    if settings.channel or settings.route or settings.person:
        checks.append(partial(_check_channels, settings))
    if settings.mqtt_broker.enabled:
        from autoglm.channels.broker.plan import choose_program

        checks.append(partial(choose_program, settings.mqtt_broker))
    if settings.intents.encoder:
        checks.append(check_encoder)
    checks += [partial(configured_endpoint, entry) for entry in settings.instance if entry.provider != "local"]
    example = [entry.member(entry.name, "127.0.0.1", 1) for entry in settings.discovery]
    checks += [partial(configured_endpoint, entry) for entry in example]
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except SettingsError as error:
            problems += error.problems
    if problems:
        raise SettingsError(problems)


def _check_exposure(gateway: GatewaySettings) -> None:
    if gateway.is_exposed and not gateway.allow_insecure_bind:
        reason = (
            f"gateway.host {gateway.host!r} reaches beyond this machine without TLS, so that keys and messages could "
            'be read on the way: set gateway.tls_certificate_file and gateway.tls_key_file, or gateway.tls = "own-ca", '
            "or allow it by gateway.allow_insecure_bind or autoglm up --allow-insecure-bind"
        )
        raise SettingsError([reason])


def _check_acme(settings: Settings) -> None:
    if settings.gateway.tls == "acme" and not settings.acme.agrees_to_terms:
        raise SettingsError(['gateway.tls = "acme" needs acme.agrees_to_terms = true, once its terms were read'])


def _check_budgets(settings: Settings) -> None:
    """A budget for a key that is not there would guard nothing, unnoticed; tenants are also named by requests."""
    known = [FIRST_KEY_NAME, *(key.name for key in settings.key)]
    problems = [
        f"budget[{index}].key: no [[key]] is named {entry.key!r}.{did_you_mean(entry.key, known)}"
        for index, entry in enumerate(settings.budget)
        if entry.key is not None and entry.key not in ("*", *known)
    ]
    if problems:
        raise SettingsError(problems)


def _check_templates(settings: Settings) -> None:
    """A template that is none would be found out by the first alarm."""
    from autoglm.channels.routes.template import check_template  # 60 ms

    problems = []
    for index, route in enumerate(settings.route):
        for field, source in (("template", route.template), ("title", route.title)):
            if source is not None:
                try:
                    check_template(source, f"route[{index}].{field}")
                except InvalidField as error:
                    problems.append(str(error))
    if problems:
        raise SettingsError(problems)


def _check_channels(settings: Settings) -> None:
    """A channel whose package is missing, or an address that leads nowhere, would be found out by the first alarm."""
    from autoglm.channels.adapters.mqtt.settings import is_own_broker
    from autoglm.channels.preflight import channel_problems

    own = [entry.name for entry in settings.channel if is_own_broker(entry)]
    made_later = [*own, "mqtt"] if settings.mqtt_broker.enabled else own
    problems = channel_problems(settings.channel, _addresses(settings), made_later=made_later)
    if not settings.mqtt_broker.enabled:
        problems += [
            f"channel[{index}].url: mqtt://own is the hub's own broker, which does not run: set mqtt_broker.enabled, "
            "or use --mqtt"
            for index, entry in enumerate(settings.channel)
            if is_own_broker(entry)
        ]
    if problems:
        raise SettingsError(problems)


def _addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    """(setting, address) of all to which events and what comes in may go."""
    for index, route in enumerate(settings.route):
        yield from ((f"route[{index}].to", to) for to in route.to)
        for number, step in enumerate(route.then):
            yield from ((f"route[{index}].then[{number}].to", to) for to in step.to)
    for index, person in enumerate(settings.person):
        yield from ((f"person[{index}].reach[{number}].by", way.by) for number, way in enumerate(person.reach))
    yield from ((f"channel[{index}].incoming_to", entry.incoming_to) for index, entry in enumerate(settings.channel))


def flat(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """(path, value as text, help) of every setting; secrets are masked."""
    yield from _flat(settings, "")


def _flat(model: BaseModel, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        path = f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from _flat(value, f"{path}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for index, entry in enumerate(value):
                yield from _flat(entry, f"{path}[{index}].")
        elif isinstance(value, dict) and any(isinstance(entry, BaseModel) for entry in value.values()):
            for key, entry in value.items():
                yield from _flat(entry, f"{path}.{key}.")
        else:
            shown = "********" if isinstance(value, SecretStr) else without_password(as_toml(value))
            yield path, shown, " ".join((info.description or "").split())


def without_password(text: str) -> str:
    """`http://user:word@host` as `http://********@host`: proxies carry their passwords there."""
    return _PASSWORD_IN_URL.sub("********", text)


def as_toml(value: object) -> str:
    """The value as it would stand in autoglm.toml; '(none)' for what is absent."""
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True, exclude_defaults=True)
    match value:
        case None:
            return "(none)"
        case bool():
            return str(value).lower()
        case str() | Path():
            return json.dumps(str(value), ensure_ascii=False)
        case dict():
            entries = ", ".join(f"{name} = {as_toml(entry)}" for name, entry in value.items())
            return f"{{ {entries} }}" if entries else "{}"
        case tuple():
            return "[" + ", ".join(as_toml(entry) for entry in value) + "]"
        case _:
            return str(value)


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[tuple[list[str], str, str]]:
    """(path, variable, value) of each AUTOGLM_* variable that is a setting; unknown ones become problems."""
    known = {ENV_PREFIX + path.upper().replace(".", "__"): path.split(".") for path in scalar_paths()}
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or name in _OPTIONS or name.startswith("AUTOGLM_TEST_"):
            continue
        path = known.get(name)
        if path is None:
            problems.append(f"{name}: no setting has this name.{did_you_mean(name, list(known))}")
        else:
            yield path, name, environ[name]


def scalar_paths() -> list[str]:
    """The settings that are one value, such as `gateway.port`."""
    return [
        f"{table}.{path}"
        for table, info in Settings.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)
        for path in _scalars(info.annotation)
    ]


def _scalars(model: type[BaseModel]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from (f"{name}.{path}" for path in _scalars(info.annotation))
        else:
            yield name


def _leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            for index, entry in enumerate(value):
                yield from _leaves(entry, f"{prefix}{name}[{index}].")
        else:
            yield prefix + name, value


def _put(tree: Tree, path: list[str], value: object, problems: list[str], origin: str) -> None:
    table = tree.setdefault(path[0], {})
    if not isinstance(table, dict):
        problems.append(f"{path[0]} must be a table, but {origin} sets {'.'.join(path)}")
        return
    table[path[1]] = value


def _sentences(details: Sequence[Any], origins: dict[str, str], tree: Tree) -> list[str]:
    """The problems of pydantic in plain words. That a list is too short is left out where its entries are wrong, for
    pydantic counts only the right ones."""
    wrong_lists = {detail["loc"][:-1] for detail in details if detail["loc"] and isinstance(detail["loc"][-1], int)}
    return [
        _sentence(detail, origins, tree)
        for detail in details
        if detail["type"] != "too_short" or detail["loc"] not in wrong_lists
    ]


def _sentence(detail: Any, origins: dict[str, str], tree: Tree) -> str:
    """One problem of pydantic in plain words: origin, key, reason, nearest known key."""
    path = _path(detail["loc"])
    # What is missing has no origin of its own: that of the table around it is where it has to go.
    around = (_path(detail["loc"][:length]) for length in range(len(detail["loc"]), 0, -1))
    origin = next(
        (origins[key] for outer in around for key in (outer, *_children(outer, origins)) if key in origins), ""
    )
    where = f"{origin}: {path}" if origin else path
    if detail["type"] == "extra_forbidden":
        *parents, wrong = detail["loc"]
        known = list(_model_at(parents, tree).model_fields)
        return f"{where}: no setting has this name.{did_you_mean(str(wrong), known)} Known here: {', '.join(known)}"
    match detail["type"], detail["loc"]:
        case "tuple_type", (
            "instance" | "discovery" | "ray" | "key" | "model" | "intent" | "budget" | "channel" as table,
        ):
            return f"{where}: write [[{table}]], with two brackets"
        case "model_type", (str() as table,):
            return f"{where}: must be a table: [{table}]"
    name = str(detail["loc"][-1]) if detail["loc"] else ""
    reason = without_password(plain_reason(detail["type"], detail["msg"], detail.get("ctx", {}), name=name))
    return f"{where}: {reason}" if where else reason


def _path(loc: Sequence[str | int]) -> str:
    """`instance[0].provider` of ('instance', 0, 'provider')."""
    path = ""
    for step in loc:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path and step else str(step)
    return path


def _children(path: str, origins: dict[str, str]) -> list[str]:
    return [key for key in origins if key.startswith((f"{path}.", f"{path}["))] if path else []


def _model_at(loc: Sequence[str | int], tree: Tree | None = None) -> type[BaseModel]:
    """The settings model that a path such as ('instance', 0) leads to; the tree tells the kind of a channel."""
    model: type[BaseModel] = Settings
    for index, step in enumerate(loc):
        if isinstance(step, str) and step in model.model_fields:
            annotation = model.model_fields[step].annotation
            inner = [annotation, *get_args(annotation)]
            model = next(entry for entry in inner if isinstance(entry, type) and issubclass(entry, BaseModel))
        elif model is ChannelSettings and tree is not None and isinstance(step, int) and index == 1:
            model = settings_of(tree["channel"][step]["kind"]) or model
    return model


def _path_fields() -> dict[str, list[str]]:
    """By table, the settings that are paths."""
    return {
        table: [name for name, info in _model_at([table]).model_fields.items() if _is_path(info.annotation)]
        for table in Settings.model_fields
    }


def _is_path(annotation: object) -> bool:
    return annotation is Path or Path in get_args(annotation)
