"""A generation whose code is loaded in a process of its own.

To the coordinator it is a generation like any other: it has a lane with entries and methods, it can
be wired, started, sealed and unloaded. What differs is here: a call is sent to the worker and its
answer awaited, and the state is where the worker is.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Any, Final, NoReturn

from msgspec import structs

from replank.code.entries import generic_entry
from replank.code.generation import Generation, KnownWay
from replank.code.store import Stored, Version
from replank.definition import CallKind
from replank.errors import (
    InternalError,
    ModuleCrashed,
    ModuleDown,
    ReplankError,
    SnapshotError,
    WrongArguments,
)
from replank.isolation.host_side import RemoteWorker
from replank.isolation.link import LinkEnded
from replank.isolation.offered import Elsewhere, definition_of
from replank.isolation.remote_frozen import RemoteFrozen
from replank.isolation.remote_lane import RemoteItems, RemoteLane, RemoteSeal
from replank.isolation.transfer import RemoteTransfer
from replank.isolation.values import Uncrossable, pack
from replank.isolation.worker_state import Restored
from replank.module import Runtime
from replank.state.holder import Transfer
from replank.state.keeper import Kept, StateKeeper
from replank.state.limits import StateLimits
from replank.state.loading import read_head
from replank.state.names import Namespace
from replank.state.parking import Parked
from replank.state.snapshot import Snapshot, read
from replank.threads import in_thread
from replank.traffic.leaf import LeafPass
from replank.traffic.message import RawArguments
from replank.traffic.messages import Mark
from replank.traffic.streams import stream_entry
from replank.verification.effects import Effects

VersionOf = Callable[[str], Awaitable[Version]]
"""Finds a stored version by its digest."""
_CANDIDATE_PATIENCE_S: Final = 0.5
_NOTHING_KNOWN: Final = "it has not been saved yet"


class RemoteGeneration(Generation):
    """One loaded copy of a module, in its worker.

    Attributes:
        worker: The process; another one after a crash.
        remote_lane: The way in for calls.
        down: Why it does not come back; None while it does, or lives.
        last_saved: Path of the last snapshot, and when it was taken.
        last_mark: Of the inbox, in that snapshot.
        restarts: How often its process was started again.
        on_unload: Told when its process is ended for good.
    """

    def __init__(
        self,
        number: int,
        version: Version,
        lane: RemoteLane,
        worker: RemoteWorker,
        version_of: VersionOf,
    ) -> None:
        definition = definition_of(worker.offer)
        code = Elsewhere(f"{definition.name}@{number}")
        super().__init__(number, version, code, definition, None, lane)
        self.worker = worker
        self.remote_lane = lane
        self.version_of = version_of
        self.down: ReplankError | None = None
        self.last_saved: tuple[Path, str] | None = None
        self.last_mark = Mark(0)
        self.restarts = 0
        self._back = asyncio.Event()
        self._back.set()
        self.on_unload: Callable[[], None] = _nobody
        lane.remote = self
        self._fill_lane()

    def _fill_lane(self) -> None:
        definition, lane = self.definition, self.lane
        names = {*definition.calls, *definition.functions, *definition.invariants}
        names |= {one.name for one in definition.checks} | {one.name for one in definition.timers}
        self.methods = {name: self._method(name) for name in names}
        lane.contract = definition.calls
        lane.methods = {name: self.methods[name] for name in definition.calls}
        lane.label = f"{definition.name} {definition.label} (generation {self.number})"
        lane.entries = {
            name: stream_entry(lane, name)
            if call.kind is CallKind.STREAM
            else generic_entry(lane, name, self.methods[name], is_async=True)
            for name, call in definition.calls.items()
        }
        if not self.worker.offer.calls_others:
            lane.leaf = LeafPass(lane)

    # -- calls ------------------------------------------------------------------------------------

    def _method(self, name: str) -> Callable[..., Any]:
        call = self.definition.calls.get(name)
        if call is not None and call.kind is CallKind.STREAM:

            def begin(*args: Any, **kwargs: Any) -> RemoteItems:
                return RemoteItems(self, next(_numbers), (name, args, kwargs))

            begin.__name__ = name
            return begin

        async def remote(*args: Any, **kwargs: Any) -> Any:
            if name == "on_stop" and not self.worker.alive:
                return None  # there is nothing left that it could stop
            return await self._call(name, args, kwargs)

        # Who looks for what blocks a drain reads the call's name off its frame.
        remote.__code__ = remote.__code__.replace(co_name=name, co_qualname=name)
        remote.__name__ = name
        return remote

    async def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            body = pack((name, args, kwargs))
        except Uncrossable as error:
            raise WrongArguments(
                f"an argument of {name} cannot reach the process of its module",
                module=self.definition.name,
                found=str(error),
                expected="plain values, records, dataclasses, enums and the like",
                do="send plain values",
            ) from None
        return await self._asked("call", name, body)

    async def next_item(self, stream: int) -> tuple[str, Any]:
        """Have the next item of a stream computed; returns ("item", it) or ("end", None)."""
        found: tuple[str, Any] = await self._asked("next", "a stream", pack((stream,)))
        return found

    async def while_back(self, name: str) -> Any:
        """Run a hook in the next process, while calls wait for that."""
        try:
            return await self.worker.ask("call", pack((name, (), {})), contextvars.copy_context())
        except LinkEnded:
            raise await self._crashed(self.worker, name) from None

    async def _asked(self, what: str, name: str, body: bytes) -> Any:
        if not self._back.is_set() or self.down is not None:
            await self.come_back()
        worker = self.worker
        context = contextvars.copy_context() if self.lane.leaf is None else None
        try:
            return await worker.ask(what, body, context, self._patience_s)
        except LinkEnded:
            raise await self._crashed(worker, name) from None

    @property
    def _patience_s(self) -> float | None:
        """How long a cancelled call may go on: one of a candidate must not hold up the pause."""
        return None if self.serves or self.started_at else _CANDIDATE_PATIENCE_S

    @property
    def serves(self) -> bool:
        """Whether calls get here, now or when the gate opens."""
        return self.lane.gate.lane is self.lane

    async def come_back(self) -> None:
        """Return when the process has been started again, or never was away.

        Raises:
            ModuleDown: It is not started again.
        """
        if self.down is None and not self._back.is_set():
            if not self.serves:  # a candidate: nobody starts it again
                raise ModuleDown("its process has ended", module=self.definition.name)
            await self._back.wait()
        if self.down is not None:
            raise copy(self.down)

    async def _crashed(self, worker: RemoteWorker, name: str) -> ModuleCrashed:
        how = await worker.obituary()
        if self.last_saved is not None:
            lost = f"what was written since {self.last_saved[1]}, when its state was last saved"
        else:
            lost = f"its state: {_NOTHING_KNOWN}"
        again = f"{self.label}, started again from its last snapshot; lost is {lost}"
        return ModuleCrashed(
            f"the process of the module ended while {name} ran in it: {how}",
            module=self.definition.name,
            found=f"pid {worker.process.pid} of {self.label}, which ran since {worker.started_at}",
            expected="a process that lives as long as the host",
            serves=again if self.serves else None,
            do="look what the call has done before you call again",
        )

    async def request(self, name: str, *args: Any) -> Any:
        """Ask the worker for an operation.

        Raises:
            ModuleCrashed: Its process has ended.
            BaseException: What it raised.
        """
        worker = self.worker
        try:
            return await worker.request(name, *args, patience_s=self._patience_s)
        except LinkEnded:
            raise await self._crashed(worker, name.rpartition(".")[2]) from None

    def note(self, name: str, *args: Any) -> None:
        """Tell the worker something that wants no answer."""
        self.worker.note(name, *args)

    async def check_arguments(self, call: str, raw: RawArguments) -> None:
        """Have the arguments of a message read by the process that knows their types.

        Raises:
            WrongArguments: They do not fit.
        """
        await self.come_back()
        await self.request("check", call, raw)

    # -- its process ------------------------------------------------------------------------------

    async def approach(self) -> None:
        """Have the worker make ready for `freeze`, while calls go on."""
        if self.worker.alive:
            await self.request("state.approach")

    async def freeze(self, mark: Mark) -> RemoteFrozen | Snapshot:
        """Have the worker hold its state fast with its inbox's mark.

        Where there is none, its last snapshot is taken again: the inbox has gone back to it, and
        what waits there now must not be lost.
        """
        if not self.worker.alive and self.last_saved is not None:
            last = await in_thread(read, self.last_saved[0])
            return structs.replace(last, messages=mark.messages, inbox_position=mark.position)
        await self.request("state.freeze", mark.position, mark.messages)
        return RemoteFrozen(self, mark)

    def lost(self) -> None:
        """Note that the process has ended: calls wait from now on."""
        self._back.clear()

    def replaced(self, worker: RemoteWorker) -> None:
        """Take another process as the generation's own."""
        self.worker = worker
        self.restarts += 1

    def resumed(self) -> None:
        """Let the calls that wait for the process go on."""
        self._back.set()

    def gave_up(self, error: ReplankError) -> None:
        """Refuse every call from now on."""
        self.down = error
        self._back.set()

    # -- what a generation can --------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether its process lives."""
        return self.worker.alive

    @property
    def own(self) -> Namespace:
        """The names that are its own: none of this process."""
        return Namespace(self.code.private_name)

    def values(self) -> dict[str, Any]:
        """Refuse: the state is in another process."""
        self._not_here()

    def assign(self, values: Mapping[str, Any]) -> None:
        """Refuse: the state is in another process."""
        del values
        self._not_here()

    def _not_here(self) -> NoReturn:
        raise InternalError(
            "the state of an isolated module is not in the host", module=self.definition.name
        )

    def wire(self, handles: Mapping[str, Any], runtime: Runtime) -> None:
        """Note who answers when the worker asks for another module, or for the host."""
        self.worker.handles, self.worker.runtime = handles, runtime

    def seal_off(self, moved: frozenset[str]) -> Callable[[], None]:
        """Have the worker refuse writes; returns what lifts that."""
        del moved
        self.seal = self.lane.seal = seal = RemoteSeal(self)
        return seal.lift

    def watched(self, effects: Effects, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return the hook as it is: what it does outside itself ends with its process."""
        del effects
        return hook

    async def note_undeclared(self) -> None:
        """Have the worker note what it holds besides its state."""
        await self.request("started")

    async def undeclared_warnings(self) -> list[str]:
        """Return a warning for each piece of data that a reload would leave behind."""
        if not self.worker.alive:
            return []
        found: list[str] = await self.request("state.undeclared")
        return found

    async def way_to(
        self,
        new: Generation,
        *,
        limits: StateLimits,
        grace: Callable[[], Awaitable[object]],
        parked: Parked | None,
        going_back: bool,
        goes_back: bool,
    ) -> tuple[KnownWay, Transfer]:
        """Find how the state gets to a candidate in another worker."""
        del grace, goes_back
        assert isinstance(new, RemoteGeneration), "a module is isolated in all its generations"
        transfer = RemoteTransfer(self, new)
        way = await transfer.prepare(limits, parked, going_back=going_back)
        return way, transfer

    async def load_kept(
        self, keeper: StateKeeper, steps_of_version: Callable[[str], Awaitable[Any]]
    ) -> Kept:
        """Have the worker restore the last sound snapshot on the disk."""
        del steps_of_version
        warnings: list[str] = []
        name = self.definition.name
        for path in keeper.found(name):
            try:
                head = await in_thread(read_head, path)
                other = await self._other(head.digest)
                found = Restored(*await self.request("state.load", str(path), other))
            except SnapshotError as error:
                warnings.append(f"{error.what}; the snapshot before it is used")
                continue
            self.last_saved = (path, found.taken_at)
            self.last_mark = Mark(found.position, found.messages)
            return Kept({}, found.messages, tuple(warnings), found.position)
        return Kept(warnings=tuple(warnings))

    async def _other(self, digest: str) -> Stored | None:
        """Return the version that wrote a snapshot, when it is another one and still stored."""
        if digest == self.version.digest:
            return None
        try:
            return Stored.of(await self.version_of(digest))
        except ReplankError:
            return None

    def unload(self) -> None:
        """End its process."""
        self.worker.let_go()
        self.on_unload()
        super().unload()

    def witness(self) -> None:
        """Return nothing: nothing of its code is in this process."""


def _nobody() -> None:
    """Tell nobody."""


_numbers: Final = itertools.count(1)
"""Of streams: unique in the process, so that no worker meets one twice."""

__all__ = ["RemoteGeneration", "VersionOf"]
