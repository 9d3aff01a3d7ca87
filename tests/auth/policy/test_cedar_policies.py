"""Cedar: what is filed away is found again, and an error permits nothing."""

import json
import re
from pathlib import Path

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoglm.auth.policy import entities as module
from autoglm.auth.policy.cedar import CedarPolicies, CedarVerdict, check_readable, flaws
from autoglm.auth.policy.entities import Entity, Uid, action_of, principal_of, resource_of
from autoglm.auth.scopes import FORMS
from autoglm.core.errors import PolicyRefused

CONTEXT = {"hour": 9, "minute": 0, "weekday": 1, "is_offline": False, "clock_trusted": True, "labels": ["ward=3"]}

# --- the slice against the whole ---

PRINCIPALS = ["",
              "== User::\"a\"", "== Device::\"a\"", "in Role::\"r\"", "in Group::\"g\"", "in User::\"b\"", "is User",
              "is Device in Group::\"g\"", "in Site::\"n\"", "is Site"]  # fmt: skip
ACTIONS = ["", "== Action::\"send:message\"", "in Action::\"read\"", "in [Action::\"write\", Action::\"model:use\"]",
           "== Action::\"read\"", "in [Action::\"read\", Action::\"read:message\"]"]  # fmt: skip
RESOURCES = ["", '== User::"b"', 'in Group::"g"', "is Model", '== Model::"m"', '== Hub::"hub"', 'is User in Group::"h"']
CONDITIONS = ["", "when { context.hour < 10 }",
              "unless { context.labels.contains(\"ward=3\") }", "when { principal == resource }",
              "when { context.nonesuch == 1 }", "when { resource in Group::\"g\" }"]  # fmt: skip

heads = st.tuples(st.sampled_from(PRINCIPALS), st.sampled_from(ACTIONS), st.sampled_from(RESOURCES))
policy_texts = st.builds(
    lambda effect, head, condition: f"{effect}(principal {head[0]}, action {head[1]}, resource {head[2]}) {condition};",
    st.sampled_from(["permit", "forbid"]), heads, st.sampled_from(CONDITIONS),
)  # fmt: skip
addresses = st.sampled_from(["user:a", "user:b", "device:a", "group:g", "site:n/user:a"])
groups = st.sets(st.sampled_from(["group:g", "group:h"]))
requests = st.tuples(
    st.builds(principal_of, addresses, groups, st.sets(st.just("r"))),
    st.sampled_from(["send:message", "read:message", "model:use", "read:metrics", "other"]),
)  # fmt: skip


def whole(text: str, principal: Entity, action: Entity, resource: Entity) -> CedarVerdict:
    """By Cedar itself, over all policies."""
    known = {entity.uid: entity for entity in (principal, action, resource)}
    if principal.uid == resource.uid:
        known[principal.uid] = Entity(principal.uid, principal.parents | resource.parents)
    answer = cedarpy.is_authorized(
        {
            "principal": principal.uid.as_json(), "action": action.uid.as_json(), "resource": resource.uid.as_json(),
            "context": CONTEXT,
        },
        text, json.dumps([entity.as_json() for entity in known.values()]),
    )  # fmt: skip
    reasons = frozenset(answer.diagnostics.reasons)
    if answer.diagnostics.errors:
        return CedarVerdict("error", tuple(sorted(reasons)))
    effect = "permit" if answer.allowed else "forbid" if reasons else "none"
    return CedarVerdict(effect, tuple(sorted(reasons)))  # type: ignore[arg-type]  # one of the four


@settings(max_examples=300, deadline=None)
@given(
    st.lists(policy_texts, min_size=1, max_size=12), requests, st.sampled_from(["user:b", "group:g", "m", ""]), groups
)
def test_the_slice_decides_as_the_whole_does(
    texts: list[str], request: tuple[Entity, str], named: str, above: set[str]
) -> None:
    """The same decision, for the same reasons, whatever the heads say."""
    text = "\n".join(texts)
    principal, action = request
    resource = resource_of(action, named, above if named.startswith(("user", "group")) else ())
    found = CedarPolicies(text).decide(principal, action_of(action), resource, CONTEXT)
    expected = whole(text, principal, action_of(action), resource)
    assert (found.effect, tuple(sorted(found.policy_ids))) == (expected.effect, expected.policy_ids), (
        text,
        principal,
        action,
        resource,
    )


