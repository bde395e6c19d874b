"""The state of a module in its worker: frozen, migrated, restored and saved, by the host's word.

What is done is what the host does with a state of its own; only who asks is another process. A
snapshot leaves as the bytes of a snapshot's file, and what arrives as such bytes is migrated by the
code that is loaded here: the newer one of the two, or both.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple

from replank.code.generation import Generation, undeclared_data
from replank.code.loader import Loader
from replank.code.store import Stored
from replank.errors import SchemaError, SnapshotError, UsageError
from replank.isolation.link import BODY_BYTES_MAX
from replank.isolation.wanted import Load
from replank.migration.engine import Migration, find_path, steps_of
from replank.migration.steps import Step
from replank.reading import read_definition
from replank.report_state import StateCost
from replank.state.bad_policy import BadRecords
from replank.state.eager import Differs, EagerTransfer, Up
from replank.state.exchange import StateReport, describe_state, freeze_in_slices, snapshot_of
from replank.state.forecast import forecast
from replank.state.format import Snapshot, SnapshotReader, frames
from replank.state.limits import StateLimits
from replank.state.loading import load, read_head
from replank.state.meter import Forecast
from replank.state.parking import Parked
from replank.state.sealing import seal
from replank.state.sizing import state_size
from replank.state.slices import Slices
from replank.state.spool import Spool, approach_export, begin_export, finish_export, read_import
from replank.state.writing import Copier, Writing
from replank.threads import in_thread
from replank.traffic.drain import Drained
from replank.traffic.messages import Mark

SOCKET_S_A_BYTE: Final = 10e-9
"""What a byte of state costs on its way: encoded, checked, sent, read and decoded."""


class Way(NamedTuple):
    """How a state gets to the schema of the code that is loaded here."""

    steps: tuple[str, ...]
    reversible: bool
    lossy: bool


class Restored(NamedTuple):
    """What was found in a snapshot's file besides the state."""

    messages: tuple[Any, ...]
    position: int
    records: int
    taken_at: str


class Arrival(EagerTransfer):
    """The way of a state that comes from another process."""

    received: Snapshot

    @property
    def checking_s(self) -> float:
        """What the check of the way back took, in seconds."""
        return self._whole.checking_s

    def _take(self, *, rehearsed: bool) -> None:
        """Take what has arrived instead of freezing a generation."""
        del rehearsed
        self.predicted_pause_s = 0.0
        self._snapshot = self.received
        self.records = self.received.records


