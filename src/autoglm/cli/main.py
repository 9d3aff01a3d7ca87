"""The command's root: finds the subcommand and loads only that one, so that `autoglm ask` starts fast."""

import importlib
import sys

import click

from autoglm.core.errors import HubError
from autoglm.version import __version__

COMMANDS = {
    "up": "Start the hub",
    "ask": "Ask a model",
    "send": "Send a message",
    "inbox": "Read messages",
    "notify": "Tell of an event; the routes decide whom it reaches",
    "events": "The last events, and what became of one",
    "silences": "Show and change what is silent for a while",
    "groups": "Show and change groups of addresses",
    "outbox": "What waits to go out by channels, and what could not",
    "models": "List, fetch and remove model files",
    "pool": "Show the instances",
    "route": "What the hub understands, and where it sends it",
    "mcp": "Serve the hub's tools to agents",
    "budgets": "Show what is used of the budgets",
    "people": "Accounts of people, and links by which they get in",
    "token": "What programs and devices prove with who they are",
    "devices": "Devices that keep a key of their own",
    "policy": "Who may do what: sign, publish, pull and explain it",
    "audit": "What was allowed and done here, and whether that record is whole",
    "secrets": "Keep secrets encrypted",
    "ca": "The site's own certificate authority",
    "config": "Check and show settings",
    "backup": "Save everything into one file",
    "restore": "Bring a backup back",
    "doctor": "What works here, and what is missing",
    "console": "Open the page in the browser",
}

_INTERRUPTED = 130  # 128 + SIGINT, as shells count it


class _Lazy(click.Group):
    """Loads `autoglm.cli.<name>` when it is asked for; the file has the command under the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"autoglm.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, which looks for similar names only among commands that are loaded."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands from the table: nothing has to be loaded for it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": None})
@click.version_option(__version__, prog_name="autoglm")
def root() -> None:
    """AutoGLM Hub: ask models, send messages, lose nothing.

    \b
    Example:
      autoglm up                        start the hub
      autoglm ask "What is a quorum?"   in another terminal
    """


def main() -> None:
    """Run the command. Exit status: 0, 1 (failed, the reason on stderr), 2 (wrong usage), 130 (Ctrl-C)."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # half a surrogate pair of a model must not end the command
    try:
        sys.exit(run())
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def run() -> int:
    """Run the command; returns the exit status. click itself ends it quietly when the reader of a pipe has gone."""
    try:
        status = root.main(prog_name="autoglm", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except UnicodeEncodeError:  # the command line had bytes that are no UTF-8, which Python passes on in disguise
        click.echo("autoglm: an argument is no UTF-8 text", err=True)
        return 2
    except HubError as error:
        for reason in _reasons(error):
            click.echo(f"autoglm: {reason}", err=True)
        return 1


def _reasons(error: HubError) -> list[str]:
    """A sentence for each problem: settings can have several."""
    problems = error.facts.get("problems")
    return problems if isinstance(problems, list) else [str(error)]


if __name__ == "__main__":
    main()
