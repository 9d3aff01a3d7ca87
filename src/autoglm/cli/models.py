"""`autoglm models`: the model files of this machine."""

import contextlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoglm.cli.options import (
    ca_file_option,
    config_file_or_default,
    config_option,
    data_option,
    json_option,
    passphrase_prompt,
)
from autoglm.cli.screen import size, table
from autoglm.core.errors import HubError
from autoglm.invocation import command

if TYPE_CHECKING:
    from autoglm.inference.models import ModelFile, ModelFolder
    from autoglm.settings import Settings


@click.group()
def models() -> None:
    """List, fetch and remove the model files of this machine. They lie in DATA/models.

    \b
    Example:
      autoglm models list
      autoglm models pull qwen2.5-coder-1.5b
    """


@models.command("list")
@data_option
@config_option
@ca_file_option
@json_option
def list_files(data_dir: Path, config_file: Path | None, ca_file: Path | None, as_json: bool) -> None:
    """List the model files here, and whether a running hub serves them.

    \b
    Example:
      autoglm models list --json
    """
    _, folder = _folder(data_dir, config_file)
    served = _served(data_dir, ca_file)
    files = folder.list()
    if as_json:
        click.echo(json.dumps([_as_object(file, served) for file in files], ensure_ascii=False))
        return
    if not files:
        click.echo(
            f"There is no model in {folder.path} yet; {command('models catalogue')} shows what can be fetched, "
            f"and {command('models pull NAME', data_dir)} fetches it."
        )
        return
    rows = [
        (
            file.name,
            size(file.size_bytes),
            file.licence or "?",
            _word(served, file.name),
            file.origin or "put here by hand",
        )
        for file in files
    ]
    click.echo(table(("name", "size", "licence", "served", "origin"), rows))


@models.command()
@json_option
def catalogue(as_json: bool) -> None:
    """Show the models that `models pull NAME` knows how to fetch.

    \b
    Example:
      autoglm models catalogue
    """
    from autoglm.inference.models import CATALOGUE

    if as_json:
        fields = ("name", "title", "size_bytes", "sha256", "licence", "origin", "languages", "context_tokens", "about")
        entries = [{field: getattr(model, field) for field in fields} for model in CATALOGUE.values()]
        click.echo(json.dumps(entries, ensure_ascii=False))
        return
    rows = [
        (model.name, size(model.size_bytes), model.licence, " ".join(model.languages), model.about["en"])
        for model in CATALOGUE.values()
    ]
    click.echo(table(("name", "size", "licence", "languages", "about"), rows))


@models.command()
@click.argument("source")
@click.option("--name", help="What to call it here; made of SOURCE when absent.")
@click.option("--sha256", metavar="HEX", help="The hash that the file must have; needed for an address.")
@data_option
@config_option
@json_option
def pull(
    *, source: str, name: str | None, sha256: str | None, data_dir: Path, config_file: Path | None, as_json: bool
) -> None:
    """Fetch a model: by its NAME in the catalogue, from a GGUF FILE, or from a URL. What was fetched stays when it is
    interrupted; the next pull goes on from there.

    \b
    Example:
      autoglm models pull qwen2.5-coder-1.5b
      autoglm models pull ./my-model.gguf --name mine
    """
    from autoglm.cli.logs import quiet_logs

    quiet_logs()
    settings, folder = _folder(data_dir, config_file)
    file = pull_with_bar(source, folder, name=name, sha256=sha256)
    if as_json:
        click.echo(json.dumps(_as_object(file, None), ensure_ascii=False))
        return
    click.echo(f"{file.name} is here: {size(file.size_bytes)}, licence {file.licence or 'not known'}, {file.path}")
    click.echo(_how_to_serve(file.name, settings, folder))


@models.command()
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@data_option
@config_option
def remove(name: str, yes: bool, data_dir: Path, config_file: Path | None) -> None:
    """Delete a model file, and what an interrupted pull of it left.

    \b
    Example:
      autoglm models remove smollm2-135m --yes
    """
    _, folder = _folder(data_dir, config_file)
    file = folder.get(name)
    if file is not None and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("say --yes: there is no terminal to ask on")
        if not click.confirm(f"Delete {file.path} ({size(file.size_bytes)})?"):
            raise click.ClickException("nothing was removed")
    folder.remove(name)
    click.echo(f"{name} is removed")


def pull_with_bar(
    source: str, folder: "ModelFolder", *, name: str | None = None, sha256: str | None = None
) -> "ModelFile":
    """Fetch a model with a bar on standard error. Raises as `inference.models.pull` does."""
    import anyio

    from autoglm.cli.progress import Bar
    from autoglm.inference.models import Progress
    from autoglm.inference.models import pull as pull_model

    with Bar(name or Path(source).name) as bar:

        def show(progress: Progress) -> None:
            bar.show(progress.step, progress.done_bytes, progress.total_bytes)

        return anyio.run(partial(pull_model, source, folder, name=name, sha256=sha256, on_progress=show))


def _folder(data_dir: Path, config_file: Path | None) -> tuple["Settings", "ModelFolder"]:
    from autoglm.instances import model_folder
    from autoglm.settings import load_settings

    file = config_file_or_default(config_file, data_dir)
    settings = load_settings(file, data_dir=data_dir, ask_passphrase=passphrase_prompt()).settings
    return settings, model_folder(settings, data_dir)


def _served(data_dir: Path, ca_file: Path | None) -> set[str] | None:
    """What the hub on this folder serves; None when none runs."""
    from autoglm.client import Client

    with contextlib.suppress(HubError), Client(data_dir=data_dir, ca_file=ca_file, patience_s=0.0) as client:
        return {model for instance in client.pool() if instance["provider"] == "local" for model in instance["models"]}
    return None


def _word(served: set[str] | None, name: str) -> str:
    if served is None:
        return "no hub"
    return "yes" if name in served else "no"


def _as_object(file: "ModelFile", served: set[str] | None) -> dict[str, Any]:
    known = {field: getattr(file, field) for field in ("name", "size_bytes", "sha256", "licence", "origin", "title")}
    return {**known, "path": str(file.path), "served": None if served is None else file.name in served}


def _how_to_serve(name: str, settings: "Settings", folder: "ModelFolder") -> str:
    """What to do so that the hub serves the model."""
    from autoglm.instances import instances_to_run

    if any(name in instance.models for instance in instances_to_run(settings, folder)):
        return "A hub that is started from now on serves it; one that runs does after a restart."
    instance = f'[[instance]]\nname = "{name}"\nprovider = "local"\nmodels = ["{name}"]'
    if settings.instance:
        return f"To serve it, add this to autoglm.toml and restart the hub:\n\n{instance}"
    return (
        f"To serve it in place of {settings.models.default}, put this into autoglm.toml and restart the hub:\n\n"
        f'[models]\ndefault = "{name}"\n\nTo serve several, put in one of these for each:\n\n{instance}'
    )