def test_only_what_can_match_is_evaluated() -> None:
    """Else this would be an error: a policy about somebody else cannot be evaluated."""
    text = """permit(principal == User::"a", action, resource);
        permit(principal == User::"b", action, resource) when {1 == context.x};"""
    policies = CedarPolicies(text)
    decide = (action_of("model:use"), resource_of("model:use", "m", ()), CONTEXT)
    assert policies.decide(principal_of("user:a", (), ()), *decide) == CedarVerdict("permit", ("policy0",))
    assert policies.decide(principal_of("user:b", (), ()), *decide).effect == "error"
    assert policies.decide(principal_of("user:c", (), ()), *decide) == CedarVerdict("none")


def test_an_error_next_to_a_permit_denies() -> None:
    """Cedar leaves out a policy that it cannot evaluate; if that one forbids, leaving it out would let somebody in."""
    text = """@id("open") permit(principal, action, resource);
        @id("lock") forbid(principal, action, resource) when {context.x == 1};"""
    found = CedarPolicies(text).decide(
        principal_of("user:a", (), ()), action_of("tenant"), resource_of("tenant", "t", ()), CONTEXT
    )
    assert found.effect == "error"
    assert "does not have the attribute `x`" in found.errors[0]


@pytest.mark.parametrize(
    ("condition", "reads"),
    [("", False), ("when {principal in Role::\"r\"}", False), ("when {context.hour > 1}", True),
     ("unless {if true then {\"a\": [context]}.a.contains(context) else false}", True)],
)  # fmt: skip
def test_it_is_known_whether_circumstances_count(condition: str, reads: bool) -> None:
    assert CedarPolicies(f"permit(principal, action, resource) {condition};").reads_context is reads


# --- before it is signed ---


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("permit(principal, action resource);", "unexpected token"),
        ("permit(principal == ?principal, action, resource);", "it has a template"),
        ('@id("x") permit(principal, action, resource); @id("x") forbid(principal, action, resource);', "two policies"),
        ('permit(principal == Person::"a", action, resource);', "unrecognized entity type `Person`"),
        ('permit(principal, action == Action::"send:massage", resource);', "send:massage"),
        ('permit(principal, action == Action::"model:use", resource) when {context.our < 1};', "our"),
        ('@id("w") permit(principal, action == Action::"model:use", resource) when {context.hour < "1"};', "w: "),
    ],
)
def test_what_is_wrong_is_told_before_it_is_signed(text: str, flaw: str) -> None:
    found = flaws(text)
    assert any(flaw in sentence for sentence in found), found


def test_what_is_right_has_no_flaw() -> None:
    assert flaws("") == []
    text = """
    @id("nurses read") permit(principal in Role::"nurse", action in Action::"read", resource);
    @id("nobody at night") forbid(principal is Device, action == Action::"send:message", resource in Group::"all")
        unless { context.labels.contains("kind=alert") || (context.hour >= 6 && !context.is_offline) };
    permit(principal in Site::"ward-3", action == Action::"admin", resource == Area::"alarms")
        when {context.clock_trusted};
    """
    assert flaws(text) == []


@pytest.mark.attack("huge")
def test_the_number_of_policies_and_their_depth_are_bounded() -> None:
    with pytest.raises(PolicyRefused, match="20001 policies, and 20000 are the limit"):
        check_readable("permit(principal, action, resource);" * 20_001)
    with pytest.raises(PolicyRefused):
        check_readable("permit(principal, action, resource) when {" + "!" * 5000 + "true};")


def test_the_schema_has_the_actions_of_scopes_and_their_groups() -> None:
    text = (Path(module.__file__).with_name("schema.cedarschema")).read_text()
    found: dict[str, str] = {}
    for names, group in re.findall(r'^action ("[^;{]+?)(?: in \["(\w+)"\])? appliesTo', text, re.MULTILINE):
        found |= dict.fromkeys(re.findall(r'"([^"]+)"', names), group)
    assert {name: group for name, group in found.items() if group} == module.ACTION_GROUPS
    actions = {re.sub(r"(^admin|^tenant|^model:use):.*", r"\1", form.split("[")[0]) for form in FORMS.split(", ")}
    assert set(found) == actions


@pytest.mark.parametrize(
    ("address", "uid", "parents"),
    [
        ("user:alice", Uid("User", "alice"), set()),
        ("site:north/user:bob", Uid("Site", "north/user:bob"), {Uid("Site", "north")}),
        ("channel:wecom/ops", Uid("Channel", "wecom/ops"), set()),
        ('user:a"b', Uid("User", 'a"b'), set()),
        ("nonsense", Uid("Hub", "nonsense"), set()),
    ],
)
def test_addresses_are_entities(address: str, uid: Uid, parents: set[Uid]) -> None:
    assert principal_of(address, (), ()) == Entity(uid, frozenset(parents))
