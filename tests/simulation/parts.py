"""What the simulated host has in place of disk, probe, loader, state room and watchdog thread.

Everything that decides (host, startup, scheduler, coordinator, drain, gate, inboxes, tasks,
persistence, probation) is the real thing. A version is a list of faults, by the place where it
meets them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from replank.code.store import Version
from replank.coordinator.prepare import read_definition
from replank.coordinator.slot import Routes
from replank.definition import Check, Definition, Timer, Use
from replank.errors import JournalError, SnapshotError, SourceError, StoreError
from replank.journal.memory import MemoryPort
from replank.module import Module
from replank.state.eager import EagerTransfer
from replank.state.keeper import Kept
from replank.testing.history import Sent
from replank.testing.journal import MemoryDisk
from replank.verification.watchdog import Watchdog

PLACES = (
    "store",
    "probe",
    "load",
    "construct",
    "snapshot window",
    "snapshot pause",
    "migrate window",
    "migrate pause",
    "restore window",
    "restore pause",
    "approach",
    "check rehearsal",
    "check pause",
    "swap",
    "on_start",
    "on_stop",
    "abandon",
)
"""Where a version may meet a fault."""
PLAIN = frozenset({"store", "load", "construct", "swap", "abandon"})
"""Places in plain functions, which cannot wait."""
JOURNAL_PLACES = (
    "begin",
    "begin done",
    "commit",
    "commit done",
    "finish",
    "finish done",
    "state",
)
HOPS_AGAIN = 0.67
"""How likely a chain goes down once more: three times in the middle."""
KINDS = ("raise", "exit", "own cancel", "hang", "stubborn", "cancel", "crash")


@dataclass(eq=False)
class Life:
    """One life of the process on one disk; nothing is written after its end."""

    dead: bool = False


@dataclass(eq=False)
class Disk:
    """What outlives a crash."""

    journal: MemoryDisk = field(default_factory=MemoryDisk)
    kept: dict[str, Kept] = field(default_factory=dict)
    port: MemoryPort = field(default_factory=MemoryPort)
    versions: dict[str, FakeVersion] = field(default_factory=dict)
    """By path and by digest."""
    sent: dict[str, list[Sent]] = field(default_factory=dict)
    """What senders of all lives know, by module: no part of the disk, but it too outlives."""


@dataclass(eq=False)
class FakeVersion:
    """One version of one module: where it fails, and how."""

    name: str
    number: int
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return f"sha256:{self.name}{self.number}"

    @property
    def path(self) -> Path:
        return Path(f"/simulated/{self.name}/{self.number}.py")

    @property
    def stored(self) -> Version:
        return Version(self.digest, self.path.parent, self.name, False, self.path, ())


class FakeModule(Module, version="1"):
    """Registers, counters and the numbers of handled messages; every call says what it does."""

    registers: dict[str, int] = {}
    counters: dict[str, int] = {}
    handled: list[list[int]] = []
    down = None

    code: Any = None

    async def read(self, op: Any, key: str) -> int:
        await self.code.work(op)
        return self.registers.get(key, 0)

    async def write(self, op: Any, key: str, value: int) -> None:
        await self.code.work(op)
        self.registers[key] = value
        await self.code.rest(op)

    async def add(self, op: Any, key: str, amount: int) -> int:
        await self.code.work(op)
        self.counters[key] = total = self.counters.get(key, 0) + amount
        await self.code.rest(op)
        return total

    def add_inline(self, op: Any, key: str, amount: int) -> int:
        self.code.enter(op)
        self.counters[key] = total = self.counters.get(key, 0) + amount
        return total

    async def visit(self, op: Any) -> None:
        """Look at this module, then at the one below, then here again, as often as the seed gives.

        A chain that goes down again and again meets, sooner or later, a gate that closes.
        """
        await self.code.work(op)
        if self.down is not None:
            await self.down.visit(op)
            while self.code.chance() < HOPS_AGAIN:
                await self.code.rest(op)
                await self.down.visit(op)
        await self.code.rest(op)

    async def linger(self, op: Any, seconds: float) -> None:
        await self.code.work(op)
        await asyncio.sleep(seconds)
        self.code.look(op)

    async def improve(self, op: Any) -> Any:
        await self.code.work(op)
        return self.code.ask_for_reload()

    async def note(self, sender: int, number: int) -> None:
        await self.code.handle(sender, number)
        self.handled.append([sender, number])
        await self.code.rest(None)

    async def tick(self) -> None:
        await self.code.tick()

    async def pump(self) -> None:
        await self.code.pump()

    async def on_start(self) -> None:
        await self.code.meet("on_start")
        self.spawn(self.pump())

    async def on_stop(self) -> None:
        await self.code.meet("on_stop")

    async def check_rehearsal(self) -> None:
        await self.code.meet("check rehearsal")

    async def check_pause(self) -> None:
        await self.code.meet("check pause")


@dataclass(frozen=True, slots=True)
class FakeDefinition(Definition):
    """A definition whose object knows the generation that it belongs to."""

    def construct(self, pymodule: Any) -> Any:
        target = Definition.construct(self, pymodule)  # slots give the class a new cell
        target.code = pymodule.code
        pymodule.code.meet_now("construct")
        return target


class Definitions:
    """One definition for each shape of a module, read once."""

    def __init__(self) -> None:
        self._base: Definition | None = None
        self._known: dict[tuple[str, str, int], Definition] = {}

    def get(self, name: str, below: str, number: int) -> Definition:
        """Return the definition of one version of a module that uses the one below, if any."""
        found = self._known.get((name, below, number))
        if found is None:
            self._base = self._base or read_fake()
            found = self._known[name, below, number] = dataclasses.replace(
                self._base,
                name=name,
                label=str(number),
                checks=(Check("check_rehearsal", "rehearsal"), Check("check_pause", "pause")),
                timers=(Timer("tick", 0.4),),
                uses=(Use("down", below, "", None),) if below else (),
            )
        return found


def read_fake() -> Definition:
    """Read the fake module as the host reads a real one."""
    read = read_definition(sys.modules[__name__], "fake")
    fields = {one.name: getattr(read, one.name) for one in dataclasses.fields(Definition)}
    return FakeDefinition(**fields)


class FakeStore:
    """Find versions on the simulated disk."""

    def __init__(self, world: Any) -> None:
        self._disk: Disk = world.disk
        self._meet: Callable[[FakeVersion, str], None] = world.suffer_now

    def put(self, source: Path) -> Version:
        return self._find(str(source), SourceError)

    def get(self, digest: str, source: Path | None = None) -> Version:
        return self._find(digest, StoreError)

    def sweep(self) -> None: ...

    def _find(self, key: str, error: type[SourceError | StoreError]) -> Version:
        version = self._disk.versions.get(key)
        if version is None:
            raise error("it is not there", found=key)
        self._meet(version, "store")
        return version.stored


class FakeWatchdog(Watchdog):
    """Guard without a thread: nothing in a simulation holds the loop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def guard(self, function: Callable[[], Any], limit_s: float, what: str) -> Any:
        return function()


