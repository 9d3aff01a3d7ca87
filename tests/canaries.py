"""A canary in every setting that is a secret: found by walking the models, so that a new setting is among them."""

import base64
import re
import tomllib
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from autoglm.channels.kinds import KINDS, settings_of
from autoglm.settings import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs" / "channels"
NOWHERE = "http://127.0.0.1:9"
"""Nothing listens there."""
Tree = dict[str, Any]
Path_ = tuple[str, ...]

_COMPANIONS: dict[str, Tree] = {
    "password": {"username": "name"}, "hook_password": {"hook_username": "name"},
    "token": {"aes_key": "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"}, "aes_key": {"token": "callback-token"},
    "check_url": {}, "shared_secret": {}, "client_secret": {},
}  # fmt: skip
"""What a secret needs beside it."""
_PLACES: dict[str, Any] = {
    "base_url": NOWHERE, "url": NOWHERE, "host": "127.0.0.1", "port": 9, "stream_url": NOWHERE, "tls": "none",
}  # fmt: skip


def secret_paths(model: type[BaseModel]) -> Iterator[Path_]:
    """Of all secrets below; `*` stands for the name in a map or the place in a list."""
    for name, info in model.model_fields.items():
        kinds = (info.annotation, *get_args(info.annotation))
        kinds = (*kinds, *(inner for kind in kinds for inner in get_args(kind)))
        inside = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        is_many = any(get_origin(kind) in (dict, tuple) for kind in kinds)
        for kind in dict.fromkeys(inside):
            yield from ((name, *(("*",) if is_many else ()), *rest) for rest in secret_paths(kind))
        if SecretStr in kinds:
            yield (name, "*") if get_origin(info.annotation) is dict else (name,)


def forms(number: int) -> Iterator[tuple[str, str]]:
    """(value, what to look for): the shapes that secrets have."""
    canary = f"CANARYx{number:04d}xQ7zK2mP9vR4tw8L5nB3c"
    coded = base64.b64encode(f"canary {number:04d} of thirty-two byte".encode()[:32]).decode()
    yield canary, canary
    yield f"{canary}{'0' * 24}"[:43], canary
    yield f"{NOWHERE}/{canary}", canary
    yield f"{NOWHERE}/{canary}?to={{to}}&text={{text}}", canary
    yield f"https://127.0.0.1:9/{canary}", canary
    yield f"json://127.0.0.1:9/{canary}", canary
    yield f"123456:{canary}000"[:42], canary
    yield f"whsec_{coded}", coded[:20]
    yield f'{{"to": "{{to}}", "text": "{{text}}", "key": "{canary}"}}', canary


def channel_of(kind: str) -> Tree:
    """The example of its page, turned to where nobody listens."""
    page = (DOCS / f"{kind}.md").read_text()
    block = next(iter(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)))
    tree: Tree = tomllib.loads(block)["channel"][0]
    model = settings_of(kind)
    assert model is not None
    return _turned(tree, model)


def _turned(tree: Tree, model: type[BaseModel]) -> Tree:
    """Each address of the example is tried in place of the vendor's, and taken where the settings take it."""
    turned = deepcopy(tree)
    for name, info in model.model_fields.items():
        kinds = (info.annotation, *get_args(info.annotation))
        if name in _PLACES and SecretStr not in kinds:
            place = "mqtt://127.0.0.1:9" if str(turned.get(name, "")).startswith("mqtt") else _PLACES[name]
            if is_valid(model, candidate := turned | {name: place}):
                turned = candidate
        inside = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inside is not None and isinstance(turned.get(name), dict) and get_origin(info.annotation) is not dict:
            turned[name] = _turned(turned[name], inside)
    return turned


def is_valid(model: type[BaseModel], tree: Tree) -> bool:
    try:
        model.model_validate(_without_files(tree))
    except ValidationError:
        return False
    return True


def _without_files(tree: Any) -> Any:
    """Files with secrets are read before settings are checked; here they count as read."""
    if isinstance(tree, list):
        return [_without_files(entry) for entry in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        name.removesuffix("_file") if name.endswith(_SECRET_FILES) else name: _without_files(entry)
        for name, entry in tree.items()
    }


