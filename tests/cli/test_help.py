"""Every command explains itself, with examples that work as they stand."""

import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from autoglm.cli.main import COMMANDS, root
from cli.terminal import autoglm


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk(inner, (*path, name))


ALL = dict(walk(root))


def examples(command: click.Command) -> list[str]:
    """The lines under `Example:` in a command's help, from the last `autoglm` of a pipeline on."""
    _, _, block = (command.help or "").partition("Example:")
    lines = [line.strip() for line in block.splitlines() if "autoglm " in line]
    return [line[line.rindex("autoglm ") :].split("   ")[0] for line in lines]


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_the_examples_are_right(path: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> None:
    """click takes each of them; what it would do is tested elsewhere."""
    found = examples(ALL[path])
    assert found, f"autoglm {' '.join(path)} --help has no example"
    for example in found:
        accept(root, shlex.split(example)[1:])


def accept(command: click.Command, args: list[str]) -> None:
    """Parse as far as the last subcommand. Raises UsageError when click would."""
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            parameter.type.exists = False  # the examples' files
    context = command.make_context("autoglm", args, resilient_parsing=False)
    rest = [*context._protected_args, *context.args]
    if isinstance(command, click.Group) and rest:
        inner = command.get_command(context, rest[0])
        assert inner is not None, f"there is no command {rest[0]!r}"
        accept(inner, rest[1:])


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_is_explained(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert command.help
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert silent == []


@pytest.mark.parametrize("path", [path for path in ALL if not isinstance(ALL[path], click.Group)], ids=" ".join)
def test_every_command_speaks_json(path: tuple[str, ...]) -> None:
    takes_json = any("--json" in p.opts for p in ALL[path].params)
    assert takes_json or path in {("models", "remove"), ("config", "init")}


def test_the_list_of_commands_is_complete() -> None:
    finished = autoglm("--help")
    assert finished.status == 0
    assert all(f"\n  {name} " in finished.out for name in COMMANDS)


@pytest.mark.parametrize(
    "args", [("nonsense",), ("ask", "--nonsense"), ("send",), ("up", "--port", "70000"), ("models", "x")]
)
def test_wrong_usage_ends_with_2(args: tuple[str, ...]) -> None:
    finished = autoglm(*args)
    assert (finished.status, finished.out) == (2, "")
    assert "Error: " in finished.err


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant() -> None:
    assert "No such command 'aks'. Did you mean 'ask'?" in autoglm("aks", "x").err


def test_the_help_loads_nothing_but_click() -> None:
    """`autoglm --help` answers at once: it takes 0.08 s of CPU time because it loads no command."""
    code = "import sys\nfrom autoglm.cli.main import run\nrun()\nprint([n for n in sys.modules if 'autoglm.' in n])"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1]
    assert "autoglm.cli.main" in loaded
    assert all(name not in loaded for name in ("autoglm.cli.ask", "autoglm.client", "autoglm.settings", "autoglm.app"))
