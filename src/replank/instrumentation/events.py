"""What happened, as frozen records in the past tense, and the bus that tells everyone.

Clients of every kind (log, live display, metrics, history) read these records and nothing else, so
that they can never disagree. A record crosses a process border as one JSON object with a `type`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from replank.report import ErrorReport, Phase, PhaseOutcome, ProbationReport, ReloadReport

_logger = logging.getLogger("replank")


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=True):
    """Something that happened to the host or one of its modules."""

    at: float = msgspec.field(default_factory=time.time)
    """Unix seconds."""


class HostStarted(Event, frozen=True, kw_only=True):
    """The host serves."""

    pid: int
    modules: tuple[str, ...]


class HostStopped(Event, frozen=True, kw_only=True):
    """The host has stopped; nothing is in flight."""

    pid: int


class ModuleLoaded(Event, frozen=True, kw_only=True):
    """A generation began to serve: at start, or by a reload that committed."""

    name: str
    label: str
    digest: str
    generation: int


class ReloadStarted(Event, frozen=True, kw_only=True):
    """A reload was taken up."""

    id: str
    modules: tuple[str, ...]
    reason: str = "call"


class ReloadDeferred(Event, frozen=True, kw_only=True):
    """A request for a reload has to wait."""

    id: str
    """Of the request, such as "s12"; the reload has no id yet."""
    modules: tuple[str, ...]
    why: str
    until: float | None = None
    """Unix seconds at which it is looked at again; None: when an operator says so."""
    priority: str = "normal"


class SourcesNoticed(Event, frozen=True, kw_only=True):
    """The watcher saw files change, and says what it does about it."""

    files: tuple[str, ...]
    """Some of them, when there are many."""
    total: int
    modules: tuple[str, ...] = ()
    """Modules that are reloaded because of it, as one transaction."""
    detail: str = ""
    """Why nothing is done, when nothing is done."""


class ConfigReloaded(Event, frozen=True, kw_only=True):
    """The configuration was read again."""

    path: str
    applied: tuple[str, ...]
    """Keys whose new values hold."""
    needs_restart: tuple[str, ...] = ()
    """Keys whose new values do not hold before the host is started again."""


class PhaseStarted(Event, frozen=True, kw_only=True):
    """A phase of a reload began."""

    id: str
    phase: Phase
    where: str = "pause"
    """ "window" while the old version serves, "pause" while calls wait."""


class PhaseEnded(Event, frozen=True, kw_only=True):
    """A phase of a reload ended."""

    id: str
    phase: Phase
    where: str = "pause"
    """ "window" while the old version serves, "pause" while calls wait."""
    outcome: PhaseOutcome = PhaseOutcome.DONE
    seconds: float = 0.0
    detail: str = ""


class ReloadEnded(Event, frozen=True, kw_only=True):
    """A reload ended; its report says how."""

    id: str
    report: ReloadReport


class CanaryMoved(Event, frozen=True, kw_only=True):
    """A candidate gets another share of its module's calls, before it is committed."""

    id: str
    modules: tuple[str, ...]
    share: float = 0.0
    """From 0 to 1."""


class ProbationStarted(Event, frozen=True, kw_only=True):
    """A version that was committed is watched from now on."""

    id: str
    modules: tuple[str, ...]
    seconds: float = 0.0
    """How long."""


class ProbationEnded(Event, frozen=True, kw_only=True):
    """A version is watched no longer; its report says what was seen, and what tripped."""

    id: str
    report: ProbationReport


class GenerationRetired(Event, frozen=True, kw_only=True):
    """A generation was taken out of memory, after the reload that replaced it."""

    name: str
    generation: int
    seconds: float = 0.0
    """Seconds that it took to free."""
    detail: str = ""


class GenerationLeaked(Event, frozen=True, kw_only=True):
    """A generation was taken out of service, and something keeps it in memory."""

    name: str
    generation: int
    holders: tuple[str, ...] = ()
    """What keeps it, from what stays to what it holds."""


