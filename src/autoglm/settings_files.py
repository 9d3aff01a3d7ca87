"""What the settings read from disk: autoglm.toml, the secrets in files of their own, and the certificates it names."""

import re
import ssl
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, SecretStr

from autoglm.auth.people.settings import PeopleSettings
from autoglm.channels.broker_settings import BrokerSettings
from autoglm.channels.kinds import settings_of
from autoglm.core.errors import SettingsError

Tree = dict[str, Any]
"""TOML as Python reads it."""

_SECRET_FILES = {
    "instance": ("api_key_file", "api_key"),
    "discovery": ("api_key_file", "api_key"),
    "ray": ("token_file", "token"),
    "key": ("value_file", "value"),
    "trust": ("shared_secret_file", "shared_secret"),
}
_REFERENCE = re.compile(r"secret:(.*)", re.DOTALL)
_MAX_FILE_BYTES = 1 << 20
_MAX_SECRET_CHARACTERS = 1 << 16


def read_toml(file: Path) -> Tree:
    """Raises SettingsError."""
    try:
        with file.open("rb") as stream:
            text = stream.read(_MAX_FILE_BYTES + 1)
        if len(text) > _MAX_FILE_BYTES:
            raise SettingsError([f"{file} is over 1 MiB; is it the right file?"])
        return tomllib.loads(text.decode())
    except FileNotFoundError:
        raise SettingsError([f"there is no file {file}"]) from None
    except OSError as error:
        raise SettingsError([f"{file} cannot be read: {error.strerror}"]) from None
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, numbers and nesting beyond Python's bounds
        raise SettingsError([f"{file} is not TOML: {error}"]) from None


def resolve_paths(tree: Tree, fields: Mapping[str, Sequence[str]], folder: Path, problems: list[str]) -> None:
    """Make the paths of the file relative to `folder`. fields: by table, the settings that are paths."""
    for table, names in fields.items():
        for where, entry in _entries(table, tree.get(table)):
            for field in names:
                if not isinstance(value := entry.get(field), str) or is_reference(value):
                    continue
                try:
                    entry[field] = str(folder / Path(value).expanduser())
                except RuntimeError as error:  # '~stranger'
                    problems.append(f"{where}.{field}: {error}")


def is_reference(value: object) -> bool:
    """True for `secret:NAME`, which stands for a secret of the vault."""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


class _Reference(NamedTuple):
    where: str
    """The setting, as problems call it."""
    table: Tree
    said_at: str
    """The key of `table` that says `secret:NAME`: the secret's own, or that of its file."""
    field: str
    name: str


def read_references(
    tree: Tree, models: Mapping[str, type[BaseModel]], origins: dict[str, str], problems: list[str],
    values_of: Callable[[Mapping[str, str]], tuple[dict[str, str], list[str]]],
) -> None:  # fmt: skip
    """Put what `secret:NAME` stands for where a secret, or a secret's file, is wanted; anywhere else it is text.

    models: by table, what it is made of. values_of: (setting -> name) to (setting -> value) and problems; called only
    when there is a reference, for it may ask for a passphrase.
    """
    found: list[_Reference] = []
    for table, general in models.items():
        for where, entry in _entries(table, tree.get(table)):
            kind = entry.get("kind")
            model = settings_of(kind) if table == "channel" and isinstance(kind, str) else general
            if model is not None:
                found += _references(where, entry, model)
    if not found:
        return
    values, wrong = values_of({reference.where: reference.name for reference in found})
    problems += wrong
    for reference in found:
        if reference.said_at != reference.field:
            origins.pop(f"{reference.where}_file", None)
            del reference.table[reference.said_at]
            if reference.field in reference.table:
                problems.append(f"{reference.where}: give either {reference.field} or {reference.said_at}")
        reference.table[reference.field] = values.get(reference.where, "unreadable secret")
        origins[reference.where] = f"secret:{reference.name}"


