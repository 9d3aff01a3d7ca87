"""What is in an installation, as a CycloneDX 1.6 list of components (SBOM). The same lock files give the same bytes.

    python -m tools.sbom OUTPUT      writes it, and checks it against the schema (with cyclonedx-python-lib)

Listed: the Python packages of requirements/run.txt with the hashes of their files, the npm packages that the page is
made of, and the models of the catalogue with their sha256. Source: cyclonedx.org/docs/1.6/json.
"""

import hashlib
import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tools.pinned import ROOT, Pinned, read_lock, read_requirements

from autoglm.inference.models.catalogue import CATALOGUE, CatalogueModel
from autoglm.version import __version__

SPEC = "1.6"
NOT_CHECKED = 3
_ALGORITHMS = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/")


def main() -> int:
    match sys.argv[1:]:
        case [output]:
            text = as_text(sbom(time_s=source_date()))
            Path(output).parent.mkdir(parents=True, exist_ok=True)
            Path(output).write_text(text)
            count = len(json.loads(text)["components"])
            print(f"{output}: {count} components, sha256 {hashlib.sha256(text.encode()).hexdigest()}")
            return _checked(text)
        case _:
            sys.stderr.write(__doc__ or "")
            return 2


def sbom(*, time_s: int | None = None) -> dict[str, Any]:
    """time_s: of the Unix epoch, when it was made; left out when None, as a clock would make each list another."""
    packages = [*read_requirements(ROOT / "requirements" / "run.txt"), *read_lock()]
    components = [
        *(package_component(one) for one in packages if not one.is_for_build),
        *map(model_component, CATALOGUE.values()),
    ]
    hub = f"pkg:pypi/autoglm-hub@{__version__}"
    body: dict[str, Any] = {
        "metadata": {
            **({} if time_s is None else {"timestamp": f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%SZ}"}),
            "component": {
                "type": "application", "bom-ref": hub, "name": "autoglm-hub", "version": __version__, "purl": hub,
                "licenses": [{"expression": "Apache-2.0"}],
            },
        },
        "components": sorted(components, key=lambda one: str(one["bom-ref"])),
        "dependencies": [{"ref": hub, "dependsOn": sorted(str(one["bom-ref"]) for one in components)}],
    }  # fmt: skip
    serial = uuid.uuid5(_SPACE, as_text(body))
    return {"bomFormat": "CycloneDX", "specVersion": SPEC, "serialNumber": f"urn:uuid:{serial}", "version": 1, **body}


def package_component(package: Pinned) -> dict[str, Any]:
    """Of PyPI, its hashes are those of all files of this version: which of them a machine takes, its platform says."""
    place = f"pkg:{package.ecosystem.lower()}/{quote(package.name, safe='/')}@{quote(package.version, safe='.!+-')}"
    component: dict[str, Any] = {
        "type": "library", "bom-ref": place, "name": package.name, "version": package.version, "purl": place,
        "scope": "optional" if package.marker else "required",
        "hashes": _hashes(package.hashes),
    }  # fmt: skip
    if package.licence:
        component["licenses"] = [{"expression": package.licence}]
    if package.marker:
        component["properties"] = [{"name": "autoglm:marker", "value": package.marker}]
    return component


def model_component(model: CatalogueModel) -> dict[str, Any]:
    """A model is fetched when it is wanted: optional."""
    return {
        "type": "machine-learning-model", "bom-ref": f"model:{model.name}", "name": model.name,
        "description": model.title, "version": model.sha256[:12], "scope": "optional",
        "hashes": _hashes([("sha256", model.sha256)]), "licenses": [{"expression": model.licence}],
        "properties": [
            {"name": "autoglm:origin", "value": model.origin},
            *({"name": "autoglm:part", "value": f"{one.distribution}=={one.version} {one.member}"}
              for one in model.parts),
        ],
    }  # fmt: skip


def _hashes(known: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"alg": _ALGORITHMS[algorithm], "content": digest} for algorithm, digest in sorted(known)]


def as_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def source_date() -> int | None:
    """reproducible-builds.org/specs/source-date-epoch. Raises ValueError."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")  # noqa: TID251  # a tool
    return int(text) if text else None


def _checked(text: str) -> int:
    """Exit status: 1 when the list breaks the schema, 3 where there is nothing to check it with."""
    if importlib.util.find_spec("cyclonedx") is None:
        print("not checked against the schema: install requirements/audit.txt", file=sys.stderr)
        return NOT_CHECKED
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    if (flaw := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        print(f"against the schema: {str(flaw)[:500]}", file=sys.stderr)
        return 1
    print(f"valid against CycloneDX {SPEC}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
