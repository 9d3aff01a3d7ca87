"""The common part of the fakes of vendors: a strict HTTP server that answers as told, and can misbehave."""

import asyncio
from collections import deque
from typing import Literal, Self, get_args

from scripted_model import Request, ScriptedModel, response

Fault = Literal[
    "throttled",
    "transient",
    "auth",
    "permanent",
    "server_error",
    "bad_gateway",
    "silent",
    "cut",
    "garbage",
    "empty_json",
]
"""throttled ... permanent: the vendor's own refusal of that class, in its own form. server_error: HTTP 503 of a proxy.
bad_gateway: the request is processed, and a proxy that did not get the answer says HTTP 502. silent, cut: processed,
and no answer goes out. garbage: processed, and the answer is no vendor's. empty_json: as
garbage, but `{}`, which a portal or a proxy may say."""
HTTP_FAULTS: tuple[Fault, ...] = get_args(Fault)
"""What a vendor that speaks HTTP can do: all of them."""


class Vendor:
    """`with Fake() as vendor:` listens at `vendor.url`. `vendor.faults` has what happens to the next requests."""

    def __init__(self, *, port: int = 0) -> None:
        """port: where one listens that was stopped and comes back."""
        self.faults: deque[Fault] = deque()
        self._server = ScriptedModel(self._behave, port=port)
        self._server.answer_to_get = self._get  # type: ignore[method-assign]  # a vendor's GETs are its own

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """All POSTs that came."""
        return self._server.requests

    def take(self, request: Request) -> bytes:
        """Check a request as the vendor does and give the answer's bytes (`scripted_model.response`)."""
        raise NotImplementedError

    def refuse(self, fault: Fault) -> bytes:
        """The vendor's answer for throttled, transient, auth and permanent."""
        raise NotImplementedError

    def _get(self, request: Request) -> bytes:
        return self.take(request)

    async def _behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = self.faults.popleft() if self.faults else None
        match fault:
            case None:
                writer.write(self.take(request))
            case "throttled" | "transient" | "auth" | "permanent":
                writer.write(self.refuse(fault))
            case "server_error":
                writer.write(b"HTTP/1.1 503 X\r\nContent-Length: 4\r\nContent-Type: text/html\r\n\r\nbad!")
            case "bad_gateway":
                self.take(request)
                writer.write(b"HTTP/1.1 502 X\r\nContent-Length: 4\r\nContent-Type: text/html\r\n\r\nbad!")
            case "garbage":
                self.take(request)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Type: text/html\r\n\r\n<html>no!")
            case "empty_json":
                self.take(request)
                writer.write(response(200, {}))
            case "silent":
                self.take(request)
                await reader.read()
            case "cut":
                self.take(request)
                writer.transport.abort()

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
