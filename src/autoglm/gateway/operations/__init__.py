"""Every endpoint, for the description: `OPERATIONS`, from which openapi.json is made and the tests draw."""

from autoglm.gateway.operations.channels import CHANNELS, PUSH
from autoglm.gateway.operations.choice import DECISIONS, INTENTS
from autoglm.gateway.operations.devices import DEVICES
from autoglm.gateway.operations.events import EVENTS, INTEROP
from autoglm.gateway.operations.keys import KEYS
from autoglm.gateway.operations.messages import MESSAGES, QUESTIONS
from autoglm.gateway.operations.operation import Operation, Parameter
from autoglm.gateway.operations.people import PEOPLE
from autoglm.gateway.operations.rules import KNOWN, OPEN, PROOF, RULES, SESSION, rule_of
from autoglm.gateway.operations.state import STATE
from autoglm.gateway.operations.trust import TRUST
from autoglm.gateway.operations.work import MODELS, TASKS

__all__ = ["KNOWN", "OPEN", "OPERATIONS", "PROOF", "RULES", "SESSION", "Operation", "Parameter", "rule_of"]

OPERATIONS: tuple[Operation, ...] = (
    *MODELS,
    *MESSAGES,
    *EVENTS,
    *QUESTIONS,
    *INTEROP,
    *CHANNELS,
    *PUSH,
    *TASKS,
    *DECISIONS,
    *INTENTS,
    *KEYS,
    *PEOPLE,
    *DEVICES,
    *TRUST,
    *STATE,
)
