"""Large documents are written and read by a forked child; a file without a name lies between.

JSON of 100 MB is encoded and decoded in one call that nothing interrupts: in the host it would
stall every caller for a second. The child does it, and the host reads the file in a thread. For an
import the file is a snapshot, which is read in slices.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from replank.forks import Fork, can_fork
from replank.memory import gather_pages
from replank.state.collector import shared_heap
from replank.state.document import read_document, write_document
from replank.state.exchange import Code, completed, fit, snapshot_of, way_to
from replank.state.format import Snapshot, frames
from replank.state.holder import Holder
from replank.state.loading import load, read_head
from replank.state.snapshot import disk_errors
from replank.state.writing import state_items, worth_a_fork
from replank.threads import brisk_switching, in_thread

DOCUMENT_FROM_BYTES: Final = 1 << 19
"""Documents from this size are read by a child: some 5 ms of decoding."""


class Spool:
    """A file without a name, and the child that fills it.

    Args:
        folder: Where there is room.
        module: Whose state it is, for errors.
        work: Yields what the child writes.

    Raises:
        OSError: There is no room for another process, or for the file.
    """

    def __init__(self, folder: Path, module: str, work: Callable[[], Iterable[bytes]]) -> None:
        self._heap = contextlib.ExitStack()
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the stack closes it
        self.file = self._heap.enter_context(file)
        self._heap.enter_context(shared_heap())

        def fill() -> bytes:
            with disk_errors("of the exchange", module):
                for part in work():
                    self.file.write(part)
                self.file.flush()
            return b""

        try:
            fork = Fork(fill, f"the child for the state of {module}", keep=[self.file.fileno()])
        except BaseException:
            self._heap.close()
            raise
        self._fork = fork

    async def finish(self, limit_s: float) -> None:
        """Wait until the child has filled the file.

        Args:
            limit_s: Seconds that it may take.

        Raises:
            ReplankError: What the work raised; or the child was killed, or too slow.
        """
        await self._fork.answer(limit_s)

    @property
    def path(self) -> Path:
        """By which the file can be opened anew, from its beginning."""
        return Path(f"/proc/self/fd/{self.file.fileno()}")

    def close(self) -> None:
        """Let the file go."""
        self._heap.close()


async def approach_export(holder: Holder) -> None:
    """Make ready for `begin_export`, while calls go on.

    Args:
        holder: The generation that serves.
    """
    if worth_a_fork(state_items(holder)) and can_fork():
        await gather_pages()


def begin_export(holder: Holder, digest: str, folder: Path) -> Snapshot | Spool:
    """Hold fast a module's state for an export; nothing may be in flight in the module.

    Args:
        holder: The generation that serves.
        digest: Digest of its version.
        folder: Where there is room for the document.

    Raises:
        MigrationError: A value cannot be taken apart.
    """
    if worth_a_fork(state_items(holder)) and can_fork():

        def work() -> Iterator[bytes]:
            yield write_document(snapshot_of(holder, digest))

        with contextlib.suppress(OSError):
            return Spool(folder, holder.definition.name, work)
    return snapshot_of(holder, digest)


async def finish_export(held: Snapshot | Spool, limit_s: float) -> bytes:
    """Return the document of what was held fast.

    Args:
        held: From `begin_export`.
        limit_s: Seconds that the child may take.

    Raises:
        SnapshotError: The state holds something that exists in one process only.
    """
    if isinstance(held, Snapshot):
        with brisk_switching():
            return await in_thread(write_document, held)
    try:
        await held.finish(limit_s)
        held.file.seek(0)
        return await in_thread(held.file.read)
    finally:
        held.close()


async def read_import(
    document: bytes, code: Code, folder: Path, limit_s: float
) -> tuple[Snapshot, dict[str, Any], tuple[str, ...]]:
    """Build all values of a document for the code that serves; nothing is replaced.

    Args:
        document: What an export returned.
        code: Of the generation that shall hold the state.
        folder: Where there is room for a snapshot of it.
        limit_s: Seconds that a child may take.

    Returns:
        The snapshot, every field that is not carried, and the steps of the way.

    Raises:
        UsageError: It is no export of this module, or newer than the code.
        ModuleError: It cannot be migrated, or does not fit its types.
    """
    module = code.definition.name
    spool: Spool | None = None
    if len(document) >= DOCUMENT_FROM_BYTES and can_fork():
        await gather_pages()
        with contextlib.suppress(OSError):
            spool = Spool(folder, module, lambda: frames(read_document(document, module)))
    if spool is None:
        with brisk_switching():
            snapshot = await in_thread(read_document, document, module)
            values, way = await in_thread(fit, snapshot, code)
        return snapshot, values, way.steps
    try:
        await spool.finish(limit_s)
        way = way_to(await in_thread(read_head, spool.path), code)
        schema, hints = code.definition.schema, code.definition.hints
        snapshot, built = await load(spool.path, way, schema, hints, code.own)
        return snapshot, completed(built, code), way.steps
    finally:
        spool.close()


__all__ = ["DOCUMENT_FROM_BYTES", "Spool", "begin_export", "finish_export", "read_import"]
