"""Channels of strangers: the example of docs/channels/adding.md, as a package that is installed."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoglm.channels import kinds
from autoglm.channels.channel import Resources
from autoglm.channels.settings import ChannelSettings, parse_channel
from autoglm.settings import Settings
from contracts.channel_contract import ChannelContract, no_blob

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "channels" / "adding.md"
_BLOCK = re.compile(r"```\w+\n# (\S+)\n(.*?)```", re.DOTALL)


def blocks(page: Path) -> dict[str, str]:
    """The guide's files by name."""
    return dict(_BLOCK.findall(page.read_text()))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder as pip leaves it: the module, and its metadata with the entry point of the guide's pyproject.toml."""
    files = blocks(GUIDE)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    (tmp_path / "hub_pager.py").write_text(files["hub_pager.py"])
    info = tmp_path / "hub_pager-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{kind} = {place}" for kind, place in project["entry-points"]["autoglm.channels"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[autoglm.channels]", *lines]) + "\n")
    return tmp_path


@pytest.fixture
def importable(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(installed)
    kinds.channel_class.cache_clear()
    yield
    sys.modules.pop("hub_pager", None)
    kinds.channel_class.cache_clear()


@pytest.mark.usefixtures("importable")
async def test_an_installed_package_adds_a_kind() -> None:
    """Its settings are checked as the built-in ones are, in the file as well."""
    table = tomllib.loads(blocks(GUIDE)["autoglm.toml"])["channel"][0]
    table["key"] = Path(table.pop("key_file")).name
    (settings,) = Settings.model_validate({"channel": [table]}).channel
    pager_class = kinds.channel_class("pager")
    assert pager_class is not None
    assert type(settings) is pager_class.Settings
    assert pager_class(settings, Resources("radio", no_blob)).limits("li").windows == ((6, 60.0),)
    with pytest.raises(ValueError, match="pagers"):
        parse_channel({**table, "pagers": {}})


def test_without_the_package_there_is_no_such_kind() -> None:
    with pytest.raises(ValueError, match="there is no kind 'pager'"):
        parse_channel({"name": "radio", "kind": "pager"})


@pytest.mark.usefixtures("importable")
def test_a_stranger_takes_no_kind_of_the_hub(installed: Path) -> None:
    (installed / "hub_pager-1.0.dist-info" / "entry_points.txt").write_text(
        "[autoglm.channels]\nntfy = hub_pager:Pager\n"
    )
    found = kinds.settings_of("ntfy")
    assert found is not None
    assert found.__module__ == "autoglm.channels.adapters.ntfy"
    assert issubclass(found, ChannelSettings)


def test_the_guides_channel_passes_the_guides_contract_run(installed: Path) -> None:
    """In a process of its own, as its author runs it."""
    (installed / "test_hub_pager.py").write_text(blocks(GUIDE)["test_hub_pager.py"])
    paths = os.pathsep.join(str(path) for path in (installed, ROOT / "tests", ROOT / "src"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-o",
        "anyio_mode=auto",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        ".",
    ]
    environment = os.environ | {"PYTHONPATH": paths}  # noqa: TID251  # of the author's shell
    done = subprocess.run(
        command, cwd=installed, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    suite = [name for name in dir(ChannelContract) if name.startswith("test_")]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= len(suite), "some have several cases"


def test_both_languages_have_the_same_files() -> None:
    assert set(blocks(GUIDE)) == {"hub_pager.py", "pyproject.toml", "autoglm.toml", "test_hub_pager.py"}
    assert blocks(GUIDE) == blocks(GUIDE.with_name("adding.zh-CN.md"))
