"""`autoglm send` and `autoglm inbox`: messages out, messages in, and what became of them."""

import json
import signal
import uuid
from pathlib import Path

import pytest

from cli.terminal import autoglm, on_terminal, started
from hub import HubProcess, instance_config, running_hub
from scripted_model import ScriptedModel, answering


def fresh_address() -> str:
    return f"user:{uuid.uuid4()}"


def test_what_is_sent_can_be_read(data: Path) -> None:
    to = fresh_address()
    options = ("--priority", "9", "--label", "line=3", "--label", "a=b=c", "--kind", "alert", "--thread", "t1")
    sent = json.loads(autoglm("send", to, "冲床停机了。", *options, "--id", f"id-{to}", "--json", data=data).out)
    [line] = autoglm("inbox", to, "--json", data=data).out.splitlines()
    message = json.loads(line)
    assert sent == {"id": f"id-{to}", "seq": message["seq"]}
    assert (message["from"], message["content"], message["priority"]) == ("user:admin", "冲床停机了。", 9)
    assert (message["labels"], message["kind"], message["thread"]) == ({"line": "3", "a": "b=c"}, "alert", "t1")


def test_the_text_comes_from_a_pipe(data: Path) -> None:
    to = fresh_address()
    assert autoglm("send", to, "-", stdin="two\nlines\n", data=data).status == 0
    assert json.loads(autoglm("inbox", to, "--json", data=data).out)["content"] == "two\nlines"


def test_the_same_id_is_stored_once(data: Path) -> None:
    to = fresh_address()
    first, second = (autoglm("send", to, "x", "--id", f"id-{to}", data=data) for _ in range(2))
    assert (first.status, first.out) == (second.status, second.out)
    assert len(autoglm("inbox", to, "--json", data=data).out.splitlines()) == 1
    assert "choose a new id" in autoglm("send", to, "y", "--id", f"id-{to}", data=data).err


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (("alice", "x"), 1, "did you mean 'user:alice'?"),
        (("user:a", "x", "--expires-in", "soon"), 2, "10m"),
        (("user:a", "x", "--label", "none"), 2, "line=3"),
        (("user:a", "x", "--priority", "10"), 2, "0<=x<=9"),
        (("user:a",), 2, "standard input is empty"),
        (("channel:wecom/ops", "x"), 1, "no channel 'wecom'"),
        (("user:a", b"\xff".decode(errors="surrogateescape")), 2, "no UTF-8"),
    ],
)
def test_wrong_messages_are_refused(data: Path, args: tuple[str, ...], status: int, words: str) -> None:
    finished = autoglm("send", *args, data=data)
    assert (finished.status, finished.out) == (status, "")
    assert words in finished.err


def test_waiting_for_a_model_prints_its_answer(model: ScriptedModel, data: Path) -> None:
    finished = autoglm("send", "model:auto", "What is a quorum?", "--wait", data=data)
    assert (finished.status, finished.out) == (0, "You said: What is a quorum?\n")
    answer = json.loads(autoglm("send", "model:echo-model", "x", "--wait", "--json", data=data).out)
    assert answer["from"] == "model:echo-model"


def test_waiting_for_a_model_that_refuses_fails(model: ScriptedModel, data: Path) -> None:
    model.behaviour = answering(400, {"error": {"message": "too rude", "code": "rude"}})
    finished = autoglm("send", "model:echo-model", "x", "--wait", data=data)
    assert finished.status == 1
    assert "failed" in finished.err
    assert "too rude" in finished.err


def test_waiting_for_a_person_ends_with_the_acknowledgement(hub: HubProcess, data: Path) -> None:
    to = fresh_address()
    with started("send", to, "x", "--wait", data=data) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("accepted ")
        assert autoglm("inbox", to, "--ack", data=data).status == 0
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, f"acknowledged by {to}\n")


def test_a_question_waits_for_one_of_its_answers(hub: HubProcess, data: Path) -> None:
    to = fresh_address()
    with started("send", to, "Stop?", "--choice", "yes", "--choice", "no", "--wait", data=data) as process:
        assert process.stderr is not None
        id = process.stderr.readline().split()[1]
        assert autoglm("inbox", to, "--ack", data=data).status == 0
        assert autoglm("send", "user:admin", "2", "--reply-to", id, "--from", to, data=data).status == 0
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "no\n")


def test_a_question_that_nobody_answers_fails(data: Path) -> None:
    options = ("--choice", "yes", "--wait", "--expires-in", "1s", "--json")
    finished = autoglm("send", fresh_address(), "Stop?", *options, data=data)
    assert (finished.status, json.loads(finished.out)["state"]) == (1, "expired")
    assert "nobody answered the question" in finished.err


