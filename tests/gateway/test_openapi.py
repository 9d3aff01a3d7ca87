"""The description describes every route, and nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from autoglm.gateway.openai import APIS
from autoglm.gateway.openapi import openapi
from autoglm.gateway.operations import OPEN, OPERATIONS, PROOF, rule_of
from autoglm.gateway.problems import PROBLEMS
from gateway.inside import Inside, hub_inside
from gateway.wire import call

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with hub_inside(tmp_path_factory.mktemp("openapi") / "data") as inside:
        yield inside


def described() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in openapi()["paths"].items() for method in methods}


def test_each_route_is_described_and_each_description_has_a_route(hub: Inside) -> None:
    routes = {(route.method, route.template) for route in hub.hub._front._router.routes}
    assert routes | {("POST", path) for path in APIS} == described()
    assert len(OPERATIONS) == len(described())


def test_the_document_is_openapi_3_1(hub: Inside) -> None:
    reply = call(hub.port, "", "GET", "/openapi.json")
    assert reply.json() == json.loads(json.dumps(openapi()))
    schema = schemathesis.openapi.from_dict(reply.json())
    schema.validate()
    assert sum(1 for _ in schema.get_all_operations()) == len(OPERATIONS)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_all_references_lead_somewhere_and_all_schemas_are_schemas() -> None:
    schemas = openapi()["components"]["schemas"]
    assert {reference.rsplit("/", 1)[1] for reference in references(openapi())} <= set(schemas)
    for name, schema in schemas.items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
        assert name.isidentifier()


def test_variables_in_paths_are_the_parameters_in_paths() -> None:
    for operation in OPERATIONS:
        in_path = [segment[1:-1] for segment in operation.path.split("/") if segment.startswith("{")]
        assert [parameter.name for parameter in operation.parameters if parameter.place == "path"] == in_path


def test_names_are_unique_and_codes_are_known() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(set(names)) == len(names)
    for operation in OPERATIONS:
        assert set(operation.problems) <= set(PROBLEMS)
        assert rule_of(operation) == OPEN or "unauthorized" in operation.problems


def test_only_the_open_endpoints_answer_without_a_key(hub: Inside) -> None:
    for operation in OPERATIONS:
        path = operation.path.replace("{id}", "x").replace("{name}", "x")
        body: object = {} if operation.method in ("POST", "PUT") else None
        reply = call(hub.port, "", operation.method, path, body)
        is_open = rule_of(operation) in (OPEN, PROOF)
        if path.startswith(("/api/login", "/api/logout")):  # they look at what is in the body, and it is empty
            assert reply.status in (200, 204, 303, 400, 401), operation.name
            assert reply.json()["code"] == "login_refused" if reply.status == 401 else True, operation.name
            continue
        assert (reply.status == 401) is not is_open, operation.name
        # There is no channel x for a vendor's hook to call.
        assert rule_of(operation) != OPEN or reply.status == (404 if "/hooks/" in path else 200), operation.name


def test_examples_fit_their_schemas() -> None:
    for name in ("Envelope", "Message"):
        document = {**openapi()["components"], "$ref": f"#/schemas/{name}"}
        text = json.dumps(document).replace("#/components/schemas/", "#/schemas/")
        validator = jsonschema_rs.Draft202012Validator(json.loads(text))
        for example in openapi()["components"]["schemas"][name]["examples"]:
            validator.validate(example)
    for operation in OPERATIONS:
        for parameter in operation.parameters:
            if parameter.example is not None:
                jsonschema_rs.validate(parameter.schema, parameter.example)


def test_the_envelope_s_schema_is_published_as_the_file_in_docs(hub: Inside) -> None:
    reply = call(hub.port, "", "GET", "/api/schemas/envelope.json")
    assert reply.headers["content-type"] == "application/schema+json"
    assert reply.body == (DOCS / "envelope.schema.json").read_bytes()


@pytest.mark.parametrize("page", ["api.md", "api.zh-CN.md"])
def test_both_pages_of_the_guide_name_every_endpoint(page: str) -> None:
    text = (DOCS / page).read_text()
    missing = [operation.path for operation in OPERATIONS if operation.path not in text]
    assert missing == []
