"""The command `autoglm`: one file per command."""

from autoglm.cli.main import main

__all__ = ["main"]
