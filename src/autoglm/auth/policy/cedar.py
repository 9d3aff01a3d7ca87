"""Cedar policies: who is permitted and forbidden what, found among thousands in the time that a request has.

Evaluating 10,000 policies takes 11 ms, and nearly all of them are about somebody else. Each policy's head names whom
and what it is about, so the policies are filed by it, and only those are evaluated whose head can match. What a head
does not say is left to Cedar: the files choose, they do not decide.
Source: the Cedar policy language, "policy slicing"; cedarpy 4.12.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import cedarpy
from cedarpy import pst

from autoglm.auth.policy.entities import Entity, Uid
from autoglm.auth.policy.snapshot import CEDAR, MAX_POLICIES
from autoglm.core.errors import PolicyRefused

Effect = Literal["permit", "forbid", "none", "error"]
"""none: no policy speaks of it. error: one could not be evaluated, which is no reason to let anybody do anything."""
_MAX_SLICES = 1024
_Head = str | Uid
"""What a head names: an entity or one above it, a type such as `User`, or `*` for anything."""
_ANY = "*"


@dataclass(frozen=True)
class CedarVerdict:
    effect: Effect
    policy_ids: tuple[str, ...] = ()
    """Those that made it so: the @id of each, or `policyN` by its place in the text."""
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Policy:
    id: str
    text: str


class CedarPolicies:
    """text: all policies. Raises PolicyRefused. Takes 0.1 ms a policy, once per snapshot."""

    def __init__(self, text: str) -> None:
        nodes = _parsed(text)
        self.has_permits = any(node.effect == "permit" for node in nodes.values())
        parts = [part for node in nodes.values() for part in _parts(node.clauses)]
        self.reads_context = any(part.name == "context" for part in parts if isinstance(part, pst.Var))
        """Whether decisions depend on the time of day and the like."""
        self.words = frozenset(part.value for part in parts if isinstance(part, pst.StringLit))
        """All texts in conditions, such as the labels that they ask for."""
        self._files: dict[tuple[_Head, _Head, _Head], list[_Policy]] = {}
        for name, node in nodes.items():
            policy = _Policy(node.annotations.get("id") or name, _text_of(name, node))
            for action in _action_heads(node.action):
                self._files.setdefault((_head(node.principal), action, _head(node.resource)), []).append(policy)
        self._slices: dict[tuple[tuple[_Head, _Head, _Head], ...], tuple[cedarpy.PolicySet, list[str]]] = {}

    def decide(
        self, principal: Entity, action: Entity, resource: Entity, context: Mapping[str, object]
    ) -> CedarVerdict:
        if principal.uid == resource.uid:  # who writes to himself: one entity, with what both ways lead to
            principal = resource = Entity(principal.uid, principal.parents | resource.parents)
        keys = tuple(
            key for key in itertools.product(*map(_heads_of, (principal, action, resource))) if key in self._files
        )
        if not keys:
            return CedarVerdict("none")
        policies, names = self._slice(keys)
        request = {
            "principal": principal.uid.as_json(), "action": action.uid.as_json(), "resource": resource.uid.as_json(),
            "context": json.dumps(context),
        }  # fmt: skip
        entities = {entity.uid: entity.as_json() for entity in (principal, action, resource)}
        answer = cedarpy.is_authorized(request, policies, json.dumps(list(entities.values())))
        reasons = tuple(names[int(reason.removeprefix("policy"))] for reason in answer.diagnostics.reasons)
        errors = tuple(str(error) for error in answer.diagnostics.errors)
        if errors or answer.decision is cedarpy.Decision.NoDecision:
            return CedarVerdict("error", reasons, errors)
        if answer.allowed:
            return CedarVerdict("permit", reasons)
        return CedarVerdict("forbid" if reasons else "none", reasons)

    def _slice(self, keys: tuple[tuple[_Head, _Head, _Head], ...]) -> tuple[cedarpy.PolicySet, list[str]]:
        """The policies under these keys as Cedar takes them, and their ids by place."""
        found = self._slices.get(keys)
        if found is None:
            # Once each: one that names several actions is filed under each of them.
            chosen = list(dict.fromkeys(policy for key in keys for policy in self._files[key]))
            found = cedarpy.PolicySet.from_str("\n".join(p.text for p in chosen)), [p.id for p in chosen]
            if len(self._slices) >= _MAX_SLICES:
                self._slices.clear()
            self._slices[keys] = found
        return found


def check_readable(text: str) -> None:
    """Raises PolicyRefused where no decider could be made of it."""
    _parsed(text)


def flaws(text: str) -> list[str]:
    """Sentences on what is wrong with it, also as far as types and names go; empty when all is well."""
    try:
        nodes = _parsed(text)
    except PolicyRefused as error:
        return [error.reason]
    ids = [node.annotations["id"] for node in nodes.values() if node.annotations.get("id")]
    found = [f"two policies have the id {name!r}" for name in sorted({name for name in ids if ids.count(name) > 1})]
    checked = cedarpy.validate_policies(text, schema())
    known = checked.id_annotations_by_policy_id
    return found + [f"{known.get(error.policy_id, error.policy_id)}: {error.error}" for error in checked.errors]


@cache
def schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str(Path(__file__).with_name("schema.cedarschema").read_text(encoding="utf-8"))


def _parsed(text: str) -> Mapping[str, pst.Template]:
    try:
        nodes = cedarpy.policies_to_pst(text)
    except ValueError as error:
        raise PolicyRefused(CEDAR, str(error)[:500]) from error
    if nodes.templates:
        raise PolicyRefused(CEDAR, "it has a template (?principal, ?resource), which nothing would fill in")
    if len(nodes.static_policies) > MAX_POLICIES:
        raise PolicyRefused(CEDAR, f"it has {len(nodes.static_policies)} policies, and {MAX_POLICIES} are the limit")
    return nodes.static_policies


def _text_of(name: str, node: pst.Template) -> str:
    """Cedar's own writing of it. Kept instead of the node: a slice of texts is parsed in half the time."""
    return str(cedarpy.PolicySet.from_pst(pst.PolicySet(templates={}, static_policies={name: node}, template_links=())))


def _head(constraint: pst.PrincipalOrResourceConstraint) -> _Head:
    match constraint:
        case pst.ScopeEq(entity=pst.EntityUid() as entity) | pst.ScopeIn(entity=pst.EntityUid() as entity):
            return _uid(entity)
        case pst.ScopeIsIn(entity=pst.EntityUid() as entity):
            return _uid(entity)
        case pst.ScopeIs(entity_type=kind):
            return str(kind)
        case _:  # ScopeAny; what is not known here is looked at by Cedar each time
            return _ANY


def _action_heads(constraint: pst.ActionConstraint) -> Iterator[_Head]:
    match constraint:
        case pst.ActionEq(entity=entity):
            yield _uid(entity)
        case pst.ActionIn(entities=entities):
            yield from dict.fromkeys(map(_uid, entities))
        case _:
            yield _ANY


def _heads_of(entity: Entity) -> tuple[_Head, ...]:
    return (_ANY, entity.uid.type, entity.uid, *entity.parents)


def _uid(entity: pst.EntityUid) -> Uid:
    return Uid(str(entity.type), entity.id)


def _parts(node: object) -> Iterator[object]:
    """The variables and texts in it."""
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, pst.Var | pst.StringLit):
            yield part
        elif isinstance(part, Mapping):
            waiting.extend(part.values())
        elif isinstance(part, tuple):
            waiting.extend(part)
        elif hasattr(part, "__dataclass_fields__"):
            waiting.extend(getattr(part, name) for name in part.__dataclass_fields__)
