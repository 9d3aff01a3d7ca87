"""How a message looks in a terminal."""

import json
import sys
from typing import Any

from autoglm.cli.screen import harmless, local_time


def letter(message: dict[str, Any]) -> str:
    """A head line and the indented content."""
    head = f"{message.get('seq', '-')}  {local_time(message['timestamp'])}  {message['from']} -> {message['to']}"
    marks = [f"id {message['id']}"]
    if message.get("kind", "chat") != "chat":
        marks.append(message["kind"])
    if message.get("priority", 5) != 5:
        marks.append(f"priority {message['priority']}")
    if "reply_to" in message:
        marks.append(f"answers {message['reply_to']}")
    if "thread" in message:
        marks.append(f"thread {message['thread']}")
    marks += [f"{name}={value}" for name, value in message.get("labels", {}).items()]
    content = message["content"]
    if message["from"].startswith("model:"):
        content = _words_of_completion(content) or content
    text = "\n".join(f"    {line}" for line in content_text(content).split("\n"))
    return shown(f"{head}  ({', '.join(marks)})\n{text}")


def _words_of_completion(content: str | list[dict[str, Any]]) -> str:
    """Of the chat completion that a task is answered with; empty when there is more to it, such as tool calls."""
    match content:
        case [{"json": {"choices": [{"message": {"content": str() as words, **rest}}]}}] if not rest.get("tool_calls"):
            return words
        case _:
            return ""


def content_text(content: str | list[dict[str, Any]]) -> str:
    """The text of a message; a line in brackets for each part that is none."""
    if isinstance(content, str):
        return content
    return "\n".join(_part_text(part) for part in content)


def _part_text(part: dict[str, Any]) -> str:
    match part:
        case {"type": "text", "text": str() as text}:
            return text
        case {"type": "json", "json": value}:
            return json.dumps(value, ensure_ascii=False)
        case {"type": "image_url", "image_url": {"url": str() as url}}:
            return "[picture]" if url.startswith("data:") else f"[picture {url}]"
        case {"type": "file", "file": dict() as file}:
            return f"[file {file.get('filename') or file.get('file_id') or ''}]".replace(" ]", "]")
        case _:
            return f"[{part.get('type', 'part')}]"


def shown(text: str) -> str:
    """Text of strangers as it goes to standard output: harmless on a terminal, untouched in a pipe."""
    return harmless(text) if sys.stdout.isatty() else text
