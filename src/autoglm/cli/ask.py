"""`autoglm ask`: put a question to a model and print the answer as it is written."""

import base64
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoglm.cli.options import HubChoice, hub_options, json_option
from autoglm.cli.pipe import is_terminal, piped_text
from autoglm.cli.screen import harmless
from autoglm.cli.waiting import waiting_line
from autoglm.invocation import command

if TYPE_CHECKING:
    from autoglm.client import Answer, Client

_IMAGE_TYPES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"BM": "bmp"}


@click.command()
@click.argument("text", required=False)
@click.option("-m", "--model", default="auto", show_default=True, help="Model; auto lets the hub choose.")
@click.option("-s", "--system", help="What the model shall keep in mind, said before the question.")
@click.option(
    "-i", "--image", "images", multiple=True, type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A picture to go with the question; may be repeated.",
)  # fmt: skip
@click.option(
    "--prefer", type=click.Choice(("fast", "balanced", "best", "cheap")),
    help="What matters when the hub chooses the model.",
)  # fmt: skip
@click.option("--no-stream", is_flag=True, help="Print nothing before the whole answer is there.")
@hub_options
@json_option
def ask(
    *, text: str | None, model: str, system: str | None, images: tuple[Path, ...], prefer: str | None, no_stream: bool,
    hub: HubChoice,
    as_json: bool,
) -> None:  # fmt: skip
    """Ask a model. TEXT is read from standard input when it is absent or '-'; what is piped in is added to a TEXT.

    \b
    Example:
      autoglm ask "用一句话介绍你自己"
      git diff | autoglm ask "Write a commit message for this change."
      autoglm ask --image press.jpg --model glm-4.5v "What is wrong here?"
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": _content(_question(text), images)})
    body: dict[str, Any] = {}
    if as_json and not no_stream:
        body["stream_options"] = {"include_usage": True}
    with hub.client() as client:
        _tell_start(client)
        question = partial(client.ask, messages, model=model, prefer=prefer, stream=not no_stream, **body)
        with _begun(question, hub, as_json) as answer:
            if as_json:
                answer.read()
                click.echo(json.dumps(_as_object(answer), ensure_ascii=False))
            else:
                _print(answer)


def _begun(ask: Callable[[], "Answer"], hub: HubChoice, as_json: bool) -> "Answer":
    """The answer, once it begins; who waits for long at a terminal is told for what."""
    if as_json:
        return ask()
    with waiting_line(f"waiting for a model (see: {command('pool', hub.folder)})"):
        return ask()


def _question(text: str | None) -> str:
    if text not in (None, "-"):
        piped = "" if is_terminal() else piped_text().strip("\n")
        question = f"{text}\n\n{piped}" if piped else str(text)
    else:
        if is_terminal():
            click.echo("Type your question; Ctrl-D on a line of its own ends it.", err=True)
        question = piped_text().strip()
    if not question.strip():
        raise click.UsageError("there is no question: give a TEXT, or pipe one in")
    return question


def _content(question: str, images: tuple[Path, ...]) -> str | list[dict[str, Any]]:
    if not images:
        return question
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(path)}} for path in images]
    return [*parts, {"type": "text", "text": question}]


def _data_url(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from None
    kind = next((kind for start, kind in _IMAGE_TYPES.items() if content.startswith(start)), None)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "webp"
    if kind is None:
        raise click.ClickException(f"{path} is no picture that models read: PNG, JPEG, GIF, WebP or BMP")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _tell_start(client: "Client") -> None:
    """On a terminal, say why nothing happens yet when the models are still starting, or start for this question."""
    if not sys.stderr.isatty():
        return
    instances = client.pool()
    starting = [instance["name"] for instance in instances if instance["state"] in ("starting", "idle")]
    if starting and not any(instance["state"] in ("ready", "asleep") for instance in instances):
        click.echo(f"{', '.join(starting)} is still starting; the answer follows.", err=True)


def _print(answer: "Answer") -> None:
    clean = harmless if sys.stdout.isatty() else str
    try:
        for piece in answer:
            sys.stdout.write(clean(piece))
            sys.stdout.flush()
    finally:
        if answer.text and not answer.text.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()
    if not answer.text and answer.reasoning:
        click.echo("The model only thought and gave no answer; allow it more tokens, or ask another one.", err=True)
    if answer.finish_reason == "length":
        click.echo("The answer was cut: the model's room is used up.", err=True)


def _as_object(answer: "Answer") -> dict[str, Any]:
    return {
        "text": answer.text,
        "model": answer.model,
        "instance": answer.instance,
        "decision": answer.decision or None,
        "usage": answer.usage,
        "finish_reason": answer.finish_reason,
        **({"reasoning": answer.reasoning} if answer.reasoning else {}),
    }
