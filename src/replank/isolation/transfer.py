"""The way of a state from one worker to another: copied whole, over two sockets.

The old worker freezes it into the bytes of a snapshot, the host hands them on and does not look
inside, and the candidate's worker migrates them and builds its values. The rehearsal does just that
on the live state; what it took is the predicted pause.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from replank.code.store import Stored
from replank.isolation.worker_state import Way
from replank.state.bad_policy import BadRecord
from replank.state.limits import StateLimits
from replank.state.meter import Forecast, Meter, metered
from replank.state.parking import Parked
from replank.threads import in_thread
from replank.traffic.drain import Drained

if TYPE_CHECKING:
    from replank.isolation.remote import RemoteGeneration


class RemoteTransfer:
    """Copy the state in the window for the rehearsal, and again in the pause.

    Args:
        old: The generation that serves.
        new: The candidate.
    """

    mode = "eager"
    moved: frozenset[str] = frozenset()
    """Nothing: the candidate's state is another one."""

    def __init__(self, old: RemoteGeneration, new: RemoteGeneration) -> None:
        self.meter: Meter | None = None
        self.records = 0
        self.predicted_pause_s = 0.0
        self.invariants: tuple[str, ...] = ()
        """Which to ask of the old state whenever it is copied."""
        self.answers: dict[str, Any] = {}
        """What they said then: what kind of answer, the answer, and the seconds it took."""
        self._old = old
        self._new = new
        self._body: bytes | None = None
        self._bad: list[BadRecord] = []
        self._way = Way((), True, False)
        self._digests = ("", "")

    async def prepare(self, limits: StateLimits, parked: Parked | None, *, going_back: bool) -> Way:
        """Find the way, and estimate what it costs.

        Raises:
            SchemaError: There is no way.
        """
        old, new = self._old.definition.schema, self._new.definition.schema
        down = new.version < old.version
        other = Stored.of(self._old.version) if down else None
        found = await self._new.request(
            "state.way", old.to_dict(), other, limits, parked, going_back
        )
        self._way = Way(*found)
        expected = Forecast()
        if self._old.worker.alive:
            expected = await self._old.request("state.forecast")
        self.meter = Meter(expected, lambda: self.predicted_pause_s)
        return self._way

    @property
    def followed(self) -> bool:
        """Whether a way down brings the old state back with what was written since."""
        return self._way.reversible

    def bad_records(self) -> list[BadRecord]:
        """Return the records that did not migrate."""
        return self._bad

    @metered
    async def snapshot(self, drained: Drained | None) -> None:
        """Have the old worker freeze its state; one that is gone has left it on the disk."""
        if drained is None and self._old.down is None:
            await self._old.come_back()  # it may be started again just now
        began = perf_counter()
        if self._old.down is not None:
            self._body = await self._last_saved()
        else:
            found = await self._old.request("state.snapshot", self.invariants, drained is not None)
            self._body, self.answers = found
        if drained is None:
            self.predicted_pause_s = perf_counter() - began

    async def _last_saved(self) -> bytes | None:
        if self._old.last_saved is None:
            return None
        return await in_thread(self._old.last_saved[0].read_bytes)

    @metered
    async def migrate(self, drained: Drained | None) -> None:
        """Have the candidate's worker migrate the copy and build its values."""
        if self._body is None:
            return
        began = perf_counter()
        final = drained is not None
        found = await self._new.request("state.migrate", self._body, final)
        self.records, self._bad, checking_s = found
        self._body = None
        if not final:
            self.predicted_pause_s += perf_counter() - began - checking_s

    @metered
    async def restore(self, drained: Drained | None) -> None:
        """Have the candidate's worker assign what it has built."""
        if self._old.down is not None and self._old.last_saved is None:
            return
        final = drained is not None
        digests = await self._new.request("state.restore", final)
        if not final:
            self._digests = tuple(digests)

    @property
    def from_live(self) -> bool:
        """Whether the old version lives, and can be asked."""
        return self._old.down is None

    async def ask_candidate(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return what invariants say of the candidate's state.

        Args:
            names: Which.
        """
        found: dict[str, Any] = await self._new.request("state.ask_invariants", names)
        return found

    async def again(self) -> None:
        """Copy, migrate and restore once more, while the old version serves."""
        await self.snapshot(None)
        await self.migrate(None)
        await self.restore(None)

    def align(self) -> None:
        """Do nothing: two processes have no common instant. `again` comes near to it."""

    async def approach(self) -> None:
        """Do nothing: all of it is copied in the pause."""

    def digests(self) -> tuple[str, str]:
        """Return the digests of the copy and of the candidate's state, both in the window."""
        return self._digests

    def abandon(self) -> None:
        """Drop the copy."""
        self._body = None

    def committed(self) -> None:
        """Let the candidate come back from the last snapshot until it has one of its own."""
        if self._new.last_saved is None:
            self._new.last_saved, self._new.last_mark = self._old.last_saved, self._old.last_mark

    async def settle(self) -> None:
        """Drop the copy."""
        self.abandon()
        if self._new.worker.alive:
            await self._new.request("state.forget")

    async def parked(self) -> Parked:
        """Return what a way down had no room for: it comes back with the version that wrote it."""
        found: Parked = await self._new.request("state.parked")
        return found


__all__ = ["RemoteTransfer"]
