"""docs/mcp.md names the tools with their arguments, and its examples work, in both languages."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from autoglm.settings import Settings
from cli.terminal import autoglm

DOCS = Path(__file__).resolve().parents[2] / "docs"

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")


@pytest.mark.parametrize("name", ["mcp.md", "mcp.zh-CN.md"])
def test_the_page_is_right(name: str) -> None:
    page = (DOCS / name).read_text()
    tools = {tool["name"]: list(tool["inputSchema"]["properties"]) for tool in json.loads(
        autoglm("mcp", "--list", "--json").out)}  # fmt: skip
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.MULTILINE)
    assert {tool: re.findall(r"`(\w+)`", arguments) for tool, arguments in rows} == tools
    [server] = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])["mcpServers"].values()
    assert (server["command"], server["args"][0]) == ("autoglm", "mcp")
    assert autoglm(*server["args"], "--list").status == 0
    [key] = Settings.model_validate(tomllib.loads(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0])).key
    assert key.value is not None
    assert key.value.get_secret_value() == server["env"]["AUTOGLM_KEY"]
