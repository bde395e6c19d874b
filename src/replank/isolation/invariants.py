"""The invariants of an isolated module: each version is asked in its own process.

The version that serves answers in the same turn of its loop in which its state is copied; the
candidate answers about that copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from replank.errors import PhaseTimeout
from replank.isolation.transfer import RemoteTransfer
from replank.verification.invariants import cannot_say, compare, not_compared


class RemoteInvariants:
    """The invariants that both versions of an isolated module define.

    Args:
        module: Name of the module.
        transfer: The way of its state.
        names: Of the invariants.
    """

    def __init__(self, module: str, transfer: RemoteTransfer, names: Collection[str]) -> None:
        self.module = module
        self.names = tuple(sorted(names)) if transfer.from_live else ()
        self.warnings: list[str] = []
        self.seconds: dict[str, float] = {}
        """What asking both versions took, by name."""
        self._transfer = transfer

    async def rehearse(self, limit_s: float) -> tuple[str, ...]:
        """Copy the state anew and ask both versions about that moment.

        Args:
            limit_s: Seconds for all answers.

        Returns:
            The names of those that hold.

        Raises:
            CheckError: One does not, or the candidate cannot answer.
            PhaseTimeout: They did not answer in time.
        """
        self._transfer.invariants = self.names
        await self._transfer.again()
        held = await self.verify(limit_s)
        self.leave_out([name for name in self.names if name not in held])
        return held

    def leave_out(self, names: Sequence[str]) -> None:
        """Do not ask these again."""
        self.names = tuple(name for name in self.names if name not in names)
        self._transfer.invariants = self.names

    async def verify(self, limit_s: float) -> tuple[str, ...]:
        """Ask the candidate, and compare with what was said with the last copy.

        Args:
            limit_s: Seconds for all answers.

        Returns:
            The names of those that hold.

        Raises:
            CheckError: One does not, or the candidate cannot answer.
            PhaseTimeout: It did not answer in time.
        """
        before = self._transfer.answers
        wanted = []
        for name in self.names:
            kind, said, _ = before.get(name, ("raised", "nothing", 0.0))
            if kind == "raised":
                self.warnings.append(not_compared(self.module, name, said))
            else:
                wanted.append(name)
        after = await self._ask(tuple(wanted), limit_s)
        for name in wanted:
            kind, said, seconds = after[name]
            self.seconds[name] = before[name][2] + seconds
            if kind == "raised":
                raise cannot_say(self.module, name, before[name][1], said)
            compare(self.module, name, before[name][1], said)
        return tuple(wanted)

    async def _ask(self, names: tuple[str, ...], limit_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(limit_s):
                return await self._transfer.ask_candidate(names)
        except TimeoutError:
            raise PhaseTimeout(
                f"the invariants {', '.join(names)} did not answer within {limit_s:g} s",
                module=self.module,
                expected="functions that look at the state and return",
                do="look for an endless loop",
            ) from None


__all__ = ["RemoteInvariants"]
