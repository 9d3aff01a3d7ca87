"""`autoglm up`: start the hub and run it until it is told to stop."""

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoglm.cli.options import (
    config_file_or_default,
    config_option,
    data_option,
    json_option,
    passphrase_prompt,
    with_mqtt,
)
from autoglm.invocation import command

if TYPE_CHECKING:
    from autoglm.app import Hub
    from autoglm.cli.patient import PatientStream
    from autoglm.settings import Settings


@click.command()
@data_option
@config_option
@click.option("--host", help="Address to listen on (gateway.host).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 takes a free one (gateway.port).")
@click.option("--allow-insecure-bind", is_flag=True, help="Listen beyond this machine without TLS.")
@click.option(
    "--fetch", is_flag=True, help="Fetch the default model first, when no model and no [[instance]] is there."
)
@click.option("--mqtt", is_flag=True, help="Run an MQTT broker, too (mqtt_broker.enabled).")
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
@json_option
def up(
    *, data_dir: Path, config_file: Path | None, host: str | None, port: int | None, allow_insecure_bind: bool,
    fetch: bool, mqtt: bool, open_page: bool, as_json: bool,
) -> None:  # fmt: skip
    """Start the hub. Ctrl-C or SIGTERM ends it, once running requests are done.

    \b
    Example:
      autoglm up --data ./data --port 9000 --open
    """
    import anyio

    from autoglm.cli.logs import set_up_patient_logs
    from autoglm.settings import load_settings

    is_terminal = sys.stderr.isatty() and not as_json
    log_stream = set_up_patient_logs(is_terminal=is_terminal)
    gateway: dict[str, Any] = {"host": host, "port": port, "allow_insecure_bind": allow_insecure_bind or None}
    options: dict[str, Any] = {"gateway": {name: value for name, value in gateway.items() if value is not None}}
    if mqtt:
        options |= with_mqtt()
    file = config_file_or_default(config_file, data_dir)
    loaded = load_settings(file, options=options, data_dir=data_dir, ask_passphrase=passphrase_prompt())
    if fetch:
        _fetch_first_model(loaded.settings, data_dir)
    # numpy comes later. What it multiplies here is small, and a second thread would take the event loop's core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251  # for a library that has no other setting
    try:
        anyio.run(
            _run, loaded.settings, data_dir, log_stream, is_terminal, as_json, open_page,
            backend_options={"use_uvloop": True},
        )  # fmt: skip
    finally:
        log_stream.drain()


async def _run(  # noqa: PLR0917  # anyio.run takes no names
    settings: "Settings", data_dir: Path, log_stream: "PatientStream", is_terminal: bool, as_json: bool, open_page: bool
) -> None:
    import anyio

    from autoglm.app import Hub

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with Hub(settings, data_dir, access_log=log_stream, is_terminal=is_terminal) as hub:
            # What the start left behind stays; looking through it again and again costs a message 10 of 70 us.
            gc.collect()
            gc.freeze()
            gc.set_threshold(20_000, 20, 20)
            if as_json:
                ready = {"event": "ready", "url": hub.url, "key_file": str(hub.admin_key_file)}
                click.echo(json.dumps(ready))
            else:
                _greet(hub)
            if settings.gateway.is_exposed:
                click.echo(
                    "warning: listening beyond this machine without TLS; keys and messages can be read", err=True
                )
            if open_page:
                from autoglm.cli.console import open_in_browser

                await anyio.to_thread.run_sync(open_in_browser, hub.url, hub.admin_key_file)
            async for number in signals:
                signal.signal(number, lambda *_: os._exit(1))  # a second signal means: at once
                _say_what_runs(signal.Signals(number).name, hub.running, settings.gateway.drain_s)
                break


def _say_what_runs(signal_name: str, running: int, drain_s: float) -> None:
    what = f"{running} request{'s' if running != 1 else ''} still running" if running else "nothing is running"
    patience = f", {drain_s:.0f} s at most" if running else ""
    click.echo(f"{signal_name}: stopping; {what}{patience}. Once more stops at once.", err=True)


def _greet(hub: "Hub") -> None:
    models = ", ".join(hub.models) or f"none yet: {command('models pull qwen2.5-coder-0.5b', hub.data_dir)}"
    click.echo(f"AutoGLM Hub   {hub.url}")
    click.echo(f"  models      {models}")
    unused = [model.name for model in hub.folder.list() if model.name not in hub.models]
    if unused and hub.models:
        click.echo(f'  not served  {", ".join(unused)}   (give each an [[instance]] with provider = "local")')
    if hub.broker is not None:
        click.echo(f"  mqtt        {hub.broker.device_url}   ({hub.broker.program}, MQTT {hub.broker.version})")
        for limit in hub.broker.limits:
            click.echo(f"              limit: {limit}")
    if hub.new_admin_key is not None:
        click.echo(f"  admin key   {hub.new_admin_key}   (shown once; kept in {hub.admin_key_file})")
        page = f"{hub.url}/#key={hub.new_admin_key}"
    else:
        click.echo(f"  admin key   in {hub.admin_key_file}")
        page = f"{hub.url}/   ({command('console', hub.data_dir)} opens it with the key)"
    not_yet = "" if hub.has_page else "   (not built yet; 'make console' in the project's folder builds it)"
    click.echo(f"  page        {page}{not_yet}")
    if hub.models:
        click.echo(f'  try         {command("ask", hub.data_dir)} "用一句话介绍你自己"')


def _fetch_first_model(settings: "Settings", data_dir: Path) -> None:
    """Bring the default model, unless there is something to serve already. Without a network the hub starts without.

    Raises SettingsError when the hub could not start: better known before half a gigabyte is fetched than after.
    """
    from autoglm.app import listen
    from autoglm.cli.models import pull_with_bar
    from autoglm.core.errors import HubError
    from autoglm.instances import instances_to_run, model_folder
    from autoglm.settings import check_start

    folder = model_folder(settings, data_dir)
    if settings.discovery or settings.ray or instances_to_run(settings, folder):
        return
    check_start(settings)
    listen(settings.gateway).close()
    try:
        pull_with_bar(settings.models.default, folder)
    except HubError as error:
        click.echo(f"autoglm: starting without a model: {error}", err=True)
