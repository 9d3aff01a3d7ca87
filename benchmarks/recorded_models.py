"""A model server that repeats the recorded answers of `answers.py`, so that a hub can be tried without the models.

It takes for each answer the processor time that the model took, times `pace`, and speaks HTTP/1.1 from one thread with
an event loop of its own.
"""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from benchmarks.answers import Answer, Table
from benchmarks.tasks.task import Task

_HEAD_LIMIT_BYTES = 64 << 10


@contextmanager
def recorded_models(tasks: Iterable[Task], table: Table, pace: float) -> Iterator[str]:
    """Gives its address, up to and with /v1."""
    prompts = {task.prompt: task.id for task in tasks}
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="recorded models", daemon=True)
    thread.start()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length_of(head))
                if head.startswith(b"POST /v1/chat/completions "):
                    request = msgspec.json.decode(body)
                    answer = table[prompts[request["messages"][-1]["content"]], request["model"]]
                    await asyncio.sleep(answer.cpu_s * pace)
                    writer.write(_response(_completion(answer)))
                else:  # health probes, and what models there are
                    writer.write(_response({"object": "list", "data": []}))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, limit=_HEAD_LIMIT_BYTES)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10.0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result(10.0)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10.0)
        loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _completion(answer: Answer) -> dict[str, Any]:
    finish = "length" if answer.is_cut_off else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": answer.model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": answer.reply}, "finish_reason": finish},
        ],
        "usage": {
            "prompt_tokens": answer.tokens_in,
            "completion_tokens": answer.tokens_out,
            "total_tokens": answer.tokens_in + answer.tokens_out,
        },
    }


def _response(document: dict[str, Any]) -> bytes:
    body = msgspec.json.encode(document)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _length_of(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
