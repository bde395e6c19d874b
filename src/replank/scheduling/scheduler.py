"""The scheduler: takes every request for a reload, runs it when its turn comes, answers it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from replank.config import WhenBusy
from replank.coordinator.choices import AS_CONFIGURED, Choices, joined
from replank.errors import HostStopped, UsageError
from replank.instrumentation.events import PhaseEvent
from replank.report import ReloadReport
from replank.scheduling.order import (
    Uses,
    busy_report,
    circles,
    superseded,
    superseded_report,
    used_first,
)
from replank.scheduling.ticket import Ticket
from replank.traffic.calls import outside_chain

T = TypeVar("T")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Target:
    """Where one module goes: to a source on disk, or to a stored version."""

    source: Path | None = None
    """Path of the source; None for the module's configured one."""
    digest: str | None = None
    """A stored version's digest; None to read the source."""
    expect: str | None = None
    """The digest that the source must have; None for any."""


def expecting(
    targets: Mapping[str, Target], expect: str | Mapping[str, str] | None
) -> Mapping[str, Target]:
    """Return targets with the digests that their sources must have.

    Args:
        targets: By module name.
        expect: One digest, for one module; or by name.

    Raises:
        UsageError: It names no digest, or a module that is not reloaded.
    """
    if expect is None:
        return targets
    named = {next(iter(targets)): expect} if isinstance(expect, str) else dict(expect)
    if isinstance(expect, str) and len(targets) > 1:
        raise UsageError(
            "one digest is not enough for several modules",
            found=expect,
            expected="a digest by name: " + ", ".join(f"{one}=sha256:..." for one in targets),
        )
    for name, digest in named.items():
        if name not in targets:
            raise UsageError(f"{name} is not reloaded", found=name, expected=", ".join(targets))
        if _DIGEST.fullmatch(digest) is None:
            raise UsageError(
                "that is no digest",
                module=name,
                found=digest,
                expected="sha256: and 64 hexadecimal digits",
                do="print it: replank digest FILE",
            )
    return {name: replace(one, expect=named.get(name)) for name, one in targets.items()}


@dataclass(eq=False, slots=True)
class Request:
    """One request: reload these modules as one transaction."""

    targets: Mapping[str, Target]
    reason: str = "call"
    on_phase: Callable[[PhaseEvent], None] | None = None
    allow_breaking: frozenset[str] = frozenset()
    """Calls that may change under their users."""
    choices: Choices = AS_CONFIGURED
    expect_changes: frozenset[str] = frozenset()
    """Queries whose replayed answers may change."""
    cause: str = ""
    """What made it necessary, for the report."""
    ticket: Ticket = field(default_factory=lambda: Ticket(frozenset()))
    work: Callable[[], Awaitable[Any]] | None = None
    """What to do instead of a reload, while no reload of these modules runs."""
    priority: int = 1
    """The higher, the sooner among those that wait; equal ones keep their order."""
    when_busy: WhenBusy = "queue"
    """What becomes of it when its modules are not free."""
    id: str = ""
    """The reload's id, given when it is submitted."""
    joined: list[Request] = field(default_factory=list)
    """Requests that are done together with this one, and get the same answer."""

    @property
    def names(self) -> frozenset[str]:
        """The modules."""
        return frozenset(self.targets)

    @property
    def reads_source(self) -> bool:
        """Whether it takes what lies on the disk when its turn comes; a way back does not."""
        return self.work is None and all(one.digest is None for one in self.targets.values())

    def join(self, other: Request) -> None:
        """Become one transaction with another request.

        Args:
            other: Its modules and ours use one another.
        """
        self.targets = {**self.targets, **other.targets}
        self.allow_breaking |= other.allow_breaking
        self.expect_changes |= other.expect_changes
        self.choices = joined(self.choices, other.choices)
        told = [one for one in (self.on_phase, other.on_phase) if one is not None]
        self.on_phase = (lambda event: _tell_all(told, event)) if told else None
        self.joined += [other, *other.joined]
        for one in (self, *self.joined):
            one.ticket.widen(self.names)

    def answer(self, act: Callable[[Ticket], None]) -> None:
        """Do something with the ticket, and with those of the requests that joined."""
        for one in (self, *self.joined):
            act(one.ticket)


def _tell_all(listeners: Iterable[Callable[[PhaseEvent], None]], event: PhaseEvent) -> None:
    for listener in listeners:
        listener(event)


def _failing(error: BaseException) -> Callable[[Ticket], None]:
    return lambda ticket: ticket.fail(error)


