"""The hub itself, its pool and its budgets."""

from autoglm.gateway.budgets import BudgetList
from autoglm.gateway.operations.operation import ANY, KEY, WRITE, Answer, Operation, Parameter, ok
from autoglm.gateway.state import Capabilities, Drained, Health, InstanceState, Me, Pool, Readiness

STATE = (
    Operation(
        "GET", "/healthz", "health", "hub", "Does the process live?",
        (ok("It does", Health),), ANY,
    ),
    Operation(
        "GET", "/readyz", "readiness", "hub", "Can the store be written to, and does the hub take requests?",
        (ok("Yes", Readiness), ok("No, for these reasons", Readiness, 503)), ANY,
    ),
    Operation(
        "GET", "/metrics", "metrics", "hub", "For Prometheus; needs the scope `read:metrics`",
        (Answer(200, "Prometheus' text format 0.0.4", {"text/plain": {"type": "string"}}),), (*KEY, "forbidden"),
    ),
    Operation(
        "GET", "/openapi.json", "description", "hub", "This description",
        (ok("OpenAPI 3.1", {"type": "object"}),), ANY,
    ),
    Operation(
        "GET", "/api/schemas/envelope.json", "envelopeSchema", "hub", "JSON Schema of the envelope",
        (Answer(200, "Draft 2020-12", {"application/schema+json": {"type": "object"}}),), ANY,
    ),
    Operation(
        "GET", "/api/me", "me", "hub", "Whose key is this, and what may it do?", (ok("The key's own", Me),), KEY,
    ),
    Operation(
        "GET", "/api/pool", "pool", "hub", "The instances that answer", (ok("In their settings' order", Pool),), KEY,
    ),
    Operation(
        "POST", "/api/pool/{name}/resume", "resumeInstance", "hub", "Say that what blocked an instance is gone",
        (ok("Its state now", InstanceState),), (*KEY, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", {"type": "string", "minLength": 1}, "An instance", example="glm-a"),),
    ),
    Operation(
        "POST", "/api/pool/{name}/drain", "drainInstance", "hub", "Take an instance out; what runs there ends",
        (ok("How far that is; it ends with `drained`", Drained),), (*KEY, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", {"type": "string", "minLength": 1}, "An instance", example="glm-a"),),
    ),
    Operation(
        "GET", "/api/budgets", "budgets", "hub", "What is used of the budgets that the key's own requests count in",
        (ok("All budgets for a key with `admin:*`", BudgetList),), (*KEY, "budget_exceeded"),
    ),
    Operation(
        "POST", "/api/budgets/{name}/reset", "resetBudget", "hub", "Let a budget begin anew",
        (ok("The budgets that did", BudgetList),),
        (*KEY, *WRITE, "invalid_field", "forbidden", "not_found"),
        (
            Parameter("name", "path", {"type": "string", "minLength": 1}, "A budget", example="wards"),
            Parameter("subject", "query", {"type": "string"}, "Of this key or tenant only", example="ward-3"),
        ),
    ),
    Operation(
        "POST", "/api/pool/{name}/start", "startInstance", "hub", "Start a worker of a local instance now",
        (ok("Its state now", InstanceState),), (*KEY, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", {"type": "string", "minLength": 1}, "A local instance", example="small"),),
    ),
    Operation(
        "POST", "/api/pool/{name}/stop", "stopInstance", "hub", "Stop a local instance; what runs ends first",
        (ok("Its state now", InstanceState),), (*KEY, "invalid_field", "forbidden", "not_found"),
        (Parameter("name", "path", {"type": "string", "minLength": 1}, "A local instance", example="small"),),
    ),
    Operation(
        "GET", "/api/capabilities", "capabilities", "hub", "What works here, what does not, why, and what replaces it",
        (ok("In English and Chinese", Capabilities),), KEY,
    ),
)  # fmt: skip