_SECRET_FILES = (
    "password_file", "token_file", "secret_file", "key_file", "key_id_file", "url_file", "topic_file", "replies_file",
    "id_file",
)  # fmt: skip


def plant(model: type[BaseModel], base: Tree, path: Path_, value: str) -> Tree | None:
    """`base` with the secret in its place, and what it needs beside it; None where the settings refuse it."""
    for companions in ({}, _COMPANIONS.get(path[-1], {})):
        for is_alone in (False, True):
            tree: Tree = _without_files(deepcopy(base))
            table = _table_of(tree, path)
            if table is None:
                return None
            leaf = path[-1] if path[-1] != "*" else "X-Canary"
            if is_alone:
                for rival in ("token", "password", "api_key", "username", "hook_token"):
                    table.pop(rival, None)
            table |= companions
            table[leaf] = value
            if is_valid(model, tree):
                return tree
    return None


def _table_of(tree: Tree, path: Path_) -> Tree | None:
    table: Any = tree
    steps: Sequence[str] = path[:-1]
    for step in steps:
        if step == "*":
            if not table:
                return None
            table = table[0] if isinstance(table, list) else next(iter(table.values()))
        else:
            table = table.setdefault(step, {})
    return table if isinstance(table, dict) else None


def planted() -> tuple[Tree, dict[str, str]]:
    """(settings for a hub with a canary in each secret, what to look for by the secret's setting).

    Raises AssertionError where a secret could not be planted: give it its form here.
    """
    found: dict[str, str] = {}
    channels: list[Tree] = []
    for kind in KINDS:
        model = settings_of(kind)
        assert model is not None
        base = channel_of(kind)
        for path in secret_paths(model):
            where = f"{kind}: {'.'.join(path)}"
            for value, canary in forms(len(found)):
                if (tree := plant(model, base, path, value)) is not None:
                    channels.append({**tree, "name": f"c{len(found)}"})
                    found[where] = canary
                    break
            else:
                raise AssertionError(f"no form of a secret fits {where}; add it to canaries.forms")
    tree = {"channel": channels}
    for table, path, entry in _OTHERS:
        where = f"{table}: {'.'.join(path)}"
        canary = next(forms(len(found)))[1]
        tree[table] = _with(deepcopy(entry), path, canary)
        found[where] = canary
    wanted = {
        f"{table}: {'.'.join(path)}"
        for table, info in Settings.model_fields.items()
        if table != "channel"
        for path in secret_paths(_model_of(info.annotation))
    }
    missing = wanted - set(found)
    assert not missing, f"no canary for {sorted(missing)}; add it to canaries._OTHERS"
    return tree, found


def _model_of(annotation: Any) -> type[BaseModel]:
    kinds = (annotation, *get_args(annotation))
    return next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))


def _with(entry: Any, path: Path_, value: str) -> Any:
    table: Any = entry[0] if isinstance(entry, list) else entry
    for step in path[:-1]:
        table = table[0] if step == "*" else table[step]
    table[path[-1]] = value
    return entry


_OTHERS: tuple[tuple[str, Path_, Any], ...] = (
    ("trust", ("shared_secret",), {"shared_secret_issuer": "elsewhere"}),
    ("people", ("oidc", "client_secret"), {"oidc": {
        "issuer": "https://127.0.0.1:9", "client_id": "hub", "redirect_uri": "https://127.0.0.1:9/back",
    }}),
    ("mqtt_broker", ("user", "*", "password"), {"enabled": True, "port": 0, "user": [{"name": "press-7"}]}),
    ("instance", ("api_key",), [{"name": "a", "provider": "openai", "base_url": f"{NOWHERE}/v1", "models": ["m"]}]),
    ("discovery", ("api_key",), [{"name": "d", "provider": "vllm", "dns": "localhost", "port": 9}]),
    ("ray", ("token",), [{"name": "r", "model": "m2", "address": "127.0.0.1:9"}]),
    ("key", ("value",), [{"name": "robot", "scopes": ["model:use:*"]}]),
)  # fmt: skip
"""The secrets of other tables than `[[channel]]`, and what such a table needs."""
