"""Capabilities: what people ask for, honestly answered."""

from pathlib import Path

import pytest

from autoglm.core.errors import install_command
from autoglm.doctor.capabilities import Capability, Facts, capabilities


def found(**facts: object) -> dict[str, Capability]:
    usual = {"models_here": [], "models_served": [], "page": Path("/nonexistent"), "is_exposed": False}
    return {c.name: c for c in capabilities(lambda: Facts(**(usual | facts)))}  # type: ignore[arg-type]


def test_what_is_missing_comes_with_a_reason_and_a_way_out() -> None:
    for capability in found(is_exposed=True).values():
        assert capability.why
        assert capability.why_zh
        assert capability.available or capability.instead or capability.fix
        assert bool(capability.instead) == bool(capability.instead_zh)


def test_chat_follows_the_models_that_are_served() -> None:
    assert not found()["chat"].available
    chat = found(models_served=["m"])["chat"]
    assert (chat.available, "m" in chat.why) == (True, True)


@pytest.mark.parametrize("name", ["wechat_login", "wechat_template_message"])
def test_wechat_is_replaced_by_something_that_works_without_it(name: str) -> None:
    capability = found()[name]
    assert not capability.available
    assert capability.instead


def test_inside_wechat_the_reasons_are_other_ones() -> None:
    login = found()["wechat_login"]
    assert login.seen_from(inside_wechat=False) == login
    assert "runs inside WeChat" in login.seen_from(inside_wechat=True).why
    chat = found()["chat"]
    assert chat.seen_from(inside_wechat=True) == chat


def test_a_missing_ray_comes_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found()["ray_workers"].available
    monkeypatch.setattr("autoglm.doctor.capabilities.find_spec", lambda package: package != "ray")
    workers = found()["ray_workers"]
    assert (workers.available, workers.fix) == (False, install_command("ray"))


def test_push_is_there_with_its_channel_and_says_where_it_works() -> None:
    absent = found()["push"]
    assert (absent.available, "web-push" in absent.fix) == (False, True)
    push = found(channel_kinds=frozenset({"web-push"}))["push"]
    assert (push.available, push.fix) == (True, "")
    assert "push service" in push.why
    exposed = found(channel_kinds=frozenset({"web-push"}), is_exposed=True)["push"]
    assert (exposed.available, "on this machine only" in exposed.why, "tls" in exposed.fix) == (True, True, True)
    assert not push.seen_from(inside_wechat=True).available
