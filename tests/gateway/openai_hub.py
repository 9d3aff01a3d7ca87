"""A hub before two scripted models, and clients that speak HTTP byte by byte, for the suites of /v1."""

import http.client
import io
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from eventually import wait_until
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel, echo

SETTINGS = """
[scheduler]
max_queue = 2
max_wait_s = 5.0

[[model]]
name = "talker"
strip = ["<think>...</think>", "<|begin_of_box|>", "</answer>"]

[[key]]
name = "robot"
value = "sk-robot"
scopes = ["model:use:echo-*"]

[[key]]
name = "hasty"
value = "sk-hasty"
scopes = ["model:use:*"]
rate_per_minute = 60
"""
MODELS = ("echo-model", "solo", "talker")


class OpenAIHub:
    """`a` serves all models, with one slot; `b` echo-model only."""

    def __init__(self, process: HubProcess, a: ScriptedModel, b: ScriptedModel) -> None:
        self.process, self.a, self.b = process, a, b
        self.client: httpx2.Client = process.client()

    def reset(self) -> None:
        for model in (self.a, self.b):
            model.behaviour = echo
            model.requests.clear()
        for name in ("a", "b"):
            assert self.client.post(f"/api/pool/{name}/resume").status_code == 200

    def ask(self, text: str = "hi", model: str = "echo-model", **fields: Any) -> httpx2.Response:
        headers = fields.pop("headers", {})
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)

    def events(self, reply: httpx2.Response) -> list[str]:
        """The data of a stream's events."""
        assert reply.headers["content-type"].startswith("text/event-stream"), reply.text
        return [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]

    def instance(self, name: str = "a") -> dict[str, Any]:
        found = self.client.get("/api/pool").json()["instances"]
        return next(entry for entry in found if entry["name"] == name)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        total = 0.0
        for line in self.client.get("/metrics").text.splitlines():
            found = re.fullmatch(rf"{name}(\{{.*\}})? (\S+)", line)
            if found and all(f'{label}="{value}"' in (found[1] or "") for label, value in labels.items()):
                total += float(found[2])
        return total

    def connect(self) -> "Wire":
        return Wire(socket.create_connection(("127.0.0.1", self.process.port), timeout=20), self.process.admin_key)


class _Shared(io.BufferedReader):
    """http.client closes the file of each response; the next response comes from the same one."""

    def close(self) -> None:
        pass


class Wire:
    """One connection, written byte by byte; responses are read in order."""

    def __init__(self, connection: socket.socket, key: str) -> None:
        self.socket = connection
        self._key = key
        self._file = _Shared(socket.SocketIO(connection, "rb"))

    def makefile(self, _: str) -> io.BufferedReader:
        return self._file

    def head(self, *, path: str = "/v1/chat/completions", **headers: str | int) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self._key}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def ask(self, body: dict[str, Any], *, path: str = "/v1/chat/completions", **headers: str) -> None:
        data = json.dumps(body).encode()
        self.socket.sendall(self.head(path=path, Content_Length=len(data), **headers) + data)

    def response(self) -> http.client.HTTPResponse:
        """The next response, its head read."""
        response = http.client.HTTPResponse(self)  # type: ignore[arg-type]  # all it wants is makefile
        response.begin()
        return response

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def chat(text: str = "hi", model: str = "solo", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


@contextmanager
def openai_hub(folder: Path, settings: str = SETTINGS) -> Iterator[OpenAIHub]:
    with ScriptedModel(models=MODELS) as a, ScriptedModel() as b:
        config = settings + instance_config("a", a.url, MODELS, slots=1) + instance_config("b", b.url)
        with running_hub(folder / "data", config) as process:
            hub = OpenAIHub(process, a, b)
            wait_until(lambda: all(hub.instance(name)["state"] == "ready" for name in ("a", "b")))
            yield hub
            hub.client.close()