class ReloadScheduler:
    """Run requests: those with a module or a tie in common one after the other, others together.

    Args:
        run: Takes a request through the phases and returns its report.
        tied_to: Returns a set of modules with everything that uses them or that they use.
        uses: Returns what a module uses.
        next_id: Returns a new reload's id.
    """

    def __init__(
        self,
        run: Callable[[Request], Awaitable[ReloadReport]],
        tied_to: Callable[[frozenset[str]], frozenset[str]],
        *,
        uses: Uses = lambda _: (),
        next_id: Callable[[], str] = str,
    ) -> None:
        self._run = run
        self._tied_to = tied_to
        self._uses = uses
        self._next_id = next_id
        self._looking = False
        self._waiting: list[Request] = []
        self._running: dict[Request, frozenset[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def running(self) -> int:
        """How many reloads run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many requests wait for their modules to be free."""
        return len(self._waiting)

    def submit(self, request: Request) -> Ticket:
        """Take a request; returns at once.

        Args:
            request: What to reload.

        Raises:
            HostStopped: The host takes no more requests.
        """
        if self._stopped:
            raise HostStopped("the host takes no more reloads", do="start it again")
        request.ticket = Ticket(request.names)
        request.joined = []
        if request.work is None:
            request.id = self._next_id()
        busy = self._holders(request) if request.when_busy == "refuse" else []
        if busy:
            request.ticket.answer(busy_report(request, busy))
            return request.ticket
        if request.when_busy == "newest":
            self._supersede(request)
        behind = (i for i, one in enumerate(self._waiting) if one.priority < request.priority)
        self._waiting.insert(next(behind, len(self._waiting)), request)
        self._look_soon()
        return request.ticket

    def _holders(self, request: Request) -> list[Request]:
        """Return the requests that run or wait and keep this one from beginning."""
        tied = self._tied_to(request.names)
        others = [*self._running, *self._waiting]
        return [
            one for one in others if request.names & self._tied_to(one.names) or tied & one.names
        ]

    def _supersede(self, newer: Request) -> None:
        for older in superseded(newer, self._waiting):
            self._waiting.remove(older)
            report = superseded_report(older, newer)
            older.answer(lambda ticket, report=report: ticket.answer(report))  # type: ignore[misc]

    def _look_soon(self) -> None:
        """Look once for all that is asked for in this turn of the loop: only then is it ordered."""
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look, context=outside_chain())

    def _look(self) -> None:
        self._looking = False
        self._arrange()
        self._start_free()

    def _arrange(self) -> None:
        """Put what is used before what uses it, and make one of what uses one another."""
        for first, *others in circles(self._waiting, self._uses):
            for other in others:
                first.join(other)
                self._waiting.remove(other)
        self._waiting = used_first(self._waiting, self._uses)

    async def exclusively(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do something with a module while no reload of it, or of one tied to it, runs.

        Args:
            name: The module's name.
            work: What to do when its turn comes.

        Raises:
            HostStopped: The host takes no more requests.
            SelfReload: The awaiting code runs inside a call of the module.
            Exception: What the work raised.
        """
        answer: Any = await self.submit(Request({name: Target()}, "exchange", work=work))
        return cast("T", answer)

    async def stop(self) -> None:
        """Refuse new requests, answer those that wait, and let those that run end."""
        self._stopped = True
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            request.answer(_failing(HostStopped("the host stopped before the reload began")))
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_free(self) -> None:
        """Start every request whose modules no earlier one holds or waits for."""
        earlier = [(one.names, tied) for one, tied in self._running.items()]
        still: list[Request] = []
        free: list[Request] = []
        for request in self._waiting:
            names = request.names
            tied = self._tied_to(names)
            if any(names & other_tied or tied & others for others, other_tied in earlier):
                still.append(request)
            else:
                free.append(request)
                self._running[request] = tied
            earlier.append((names, tied))  # one that waits keeps its place before later ones
        self._waiting = still
        for request in free:
            self._begin(request)

    def _begin(self, request: Request) -> None:
        # The request may come from inside a call; the reload is no part of that call's chain.
        task = asyncio.create_task(
            self._serve(request),
            name=f"reload {sorted(request.targets)}",
            context=outside_chain(),
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._ended(request))

    async def _serve(self, request: Request) -> None:
        try:
            run = self._run(request) if request.work is None else request.work()
            report = await run
            request.answer(lambda ticket: ticket.answer(report))
        except asyncio.CancelledError:
            # Whoever awaits the ticket has not been cancelled.
            request.answer(_failing(HostStopped("the host stopped while the reload ran")))
            raise
        except BaseException as error:
            request.answer(_failing(error))
            if not isinstance(error, Exception):
                raise
        finally:
            self._ended(request)

    def _ended(self, request: Request) -> None:
        """Make room for the next one; also for a task that was cancelled before its first step."""
        if request not in self._running:
            return
        request.answer(_failing(HostStopped("the host stopped before the reload began")))
        del self._running[request]
        self._start_free()
