"""Run in a network of its own, where the resolver of this machine asks the name server of this file.

`unshare --user --map-root-user --net --mount python rebinding_scene.py`: prints what became of two requests to a name
that resolves to 127.0.0.2, which may be called, and then to 127.0.0.3, which may not.
"""

import asyncio
import fcntl
import json
import socket
import struct
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import cast

from autoglm.channels.web import NoAnswer, Web
from autoglm.core.guard import AddressGuard
from scripted_model import response

NAME = "rebind.example"
ADDRESSES = ("127.0.0.2", "127.0.0.3")
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


class NameServer(asyncio.DatagramProtocol):
    """Each question for an address of IPv4 gets the next answer, which is good for no time (RFC 1035, section 4)."""

    def __init__(self) -> None:
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5
        question, kind = data[12:end], struct.unpack("!H", data[end - 4 : end - 2])[0]
        answer = b""
        if kind == 1:
            address = ADDRESSES[min(self.asked, 1)]
            self.asked += 1
            answer = struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address)
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if answer else 0, 0, 0)
        self._transport.sendto(head + question + answer, addr)


def enter() -> None:
    """Loopback up, and only our own name server."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    for name, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", "hosts: dns\n")):
        if Path("/etc", name).exists():
            with tempfile.NamedTemporaryFile("w", delete=False) as file:
                file.write(text)
            subprocess.run(["mount", "--bind", file.name, f"/etc/{name}"], check=True)
            Path(file.name).unlink()


async def play() -> dict[str, object]:
    connections: Counter[str] = Counter()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[writer.get_extra_info("sockname")[0]] += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(200, b""))
        writer.close()
        await writer.wait_closed()

    loop = asyncio.get_running_loop()
    _, names = await loop.create_datagram_endpoint(NameServer, ("127.0.0.1", 53))
    for address in ADDRESSES:
        await asyncio.start_server(answer, address, 8080)
    client = Web(guard=AddressGuard(["127.0.0.2"]))
    results: list[str] = []
    for _ in range(2):
        try:
            results.append(str((await client.request("POST", f"http://{NAME}:8080/", body=b"{}")).status))
        except NoAnswer as error:
            results.append(error.delivery.code)
    await client.aclose()
    return {"results": results, "asked": names.asked, "connections": dict(connections)}


if __name__ == "__main__":
    enter()
    print(json.dumps(asyncio.run(play())))
