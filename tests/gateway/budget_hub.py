"""A hub with budgets, tenants and a cache before one scripted model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from eventually import wait_until
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel

KEYS = """
[[key]]
name = "ward"
value = "sk-ward"
tenant = "ward-3"

[[key]]
name = "ward-b"
value = "sk-ward-b"
tenant = "ward-3"

[[key]]
name = "gate"
value = "sk-gate"
scopes = ["model:use:*", "tenant:site-*"]
"""


class BudgetHub:
    """Keys: `ward` and `ward-b` of the tenant `ward-3`, `gate` which may act for `site-*`, and the admin's."""

    def __init__(self, process: HubProcess, model: ScriptedModel) -> None:
        self.process, self.model = process, model
        self.client: httpx2.Client = process.client()

    def ask(self, text: str = "hi", *, key: str = "", headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """The reply to a chat completion; key: of a [[key]], else the admin's."""
        chosen = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"model": "echo-model", "messages": [{"role": "user", "content": text}], **fields}
        return self.client.post("/v1/chat/completions", json=body, headers={**chosen, **(headers or {})})

    def budgets(self, key: str = "") -> dict[tuple[str, str], Any]:
        """By budget and subject."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        reply = self.client.get("/api/budgets", headers=headers)
        assert reply.status_code == 200, reply.text
        found = reply.json()["budgets"]
        return {(entry["budget"], entry["key"] or entry["tenant"] or ""): entry for entry in found}

    def used(self, budget: str, subject: str = "", unit: str = "tokens") -> float:
        return float(self.budgets()[budget, subject][unit]["used"])

    def held(self, budget: str, subject: str = "", unit: str = "tokens") -> float:
        """What requests on their way may still use; nothing where nobody has asked yet."""
        entry = self.budgets().get((budget, subject))
        return float(entry[unit]["held"]) if entry else 0.0

    def forget_use(self) -> None:
        """Nothing is used of any budget then."""
        for name in {budget for budget, _ in self.budgets()}:
            assert self.client.post(f"/api/budgets/{name}/reset").status_code == 200

    def metric(self, sample: str) -> float:
        """The value of a sample as `/metrics` writes it, labels and all."""
        lines = self.client.get("/metrics").text.splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.rsplit(" ", 1)[0] == sample)


@contextmanager
def budget_hub(folder: Path, settings: str, *, slots: int = 16) -> Iterator[BudgetHub]:
    with ScriptedModel() as model:
        config = KEYS + settings + instance_config("a", model.url, slots=slots)
        with running_hub(folder / "data", config) as process:
            hub = BudgetHub(process, model)
            wait_until(lambda: hub.client.get("/api/pool").json()["instances"][0]["state"] == "ready")
            yield hub
            hub.client.close()
