"""`autoglm ask`: questions from everywhere, answers as they come, and honest ends."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from autoglm.cli.waiting import PATIENCE_S
from cli.terminal import autoglm, on_terminal, started
from hub import HubProcess, instance_config, running_hub
from scripted_model import (
    STREAM_HEAD,
    Request,
    ScriptedModel,
    answering,
    chunk,
    completion,
    echo,
    event,
    last_text,
    streaming,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


LAST = chunk(event(" last", "stop")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Gate:
    """A model that says "first", waits for `opened`, sends the rest, and closes the connection."""

    def __init__(self, rest: bytes = LAST) -> None:
        self.opened = threading.Event()
        self._rest = rest

    async def behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(event("first")))
        await writer.drain()
        if await asyncio.get_running_loop().run_in_executor(None, self.opened.wait, 20):
            writer.write(self._rest)
        writer.close()


class Lock:
    """A model that is silent until `opened`, and echoes then."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    async def behave(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.opened.wait, 20)
        await echo(request, reader, writer)


def read(process: subprocess.Popen[str], characters: int) -> str:
    assert process.stdout is not None
    return "".join(process.stdout.read(1) for _ in range(characters))


def test_the_answer_is_printed(model: ScriptedModel, data: Path) -> None:
    assert autoglm("ask", "What is a quorum?", data=data) == (0, "You said: What is a quorum?\n", "")


@pytest.mark.parametrize(
    ("args", "stdin", "asked"),
    [
        ((), "用一句话\n介绍你自己\n", "用一句话\n介绍你自己"),
        (("-",), "from a pipe\n", "from a pipe"),
        (("Explain:",), "+ a line\n", "Explain:\n\n+ a line"),
        (("Explain",), "", "Explain"),
    ],
)
def test_the_question_comes_from_arguments_and_pipes(
    model: ScriptedModel, data: Path, args: tuple[str, ...], stdin: str, asked: str
) -> None:
    assert autoglm("ask", *args, data=data, stdin=stdin).status == 0
    assert last_text(model.requests[-1]) == asked


@pytest.mark.parametrize("stdin", ["", " \n", b"\xff\xfe"])
def test_no_question_is_wrong_usage(stdin: str | bytes) -> None:
    finished = autoglm("ask", stdin=stdin)
    assert finished.status == 2
    assert "Error:" in finished.err


def test_an_empty_question_is_none() -> None:
    """A variable of a script that is empty; models answer that with a greeting."""
    finished = autoglm("ask", " ", stdin="")
    assert (finished.status, "there is no question" in finished.err) == (2, True)


def test_pieces_are_printed_as_they_come(model: ScriptedModel, data: Path) -> None:
    gate = Gate()
    model.behaviour = gate.behave
    with started("ask", "x", data=data) as process:
        assert read(process, 5) == "first"
        gate.opened.set()
        assert read(process, 6) == " last\n"
        assert process.wait(10) == 0


def test_json_has_the_answer_and_who_gave_it(model: ScriptedModel, data: Path) -> None:
    usage = b'data: {"choices": [], "usage": {"total_tokens": 12}}\n\n'
    model.behaviour = streaming(event("你"), event("好", "stop"), usage, b"data: [DONE]\n\n")
    finished = autoglm("ask", "hi", "--json", data=data)
    told = json.loads(finished.out)
    told.pop("decision")  # null until the hub has loaded what it has learned
    assert told == {
        "text": "你好",
        "model": "echo-model",
        "instance": "echo-1",
        "usage": {"total_tokens": 12},
        "finish_reason": "stop",
    }
    assert model.requests[-1].json()["stream_options"] == {"include_usage": True}


def test_the_whole_request_reaches_the_model(model: ScriptedModel, data: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    args = ("--system", "Be brief.", "--image", tmp_path / "a.png", "--model", "echo-model", "--no-stream")
    finished = autoglm("ask", *args, "What is this?", data=data)
    assert (finished.status, finished.out) == (0, "You said: What is this?\n")
    body = model.requests[-1].json()
    system, user = body["messages"]
    assert (body["stream"], body["model"]) == (False, "echo-model")
    assert system == {"role": "system", "content": "Be brief."}
    assert user["content"][0]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert user["content"][1] == {"type": "text", "text": "What is this?"}


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    finished = autoglm("ask", "x", "--image", tmp_path / "a.png")
    assert finished.status == 1
    assert "is no picture that models read" in finished.err


ERROR = chunk(b'data: {"error": {"message": "out of memory", "code": 500}}\n\n') + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("rest", "reason"), [(b"", "broke off"), (b"0\r\n\r\n", "finish reason"), (ERROR, "out of memory")]
)
def test_a_broken_answer_fails_with_its_reason(model: ScriptedModel, data: Path, rest: bytes, reason: str) -> None:
    """The instance dies, stops without an end, or reports an error in the middle of its answer."""
    gate = Gate(rest)
    model.behaviour = gate.behave
    with started("ask", "x", data=data) as process:
        assert read(process, 5) == "first"
        gate.opened.set()
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "\n")
    assert err.startswith("autoglm: the answer broke off: ")
    assert reason in err
    assert "Traceback" not in err