class FakeTransfer(EagerTransfer):
    """Copy plain dicts; asks for the proof of quiet and looks whether it is true."""

    code: Any
    old: Any
    new: Any
    _copy: dict[str, Any] | None = None

    @property
    def followed(self) -> bool:
        return False

    async def snapshot(self, drained: Any) -> None:
        await self._meet("snapshot", drained)
        self._copy = _copied(self.old.values())

    async def migrate(self, drained: Any) -> None:
        await self._meet("migrate", drained)

    async def restore(self, drained: Any) -> None:
        await self._meet("restore", drained)
        assert self._copy is not None
        self.new.assign(_copied(self._copy))

    async def approach(self) -> None:
        await self.new.code.meet("approach")

    def digests(self) -> tuple[str, str]:
        return "", ""

    def abandon(self) -> None:
        self._copy = None
        self.new.code.meet_now("abandon")

    async def _meet(self, what: str, drained: Any) -> None:
        where = "window" if drained is None else "pause"
        if drained is not None:
            self.new.code.world.must_be_quiet(self.old, drained)
        await self.new.code.meet(f"{what} {where}")
        if drained is not None:
            self.new.code.world.must_be_quiet(self.old, drained)


async def make_fake_transfer(
    module: str, old: Any, new: Any, migration: Any, **_: Any
) -> FakeTransfer:
    """Stand in for `make_transfer`."""
    transfer = FakeTransfer(module, old, new, migration)
    transfer.old, transfer.new = old, new
    return transfer


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "registers": dict(values["registers"]),
        "counters": dict(values["counters"]),
        "handled": [list(one) for one in values["handled"]],
    }


