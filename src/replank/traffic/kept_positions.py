"""How far each snapshot that is kept had come in a stream: what lies after the lowest is needed."""

from __future__ import annotations

import msgspec

from replank.journal.port import TrimmablePort


class KeptPositions:
    """The positions of the snapshots that are kept, themselves kept beside the stream.

    Args:
        port: Where the stream is.
        stream: Its name.
        snapshots_kept: How many snapshots of the state are kept.
    """

    def __init__(self, port: TrimmablePort, stream: str, snapshots_kept: int) -> None:
        self._port = port
        self._stream = stream
        self._key = f"{stream}/saved"
        self._most = snapshots_kept
        self.began_at: int | None = None
        """Where the state stood that the module was started from, till the first save after it."""

    async def saved(self, position: int) -> None:
        """Forget what no kept snapshot needs, now that one with this position is on the disk.

        A crash before this is written leaves an older list, by which less is forgotten.

        Args:
            position: The position in the mark of that snapshot.

        Raises:
            JournalError: It could not be written; nothing that is needed was forgotten.
        """
        kept = await self.note([position])
        if kept is not None and len(kept) == self._most:
            await self._port.truncate(self._stream, min(kept))

    async def note(self, new: list[int]) -> list[int] | None:
        """Note the positions of new snapshots; returns those of all that are kept.

        After a start from an older snapshot, for a newer one was torn, those that are written next
        have lower positions than some that are known here, and may be needed yet: none that is
        known stands higher than the start.

        Args:
            new: Their positions, oldest first; none to note the start alone.

        Returns:
            None when another has written meanwhile.

        Raises:
            JournalError: It could not be written.
        """
        began_at = self.began_at
        held = await self._port.get(self._key)
        before = msgspec.msgpack.decode(held.data, type=list[int]) if held else []
        known = [min(one, began_at) for one in before] if began_at is not None else before
        kept = [*known, *new][-self._most :]
        if kept != before:
            data = msgspec.msgpack.encode(kept)
            version = held.version if held else 0
            if await self._port.compare_and_set(self._key, version, data) is None:
                return None
        if self.began_at == began_at:  # else it went back meanwhile
            self.began_at = None
        return kept


__all__ = ["KeptPositions"]
