"""`autoglm token`: a key is issued, used, listed and revoked."""

import json
from pathlib import Path

from cli.terminal import autoglm


def test_a_key_is_issued_used_listed_and_revoked(data: Path) -> None:
    issued = autoglm("token", "issue", "t-robot", "--scope", "send:message", "--for", "90d", data=data)
    key = issued.out.strip()
    assert key.startswith("ag-")
    assert f"token revoke t-robot --data {data} ends it at once" in issued.err
    sent = autoglm("send", "user:t-alice", "hi", "--key", key, data=data)
    assert sent.status == 0, sent.err
    assert autoglm("inbox", "user:t-alice", "--key", key, data=data).status == 1
    (row,) = [line for line in autoglm("token", data=data).out.splitlines() if line.startswith("t-robot")]
    assert row.split()[:2] == ["t-robot", "device:t-robot"]
    assert row.split()[-2:] == ["user:admin", "send:message"]
    assert key not in autoglm("token", "--json", data=data).out
    assert autoglm("token", "revoke", "t-robot", data=data).out == "the key t-robot is revoked\n"
    refused = autoglm("send", "user:t-alice", "hi", "--key", key, data=data)
    assert (refused.status, "does not know the key" in refused.err) == (1, True)


def test_what_is_wrong_is_told(data: Path) -> None:
    assert autoglm("token", "issue", "t-x", data=data).status == 2
    misspelt = autoglm("token", "issue", "t-x", "--scope", "model:used:*", "--json", data=data)
    assert (misspelt.status, "unknown scope 'model:used:*'" in misspelt.err) == (1, True)
    assert autoglm("token", "revoke", "t-nobody", data=data).err == "autoglm: there is no key 't-nobody' here\n"
    key = json.loads(autoglm("token", "issue", "t-y", "--scope", "admin:keys", "--json", data=data).out)["key"]
    more = autoglm("token", "issue", "t-z", "--scope", "admin:*", "--key", key, data=data)
    assert (more.status, "lacks the scope 'admin:*'" in more.err) == (1, True)
