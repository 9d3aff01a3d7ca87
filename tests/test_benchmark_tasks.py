"""The tasks of the routing benchmark and what grades their replies."""

import ast
import json
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # the benchmarks are no part of the package

from benchmarks.tasks.grading import code_of, is_choice, is_exact, is_json, is_match, is_number, score, unfenced
from benchmarks.tasks.sandbox import confinement, holds, run_confined
from benchmarks.tasks.task import (
    ByChoice,
    ByExact,
    ByJson,
    ByNumber,
    ByPython,
    Kind,
    Task,
    TaskLanguage,
    halves,
    load_tasks,
)

TASKS = load_tasks()
GROUPS = list(product(get_args(Kind), get_args(TaskLanguage)))
needs_namespaces = pytest.mark.skipif(
    "namespaces" not in confinement(), reason="the kernel gives no user namespaces here, so files and network stay"
)


def test_there_are_enough_tasks_of_each_kind_in_both_languages() -> None:
    sizes = Counter((task.kind, task.language) for task in TASKS)
    assert len(TASKS) >= 420
    assert set(sizes) == set(GROUPS)
    assert max(sizes.values()) - min(sizes.values()) <= 4


def test_no_task_is_there_twice() -> None:
    assert len({task.id for task in TASKS}) == len(TASKS)
    assert len({task.prompt for task in TASKS}) == len(TASKS)


def test_a_chinese_task_is_written_in_chinese() -> None:
    for task in TASKS:
        has_chinese = any("\u4e00" <= letter <= "\u9fff" for letter in task.prompt)
        assert has_chinese == (task.language == "zh"), task.id