class WorkerState:
    """What the host asks of the state.

    Args:
        generation: What is loaded here.
        wanted: What the host asked to be loaded.
    """

    def __init__(self, generation: Generation, wanted: Load) -> None:
        self._generation = generation
        self._wanted = wanted
        self._folder = Path(wanted.folder)
        self._copier = Copier(wanted.name, self._folder)
        self._frozen: Snapshot | Writing | None = None
        self._arrival: Arrival | None = None
        self._exported: Snapshot | Spool | None = None
        self._imported: dict[str, Any] = {}
        self._before: dict[str, Any] = {}

    # -- leaving ----------------------------------------------------------------------------------

    async def snapshot(
        self, invariants: tuple[str, ...], final: bool
    ) -> tuple[bytes, dict[str, Any]]:
        """Return the state as a snapshot's file, and what the invariants say of it.

        Args:
            invariants: Which to ask.
            final: Whether nothing is in flight, and nothing writes to it until the host says so.

        Returns:
            The bytes, and what `ask_invariants` returns.
        """
        answers = self.ask_invariants(invariants)
        generation = self._generation
        taken = snapshot_of(generation, generation.version.digest)
        if final and generation.seal is not None:
            generation.seal.differs = Differs(self._wanted.name, generation, taken.tree)
        body = b"".join(frames(taken))
        if len(body) > BODY_BYTES_MAX:
            raise SnapshotError(
                "the state is too large to be sent to another process",
                module=self._wanted.name,
                found=f"{len(body):,} bytes",
                expected=f"at most {BODY_BYTES_MAX:,}",
                do="run the module in the host, where its tables are migrated in a window",
            )
        return body, answers

    def ask_invariants(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what invariants say, by name: "is", answer, seconds; or "raised" and a text."""
        found: dict[str, Any] = {}
        for name in names:
            began = perf_counter()
            try:
                kind, said = "is", self._generation.methods[name]()
            except Exception as error:
                kind, said = "raised", f"{type(error).__name__}: {error}"
            found[name] = (kind, said, perf_counter() - began)
        return found

    async def forecast(self) -> Forecast:
        """Estimate what taking the state over costs, from a look at some items of each field."""
        seen = await forecast(self._generation, (), {})
        cost = StateCost(
            pause_s=seen.cost.pause_s + seen.state_bytes * SOCKET_S_A_BYTE,
            window_s=seen.cost.window_s,
            memory_bytes=seen.cost.memory_bytes + seen.state_bytes,
        )
        notes = (*seen.notes, "it is copied over a socket, in the pause: an isolated module")
        return Forecast(seen.state_bytes, cost, notes)

    def seal(self) -> None:
        """Refuse writes of calls and streams that go on although another version serves."""
        if self._generation.seal is None:
            seal(self._generation, ())

    def unseal(self) -> None:
        """Let the state be written again."""
        if self._generation.seal is not None:
            self._generation.seal.lift()

    async def undeclared(self) -> list[str]:
        """Return a warning for each piece of data that a reload would leave behind."""
        return undeclared_data(self._generation)

    # -- arriving ---------------------------------------------------------------------------------

    async def way(
        self,
        schema: Mapping[str, Any],
        other: Stored | None,
        limits: StateLimits,
        parked: Parked | None,
        going_back: bool,
    ) -> Way:
        """Find how a state of another schema gets here, and be ready to take it.

        Args:
            schema: The other schema.
            other: The version that holds the state, when its steps may be needed for a way down.
            limits: What the reload may take.
            parked: What an earlier return from this schema had no room for.
            going_back: Whether this is an earlier version.

        Raises:
            SchemaError: There is no way.
        """
        definition = self._generation.definition
        migration = find_path(
            definition.schema.from_dict(schema),
            definition.schema,
            steps_of(definition),
            module=self._wanted.name,
            reverse=_steps_of_version(other, self._wanted.name) if other is not None else (),
            going_back=going_back,
        )
        up = Up(migration, parked.small_for(migration) if parked else None)
        bad = BadRecords(self._wanted.name, limits)
        tables = parked.tables if parked else {}
        nobody = self._generation  # what is handed over as it is: nothing, between processes
        self._arrival = Arrival(self._wanted.name, nobody, self._generation, up, {}, bad, tables)
        return Way(migration.steps, migration.reversible, migration.lossy)

    async def migrate(self, body: bytes, final: bool) -> tuple[int, list[Any], float]:
        """Migrate a snapshot of the other process and build its values.

        Args:
            body: What `snapshot` returned there.
            final: Whether calls wait; else it is the rehearsal.

        Returns:
            How many records it has, those that did not migrate, and the seconds that the check of
            the way back took, which is left out when calls wait.
        """
        arrival = self._arrived
        arrival.received = SnapshotReader(io.BytesIO(body), "of the reload").snapshot()
        proof = self._proof if final else None
        await arrival.snapshot(proof)
        await arrival.migrate(proof)
        return arrival.records, arrival.bad_records(), arrival.checking_s

    async def restore(self, final: bool) -> tuple[str, str]:
        """Assign what was built; returns the digests before and after, in the rehearsal."""
        arrival = self._arrived
        await arrival.restore(self._proof if final else None)
        return ("", "") if final else arrival.digests()

    async def parked(self) -> Parked:
        """Return what the way here, down to an older version, had no room for."""
        return self._arrived.parked

    async def forget(self) -> None:
        """Drop what arrived."""
        self._arrival = None

    @property
    def _arrived(self) -> Arrival:
        assert self._arrival is not None, "the way is found first"
        return self._arrival

    @property
    def _proof(self) -> Drained:
        # The host has drained its gate; nothing gets here but through that.
        return Drained((self._wanted.name,))

    # -- on the disk ------------------------------------------------------------------------------

    async def load(self, path: str, other: Stored | None) -> Restored:
        """Restore the state from a snapshot's file.

        Args:
            path: The file.
            other: The version that wrote it, when that may be a newer one.

        Raises:
            SnapshotError: The file is torn, corrupt or foreign.
            ModuleError: It cannot be migrated.
        """
        definition, own = self._generation.definition, self._generation.own
        head = await in_thread(read_head, Path(path))
        migration = self._way_from(head, other)
        head, values = await load(Path(path), migration, definition.schema, definition.hints, own)
        self._generation.assign(values)
        return Restored(head.messages, head.inbox_position, head.records, head.taken_at)

    def _way_from(self, head: Snapshot, other: Stored | None) -> Migration:
        definition = self._generation.definition
        steps, name = steps_of(definition), self._wanted.name
        try:
            return find_path(head.schema, definition.schema, steps, module=name)
        except SchemaError:
            if other is None:
                raise
        back = _steps_of_version(other, name)
        return find_path(
            head.schema, definition.schema, steps, module=name, reverse=back, going_back=True
        )

    async def approach(self) -> None:
        """Make ready for `freeze`, while calls go on."""
        await self._copier.approach(self._generation)

    async def freeze(self, position: int, messages: tuple[Any, ...]) -> None:
        """Hold the state fast with its inbox's mark; nothing is in flight."""
        generation = self._generation
        mark = Mark(position, tuple(messages))
        self._frozen = self._copier.freeze(generation, generation.version.digest, mark)

    async def write(self, kind: str) -> tuple[str, int, str, str]:
        """Put what was held fast on the disk.

        Returns:
            The file's path, the schema version, the digest of the code, and when it was taken.
        """
        frozen, self._frozen = self._frozen, None
        assert frozen is not None, "it is held fast first"
        head, path = await self._copier.put(frozen, kind, self._wanted.write_limit_s)
        return str(path), head.schema.version, head.digest, head.taken_at

    # -- exchanged --------------------------------------------------------------------------------

    async def describe(self) -> StateReport:
        """Say what the state holds."""
        return describe_state(self._generation)

    def size(self) -> tuple[int, int]:
        """Return how many records the state has and about how many bytes it takes."""
        carried = set(self._generation.definition.carried)
        values = self._generation.values().items()
        return state_size({name: value for name, value in values if name not in carried})

    async def export_approach(self) -> None:
        """Make ready for `export_begin`, while calls go on."""
        await approach_export(self._generation)

    async def export_begin(self) -> None:
        """Hold the state fast for a document; nothing is in flight."""
        digest, folder = self._generation.version.digest, self._folder.parent
        self._exported = begin_export(self._generation, digest, folder)

    async def export(self) -> bytes:
        """Return the document of what was held fast."""
        held, self._exported = self._exported, None
        assert held is not None, "it is held fast first"
        return await finish_export(held, self._wanted.write_limit_s)

    async def sample(self) -> bytes:
        """Return a copy in which each record is whole, as a snapshot's file."""
        tree = await Slices().run(freeze_in_slices(self._generation))
        digest = self._generation.version.digest
        return b"".join(frames(snapshot_of(self._generation, digest, tree)))

    async def read(self, document: bytes) -> tuple[int, int, tuple[str, ...]]:
        """Build all values of a document; nothing is replaced yet.

        Returns:
            The document's schema version, its records, and the steps of its way.
        """
        limit_s = self._wanted.write_limit_s
        found, self._imported, steps = await read_import(
            document, self._generation, self._folder.parent, limit_s
        )
        return found.schema.version, found.records, steps

    async def put(self) -> None:
        """Assign what was read."""
        values = self._generation.values().items()
        self._before = {key: value for key, value in values if key in self._imported}
        self._generation.assign(self._imported)

    async def put_back(self) -> None:
        """Assign again what was there before."""
        self._generation.assign(self._before)
        self._imported, self._before = {}, {}

    async def put_done(self) -> None:
        """Let the state go that was replaced."""
        self._imported, self._before = {}, {}

    def operations(self) -> dict[str, Callable[..., Any]]:
        """Return what the host may ask, by name."""
        public = (
            *("snapshot", "forecast", "ask_invariants", "undeclared", "way", "migrate", "restore"),
            *("parked", "forget", "load", "freeze", "write", "describe", "export"),
            *("approach", "export_approach", "export_begin", "sample", "read"),
            *("put", "put_back", "put_done"),
        )
        return {f"state.{name}": getattr(self, name) for name in public}


def _steps_of_version(other: Stored, module: str) -> tuple[Step, ...]:
    """Return the migration steps of a stored version that does not serve here."""
    code = Loader().load(other.version(), module, 0)
    try:
        return tuple(steps_of(read_definition(code.module, module)))
    except UsageError:
        return ()
    finally:
        code.unload()


__all__ = ["Restored", "Way", "WorkerState"]
