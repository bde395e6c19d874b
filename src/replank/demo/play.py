"""Play the demo: host and load start, four reloads happen, the books are compared."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Protocol

import msgspec

from replank.demo.keepalive import Connection
from replank.demo.loadgen import Progress
from replank.demo.processes import Address, DemoFailed, HostProcess, LoadProcess
from replank.demo.story import ACTS, Act, DemoResult, Played, change, set_stage
from replank.instrumentation.events import Event

FLOW_TIMEOUT_S = 20.0
OK = 200


class Show(Protocol):
    """Who is told while the demo runs."""

    def opened(self, address: Address, folder: Path) -> None:
        """The host serves."""

    def progressed(self, progress: Progress) -> None:
        """The traffic now."""

    def began(self, act: Act) -> None:
        """A reload begins."""

    def happened(self, event: Event) -> None:
        """A phase of it begins or ends."""

    def ended(self, played: Played) -> None:
        """A reload has ended."""


class Timetable:
    """When each act begins, spread over the time there is.

    Args:
        seconds: Time of the whole demo.
        acts: How many acts there are.
    """

    def __init__(self, seconds: float, acts: int) -> None:
        self._gap_s = seconds / (acts + 1)
        self._began = asyncio.get_running_loop().time()

    async def wait_for(self, act: int) -> None:
        """Wait until an act begins; the number after the last one is the end."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, self._began + self._gap_s * (act + 1) - now))


async def play(folder: Path, show: Show, *, seconds: float, port: int) -> DemoResult:
    """Play the whole demo in a folder.

    Args:
        folder: An empty folder; the shop, the host's log and its journal are kept in it.
        show: Who is told meanwhile.
        seconds: How long the traffic runs.
        port: TCP port of the host; 0 takes any free one.

    Raises:
        DemoFailed: A process could not be started, or ended early.
    """
    task = asyncio.current_task()
    assert task is not None
    # a plain `kill` must end host and load as Ctrl-C does
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    set_stage(folder, port=port)
    host = HostProcess(folder)
    load = LoadProcess(show.progressed)
    async with host.running() as address:
        show.opened(address, folder)
        async with load.running(address, ()):
            await flow(load)
            times = Timetable(seconds, len(ACTS))
            played = []
            for number, act in enumerate(ACTS):
                await times.wait_for(number)
                played.append(await perform(act, host, load, address, show))
            await times.wait_for(len(ACTS))
            verdict = await load.verdict()
    return DemoResult(verdict=verdict, played=tuple(played), folder=str(folder))


async def flow(load: LoadProcess) -> None:
    """Wait until calls are answered."""
    try:
        async with asyncio.timeout(FLOW_TIMEOUT_S):
            await load.flowing.wait()
    except TimeoutError:
        raise DemoFailed(f"no call was answered within {FLOW_TIMEOUT_S:g} s") from None


async def perform(
    act: Act, host: HostProcess, load: LoadProcess, address: Address, show: Show
) -> Played:
    """Save the act's files, reload, and note how it ended.

    Raises:
        DemoFailed: The reload gave no report, or the ledger no statement.
    """
    show.began(act)
    before = await shape(address)
    for name, version in act.files.items():
        change(host.folder, name, version)
    await load.say("reload")
    try:
        report = await host.reload(tuple(act.files), show.happened)
    finally:
        await load.say("reloaded")
    after = await shape(address)
    played = Played(act=act, report=report, shape_before=before, shape_after=after)
    show.ended(played)
    return played


async def shape(address: Address) -> str:
    """Return version and shape of the ledger's state, as the ledger itself says.

    Raises:
        DemoFailed: The ledger does not answer.
    """
    async with Connection(*address) as connection:
        try:
            status, body = await connection.post("/modules/ledger/statement", {})
        except OSError as error:
            raise DemoFailed("the ledger cannot be reached", found=str(error)) from error
    if status != OK:
        raise DemoFailed("the ledger gave no statement", found=body.decode(errors="replace")[:300])
    facts = msgspec.json.decode(body)
    return f"v{facts['version'].removesuffix('.0')}: {facts['shape']}"


__all__ = ["Show", "Timetable", "flow", "perform", "play", "shape"]
