"""Whatever a client sends, the hub answers as its description says: never a 500, never a form that is not described.

schemathesis makes requests from /openapi.json, valid ones and broken ones. By default they are few and always the same;
AUTOGLM_TEST_FUZZ_SECONDS, which `make fuzz` sets, makes them many and random.
"""

import math
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, CheckFunction, GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from autoglm.gateway.messages import MAX_WAIT_S
from autoglm.gateway.operations import OPERATIONS, Operation
from gateway.wire import call
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel

FUZZ_S = float(os.environ.get("AUTOGLM_TEST_FUZZ_SECONDS", "0"))  # noqa: TID251  # tests only
EXAMPLES = 8
FUZZED = [operation for operation in OPERATIONS if operation.name != "streamMessages"]  # a stream does not end
NO_FAILURE = {503, 507}
# What a schema cannot say: the one who acknowledges got the message, `expires_at` is in the future.
TOO_STRICT: list[CheckFunction] = [positive_data_acceptance]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with ScriptedModel() as model:
        config = "[gateway]\nmax_body_bytes = 1048576\n\n" + instance_config("glm-a", model.url)
        with running_hub(tmp_path_factory.mktemp("fuzz") / "data", config) as running:
            yield running
            assert "Traceback" not in running.log()


@pytest.fixture(scope="module")
def schema(hub: HubProcess) -> BaseSchema:
    described = call(hub.port, "", "GET", "/openapi.json").json()
    described["security"] = []  # all requests have the key; leaving it out is tested elsewhere
    return schemathesis.openapi.from_dict(described)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize("operation", FUZZED, ids=lambda operation: operation.name)
def test_every_request_is_answered_as_described(
    operation: Operation, mode: GenerationMode, hub: HubProcess, schema: BaseSchema
) -> None:
    described = schema[operation.path][operation.method]
    if not FUZZ_S:
        fuzz(described, mode, hub, is_random=False)
    end_s = time.monotonic() + FUZZ_S / len(FUZZED) / len(GenerationMode)
    while time.monotonic() < end_s:
        fuzz(described, mode, hub, is_random=True)


def fuzz(
    operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, hub: HubProcess, *, is_random: bool
) -> None:
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        derandomize=not is_random,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Case[Any]) -> None:
        check(case, hub)

    try:
        run()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # what takes no input takes no bad input


def check(case: Case[Any], hub: HubProcess) -> None:
    if is_wait(case.query.get("wait")):
        case.query["wait"] = 0  # waiting is tested elsewhere
    if isinstance(case.body, (dict, list)):
        case.body = whole(case.body)
    response = case.call(base_url=hub.url, headers={"Authorization": f"Bearer {hub.admin_key}"}, timeout=60)
    assert response.status_code < 500 or response.status_code in NO_FAILURE, response.text
    assert response.headers["x-request-id"]
    # schemathesis does not count 413 among the refusals, and makes bodies of several MiB now and then.
    excluded = [*TOO_STRICT, negative_data_rejection] if response.status_code == 413 else TOO_STRICT
    case.validate_response(response, excluded_checks=excluded)


def is_wait(value: Any) -> bool:
    """True for what the hub would wait for."""
    try:
        return 0 < float(value) <= MAX_WAIT_S
    except (TypeError, ValueError):
        return False


def whole(value: Any) -> Any:
    """JSON Schema takes 4.0 for an integer. We want it written as one, as every JSON library does."""
    match value:
        case dict():
            return {name: whole(inner) for name, inner in value.items()}
        case list():
            return [whole(inner) for inner in value]
        case float() if math.isfinite(value) and value.is_integer():
            return int(value)
    return value
