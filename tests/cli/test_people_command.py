"""`autoglm people`: somebody is invited, gets in, is changed, and is removed."""

import json
from pathlib import Path
from typing import Any

import httpx2

from cli.terminal import autoglm
from hub import HubProcess
from people_hub import PASSWORD


def rows(data: Path, *words: str) -> list[list[str]]:
    return [line.split() for line in autoglm("people", *words, data=data).out.splitlines()[1:]]


def accept(hub: HubProcess, link: str, password: str = PASSWORD) -> httpx2.Response:
    body = {"token": link.partition("#invite=")[2], "password": password}
    return httpx2.post(f"{hub.url}/api/login/invitation", json=body, trust_env=False)


def log_in(hub: HubProcess, name: str, password: str = PASSWORD) -> int:
    body: dict[str, Any] = {"name": name, "password": password}
    return httpx2.post(f"{hub.url}/api/login/password", json=body, trust_env=False).status_code


def test_somebody_is_invited_changed_and_removed(hub: HubProcess, data: Path) -> None:
    invited = autoglm("people", "invite", "P-Alice", "--role", "operator", "--role", "auditor", data=data)
    link = invited.out.strip()
    assert link.startswith(f"{hub.url}/#invite=")
    assert "p-alice as operator auditor" in invited.err
    ((handle, *shown),) = [row for row in rows(data, "invitations") if "p-alice" in row]
    assert shown[:3] == ["p-alice", "operator", "auditor"]
    assert accept(hub, link).status_code == 200
    assert accept(hub, link).status_code == 401
    assert ["p-alice", "operator", "auditor", "password", "1"] in rows(data)

    assert autoglm("people", "withdraw", handle, data=data).status == 1  # it was used
    assert autoglm("people", "change", "p-alice", "--role", "member", data=data).out == "p-alice: member; may log in\n"
    assert autoglm("people", "end", "p-alice", data=data).out == "p-alice is logged out\n"
    assert ["p-alice", "member", "password", "0"] in rows(data)
    assert autoglm("people", "change", "p-alice", "--disable", data=data).out == "p-alice: member; disabled\n"
    assert log_in(hub, "p-alice") == 401
    assert autoglm("people", "change", "p-alice", "--enable", data=data).status == 0
    assert log_in(hub, "p-alice") == 200

    reset = json.loads(autoglm("people", "reset", "p-alice", "--json", data=data).out)
    assert reset["is_reset"] is True
    assert accept(hub, reset["link"], "quite another one").status_code == 200
    assert (log_in(hub, "p-alice"), log_in(hub, "p-alice", "quite another one")) == (401, 200)
    assert autoglm("people", "remove", "p-alice", data=data).out == "p-alice is removed\n"
    assert autoglm("people", "remove", "p-alice", data=data).status == 1
    assert log_in(hub, "p-alice", "quite another one") == 401


def test_what_is_wrong_is_said(data: Path) -> None:
    assert autoglm("people", "change", "x", data=data).status == 2
    unknown = autoglm("people", "invite", "p-bob", "--role", "king", data=data)
    assert (unknown.status, "'king' is not one of" in unknown.err) == (2, True)
    wrong = autoglm("people", "invite", "p bob", data=data)
    assert (wrong.status, "letters and digits" in wrong.err) == (1, True)
    assert autoglm("people", "withdraw", "0" * 16, data=data).status == 1
