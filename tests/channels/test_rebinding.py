"""DNS rebinding for real: a name server that changes its mind, and the resolver of the operating system."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount"]


def may_unshare() -> str:
    """Why not; empty where a network of one's own may be had."""
    try:
        tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "there is no unshare (util-linux) here"
    return "" if tried.returncode == 0 else f"no network of its own: {tried.stderr.strip()}"


@pytest.mark.attack("DNS rebinding of an outgoing address")
def test_a_name_that_turns_to_a_private_address_is_not_connected_to() -> None:
    """Each request asks the name server once, and connects to what was checked, or not at all."""
    if reason := may_unshare():
        pytest.skip(reason)
    scene = Path(__file__).with_name("rebinding_scene.py")
    paths = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        [*_UNSHARE, sys.executable, str(scene)], capture_output=True, text=True, check=False, timeout=60, env=paths
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "results": ["200", "address_refused"],
        "asked": 2,
        "connections": {"127.0.0.2": 1},
    }