def _references(where: str, entry: Tree, model: type[BaseModel]) -> Iterator[_Reference]:
    for name, info in model.model_fields.items():
        kinds = (info.annotation, *get_args(info.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        value, is_map = entry.get(name), get_origin(info.annotation) is dict
        if inner is not None:
            for step, one in _nested(value, is_map=is_map):
                yield from _references(f"{where}.{name}{step}", one, inner)
        elif SecretStr in kinds and is_map and isinstance(value, dict):  # such as headers
            yield from (
                _Reference(f"{where}.{name}.{key}", value, key, key, text.removeprefix("secret:"))
                for key, text in value.items()
                if is_reference(text)
            )
        elif SecretStr in kinds:
            for said_at in (name, f"{name}_file"):
                if is_reference(text := entry.get(said_at)):
                    yield _Reference(f"{where}.{name}", entry, said_at, name, str(text).removeprefix("secret:"))


def _entries(table: str, value: object) -> Iterator[tuple[str, Tree]]:
    """(where, table) of `[table]` or of each `[[table]]`; what is no table is left to the check of types."""
    if isinstance(value, dict):
        yield table, value
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        if isinstance(entry, dict):
            yield f"{table}[{index}]", entry


def read_secret_files(tree: Tree, origins: dict[str, str], problems: list[str]) -> None:
    """Put the text of `api_key_file`, `value_file` and the like where the secret belongs."""
    for table, (file_field, field) in _SECRET_FILES.items():
        for where, entry in _entries(table, tree.get(table)):
            _read_secret(where, entry, (file_field, field), origins, problems)


def read_channel_files(tree: Tree, folder: Path, origins: dict[str, str], problems: list[str]) -> None:
    """The same for `[[channel]]`, whose settings are its kind's, for the broker, and for people: `X_file` for each
    secret X. Paths become absolute.
    """
    for table, model in (("mqtt_broker", BrokerSettings), ("people", PeopleSettings)):
        for where, entry in _entries(table, tree.get(table)):
            _Channels(folder, origins, problems).read(where, entry, model)
    for where, entry in _entries("channel", tree.get("channel")):
        found = settings_of(kind) if isinstance(kind := entry.get("kind"), str) else None
        if found is not None:
            _Channels(folder, origins, problems).read(where, entry, found)


class _Channels(NamedTuple):
    folder: Path
    origins: dict[str, str]
    problems: list[str]

    def read(self, where: str, entry: Tree, model: type[BaseModel]) -> None:
        for name, info in model.model_fields.items():
            kinds = (info.annotation, *get_args(info.annotation))
            inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
            value = entry.get(name)
            if inner is not None:
                for step, one in _nested(value, is_map=get_origin(info.annotation) is dict):
                    self.read(f"{where}.{name}{step}", one, inner)
            elif Path in kinds and isinstance(value, str):
                entry[name] = self._absolute(value)
            elif SecretStr in kinds and isinstance(file := entry.get(f"{name}_file"), str):
                entry[f"{name}_file"] = self._absolute(file)
                _read_secret(where, entry, (f"{name}_file", name), self.origins, self.problems)

    def _absolute(self, path: str) -> str:
        return str(self.folder / Path(path).expanduser())


def _nested(value: object, *, is_map: bool) -> Iterator[tuple[str, Tree]]:
    """(step to it, table) of the tables below: itself, those of a list, or those of a map of names."""
    match value:
        case dict() if is_map:
            yield from ((f".{key}", one) for key, one in value.items() if isinstance(one, dict))
        case dict():
            yield "", value
        case list():
            yield from ((f"[{index}]", one) for index, one in enumerate(value) if isinstance(one, dict))
        case _:
            pass


def _read_secret(
    where: str, entry: Tree, fields: tuple[str, str], origins: dict[str, str], problems: list[str]
) -> None:
    """fields: what names the file, and where its text belongs."""
    file_field, field = fields
    if not isinstance(entry.get(file_field), str):
        return
    path = Path(entry.pop(file_field))
    origins.pop(f"{where}.{file_field}", None)
    if field in entry:
        problems.append(f"{where}: give either {field} or {file_field}")
        return
    origins[f"{where}.{field}"] = str(path)
    entry[field] = "unreadable"
    try:
        with path.open() as file:
            entry[field] = file.read(_MAX_SECRET_CHARACTERS).strip() or "empty"
            if entry[field] == "empty":
                problems.append(f"{where}.{file_field}: {path} is empty")
    except OSError as error:
        problems.append(f"{where}.{file_field}: {path} cannot be read: {error.strerror}")
    except ValueError:  # a NUL in the path, or bytes that are no text
        problems.append(f"{where}.{file_field}: {str(path)!r} is no text file")


def certificate_problems(certificate: Path | None, key: Path | None) -> Iterator[str]:
    """What is wrong with the hub's own certificate; better found now than when the first client comes."""
    missing = list(missing_files({"gateway.tls_certificate_file": certificate, "gateway.tls_key_file": key}))
    yield from missing
    if certificate and key and not missing:
        try:
            # Without a password of its own, OpenSSL would ask for that of an encrypted key on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            both = f"{certificate} and {key}"
            yield f"gateway.tls_certificate_file: {both} are no PEM certificate with its plain key: {error}"


def missing_files(wanted: Mapping[str, Path | None]) -> Iterator[str]:
    """A sentence for each setting whose file is not there."""
    for where, path in wanted.items():
        try:
            if path is not None and not path.is_file():
                yield f"{where}: there is no file {path}"
        except OSError as error:
            yield f"{where}: {path} cannot be read: {error.strerror}"
