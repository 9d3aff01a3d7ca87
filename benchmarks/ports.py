"""Free ports, and processes that come to listen on them."""

import socket
import subprocess
import time

START_TIMEOUT_S = 60.0


def free_port() -> int:
    """One that nobody listened on a moment ago: for programs that cannot be told to take port 0."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int, process: "subprocess.Popen[str]") -> None:
    """Returns once the process accepts connections. Raises RuntimeError when it ends or does not come up."""
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_s:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended with status {process.returncode}") from None
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{process.args!r} did not listen on port {port} within {START_TIMEOUT_S:.0f} s")
