"""Who builds the wheel from the same sources gets the same bytes, and no trace of the machine that built it."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tools.page import WEB, node_and_npm
from tools.pinned import ROOT

PARTS = ("pyproject.toml", "README.md", "LICENSE", "src")


def copied(target: Path, *, at_s: int) -> Path:
    """The sources, and a page, with other times than they have."""
    target.mkdir(parents=True)
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "static"))
        else:
            shutil.copy(ROOT / name, target / name)
    static = target / "src" / "autoglm" / "console" / "static"
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text("<!doctype html>")
    (static / "assets" / "index-1.js").write_text("1")
    for path in target.rglob("*"):
        os.utime(path, (at_s, at_s))
    return target


def built(root: Path, *, umask: int, environment: dict[str, str]) -> Path:
    """The wheel. umask: also of the files that it is built from."""
    for path in root.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root / "out")]
    plain = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}  # noqa: TID251
    subprocess.run(command, cwd=root, env=plain | environment, umask=umask, check=True, capture_output=True)
    (wheel,) = (root / "out").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    here = copied(tmp_path_factory.mktemp("a") / "x", at_s=1_000_000_000)
    there = copied(tmp_path_factory.mktemp("b") / "much" / "deeper" / "folder", at_s=1_700_000_000)
    return (
        built(
            here, umask=0o022, environment={"LC_ALL": "C", "TZ": "UTC", "HOME": "/nonexistent", "PYTHONHASHSEED": "1"}
        ),
        built(there, umask=0o077, environment={"LC_ALL": "C.UTF-8", "TZ": "Asia/Shanghai", "USER": "somebody"}),
    )


def test_two_machines_build_the_same_wheel(wheels: tuple[Path, Path]) -> None:
    digests = {hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels}
    assert len(digests) == 1
    assert wheels[0].name == wheels[1].name


def test_the_wheel_has_the_package_and_the_page_and_nothing_else(wheels: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = wheel.namelist()
        assert wheel.testzip() is None
    assert {name.split("/")[0].split("-")[0] for name in names} == {"autoglm", "autoglm_hub"}
    assert {"autoglm/app.py", "autoglm/py.typed", "autoglm/console/static/index.html"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".env", ".key", ".db"))]


def test_the_wheel_names_no_path_of_the_machine(wheels: tuple[Path, Path]) -> None:
    traces = [
        str(ROOT).encode(),
        *(str(wheel.parents[1]).encode() for wheel in wheels),
        str(Path.home()).encode() + b"/",
    ]
    with zipfile.ZipFile(wheels[1]) as wheel:
        found = {(name, trace) for name in wheel.namelist() for trace in traces if trace in wheel.read(name)}
    assert found == set()


def test_two_machines_build_the_same_page(tmp_path: Path) -> None:
    if not (WEB / "node_modules" / "vite").exists():
        pytest.skip("web/node_modules is not there: make console brings it")
    node = node_and_npm()[0]
    pages: list[dict[str, bytes]] = []
    for name, zone in (("a", "UTC"), ("b/longer", "Asia/Tokyo")):
        web, page = tmp_path / name / "web", tmp_path / name / "src" / "autoglm" / "console" / "static"
        shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("node_modules"))
        (web / "node_modules").symlink_to(WEB / "node_modules")
        environment = {"PATH": str(Path(node).parent), "TZ": zone, "HOME": str(tmp_path)}
        command = [node, "node_modules/vite/bin/vite.js", "build"]
        subprocess.run(command, cwd=web, env=environment, check=True, capture_output=True)
        pages.append({str(path.relative_to(page)): path.read_bytes() for path in page.rglob("*") if path.is_file()})
    assert pages[0] == pages[1]
    assert {name.split("/")[0] for name in pages[0]} == {"assets", "index.html", "push-worker.js"}
    assert not [name for name, content in pages[0].items() if str(tmp_path).encode() in content]
