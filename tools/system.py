"""Makes sure that system programs are there, installing them by apt where that is allowed.

python tools/system.py chromium wrk nginx
"""

import os
import shutil
import subprocess
import sys

PACKAGES = {
    "chromium": ["chromium", "fonts-noto-cjk"],  # without the fonts, Chinese pages show boxes
    "wrk": ["wrk"],
    "nginx": ["nginx-light"],
    "gcc": ["gcc", "libc6-dev"],
    "prometheus-alertmanager": ["prometheus-alertmanager"],
    "mosquitto": ["mosquitto"],
}


def main() -> int:
    missing = [name for name in sys.argv[1:] if shutil.which(name) is None]
    if not missing:
        return 0
    packages = [package for name in missing for package in PACKAGES[name]]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        sys.stderr.write(f"not installed: {', '.join(missing)}. What needs them is skipped with this reason.\n")
        sys.stderr.write(f"On Debian or Ubuntu: sudo apt-get install {' '.join(packages)}\n")
        return 0
    sys.stderr.write(f"installing {', '.join(packages)} ...\n")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}  # noqa: TID251  # a tool
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.stderr.write(done.stdout[-2000:] + done.stderr[-2000:])
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