def test_halves_share_no_task_and_weigh_each_kind_and_language_alike() -> None:
    learn, measure = halves(TASKS)
    assert not {task.id for task in learn} & {task.id for task in measure}
    assert len(learn) + len(measure) == len(TASKS)
    for half in (learn, measure):
        sizes = Counter((task.kind, task.language) for task in half)
        assert {sizes[group] for group in GROUPS} == {len(half) // len(GROUPS)}


def test_halves_do_not_depend_on_the_order_of_the_files() -> None:
    assert halves(TASKS) == halves(reversed(TASKS))
    assert halves(TASKS, seed=1) != halves(TASKS, seed=2)


@pytest.mark.parametrize("task", [task for task in TASKS if isinstance(task.grade, ByNumber)], ids=lambda task: task.id)
def test_an_arithmetic_answer_is_what_its_working_gives(task: Task) -> None:
    assert isinstance(task.grade, ByNumber)
    assert eval(task.grade.working) == task.grade.answer  # our own text


@pytest.mark.parametrize(
    "task", [task for task in TASKS if isinstance(task.grade, ByChoice | ByExact | ByJson)], ids=lambda task: task.id
)
def test_the_wanted_answer_gets_the_point_and_a_shrug_does_not(task: Task) -> None:
    match task.grade:
        case ByChoice(answer=answer) | ByJson(answer=answer) | ByExact(answers=(answer, *_)):
            assert score(task, answer) == 1.0
            assert score(task, "I do not know / 我不知道") == 0.0


def test_each_code_task_names_its_function_and_compares_with_literals() -> None:
    for task in TASKS:
        if isinstance(task.grade, ByPython):
            assert len(task.grade.tests) >= 2
            for test in task.grade.tests:
                compared = ast.parse(test, mode="eval").body
                assert isinstance(compared, ast.Compare)
                ast.literal_eval(compared.comparators[0])
                called = {node.func.id for node in ast.walk(compared.left) if isinstance(node, ast.Call)
                          and isinstance(node.func, ast.Name)} - {"list", "tuple"}  # fmt: skip
                assert all(f"{name}(" in task.prompt for name in called), task.id


@pytest.mark.parametrize(
    ("reply", "is_right"),
    [
        ("1234", True),
        ("1,234.", True),
        ("\uff11\uff12\uff13\uff14。", True),
        ("**1234**", True),
        ("$1234.00", True),
        ("1000 + 234 = 1234", True),
        ("答案是1234。", True),
        ("1235", False),
        ("-1234", False),
        ("1234 and then 5", False),
        ("12345", False),
        ("one thousand", False),
        ("", False),
    ],
)
def test_the_last_number_of_a_reply_counts(reply: str, is_right: bool) -> None:
    assert is_number(reply, 1234) is is_right


def test_a_negative_number_keeps_its_sign() -> None:
    assert is_number("The result is \u22125.", -5)
    assert not is_number("5", -5)


@pytest.mark.parametrize(
    ("reply", "answer", "among", "is_right"),
    [
        ("Positive", "positive", ("positive", "negative"), True),
        ("The sentiment is positive.", "positive", ("positive", "negative"), True),
        ("positive or negative", "positive", ("positive", "negative"), False),
        ("negative", "positive", ("positive", "negative"), False),
        ("positively", "positive", ("positive", "negative"), False),
        ("B. Mercury", "B", ("A", "B", "C", "D"), True),
        ("(B)", "B", ("A", "B", "C", "D"), True),
        ("\uff22", "B", ("A", "B", "C", "D"), True),
        ("It is a cat, so B", "B", ("A", "B", "C", "D"), True),
        ("A or B", "B", ("A", "B", "C", "D"), False),
        ("答案：负面。", "负面", ("正面", "负面"), True),
        ("不能", "能", ("能", "不能"), False),
        ("不能。", "不能", ("能", "不能"), True),
        ("", "yes", ("yes", "no"), False),
    ],
)
def test_a_choice_is_right_when_the_reply_names_it_alone(
    reply: str, answer: str, among: tuple[str, ...], is_right: bool
) -> None:
    assert is_choice(reply, answer, among) is is_right


@pytest.mark.parametrize(
    ("reply", "is_right"),
    [
        ("ready", True),
        (" Ready.\n", True),
        ('"ready"', True),
        ("“ready”。", True),
        ("```\nready\n```", True),
        ("\uff52\uff45\uff41\uff44\uff59", True),
        ("ready now", False),
        ("I am ready", False),
        ("", False),
    ],
)
def test_an_exact_word_may_be_wrapped_but_not_accompanied(reply: str, is_right: bool) -> None:
    assert is_exact(reply, ("ready",)) is is_right


def test_case_counts_where_the_task_says_so() -> None:
    assert is_exact("ENGINE", ("ENGINE",), is_case_sensitive=True)
    assert not is_exact("Engine", ("ENGINE",), is_case_sensitive=True)
    assert is_exact("**important**", ("**important**",))
    assert not is_exact("important", ("**important**",))


@pytest.mark.parametrize(
    ("reply", "is_right"),
    [("1, 2, 3", True), ("1，2，3。", True), ("```text\n1,2,3\n```", True), ("1 2 3", False), ("Sure: 1, 2, 3", False)],
)
def test_a_pattern_must_match_the_whole_reply(reply: str, is_right: bool) -> None:
    assert is_match(reply, r"1\s*,\s*2\s*,\s*3") is is_right


@pytest.mark.parametrize(
    ("reply", "is_right"),
    [
        ('{"name": "Maria", "age": 31}', True),
        ('```json\n{"age": 31.0, "name": " maria "}\n```', True),
        ('{"name": "Maria Stone", "age": 31}', True),
        ('{"name": "Maria", "age": "31"}', False),
        ('{"name": "Maria"}', False),
        ('{"name": "Maria", "age": 31, "city": null}', False),
        ('{"name": "Maria", "age": true}', False),
        ('Here it is: {"name": "Maria", "age": 31}', False),
        ('{"name": "Maria", "age": 31', False),
        ("{'name': 'Maria', 'age': 31}", False),
        ("[" * 100_000, False),
        ("", False),
    ],
)
def test_json_is_compared_key_by_key_with_its_types(reply: str, is_right: bool) -> None:
    assert is_json(reply, {"name": "Maria", "age": 31}, {"name": ("Maria Stone",)}) is is_right


def test_lists_nested_objects_booleans_and_null_are_compared_in_depth() -> None:
    wanted = json.loads('{"a": {"b": ["x", 1]}, "c": null, "d": true}')
    assert is_json('{"a": {"b": ["X", 1]}, "c": null, "d": true}', wanted)
    assert is_json('{"a": {"b": ["y", 1]}, "c": null, "d": true}', wanted, {"a.b": ("y",)})
    assert not is_json('{"a": {"b": [1, "X"]}, "c": null, "d": true}', wanted)
    assert not is_json('{"a": {"b": ["X", 1]}, "c": "null", "d": true}', wanted)
    assert not is_json('{"a": {"b": ["X", 1]}, "c": null, "d": 1}', wanted)
    assert not is_json('{"a": [], "c": null, "d": true}', wanted)
    assert not is_json('{"a": {"b": ["X", 1]}, "c": null, "d": true}', wanted, is_case_sensitive=True)


def test_code_is_taken_out_of_a_fence_even_when_it_was_cut_off() -> None:
    assert code_of("Sure!\n```python\nx = 1\n```\nDone.\n```\nx = 2\n```") == "x = 1"
    assert code_of("```\nx = 1\ny =") == "x = 1\ny ="
    assert code_of("x = 1") == "x = 1"


def test_only_a_fence_around_the_whole_reply_is_taken_off() -> None:
    assert unfenced("```json\n[1]\n```\n") == "[1]"
    assert unfenced("See:\n```json\n[1]\n```").startswith("See:")
    assert unfenced("```json\n[1]").startswith("```")


@pytest.mark.parametrize(
    ("code", "is_right"),
    [
        ("def add(a, b):\n    return a + b", True),
        ("import math\nadd = lambda a, b: math.fsum([a, b])", True),
        ("def add(a, b):\n    print('working')\n    return a + b\nprint(add(1, 1))", True),
        ("def add(a, b):\n    return a - b", False),
        ("def add(a, b):\n    return str(a + b)", False),
        ("def plus(a, b):\n    return a + b", False),
        ("def add(a, b)\n    return a + b", False),
        ("", False),
    ],
)
def test_code_is_right_when_each_test_holds(code: str, is_right: bool) -> None:
    assert holds(code, ["add(2, 3) == 5", "add(-1, 1) == 0"]) is is_right


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos._exit(0)",
        "raise SystemExit(0)",
        'import os\nos.write(1, b\'{"values": ["5"]}\')\nos._exit(0)',
        "class Any:\n    def __eq__(self, other): return True\n    def __repr__(self): return 'Any()'\n"
        "def add(a, b): return Any()",
        "def add(a, b): return '5'",
    ],
)
def test_code_cannot_claim_to_have_passed(code: str) -> None:
    """It gets the calls but not the wanted values, and what it answers is read as text."""
    assert not holds(code, ["add(2, 3) == 5", "add(20, 3) == 23"])


