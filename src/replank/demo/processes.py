"""The demo's two processes: the host of the shop, and the load generator.

Both are ended by their process id in every way out, Ctrl-C included; the load generator also ends
by itself when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from replank.control.client import Client
from replank.control.locate import HostNotFound, read_contact
from replank.demo.accounting import Verdict
from replank.demo.loadgen import Progress
from replank.errors import ReplankError
from replank.instrumentation.events import Event
from replank.report import ReloadReport

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.02
LINE_BYTES = 1 << 20
LOG_TAIL_LINES = 15


class Address(NamedTuple):
    """Where the shop is reached over HTTP."""

    host: str
    port: int


class DemoFailed(ReplankError):
    """The demo could not be played to its end."""


async def end(process: Process) -> None:
    """Ask a process to stop, wait, and kill it if it does not."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class HostProcess:
    """The host of the shop, started as a user starts it: `replank run replank.toml`.

    Args:
        folder: The shop's folder; the host's log goes to `host.log` in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / ".replank"
        self.log = folder / "host.log"
        self._process: Process | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Address]:
        """Start the host, lend its address, and stop it in the end.

        Raises:
            DemoFailed: It ended before it served, or did not serve in time.
        """
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "replank", "run", "replank.toml"),
                cwd=self.folder,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                # a Ctrl-C at the terminal is ours to handle: first the load, then the host
                start_new_session=True,
            )
        try:
            yield await self._address(self._process)
        finally:
            await asyncio.shield(end(self._process))

    async def reload(
        self, names: tuple[str, ...], on_event: Callable[[Event], None]
    ) -> ReloadReport:
        """Reload modules over the control socket, as `replank reload` does.

        Args:
            names: The modules; all in one transaction.
            on_event: Called on this event loop with what happens meanwhile.

        Raises:
            ReplankError: The reload was not taken up, or the host is gone.
        """
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(on_event, event)

        def ask() -> ReloadReport:
            with Client.find(self.data_dir) as client:
                return client.reload(names, reason="demo", on_line=tell)

        return await asyncio.to_thread(ask)

    def tail(self) -> str:
        """Return the last lines of the host's log."""
        text = self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])

    async def _address(self, process: Process) -> Address:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    if process.returncode is not None:
                        raise DemoFailed(
                            f"the host ended at once (exit {process.returncode})",
                            found=self.tail(),
                        )
                    address = read_address(self.data_dir)
                    if address is not None:
                        return address
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise DemoFailed(
                f"the host did not serve within {START_TIMEOUT_S:g} s", found=self.tail()
            ) from None


def read_address(data_dir: Path) -> Address | None:
    """Return where a host serves HTTP, or None while it does not.

    Args:
        data_dir: The host's data folder.
    """
    try:
        url = read_contact(data_dir).http
    except HostNotFound:
        return None
    if url is None:
        return None
    parts = urlsplit(url)
    return Address(parts.hostname or "127.0.0.1", parts.port or 80)


class LoadProcess:
    """The load generator, in a process of its own.

    Args:
        on_progress: Called with each progress line.
    """

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self._process: Process | None = None
        self._verdict: asyncio.Future[Verdict] | None = None
        self.flowing = asyncio.Event()
        """Set when the first answers have come."""

    @contextlib.asynccontextmanager
    async def running(self, address: Address, arguments: tuple[str, ...]) -> AsyncIterator[None]:
        """Start the traffic; end the process in the end.

        Args:
            address: Where the shop is.
            arguments: More arguments of the load generator.
        """
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "replank.demo.loadgen"),
            *("--host", address.host, "--port", str(address.port), *arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=LINE_BYTES,
            start_new_session=True,
        )
        self._verdict = asyncio.get_running_loop().create_future()
        reader = asyncio.create_task(self._read(process, self._verdict))
        try:
            yield
        finally:
            if process.stdin is not None:
                process.stdin.close()
            await asyncio.shield(end(process))
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            if self._verdict.done() and not self._verdict.cancelled():
                self._verdict.exception()  # seen: nobody may be left to ask for it

    async def say(self, word: str) -> None:
        """Tell the load generator that a reload begins or ended, or to stop."""
        if self._process is None or self._process.stdin is None:
            raise DemoFailed("the load generator does not run")
        self._process.stdin.write(f"{word}\n".encode())
        with contextlib.suppress(ConnectionError):  # its end is told by `verdict`
            await self._process.stdin.drain()

    async def verdict(self) -> Verdict:
        """Stop the traffic and return what the load generator found.

        Raises:
            DemoFailed: It ended without a verdict.
        """
        await self.say("stop")
        if self._verdict is None:
            raise DemoFailed("the load generator does not run")
        return await self._verdict

    async def _read(self, process: Process, verdict: asyncio.Future[Verdict]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        async for line in process.stdout:
            message = msgspec.json.decode(line)
            if "progress" in message:
                progress = msgspec.convert(message["progress"], Progress)
                if progress.answered:
                    self.flowing.set()
                self._on_progress(progress)
            elif "verdict" in message:
                verdict.set_result(msgspec.convert(message["verdict"], Verdict))
        if not verdict.done():
            errors = (await process.stderr.read()).decode(errors="replace")
            verdict.set_exception(
                DemoFailed("the load generator ended without a verdict", found=errors[-800:])
            )
        self.flowing.set()


__all__ = ["Address", "DemoFailed", "HostProcess", "LoadProcess", "end", "read_address"]
