"""All that is fuzzed. A part adds its targets by one line here."""

from importlib import import_module

from fuzzing.target import Target

MODULES = (
    "fuzzing.http_targets",
    "fuzzing.body_targets",
    "fuzzing.hook_targets",
    "fuzzing.messenger_targets",
    "fuzzing.post_targets",
    "fuzzing.upstream_targets",
    "fuzzing.file_targets",
    "fuzzing.gate_targets",
    "fuzzing.token_targets",
    "fuzzing.policy_targets",
    "fuzzing.people_targets",
)
"""Each has TARGETS, a tuple of Target."""


def targets() -> dict[str, Target]:
    """By name. Imports them all."""
    found = [target for module in MODULES for target in import_module(module).TARGETS]
    assert len({target.name for target in found}) == len(found), "two targets have the same name"
    return {target.name: target for target in found}
