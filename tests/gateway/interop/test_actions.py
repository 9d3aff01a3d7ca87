"""ntfy's buttons in their short form and in JSON."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoglm.core.errors import HubError, InvalidField
from autoglm.gateway.interop.actions import Action, parse_actions


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("view, Open portal, https://x.y/, clear=true;",
         [Action(action="view", label="Open portal", url="https://x.y/", clear=True)]),
        ("action=VIEW, label='It''s', url=https://x.y/?a=b", None),
        ("http, Turn down, https://x.y/, method=PUT, headers.Authorization=Bearer z, body='{\"t\": 65, \"u\": 1}'",
         [Action(action="http", label="Turn down", url="https://x.y/", method="PUT",
                 headers={"Authorization": "Bearer z"}, body='{"t": 65, "u": 1}')]),
        (r'view, "Look ma, \"quotes\"; too", url=https://x.y/?a=b',
         [Action(action="view", label='Look ma, "quotes"; too', url="https://x.y/?a=b")]),
        ("broadcast, Take picture, extras.cmd=pic, extras.camera=front ; view, 打开, https://x.y",
         [Action(action="broadcast", label="Take picture", extras={"cmd": "pic", "camera": "front"}),
          Action(action="view", label="打开", url="https://x.y")]),
        ('[{"action": "view", "label": "Open", "url": "https://x.y", "clear": true}]',
         [Action(action="view", label="Open", url="https://x.y", clear=True)]),
        ("", []),
    ],
)  # fmt: skip
def test_actions_are_read(text: str, actions: list[Action] | None) -> None:
    if actions is None:
        with pytest.raises(InvalidField):
            parse_actions(text)
    else:
        assert parse_actions(text) == actions


@pytest.mark.parametrize(
    "text",
    [
        "dance, x", "view", "view, Open", "view, , https://x.y", "view, Open, https://x.y, nonsense",
        "view, Open, https://x.y, colour=red", "view, Open, https://x.y, clear=maybe", 'view, "Open, https://x.y',
        'view, "Open" now, https://x.y', "view, a, https://x.y;" * 4, "[]x", "[{}]", '[{"action": "view"}]',
        "view, Open, https://x.y, headers=x",
    ],
)  # fmt: skip
def test_wrong_actions_are_refused(text: str) -> None:
    with pytest.raises(HubError):
        parse_actions(text)


@given(st.text(st.sampled_from("ab=,;\"'\\ .[{")))
def test_whatever_comes_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(HubError):
        parse_actions(text)
