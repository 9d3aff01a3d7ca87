"""`autoglm doctor`: what works here, what does not, and what to do about it."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoglm.cli.options import (
    HubChoice,
    ca_file_option,
    config_file_or_default,
    config_option,
    data_option,
    hub_options,
    json_option,
    passphrase_prompt,
)
from autoglm.cli.screen import table
from autoglm.core.errors import HubError, SettingsError
from autoglm.invocation import command
from autoglm.rendezvous import is_held

if TYPE_CHECKING:
    from autoglm.doctor.environment import Finding


@click.group()
def doctor() -> None:
    """Explain what works here, what is missing, and what to do about it.

    \b
    Example:
      autoglm doctor env
      autoglm doctor capabilities
      autoglm doctor channels
    """


@doctor.command()
@data_option
@config_option
@ca_file_option
@json_option
def env(data_dir: Path, config_file: Path | None, ca_file: Path | None, as_json: bool) -> None:
    """Look at this machine: settings, cores, memory, disk, packages, port, page. Needs no running hub. Ends with
    status 1 when something keeps the hub from working.

    \b
    Example:
      autoglm doctor env --data ./data
    """
    findings = _findings(data_dir, config_file, ca_file)
    if as_json:
        rows = [{"name": f.name, "level": f.level, "text": f.text, "fix": f.fix} for f in findings]
        click.echo(json.dumps(rows, ensure_ascii=False))
    else:
        click.echo(
            table(("", "what", "found"), [(finding.level, finding.name, _words(finding)) for finding in findings])
        )
    if any(finding.level == "problem" for finding in findings):
        raise click.exceptions.Exit(1)


def _words(finding: "Finding") -> str:
    return f"{finding.text}; to do: {finding.fix}" if finding.fix else finding.text


def _findings(data_dir: Path, config_file: Path | None, ca_file: Path | None) -> list["Finding"]:
    from autoglm.app import PAGE
    from autoglm.doctor.environment import Finding, examine
    from autoglm.instances import missing_models, model_folder
    from autoglm.settings import Settings, load_settings

    file = config_file_or_default(config_file, data_dir)
    try:
        settings = load_settings(file, data_dir=data_dir, ask_passphrase=passphrase_prompt()).settings
        about = [Finding(name="settings", level="ok", text=str(file or "defaults, no autoglm.toml"))]
    except SettingsError as error:
        settings = Settings()
        problems = error.facts["problems"]
        reasons = problems if isinstance(problems, list) else [str(error)]
        about = [Finding(name="settings", level="problem", text=reason) for reason in reasons]
    folder = model_folder(settings, data_dir)
    names = [model.name for model in folder.list()]
    gateway = settings.gateway
    hub_url, silence = _running(data_dir, ca_file)
    if gateway.has_tls:
        from autoglm.certificates import renewal_failure, served_certificate
        from autoglm.doctor.certificate import examine_certificate

        about.append(
            examine_certificate(
                served_certificate(gateway, data_dir), time.time(), renews_itself=gateway.tls != "files",
                failure=renewal_failure(gateway, data_dir),
            )
        )  # fmt: skip
    return about + examine(
        data_dir, names, host=gateway.host, port=gateway.port, page=PAGE, hub_url=hub_url, silence=silence,
        default_model=None if settings.instance else settings.models.default,
        missing=missing_models(settings, folder), command=lambda words: command(words, data_dir),
    )  # fmt: skip


def _running(data_dir: Path, ca_file: Path | None) -> tuple[str | None, str]:
    """The address of the hub on this folder, if one answers; why one that is there does not."""
    from autoglm.client import Client

    try:
        with Client(data_dir=data_dir, ca_file=ca_file, patience_s=0.0) as client:
            client.me()
            return client.url, ""
    except HubError as error:
        return None, str(error) if is_held(data_dir) else ""


@doctor.command()
@hub_options
@json_option
def capabilities(hub: HubChoice, as_json: bool) -> None:
    """Show what the running hub can do, why it cannot do the rest, and what replaces that.

    \b
    Example:
      autoglm doctor capabilities
    """
    with hub.client() as client:
        found = client.capabilities()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    rows = []
    for capability in found:
        words = [capability["why"]]
        if not capability["available"]:
            words += [f"instead: {capability['instead']}"] if capability["instead"] else []
            words += [f"to do: {capability['fix']}"] if capability["fix"] else []
        rows.append(("yes" if capability["available"] else "no", capability["name"], "; ".join(words)))
    click.echo(table(("", "what", "why"), rows))


@doctor.command()
@hub_options
@json_option
def channels(hub: HubChoice, as_json: bool) -> None:
    """Ask each vendor of the running hub's channels whether a message could be sent now. Nothing is sent that anybody
    sees. Ends with status 1 where one could not.

    \b
    Example:
      autoglm doctor channels
    """
    with hub.client() as client:
        found = client.channels(check=True)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    elif not found:
        click.echo("This hub runs without channels; a [[channel]] in autoglm.toml makes one at the next start.")
    else:
        rows = [
            ("ok" if (health := channel["health"])["ok"] else "no", channel["name"], channel["kind"], _reason(health))
            for channel in found
        ]
        click.echo(table(("", "channel", "kind", "found"), rows))
    if not all(channel["health"]["ok"] for channel in found):
        raise click.exceptions.Exit(1)


def _reason(health: dict[str, Any]) -> str:
    return f"{health['reason']} ({health['code']})" if health["code"] else str(health["reason"])
