"""`/control/...`: what an operator may ask of a host."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import metadata
from typing import Any, Final, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from replank.control import schedule_routes, state_routes, wire
from replank.control.feed import EventFeed
from replank.control.guard import Guard, Refused
from replank.control.http import ClientGone, read_body
from replank.control.openapi import make_document
from replank.control.operations import HISTORY_LIMIT_MAX, OPERATIONS, PREFIX, Operation
from replank.coordinator.choices import given
from replank.errors import ReplankError
from replank.instrumentation.events import PhaseEvent
from replank.instrumentation.log import logger

T = TypeVar("T")
OnPhase = Callable[[PhaseEvent], None]
Begin = Callable[[OnPhase | None], Awaitable[Any]]
Answer = Callable[[Request], Awaitable[Response]]

_REFUSED: Final = {400: "bad request", 404: "there is nothing here", 405: "not with this method"}


class ControlRoutes:
    """The Starlette application of the control routes.

    Args:
        host: The host.
        guard: Who may come in.
        max_body_bytes: The longest body that is taken.
        max_events: Events kept for a slow reader of one reload.
        on_stop: Called when a client asks the host to stop; None refuses that.
        feed: The events, one for all doors.
    """

    def __init__(
        self,
        host: Any,
        guard: Guard,
        *,
        max_body_bytes: int,
        max_events: int,
        on_stop: Callable[[], None] | None,
        feed: EventFeed,
    ) -> None:
        self._feed = feed
        self._host = host
        self._guard = guard
        self._max_body_bytes = max_body_bytes
        self._max_events = max_events
        self._on_stop = on_stop
        self._following: set[asyncio.Task[Any]] = set()
        self.app = Starlette(
            routes=[self._route(one) for one in OPERATIONS],
            exception_handlers={404: self._no_route, 405: self._no_route},
        )

    def _route(self, one: Operation) -> Route:
        answer: Answer = getattr(self, f"_{one.handler}")

        async def guarded(request: Request) -> Response:
            try:
                return await answer(request)
            except Refused as refused:
                return _refusal(refused)
            except ClientGone:
                return Response(status_code=400)
            except Exception as error:
                return self._failed(error)

        return Route(PREFIX + one.path, guarded, methods=[one.method])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, once its sender has been admitted."""
        try:
            # Before the routes are looked at: a stranger does not even learn which there are.
            self._guard.admit(scope["headers"], control=True)
        except Refused as refused:
            await _refusal(refused)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    # -- what is true -------------------------------------------------------------------------

    async def _version(self, _request: Request) -> Response:
        return _json(wire.Hello(protocol=wire.PROTOCOL, version=own_version(), pid=os.getpid()))

    async def _openapi(self, _request: Request) -> Response:
        return _json(make_document(own_version()))

    async def _status(self, _request: Request) -> Response:
        return _json(self._host.status())

    async def _history(self, request: Request) -> Response:
        text = request.query_params.get("limit", "20")
        limit = int(text) if text.isascii() and text.isdigit() else 0
        if not 1 <= limit <= HISTORY_LIMIT_MAX:
            raise Refused(422, f"limit must be a whole number from 1 to {HISTORY_LIMIT_MAX}")
        module = request.query_params.get("module") or None
        return _json(await self._host.history(limit, module))

    async def _events(self, request: Request) -> Response:
        return self._feed.answer(request.query_params, request.headers.get("last-event-id"))

    async def _probation(self, request: Request) -> Response:
        return _json(self._host.probation(request.query_params.get("module") or ""))

    async def _plan(self, request: Request) -> Response:
        wanted = await self._read(request, wire.PlanRequest)
        what = self._sources(wanted.modules)
        answer = self._host.plan(
            what,
            allow_breaking=wanted.allow_breaking,
            expect_changes=wanted.expect_changes,
            rehearse=wanted.rehearse,
            **given(wanted.choices),
        )
        return _json(await answer)

    async def _describe_state(self, request: Request) -> Response:
        return await state_routes.describe(self._host, request)

    async def _export_state(self, request: Request) -> Response:
        return await state_routes.export(self._host, await self._read(request, wire.StateRequest))

    async def _sample_state(self, request: Request) -> Response:
        return await state_routes.sample(self._host, await self._read(request, wire.StateRequest))

    async def _scheduled(self, _request: Request) -> Response:
        return _json(schedule_routes.describe(self._host))

    # -- what changes something ---------------------------------------------------------------

    async def _reload(self, request: Request) -> Response:
        wanted = await self._read(request, wire.ReloadRequest)
        what = self._sources(wanted.modules)

        def begin(on_phase: OnPhase | None) -> Awaitable[Any]:
            ticket: Awaitable[Any] = self._host.reload(
                what,
                reason=wanted.reason,
                on_phase=on_phase,
                allow_breaking=wanted.allow_breaking,
                **given(wanted.choices),
                expect_changes=wanted.expect_changes,
                expect=wanted.expect or None,
                priority=wanted.priority,
                quiet_wait_s=wanted.quiet_wait_s,
                retries=wanted.retries,
                when_busy=wanted.when_busy,
            )
            return ticket

        return await self._run(begin, stream=wanted.stream)

    async def _rollback(self, request: Request) -> Response:
        wanted = await self._read(request, wire.RollbackRequest)

        def begin(on_phase: OnPhase | None) -> Awaitable[Any]:
            ticket: Awaitable[Any] = self._host.rollback(wanted.module, on_phase=on_phase)
            return ticket

        return await self._run(begin, stream=wanted.stream)

    async def _schedule(self, request: Request) -> Response:
        wanted = await self._read(request, schedule_routes.ScheduleRequest)
        what = self._sources(wanted.modules)
        return _json(await schedule_routes.add(self._host, what, wanted), 201)

    async def _cancel(self, request: Request) -> Response:
        wanted = await self._read(request, schedule_routes.CancelRequest)
        return _json(await schedule_routes.cancel(self._host, wanted))

    async def _pause(self, request: Request) -> Response:
        wanted = await self._read(request, schedule_routes.PauseRequest)
        return _json(await schedule_routes.pause(self._host, wanted))

    async def _resume(self, request: Request) -> Response:
        wanted = await self._read(request, schedule_routes.PauseRequest)
        return _json(await schedule_routes.resume(self._host, wanted))

    async def _reload_config(self, request: Request) -> Response:
        await self._read(request, dict[str, Any])
        return _json(await self._host.reload_config())

    async def _decide(self, request: Request) -> Response:
        wanted = await self._read(request, wire.ProbationRequest)
        answer = getattr(self._host, wanted.action)(wanted.module)
        return _json(await answer if wanted.action == "promote" else answer)

    async def _abort(self, request: Request) -> Response:
        wanted = await self._read(request, wire.AbortRequest)

        def begin(on_phase: OnPhase | None) -> Awaitable[Any]:
            ticket: Awaitable[Any] = self._host.abort(wanted.module, on_phase=on_phase)
            return ticket

        return await self._run(begin, stream=wanted.stream)

    async def _import_state(self, request: Request) -> Response:
        wanted = await self._read(request, wire.ImportRequest)
        return await state_routes.replace(self._host, wanted, public=self._guard.public)

    async def _quarantined(self, request: Request) -> Response:
        return await state_routes.quarantined(self._host, request)

    async def _take_back(self, request: Request) -> Response:
        wanted = await self._read(request, wire.TakeBackRequest)
        return await state_routes.take_back(self._host, wanted)

    async def _stop(self, request: Request) -> Response:
        await self._read(request, dict[str, Any])
        if self._on_stop is None:
            raise Refused(409, "this host is stopped by the program that started it")
        self._on_stop()
        return _json({"stopping": True}, 202)

    async def _run(self, begin: Begin, *, stream: bool) -> Response:
        if not stream:
            return _json(await begin(None))
        follower = Follower(self._max_events)
        ticket = begin(follower.note)  # misuse raises here, before anything was answered
        task = asyncio.ensure_future(_wait_for(ticket))
        # Held here: the reload goes on when its reader goes away.
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        task.add_done_callback(follower.end)
        lines = follower.lines(lambda error: wire.facts_of(error, public=False))
        return StreamingResponse(lines, media_type="application/x-ndjson")

    # -- helpers ------------------------------------------------------------------------------

    async def _read(self, request: Request, kind: type[T]) -> T:
        headers = request.scope["headers"]
        body = await read_body(headers, request.receive, self._max_body_bytes)
        try:
            return msgspec.json.decode(body or b"{}", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(422, f"the body is wrong: {error}") from None

    def _sources(self, modules: list[str] | dict[str, str | None]) -> Any:
        if not modules:
            raise Refused(422, "no module was named")
        if isinstance(modules, dict) and self._guard.public and any(modules.values()):
            # Whoever has the token may reload, but not run any file of this machine.
            raise Refused(403, "over TCP a reload takes the configured sources only")
        return modules

    def _failed(self, error: Exception) -> Response:
        status = wire.status_of(error)
        if not isinstance(error, ReplankError):
            logger.error("a control request failed", exc_info=error)
            status = 500
        return _json(wire.facts_of(error, public=False), status)

    async def _no_route(self, _request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        return _refusal(Refused(status, _REFUSED.get(status, "refused")))


class Follower:
    """Carry the events of one reload from the coordinator to one reader, never holding it up.

    Args:
        max_events: Events kept for a reader that is slow; the oldest are left out beyond that.
    """

    def __init__(self, max_events: int) -> None:
        self._events: deque[msgspec.Struct] = deque(maxlen=max_events)
        self._news = asyncio.Event()
        self._task: asyncio.Future[Any] | None = None

    def note(self, event: msgspec.Struct) -> None:
        """Keep an event; the `on_phase` of a reload."""
        self._events.append(event)
        self._news.set()

    def end(self, task: asyncio.Future[Any]) -> None:
        """Keep the end; the reload's done callback."""
        self._task = task
        self._news.set()

    async def lines(self, facts: Callable[[BaseException], wire.Facts]) -> AsyncIterator[bytes]:
        """Yield one line for each event, then one for the report or the failure.

        Args:
            facts: What the reader may know of an error.
        """
        while True:
            while self._events:
                yield wire.line(self._events.popleft())
            if self._task is not None:
                break
            self._news.clear()
            await self._news.wait()
        if self._task.cancelled():
            error: BaseException | None = asyncio.CancelledError("the host stopped")
        else:
            error = self._task.exception()
        if error is None:
            yield wire.line(wire.Report(self._task.result()))
        else:
            yield wire.line(wire.Failure(status=wire.status_of(error), facts=facts(error)))


async def _wait_for(ticket: Awaitable[Any]) -> Any:
    return await ticket


def own_version() -> str:
    """Return the version of the installed package."""
    try:
        return metadata.version("replank")
    except metadata.PackageNotFoundError:
        return "unknown"


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _refusal(refused: Refused) -> Response:
    response = _json(wire.Facts(error=refused.text, kind="Refused"), refused.status)
    if refused.status == 401:  # noqa: PLR2004 - unauthorized
        response.headers["www-authenticate"] = "Bearer"
    if refused.status == 413:  # noqa: PLR2004 - the rest of the body is not read
        response.headers["connection"] = "close"
    return response


__all__ = ["HISTORY_LIMIT_MAX", "PREFIX", "ControlRoutes", "Follower", "own_version"]
