"""`autoglm budgets`: what is used, and the way to begin anew."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.terminal import autoglm
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel

BUDGETS = """
[[budget]]
name = "each"
key = "*"
tokens = 100

[[budget]]
name = "house"
per = "month"
requests = 50
"""


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with ScriptedModel() as model:
        config = BUDGETS + instance_config("echo-1", model.url)
        with running_hub(tmp_path_factory.mktemp("budgets") / "data", config) as hub:
            yield hub


def test_use_and_limits_are_shown_and_begin_anew(counting: HubProcess) -> None:
    data: Path = counting.data_dir
    assert autoglm("ask", "hi", data=data).status == 0
    headers, each, house = autoglm("budgets", data=data).out.splitlines()
    assert headers.split() == ["name", "of", "tokens", "requests", "money", "per", "begins", "anew"]
    used = json.loads(autoglm("budgets", "--json", data=data).out)[0]["tokens"]["used"]
    assert used > 0
    assert each.split()[:8] == ["each", "key", "admin", f"{used:g}/100", "1", "0", "CNY", "day"]
    assert house.split()[:7] == ["house", "all", f"{used:g}", "1/50", "0", "CNY", "month"]
    assert (
        autoglm("budgets", "reset", "each", "--subject", "admin", data=data).out.splitlines()[1].split()[3] == "0/100"
    )
    assert "no budget 'none'" in autoglm("budgets", "reset", "none", data=data).err


def test_a_hub_without_budgets_says_how_to_make_one(data: Path) -> None:
    assert autoglm("budgets", data=data).out == (
        "Nothing has been counted in a budget yet; a [[budget]] in autoglm.toml makes one.\n"
    )
    assert autoglm("budgets", "--json", data=data).out == "[]\n"
