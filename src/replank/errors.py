"""What can go wrong, said for the operator.

Every error carries the same six facts as attributes and builds its message from them: the module,
the phase, what was found, what was expected, what serves now, and what to do. The class says whose
fault it is: the caller's (`UsageError`), the configuration's (`ConfigError`), the module author's
(`ModuleError`), the traffic's (`TrafficError`), the disk's (`StorageError`), or ours
(`InternalError`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return the question that helps after a slip of the pen; None when nothing is near.

    Args:
        name: What was given.
        known: What there is.
    """
    import difflib  # noqa: PLC0415 - only who made a slip pays for it

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else None


class ReplankError(Exception):
    """Say what happened and what to do about it.

    Args:
        what: One sentence without a final full stop: what happened.
        module: Name of the module concerned.
        phase: Name of the phase in which it happened ("prepare", "drain", ...).
        found: What was found.
        expected: What was expected instead.
        serves: What serves now, for example "ledger 1.0 (generation 3)".
        do: What to do next, in the imperative.
        location: Where in the author's own source, "file.py:12".
    """

    def __init__(
        self,
        what: str,
        *,
        module: str | None = None,
        phase: str | None = None,
        found: str | None = None,
        expected: str | None = None,
        serves: str | None = None,
        do: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.module = module
        self.phase = phase
        self.found = found
        self.expected = expected
        self.serves = serves
        self.do = do
        self.location = location
        self.candidate_traceback = ""
        """The candidate's own frames, with its author's file names and source lines."""

    @property
    def kind(self) -> str:
        """The class name: the stable, machine-readable name of this error."""
        return type(self).__name__

    def __str__(self) -> str:
        """Build the message from the facts that are known."""
        where = ": ".join(part for part in (self.module, self.phase) if part)
        lines = [f"{where}: {self.what}" if where else self.what]
        if self.location:
            lines[0] += f" ({self.location})"
        for label, text in (
            ("found", self.found),
            ("expected", self.expected),
            ("now serving", self.serves),
            ("do", self.do),
        ):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)


class UsageError(ReplankError):
    """The caller asked for something that cannot be; nothing was changed."""


class UnknownModule(UsageError):
    """No module of that name is loaded."""


class UnknownCall(UsageError, AttributeError):
    """The module has no public call of that name."""


class WrongArguments(UsageError):
    """The arguments do not fit the call's parameters or their types."""


class SelfReload(UsageError):
    """A call waits for the reload of a module it is itself running in: it would wait for ever."""


class ConfigError(UsageError):
    """`replank.toml` or an option is wrong."""


class ModuleError(ReplankError):
    """The module's author has to act."""


class SourceError(ModuleError):
    """The source does not load: syntax, import, exception, exit, crash or endless loop."""


class DefinitionError(ModuleError):
    """The source loads but is no module: none or two in the file, bad annotations, bad wiring."""


class SchemaError(ModuleError):
    """The state's shape changed and nothing says how to get from the old to the new."""


class MigrationError(ModuleError):
    """A migration step failed, or what it made does not fit the new types.

    Attributes:
        step: The step, "step 1 -> 2", where one is to blame.
        place: Where in the state: field, key, field; `*` for a key that is not known there.
        old: The old value, shown.
        new: What was made of it, shown.
    """

    step = ""
    place: tuple[Any, ...] = ()
    old = ""
    new = ""

    def at(self, step: str, place: tuple[Any, ...], *, old: str = "", new: str = "") -> Self:
        """Note the facts that a list of bad records needs one by one."""
        self.step, self.place, self.old, self.new = step, place, old, new
        return self


class TooManyBadRecords(MigrationError):
    """More records do not migrate than the module's policy lets go to the quarantine."""


class CheckError(ModuleError):
    """A check said that the candidate or its state is not well."""


class ContractError(ModuleError):
    """The candidate no longer offers what its users use."""


class TrustError(ModuleError):
    """The source is not the one that was reviewed, or nobody who may has signed it."""


class PhaseTimeout(ModuleError):
    """A phase did not end within its deadline."""


class RemoteError(ReplankError):
    """An isolated module raised an exception whose class exists in its own process only.

    Where that class is one of a builtin's, as a `ValueError`, this is one of it, too.

    Attributes:
        type_name: The name of the exception's class.
    """

    type_name = ""


class TrafficError(ReplankError):
    """A call or message could not be taken."""


class Overloaded(TrafficError):
    """Too many calls or messages wait already; this one was not taken."""


class HostStopped(TrafficError):
    """The host is stopping or stopped; nothing new is taken."""


class CallAborted(TrafficError):
    """The call was ended by the module's drain policy."""


class ModuleCrashed(TrafficError):
    """The process of an isolated module ended while the call was in it: it may be half done."""


class ModuleDown(TrafficError):
    """The process of an isolated module ended too often: it takes no calls until it is reloaded."""


class StateSealed(TrafficError):
    """A call that outlived its generation tried to write to state that is no longer current."""


class StreamEnded(TrafficError):
    """An open stream was ended, because another version serves now."""


class StorageError(ReplankError):
    """The disk, or what lies on it, is not as it must be."""


class SnapshotError(StorageError):
    """A snapshot is torn, corrupt, foreign or newer than this program."""


class JournalError(StorageError):
    """The journal cannot be read or written."""


class StoreError(StorageError):
    """A stored version is missing or changed."""


class DataDirBusy(StorageError):
    """Another host holds the data directory."""


class ReloadFailed(ReplankError):
    """Raised by `ReloadReport.raise_for_outcome` when a reload did not commit."""


class InternalError(ReplankError):
    """A mistake of Replank itself; please report it with the message."""


__all__ = [
    name
    for name, value in list(globals().items())
    if isinstance(value, type) and issubclass(value, ReplankError)
]
