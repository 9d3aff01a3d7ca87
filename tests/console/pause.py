"""A model that stops in the middle of its answer until the test lets it go on."""

import asyncio
import threading

from scripted_model import STREAM_HEAD, Request, chunk, event

FIRST_HALF = "This is the first half,"
SECOND_HALF = " and this is the second."


class Pause:
    """A behaviour for a ScriptedModel: every answer is FIRST_HALF, a pause until `go_on`, and SECOND_HALF."""

    def __init__(self) -> None:
        self._go_on = threading.Event()  # the model answers from a thread of its own

    def go_on(self) -> None:
        self._go_on.set()

    async def answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event(FIRST_HALF)))
        await writer.drain()
        await asyncio.to_thread(self._go_on.wait)
        writer.write(chunk(event(SECOND_HALF)) + chunk(event(None, "stop")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