def test_an_unknown_model_is_refused(data: Path) -> None:
    finished = autoglm("ask", "x", "--model", "echo-modle", data=data)
    assert (finished.status, finished.out) == (1, "")
    assert "Did you mean 'echo-model'?" in finished.err


def test_a_wrong_key_is_told_in_the_words_of_the_command_line(hub: HubProcess) -> None:
    finished = autoglm("ask", "x", "--key", "nonsense", data=hub.data_dir)
    assert (finished.status, finished.out) == (1, "")
    assert finished.err.startswith(f"autoglm: the hub at {hub.url} does not know the key; was it copied whole? ")
    assert "console --print" in finished.err
    assert "Bearer" not in finished.err


def test_half_a_surrogate_pair_does_not_end_the_command(model: ScriptedModel, data: Path) -> None:
    model.behaviour = streaming(event("a").replace(b'"a"', b'"a\\ud83d"'), event("b", "stop"), b"data: [DONE]\n\n")
    assert autoglm("ask", "x", data=data) == (0, "a?b\n", "")


def test_thinking_without_an_answer_is_said(model: ScriptedModel, data: Path) -> None:
    model.behaviour = answering(200, completion("", reasoning_content="hm"))
    finished = autoglm("ask", "x", "--no-stream", data=data)
    assert (finished.status, finished.out) == (0, "")
    assert "only thought" in finished.err


def test_an_interrupt_is_quiet(model: ScriptedModel, data: Path) -> None:
    model.behaviour = Gate().behave
    with started("ask", "x", data=data) as process:
        read(process, 5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err.strip() == ""


def test_the_answer_is_finished_when_the_hub_is_told_to_stop(tmp_path: Path) -> None:
    gate = Gate()
    with ScriptedModel(gate.behave) as model, running_hub(tmp_path / "d", instance_config("a", model.url)) as hub:
        with started("ask", "x", data=hub.data_dir) as process:
            read(process, 5)
            stopping = threading.Thread(target=hub.stop)
            stopping.start()
            while "SIGTERM" not in hub.log():
                assert stopping.is_alive()
            gate.opened.set()
            out, err = process.communicate(timeout=20)
        stopping.join(20)
    assert (process.returncode, out, err) == (0, " last\n", "")


def test_the_terminal_says_that_the_model_is_starting(tmp_path: Path) -> None:
    """A server that takes the connection of the health probe and stays silent is not ready yet."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        config = instance_config("slow", url) + "[pool]\nprobe_timeout_s = 60\n"
        with running_hub(tmp_path / "d", config) as hub, on_terminal("ask", "x", data=hub.data_dir) as terminal:
            assert "slow is still starting" in terminal.until("the answer follows")


@pytest.mark.parametrize("options", [(), ("--no-stream",)], ids=["stream", "whole"])
def test_a_long_silence_is_explained_on_a_terminal(model: ScriptedModel, data: Path, options: tuple[str, ...]) -> None:
    lock = Lock()
    model.behaviour = lock.behave
    with on_terminal("ask", "x", *options, data=data) as terminal:
        terminal.until("waiting for a model (see: ")
        lock.opened.set()
        assert terminal.end() == 0
    _, _, behind = terminal.shown.partition("waiting for a model (see: ")
    assert behind.endswith("\r\x1b[KYou said: x\n"), "the line makes room for the answer"


def test_a_long_silence_stays_one_for_programs(model: ScriptedModel, data: Path) -> None:
    lock = Lock()
    model.behaviour = lock.behave
    threading.Timer(PATIENCE_S + 1, lock.opened.set).start()
    with on_terminal("ask", "x", "--json", data=data) as terminal, started("ask", "x", data=data) as piped:
        assert terminal.end() == 0
        assert piped.communicate(timeout=20) == ("You said: x\n", "")
    assert json.loads(terminal.shown)["text"] == "You said: x"


def test_control_characters_reach_pipes_but_no_terminal(model: ScriptedModel, data: Path) -> None:
    model.behaviour = streaming(event("\x1b]0;gotcha\x07text", "stop"), b"data: [DONE]\n\n")
    assert autoglm("ask", "x", data=data).out == "\x1b]0;gotcha\x07text\n"
    with on_terminal("ask", "x", data=data) as terminal:
        assert terminal.end() == 0
    assert "�]0;gotcha�text" in terminal.shown


def test_a_terminal_can_be_typed_into(model: ScriptedModel, data: Path) -> None:
    with on_terminal("ask", data=data) as terminal:
        terminal.until("Type your question")
        terminal.type("typed\n\x04")
        assert terminal.end() == 0
    assert "You said: typed" in terminal.shown


def test_asking_loads_nothing_heavy() -> None:
    """What takes long to import stays out of the way of the first word."""
    heavy = "pydantic msgspec anyio structlog uvicorn starlette aiohttp autoglm.app autoglm.settings"
    code = f"import sys, autoglm.cli.ask, autoglm.client; print([n for n in {heavy.split()} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