def test_code_that_never_ends_is_stopped_and_scores_nothing() -> None:
    assert not holds("while True:\n    pass", ["1 == 1"])
    assert not holds("import threading\nthreading.Event().wait()", ["1 == 1"])


def test_code_gets_so_much_memory_and_no_more() -> None:
    assert run_confined("data = bytes(1 << 20)", ["len(data)"]) == [str(1 << 20)]
    assert run_confined("data = bytes(1 << 29)", ["len(data)"]) is None


def test_code_starts_no_process_and_no_thread() -> None:
    assert run_confined("import os\npid = os.fork()", ["pid"]) is None
    thread = "import _thread\n_thread.start_new_thread(print, ())"
    assert run_confined(thread, ["1"]) is None


def test_code_learns_nothing_of_the_environment() -> None:
    values = run_confined("import os", ["sorted(os.environ)"])
    assert values is not None
    assert set(ast.literal_eval(values[0])) <= {"PYTHONHASHSEED", "LC_CTYPE"}


@needs_namespaces
def test_code_sees_no_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    assert run_confined("import os", ["os.listdir('/')"]) == ["[]"]
    assert run_confined(f"open({str(secret)!r})", ["1"]) is None


@needs_namespaces
def test_code_reaches_no_network() -> None:
    """Not even the loopback: a datagram socket can be had, but leads nowhere."""
    code = (
        "import ctypes\nlibc = ctypes.CDLL(None)\nsocket = libc.socket(2, 2, 0)\n"
        "address = (2).to_bytes(2, 'little') + (9).to_bytes(2, 'big') + bytes([127, 0, 0, 1]) + bytes(8)"
    )
    assert run_confined(code, ["socket >= 0", "libc.connect(socket, address, 16)"]) == ["True", "-1"]


@needs_namespaces
def test_code_cannot_take_back_what_was_given_up() -> None:
    calls = ["libc.chroot(b'/')", "libc.unshare(0x10000000)", "libc.setuid(0)"]
    values = run_confined("import ctypes\nlibc = ctypes.CDLL(None)", calls)
    assert values == ["-1", "-1", "-1"]
