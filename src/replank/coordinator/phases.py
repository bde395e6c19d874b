"""The eight phases, as a table. The coordinator runs them in this order; nothing else may.

Each phase has up to two parts: one in the *window*, while the old version serves, and one in the
*pause*, while calls wait. What fails in the window ends in `rejected` and no call has waited; what
fails in the pause is undone in reverse order and ends in `rolled_back`. The commit record is the
point of no return: after it a crash is finished forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from replank.config import ReloadConfig
from replank.errors import InternalError
from replank.report import Outcome, Phase

Where = Literal["window", "pause"]


@dataclass(frozen=True, slots=True)
class PhaseSpec:
    """What one phase does, and what becomes of the reload when it fails."""

    phase: Phase
    window: str
    """What it does while the old version serves; empty for nothing."""
    pause: str
    """What it does while calls wait; empty for nothing."""
    undo: str
    """What is taken back when it, or a later phase, fails."""

    def deadline_s(self, config: ReloadConfig) -> float:
        """Return the phase's deadline in seconds; each part gets the whole of it."""
        seconds: float = getattr(config, f"{self.phase}_timeout_s")
        return seconds

    def failure(self, where: Where) -> Outcome:
        """Return how a reload ends when this phase fails there."""
        return Outcome.REJECTED if where == "window" else Outcome.ROLLED_BACK


PHASES: Final = (
    PhaseSpec(
        Phase.PREPARE,
        window="store the source, probe it in a child process, load it beside the old version, "
        "compare contracts and schemas, find the migration path",
        pause="",
        undo="the candidate is unloaded, and what it started is taken back",
    ),
    PhaseSpec(
        Phase.DRAIN,
        window="",
        pause="close the gates; what is in flight finishes, within the deadline",
        undo="the gates open; waiting calls enter the version that serves",
    ),
    PhaseSpec(
        Phase.SNAPSHOT,
        window="copy the state",
        pause="copy what was written last",
        undo="the copy is dropped",
    ),
    PhaseSpec(
        Phase.MIGRATE,
        window="upgrade the copy and check it against the new types",
        pause="the same for what was written last",
        undo="the copy is dropped",
    ),
    PhaseSpec(
        Phase.SWAP,
        window="",
        pause="one assignment in the routing table for all modules of the transaction",
        undo="the table is put back",
    ),
    PhaseSpec(
        Phase.RESTORE,
        window="give the candidate its copy of the state",
        pause="hand over the state and the carried objects; on_start, timers and tasks",
        undo="the candidate is stopped; timers and tasks go on in the old version",
    ),
    PhaseSpec(
        Phase.VERIFY,
        window="run the checks on the rehearsed candidate",
        pause="run the quick checks",
        undo="nothing to take back",
    ),
    PhaseSpec(
        Phase.COMMIT,
        window="",
        pause="write the commit record; then the gates open",
        undo="nothing: after the record only forward",
    ),
)

SPECS: Final = {spec.phase: spec for spec in PHASES}
ORDER: Final = tuple(spec.phase for spec in PHASES)
REHEARSED: Final = tuple(spec.phase for spec in PHASES[1:] if spec.window)
"""The phases whose window part is the rehearsal."""
PAUSED: Final = tuple(spec.phase for spec in PHASES if spec.pause)


class Course:
    """Where a transaction stands in the table; an illegal step raises and changes nothing."""

    __slots__ = ("_steps", "at")

    def __init__(self) -> None:
        self._steps = (
            [(Phase.PREPARE, "window")]
            + [(phase, "window") for phase in REHEARSED]
            + [(phase, "pause") for phase in PAUSED]
        )
        self.at = -1

    def enter(self, phase: Phase, where: Where) -> None:
        """Go on to the next step.

        Raises:
            InternalError: It is not the next one.
        """
        following = self._steps[self.at + 1] if self.at + 1 < len(self._steps) else None
        if (phase, where) != following:
            raise InternalError(
                "a phase was run out of order",
                phase=phase,
                found=f"{phase} in the {where}",
                expected=" in the ".join(following) if following else "the end",
            )
        self.at += 1

    @property
    def calls_waited(self) -> bool:
        """Whether the pause has begun."""
        return self.at > len(REHEARSED)