@pytest.mark.parametrize(
    ("options", "way_out"),
    [
        ((), "whose answer this command waits for: add --wait"),
        (("--wait", "--kind", "alert"), "which has no --kind: leave that out"),
        (("--wait", "--thread", "t", "--reply-to", "m"), "which has no --reply-to, --thread: leave that out"),
    ],
)
def test_what_makes_no_question_is_wrong_usage(data: Path, options: tuple[str, ...], way_out: str) -> None:
    finished = autoglm("send", "user:a", "Stop?", "--choice", "yes", *options, data=data)
    assert (finished.status, finished.out) == (2, "")
    assert way_out in " ".join(finished.err.split())


def test_waiting_ends_when_the_message_expires(data: Path) -> None:
    finished = autoglm("send", fresh_address(), "x", "--wait", "--expires-in", "2s", data=data)
    assert finished.status == 1
    assert "expired before anybody took it" in finished.err


def test_a_reader_gets_each_message_once(data: Path) -> None:
    to = fresh_address()
    sent = json.loads(autoglm("send", to, "one", "--json", data=data).out)
    first, second = (autoglm("inbox", to, "--reader", "phone", "--json", data=data) for _ in range(2))
    assert json.loads(first.out)["content"] == "one"
    assert second == (0, "", "")
    autoglm("send", to, "two", data=data)
    assert json.loads(autoglm("inbox", to, "--reader", "phone", "--json", data=data).out)["content"] == "two"
    after = autoglm("inbox", to, "--after", str(sent["seq"]), "--json", data=data)
    assert json.loads(after.out)["content"] == "two"


def test_a_message_is_easy_to_read(data: Path) -> None:
    to = fresh_address()
    autoglm("send", to, "line 1\nline 2", "--id", f"m-{to}", "--reply-to", "m-1", data=data)
    head, *lines = autoglm("inbox", to, data=data).out.splitlines()
    assert lines == ["    line 1", "    line 2"]
    assert f"user:admin -> {to}  (id m-{to}, answers m-1)" in head


def test_the_answer_to_a_task_is_read_as_its_words(hub: HubProcess, data: Path) -> None:
    request = {"model": "auto", "messages": [{"role": "user", "content": "count the beds"}]}
    with hub.client() as client:
        seq = client.post("/api/tasks", json={"request": request, "id": "beds"}).raise_for_status().json()["seq"]
        assert client.get("/api/tasks/beds", params={"wait": 20}).json()["state"] == "done"
    printed = autoglm("inbox", "--after", str(seq), data=data).out
    assert "\n    You said: count the beds\n" in printed
    assert "choices" not in printed
    [line] = autoglm("inbox", "--after", str(seq), "--json", data=data).out.splitlines()
    assert "choices" in json.loads(line)["content"][0]["json"]


def test_following_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Each message is printed once, whatever happens to the hub in between; --ack works on the way."""
    with ScriptedModel() as model, running_hub(tmp_path / "d", instance_config("a", model.url)) as hub:
        data = hub.data_dir
        with started("inbox", "user:x", "--follow", "--ack", "--json", data=data) as process:
            assert process.stdout is not None
            for round_ in range(2):
                assert autoglm("send", "user:x", f"message {round_}", "--id", f"m{round_}", data=data).status == 0
                assert json.loads(process.stdout.readline())["content"] == f"message {round_}"
                hub.kill()
                hub.start()
            assert autoglm("send", "user:x", "last", "--id", "m2", data=data).status == 0
            assert json.loads(process.stdout.readline())["content"] == "last"
            process.send_signal(signal.SIGINT)
            rest, err = process.communicate(timeout=10)
        assert (process.returncode, rest) == (130, "")
        assert "trying again" in err
        assert "Traceback" not in err


def test_following_as_a_reader_prints_what_comes(data: Path) -> None:
    to = fresh_address()
    with started("inbox", to, "--follow", "--reader", "r", "--json", data=data) as process:
        assert process.stdout is not None
        autoglm("send", to, "one", data=data)
        assert json.loads(process.stdout.readline())["content"] == "one"


def test_strangers_cannot_steer_the_terminal(data: Path) -> None:
    to = fresh_address()
    autoglm("send", to, "a\x1b[2Jb\u202ec", data=data)
    with on_terminal("inbox", to, data=data) as terminal:
        assert terminal.end() == 0
    assert "a\ufffd[2Jb\ufffdc" in terminal.shown


def test_a_reader_that_leaves_early_is_no_error(data: Path) -> None:
    """`autoglm inbox | head -1`"""
    to = fresh_address()
    autoglm("send", to, "-", stdin="x" * 200_000, data=data)
    with started("inbox", to, "--json", data=data) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        process.wait(20)
        assert process.stderr is not None
        assert process.stderr.read() == ""
