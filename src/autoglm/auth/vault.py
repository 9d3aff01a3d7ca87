"""Secrets at rest: one file, encrypted under a data key, which a key file or a passphrase opens.

All names and values are one sealed text: none can be read, swapped, renamed or taken away alone. The data key lies
beside it, wrapped once for each way to open it, so that a new way can be added before the old one is removed.
"""

import fcntl
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from autoglm.auth.sealing import KEY_BYTES, Scrypt, check_passphrase, key_of, new_key, new_scrypt, seal, unseal
from autoglm.core.errors import InvalidField, NotFound, VaultBroken, WrongPassphrase
from autoglm.core.private_file import make_private_folder, write_private

VAULT_FILE = "secrets.json"
KEY_FILE = "secrets.key"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_SECRETS = 1000
MAX_VALUE_BYTES = 1 << 16
_MAX_FILE_BYTES = 128 << 20
_VERSION = 1


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`DATA/secrets/secrets.json`. Bytes are base64."""

    version: int
    id: str
    by_key_file: bytes | None
    by_passphrase: bytes | None
    scrypt: Scrypt | None
    sealed: bytes


class Opener(NamedTuple):
    """What may open a vault. passphrase: asked for only where it is wanted; None when nobody can be asked."""

    key_file: Path
    passphrase: Callable[[], str] | None = None


class Vault:
    """An open one. Its values are read once, and what others write later is not seen."""

    def __init__(self, path: Path, file: _File, data_key: bytes, values: dict[str, str]) -> None:
        self._path, self._file, self._data_key, self._values = path, file, data_key, values

    def __repr__(self) -> str:
        return f"Vault({str(self._path)!r})"

    @property
    def names(self) -> list[str]:
        return sorted(self._values)

    @property
    def is_opened_by(self) -> tuple[str, ...]:
        """Of `key-file` and `passphrase`."""
        ways = {"key-file": self._file.by_key_file, "passphrase": self._file.by_passphrase}
        return tuple(name for name, wrapped in ways.items() if wrapped is not None)

    def get(self, name: str) -> str:
        """Raises NotFound."""
        try:
            return self._values[name]
        except KeyError:
            raise NotFound("secret", name) from None

    def put(self, name: str, value: str) -> None:
        """Raises InvalidField."""
        if not NAME.fullmatch(name):
            raise InvalidField("name", "has up to 64 letters, digits and . _ -, and begins with a letter or a digit")
        if not value or len(value.encode()) > MAX_VALUE_BYTES:
            raise InvalidField("value", f"is empty, or over {MAX_VALUE_BYTES} bytes")
        if name not in self._values and len(self._values) >= MAX_SECRETS:
            raise InvalidField("name", f"there are {MAX_SECRETS} secrets already")
        self._save({**self._values, name: value})

    def remove(self, name: str) -> None:
        """Raises NotFound."""
        self.get(name)
        self._save({known: value for known, value in self._values.items() if known != name})

    def rotate(self, *, key_file: Path | None, passphrase: str | None) -> None:
        """A new data key and a new key file; opened by what is given here and by nothing else.

        Who has the old file and its key has the old values. A hub that runs is not disturbed: it read what it needs at
        its start. Broken off, it is done or not: the new key lies beside the old one until the secrets are under it.
        Raises InvalidField.
        """
        fresh = None if key_file is None else _next(key_file)
        if fresh is not None:
            fresh.unlink(missing_ok=True)
        data_key = new_key()
        self._file = _wrapped(self._file.id, data_key, fresh, passphrase)
        self._data_key = data_key
        self._save(self._values)
        if fresh is not None and key_file is not None:
            fresh.replace(key_file)

    def _save(self, values: dict[str, str]) -> None:
        sealed = seal(self._data_key, msgspec.json.encode(values), _about(self._file.id))
        self._file = msgspec.structs.replace(self._file, sealed=sealed)
        write_private(self._path, msgspec.json.encode(self._file))
        self._values = values


@contextmanager
def change_vault(folder: Path, opener: Opener, *, by_passphrase: bool = False) -> Iterator[Vault]:
    """The vault of a folder, made where there is none, for one writer at a time.

    by_passphrase: how a new one is to be opened; else by a key file, which is made.
    Raises WrongPassphrase, VaultBroken, InvalidField.
    """
    make_private_folder(folder)
    with (folder / "secrets.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / VAULT_FILE
        if path.exists():
            yield open_vault(folder, opener)
            return
        passphrase = check_passphrase(_ask(opener)) if by_passphrase else None
        data_key = new_key()
        file = _wrapped(secrets.token_hex(8), data_key, None if by_passphrase else opener.key_file, passphrase)
        vault = Vault(path, file, data_key, {})
        vault._save({})
        yield vault


def open_vault(folder: Path, opener: Opener) -> Vault:
    """The vault of a folder. The key file is tried first. Raises NotFound, WrongPassphrase, VaultBroken."""
    path = folder / VAULT_FILE
    file = _read(path)
    data_key = _data_key(file, opener)
    try:
        values = msgspec.json.decode(unseal(data_key, file.sealed, _about(file.id)), type=dict[str, str])
    except (WrongPassphrase, msgspec.DecodeError):  # the data key was right: its own wrapping says so
        raise VaultBroken(str(path), "its secrets were changed or damaged; bring it back from a backup") from None
    return Vault(path, file, data_key, values)


def _data_key(file: _File, opener: Opener) -> bytes:
    for path in (opener.key_file, _next(opener.key_file)):  # the second: of a rotation that was broken off
        if file.by_key_file is not None and path.exists():
            try:
                return unseal(_key_of_file(path), file.by_key_file, _about(file.id, "key-file"))
            except WrongPassphrase:
                if path != opener.key_file or not _next(path).exists():
                    raise
    if file.by_passphrase is not None and file.scrypt is not None:
        return unseal(key_of(_ask(opener), file.scrypt), file.by_passphrase, _about(file.id, "passphrase"))
    raise WrongPassphrase(f"the secrets: there is no key file {opener.key_file}")


def _ask(opener: Opener) -> str:
    if opener.passphrase is None:
        raise WrongPassphrase("the secrets: none was given (secrets.passphrase_file, or a credential of systemd)")
    return opener.passphrase()


def _wrapped(id: str, data_key: bytes, key_file: Path | None, passphrase: str | None) -> _File:
    if key_file is None and passphrase is None:
        raise InvalidField("passphrase", "or a key file is needed to open the secrets again")
    scrypt = new_scrypt() if passphrase is not None else None
    by_file = by_passphrase = None
    if key_file is not None:
        if not key_file.exists():
            make_private_folder(key_file.parent)
            write_private(key_file, new_key().hex().encode() + b"\n")
        by_file = seal(_key_of_file(key_file), data_key, _about(id, "key-file"))
    if passphrase is not None and scrypt is not None:
        by_passphrase = seal(key_of(check_passphrase(passphrase), scrypt), data_key, _about(id, "passphrase"))
    return _File(
        version=_VERSION, id=id, by_key_file=by_file, by_passphrase=by_passphrase, scrypt=scrypt, sealed=b""
    )  # fmt: skip


def _next(key_file: Path) -> Path:
    return key_file.with_name(f"{key_file.name}.next")


def _about(id: str, way: str = "values") -> bytes:
    return f"the secrets {id}, version {_VERSION}: {way}".encode()


def _key_of_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            key = bytes.fromhex(file.read(2 * KEY_BYTES + 2).decode("ascii"))
    except OSError as error:
        raise VaultBroken(str(path), f"it cannot be read: {error.strerror}") from None
    except ValueError:
        raise VaultBroken(str(path), "it is no key file") from None
    if len(key) != KEY_BYTES:
        raise VaultBroken(str(path), "it is no key file")
    return key


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_FILE_BYTES)
        file = msgspec.json.decode(text, type=_File)
    except FileNotFoundError:
        raise NotFound("file of secrets", str(path)) from None
    except OSError as error:
        raise VaultBroken(str(path), f"it cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise VaultBroken(str(path), f"it is no file of secrets: {error}") from None
    if file.version != _VERSION:
        raise VaultBroken(str(path), f"it is of version {file.version}, which this hub does not know")
    return file


def secrets_of(folder: Path, names: Mapping[str, str], opener: Opener) -> tuple[dict[str, str], list[str]]:
    """(setting -> value, problems). names: setting -> the name of its secret. Opens the vault once."""
    try:
        vault = open_vault(folder, opener)
    except (NotFound, WrongPassphrase, VaultBroken, InvalidField) as error:
        return {}, [f"{where}: secret:{name} cannot be had: {error}" for where, name in names.items()]
    problems = [
        f"{where}: there is no secret {name!r}; 'autoglm secrets set {name}' keeps one"
        for where, name in names.items()
        if name not in vault.names
    ]
    return {where: vault.get(name) for where, name in names.items() if name in vault.names}, problems
