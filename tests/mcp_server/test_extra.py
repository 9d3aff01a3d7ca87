"""Without the extra, `autoglm mcp` says what to install."""

import subprocess
import sys

from cli.terminal import environment

CODE = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "mcp" else find(name, *rest)
from autoglm.cli.main import run
sys.argv[1:] = ["mcp"]
sys.exit(run())
"""


def test_the_missing_package_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, env=environment(None)
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'autoglm-hub[mcp]'" in done.stderr