class FakeKeeper:
    """Keep states on the simulated disk."""

    def __init__(self, world: Any) -> None:
        self._disk: Disk = world.disk
        self._life: Life = world.life
        self._pause: Callable[[], Any] = world.loop.pause
        self._note: Callable[[str, dict[str, Any]], None] = world.note_save

    async def approach(self, module: str, holder: Any) -> None: ...

    def freeze(self, module: str, holder: Any, digest: str, mark: Any) -> Any:
        values = _copied(holder.values())
        self._note(module, values)
        return module, Kept(values, mark.messages, (), mark.position)

    async def write(self, snapshot: Any, kind: str) -> None:
        module, kept = snapshot
        await self._pause()
        if self._life.dead:
            raise SnapshotError("the process is dead")
        self._disk.kept[module] = kept
        await self._pause()

    def sweep(self) -> None: ...

    async def load(self, module: str, holder: Any, *_: Any) -> Kept:
        await self._pause()
        kept = self._disk.kept.get(module, Kept())
        values = _copied(kept.values) if kept.values else {}
        return Kept(values, kept.messages, (), kept.inbox_position)


class SlowPort(MemoryPort):
    """A port in memory behind a disk that takes its time."""

    def __init__(self, world: Any) -> None:
        self.__dict__ = dict(world.disk.port.__dict__)  # the same streams and keys
        self._life: Life = world.life
        self._pause: Callable[[], Any] = world.loop.pause

    def open(self) -> None: ...

    async def publish(self, stream: str, payloads: Any) -> range:
        await self._turn()
        positions = await super().publish(stream, payloads)
        await self._pause()
        return positions

    async def read(self, stream: str, after: int, limit: int) -> Any:
        await self._turn()
        return await super().read(stream, after, limit)

    async def compare_and_set(self, key: str, expected_version: int, data: bytes) -> Any:
        await self._turn()
        return await super().compare_and_set(key, expected_version, data)

    async def truncate(self, stream: str, upto: int) -> None:
        await self._turn()
        await super().truncate(stream, upto)

    async def close(self) -> None: ...

    async def _turn(self) -> None:
        await self._pause()
        if self._life.dead:
            raise JournalError("the process is dead")


class FakeLock:
    """The data directory is ours."""

    def acquire(self) -> None: ...

    def release(self) -> None: ...


class FakeProbe:
    """Examine by meeting the version's faults."""

    def __init__(self, world: Any) -> None:
        self._disk: Disk = world.disk
        self._meet: Callable[[FakeVersion, str], Any] = world.suffer

    async def start(self) -> None: ...

    async def examine(self, version: Version, name: str, *, limits: Any) -> Any:
        await self._meet(self._disk.versions[version.digest], "probe")
        return SimpleNamespace(code=None, warnings=(), patched=(), changed=())

    async def close(self) -> None: ...


class FaultyRoutes(Routes):
    """The real routing table, before which a fault may come."""

    def __init__(self, world: Any) -> None:
        super().__init__()
        self._before: Callable[[Any], None] = world.before_assign

    def assign(self, generations: Any) -> Any:
        self._before(generations)
        return super().assign(generations)
