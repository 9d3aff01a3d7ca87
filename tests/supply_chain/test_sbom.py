"""Everything that is installed is pinned by a hash and on the list of components; the list is always the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools.pinned import LOCK, ROOT, Unpinned, read_lock, read_requirements, requirements
from tools.sbom import NOT_CHECKED, as_text, sbom

from autoglm.inference.models.catalogue import CATALOGUE


@pytest.mark.parametrize("path", requirements(), ids=lambda path: path.name)
def test_every_requirement_has_a_version_and_sha256(path: Path) -> None:
    pins = read_requirements(path)
    lines = [line for line in path.read_text().splitlines() if line[:1].isalnum()]
    assert len(pins) == len(lines) > 0
    assert {(algorithm, len(digest)) for pin in pins for algorithm, digest in pin.hashes} == {("sha256", 64)}
    assert "://" not in path.read_text()


def test_the_lock_of_npm_has_hashes_and_no_addresses() -> None:
    pins = read_lock()
    assert len(pins) == len(json.loads(LOCK.read_text())["packages"]) - 1
    assert {(algorithm, len(digest)) for pin in pins for algorithm, digest in pin.hashes} == {("sha512", 128)}


@pytest.mark.parametrize(
    "line",
    ["aiohttp", "aiohttp==1.0", "aiohttp>=1 --hash=sha256:ab", "-e .", "--index-url https://a", "git+https://a/b",
     "aiohttp==1.0 --hash=sha256:xy", "aiohttp @ https://a/b.whl --hash=sha256:ab", "aiohttp==1.0 --hash=md5:ab"],
)  # fmt: skip
def test_what_is_not_pinned_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    path.write_text(f"ok==1 \\\n    --hash=sha256:ab\n{line}\n")
    with pytest.raises(Unpinned):
        read_requirements(path)


@pytest.mark.parametrize("wrong", [{"integrity": ""}, {"resolved": "https://a/b.tgz"}, {"version": None}])
def test_what_npm_does_not_pin_is_refused(wrong: dict[str, str | None], tmp_path: Path) -> None:
    entry = {"version": "1.0.0", "integrity": "sha512-AAAA"} | wrong
    path = tmp_path / "package-lock.json"
    path.write_text(
        json.dumps({"packages": {"": {}, "node_modules/a": {k: v for k, v in entry.items() if v is not None}}})
    )
    with pytest.raises(Unpinned):
        read_lock(path)


def test_the_list_has_all_that_make_up_installs() -> None:
    components = {component["bom-ref"]: component for component in sbom()["components"]}
    for pin in read_requirements(ROOT / "requirements" / "run.txt"):
        component = components.pop(f"pkg:pypi/{pin.name}@{pin.version}")
        assert [one["content"] for one in component["hashes"]] == sorted(digest for _, digest in pin.hashes)
    for pin in read_lock():
        component = components.pop(f"pkg:npm/{pin.name}@{pin.version}", None)
        assert (component is None) is pin.is_for_build
    for model in CATALOGUE.values():
        assert components.pop(f"model:{model.name}")["hashes"] == [{"alg": "SHA-256", "content": model.sha256}]
    assert components == {}


def test_the_same_files_give_the_same_list(tmp_path: Path) -> None:
    texts = set()
    for number, zone in enumerate(("UTC", "Asia/Shanghai")):
        output = tmp_path / f"{number}.json"
        environment = os.environ | {"TZ": zone, "PYTHONHASHSEED": str(number), "SOURCE_DATE_EPOCH": "1700000000"}  # noqa: TID251
        command = [sys.executable, "-m", "tools.sbom", str(output)]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode in (0, NOT_CHECKED), done.stderr
        texts.add(output.read_text())
    assert len(texts) == 1
    assert json.loads(texts.pop())["metadata"]["timestamp"] == "2023-11-14T22:13:20Z"


def test_the_serial_number_follows_from_the_contents() -> None:
    assert sbom()["serialNumber"] == sbom()["serialNumber"] != sbom(time_s=1)["serialNumber"]
    assert "timestamp" not in sbom()["metadata"]


def test_the_list_keeps_the_schema() -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="requirements/audit.txt is not installed")
    schema = pytest.importorskip("cyclonedx.schema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(as_text(sbom())) is None
    broken = sbom()
    broken["components"][0]["type"] = "no such type"
    assert validator.validate_str(as_text(broken)) is not None
