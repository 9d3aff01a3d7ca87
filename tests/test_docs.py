"""The pages about settings and commands are complete, in both languages, and their examples work."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autoglm.channels.kinds import KINDS, settings_of
from autoglm.channels.settings import ChannelSettings
from autoglm.cli.main import root
from autoglm.settings import Settings, as_toml
from hub import instance_config, running_hub
from scripted_model import ScriptedModel

DOCS = Path(__file__).resolve().parents[1] / "docs"
ABSENT = {"none": "(none)", "无": "(none)", "必填": "required"}
CHINESE = re.compile("[\u4e00-\u9fff]")


def settings_tables() -> dict[str, dict[str, str]]:
    """By table, the settings with their defaults as autoglm.toml would have them."""
    tables: dict[str, dict[str, str]] = {}
    for table, info in Settings.model_fields.items():
        model = model_in(info)
        assert model is not None
        below = {name: inner for name, field in model.model_fields.items() if (inner := model_in(field)) is not None}
        # Lists of tables and tables that have kinds are explained where they stand; `[people.session]` has its own.
        nested = below if table == "people" else {}
        for name, one in {table: model, **{f"{table}.{name}": inner for name, inner in nested.items()}}.items():
            tables[name] = {
                name: "required" if field.is_required() else as_toml(field.default)
                for name, field in one.model_fields.items()
                if one is not model or name not in nested
            }
    return tables


def model_in(field: FieldInfo) -> type[BaseModel] | None:
    inner = (field.annotation, *get_args(field.annotation))
    return next((entry for entry in inner if isinstance(entry, type) and issubclass(entry, BaseModel)), None)


def documented_tables(page: str) -> dict[str, dict[str, tuple[str, str]]]:
    """By table of the page, the settings with (default, meaning)."""
    tables: dict[str, dict[str, tuple[str, str]]] = {}
    for line in page.splitlines():
        if heading := re.match(r"### `\[+([\w.]+)\]+`", line):
            rows = tables.setdefault(heading[1], {})
        elif row := re.fullmatch(r"\| `(\w+)` \| (.+?) \| (.+) \|", line):
            default = row[2].strip("`")
            rows[row[1]] = (ABSENT.get(default, default), row[3])
    return tables


@pytest.mark.parametrize("name", ["configuration.md", "configuration.zh-CN.md"])
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    documented = documented_tables((DOCS / name).read_text())
    assert {
        table: {name: row[0] for name, row in rows.items()} for table, rows in documented.items()
    } == settings_tables()
    meanings = [meaning for rows in documented.values() for _, meaning in rows.values()]
    assert all(meanings)
    assert all(CHINESE.search(meaning) is not None for meaning in meanings) is ("zh" in name)


@pytest.mark.parametrize("name", ["configuration.md", "configuration.zh-CN.md"])
def test_the_examples_are_settings(name: str) -> None:
    """Each block of TOML is taken; the files it names are the reader's."""
    blocks = re.findall(r"```toml\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        tree = tomllib.loads(block)
        for key in tree.get("key", ()):
            if key.pop("value_file", None):
                key["value"] = "x"
        Settings.model_validate(tree)


def settings_of_kind(kind: str) -> dict[str, str]:
    """What a kind of channel has beside the settings of every channel."""
    model = settings_of(kind)
    assert model is not None
    return {
        name: "required" if field.is_required() else as_toml(field.default)
        for name, field in model.model_fields.items()
        if name not in ChannelSettings.model_fields
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["", ".zh-CN"])
def test_every_kind_of_channel_has_a_page(kind: str, language: str) -> None:
    """With its settings and an example that is taken; the overview names it."""
    page = (DOCS / "channels" / f"{kind}{language}.md").read_text()
    rows = [re.fullmatch(r"\| `(\w+)` \| (.+?) \| (.+) \|", line) for line in page.splitlines()]
    documented = {row[1]: ABSENT.get(row[2].strip("`"), row[2].strip("`")) for row in rows if row is not None}
    assert documented == settings_of_kind(kind)
    assert all((CHINESE.search(row[3]) is not None) is bool(language) for row in rows if row is not None)
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        assert [channel.kind for channel in Settings.model_validate(tomllib.loads(block)).channel]
    assert f"[`{kind}`]({kind}{language}.md)" in (DOCS / "channels" / f"README{language}.md").read_text()


def commands(command: click.Command, name: str = "autoglm") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            assert found is not None
            yield f"{name} {inner}", found
            yield from commands(found, f"{name} {inner}")


@pytest.mark.parametrize("name", ["cli.md", "cli.zh-CN.md"])
def test_every_command_and_option_is_documented(name: str) -> None:
    page = (DOCS / name).read_text()
    headings = set(re.findall(r"^##+ (autoglm .+)$", page, re.MULTILINE))
    assert headings == {path for path, _ in commands(root)}
    options = {
        option for _, command in commands(root) for p in command.params for option in p.opts if option[:2] == "--"
    }
    assert sorted(option for option in options if f"{option}" not in page) == []


@pytest.mark.parametrize("pair", [("cli.md", "cli.zh-CN.md"), ("configuration.md", "configuration.zh-CN.md")])
def test_both_languages_say_the_same(pair: tuple[str, str]) -> None:
    """The same sections in the same order, with blocks of the same length."""
    shapes = []
    for name in pair:
        lines = (DOCS / name).read_text().splitlines()
        shapes.append([re.sub(r"[^#`].*", "", line) for line in lines if line.startswith(("#", "```"))])
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ["cli.md", "cli.zh-CN.md"])
def test_the_python_example_runs(name: str, tmp_path: Path) -> None:
    """As it stands: it finds the hub of this machine in the user's own data folder."""
    [block] = re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)
    with ScriptedModel() as model, running_hub(tmp_path / "autoglm", instance_config("a", model.url)):
        environ = {"XDG_DATA_HOME": str(tmp_path), "PATH": os.defpath}
        done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "'state': 'accepted'" in done.stdout
    assert "message {" in done.stdout