class MessageFailed(Event, frozen=True, kw_only=True):
    """A message was handled and its call raised; it is not handled again."""

    module: str
    call: str
    error: ErrorReport


class TimerFailed(Event, frozen=True, kw_only=True):
    """A timer's method raised; the timer goes on."""

    module: str
    timer: str
    error: ErrorReport


class WorkerEnded(Event, frozen=True, kw_only=True):
    """The process of an isolated module ended, and nobody had asked it to."""

    module: str
    pid: int
    how: str
    """By which signal, or why the host ended it, and where it stood."""


class WorkerRestarted(Event, frozen=True, kw_only=True):
    """An isolated module serves again, in another process."""

    module: str
    pid: int
    saved_at: str
    """When the state that it serves with was saved, ISO 8601; "" when it never was."""
    seconds: float
    """From the end of the process before until calls entered again."""


class WorkerGaveUp(Event, frozen=True, kw_only=True):
    """The process of an isolated module ended too often: its calls are refused."""

    module: str
    error: ErrorReport


class Warned(Event, frozen=True, kw_only=True):
    """Something an operator should read."""

    text: str
    module: str | None = None


AnyEvent = (
    HostStarted
    | HostStopped
    | ModuleLoaded
    | ReloadStarted
    | ReloadDeferred
    | SourcesNoticed
    | ConfigReloaded
    | PhaseStarted
    | PhaseEnded
    | ReloadEnded
    | CanaryMoved
    | ProbationStarted
    | ProbationEnded
    | GenerationRetired
    | GenerationLeaked
    | MessageFailed
    | TimerFailed
    | WorkerEnded
    | WorkerRestarted
    | WorkerGaveUp
    | Warned
)
"""Every event, as a type that msgspec can read back: `msgspec.json.decode(line, type=AnyEvent)`."""

PhaseEvent = PhaseStarted | PhaseEnded | ReloadDeferred
"""What `on_phase` receives."""

Listener = Callable[[Event], None]


class Bus:
    """Tell every listener what happened, in order; one that raises is logged and stays."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        # A dict keeps order and lets one listener subscribe twice under two keys.
        self._listeners: dict[object, Listener] = {}

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener.

        Args:
            listener: Called at once, on the publisher's thread, with each event. It must not
                block; what it raises is logged and never reaches the reload.

        Returns:
            A function that removes the listener; calling it twice does no harm.
        """
        key = object()
        self._listeners[key] = listener

        def unsubscribe() -> None:
            self._listeners.pop(key, None)

        return unsubscribe

    def subscribe_phases(
        self, reload_id: str, on_phase: Callable[[PhaseEvent], None]
    ) -> Callable[[], None]:
        """Add a listener to the phases of one reload.

        Args:
            reload_id: Which reload.
            on_phase: As for `subscribe`.

        Returns:
            A function that removes the listener.
        """

        def listener(event: Event) -> None:
            if isinstance(event, PhaseStarted | PhaseEnded) and event.id == reload_id:
                on_phase(event)

        return self.subscribe(listener)

    def publish(self, event: Event) -> None:
        """Tell every listener; never raises what a listener raises.

        Args:
            event: What happened.
        """
        # A copy: a listener may unsubscribe itself or another while it is told.
        for listener in tuple(self._listeners.values()):
            try:
                listener(event)
            except Exception:
                _logger.exception("a listener failed on %s", type(event).__name__)


__all__ = [
    "AnyEvent",
    "Bus",
    "CanaryMoved",
    "ConfigReloaded",
    "Event",
    "GenerationLeaked",
    "GenerationRetired",
    "HostStarted",
    "HostStopped",
    "Listener",
    "MessageFailed",
    "ModuleLoaded",
    "PhaseEnded",
    "PhaseEvent",
    "PhaseStarted",
    "ProbationEnded",
    "ProbationStarted",
    "ReloadDeferred",
    "ReloadEnded",
    "ReloadStarted",
    "SourcesNoticed",
    "TimerFailed",
    "Warned",
    "WorkerEnded",
    "WorkerGaveUp",
    "WorkerRestarted",
]
