"""A hub inside a program: start it, ask it, stop it. Needs a model file or an [[instance]] in the settings.

python examples/embedded.py DATA_FOLDER [SETTINGS_FILE]
"""

import sys
from pathlib import Path

import anyio

from autoglm import Client, Hub
from autoglm.settings import load_settings


async def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("Say where its data shall lie: python examples/embedded.py DATA_FOLDER [SETTINGS_FILE]")
    data_dir = Path(sys.argv[1])
    file = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    settings = load_settings(file, options={"gateway": {"port": 0}}).settings
    async with Hub(settings, data_dir) as hub:
        client = Client(url=hub.url, key=hub.admin_key_file.read_text().strip())
        answer = await anyio.to_thread.run_sync(lambda: "".join(client.ask("Say hello.")))
        print(answer)


anyio.run(main)
