"""A server of processes that starts new ones on HUP, called over HTTP: `server.py NAME`.

- uvicorn --workers 2, HUP: https://www.uvicorn.org/deployment/
- gunicorn, HUP: https://docs.gunicorn.org/en/stable/signals.html
- granian, HUP: https://github.com/emmett-framework/granian
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from timetable import Timetable, say

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    PORT = probe.getsockname()[1]

BIN = Path(sys.executable).parent
COMMANDS = {
    "uvicorn": ["uvicorn", "asgi:app", "--workers", "2", "--port", str(PORT), "--no-access-log"],
    "gunicorn": [
        *("gunicorn", "asgi:app", "-k", "uvicorn_worker.UvicornWorker", "-w", "2"),
        *("-b", f"127.0.0.1:{PORT}"),
    ],
    "granian": [
        *("granian", "asgi:app", "--interface", "asgi", "--workers", "2", "--port", str(PORT)),
    ],
}


async def sell():
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head[:60])
    first, second, count = body.split()
    return first.decode(), second.decode(), int(count)


async def main(name: str) -> None:
    command = [str(BIN / COMMANDS[name][0]), *COMMANDS[name][1:]]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    await sell()
                    break
                except (OSError, ValueError):
                    await asyncio.sleep(0.1)

        async def apply() -> None:
            os.kill(server.pid, signal.SIGHUP)

        files = [Path("rules.py"), Path("shop.py")]
        say(await Timetable(sell, apply, files).run(version=version(name)))
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


asyncio.run(main(sys.argv[1]))
