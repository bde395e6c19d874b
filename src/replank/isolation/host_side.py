"""One worker as the host sees it: its process, the link to it, and what it asks the host for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from datetime import UTC, datetime
from typing import Any, Final

from replank.code.trace import location_in_fault
from replank.errors import PhaseTimeout, SourceError
from replank.isolation.link import Link, LinkEnded
from replank.isolation.nursery import Nursery, Process
from replank.isolation.values import Told, pack, raised, tell, unpack_in_host
from replank.isolation.wanted import Load, Offer
from replank.module import Runtime
from replank.traffic.calls import outside_chain

_STATUS_S: Final = 2.0
"""How long the nursery may take to say how a worker ended."""
_DUMP_S: Final = 0.3
"""How long a worker that does not answer gets to write where it stands."""


class RemoteWorker:
    """The process of one generation.

    Args:
        wanted: What it has loaded.
        process: Where it lives.
        task_failed: Told the name of a spawned task and what it raised.
        on_end: Called when it has ended and nobody has asked it to.

    Attributes:
        offer: What the loaded module is.
        ended_because: Why the host ended it; "" when it ended by itself.
    """

    offer: Offer
    _link: Link

    def __init__(
        self,
        wanted: Load,
        process: Process,
        task_failed: Callable[[str, BaseException], None],
        on_end: Callable[[RemoteWorker], None],
    ) -> None:
        self.module = wanted.name
        self.process = process
        self._version = wanted.stored.version()
        self.ended_because = ""
        self.wanted = True
        """Whether it is to live: nobody has let it go."""
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.resumable: tuple[str, ...] = ()
        """Spawned methods that ran in it when it last said so."""
        self.state_size = (0, 0)
        """Records of its state and about their bytes, when it last said so."""
        self.handles: Mapping[str, Any] = {}
        self.runtime: Runtime | None = None
        self._task_failed = task_failed
        self._on_end = on_end
        self._streams: dict[int, Any] = {}
        self._tickets: dict[int, Any] = {}
        self._last = 0
        self._closing: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Task[None] | None = None
        self._buried: asyncio.Task[str] | None = None
        self._operations: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
            "outer": self._outer,
            "outer_open": self._outer_open,
            "outer_next": self._outer_next,
            "outer_close": self._outer_close,
            "outer_send": self._outer_send,
            "host": self._ask_host,
            "host_ticket": self._ask_reload,
            "ticket": self._await_ticket,
        }

    @classmethod
    async def start(
        cls,
        nursery: Nursery,
        wanted: Load,
        limit_s: float,
        data_bytes_max: int | None,
        task_failed: Callable[[str, BaseException], None],
        on_end: Callable[[RemoteWorker], None],
    ) -> RemoteWorker:
        """Start a process and load a version in it.

        Args:
            nursery: Starts processes.
            wanted: What to load.
            limit_s: Seconds for loading it.
            data_bytes_max: Hard limit of its private memory.
            task_failed: As for the class.
            on_end: As for the class.

        Raises:
            ModuleError: It does not load, or its process ended, or it did not end in time.
        """
        process = await nursery.worker(data_bytes_max)
        self = cls(wanted, process, task_failed, on_end)
        self.wanted = False  # while it loads, an end is an error of the loading
        where = f"the process of {wanted.name} (pid {process.pid})"
        self._link = await Link.over(process.link, self, where, unpack_in_host)
        # A process that it has forked may hold the other end of the link open.
        process.ended.add_done_callback(lambda _: self._link.close())
        try:
            async with asyncio.timeout(limit_s):
                self.offer = await self.request("load", wanted)
        except LinkEnded:
            raise SourceError(
                f"loading it ended the process that it was loaded in: {await self.obituary()}",
                module=wanted.name,
                expected="a module that can be imported and constructed",
                do="look at what it does when it is imported and constructed",
            ) from None
        except TimeoutError:
            await self.abort(f"it was not loaded within {limit_s:g} s")
            raise PhaseTimeout(
                f"it was not loaded within {limit_s:g} s",
                module=wanted.name,
                found=await self.obituary(),
                expected="an import and a constructor that end",
                do="look for an endless loop or a blocking call",
            ) from None
        except BaseException:
            self.let_go()
            raise
        self.wanted = True
        if not self.alive:
            raise SourceError(
                f"its process ended right after loading: {await self.obituary()}",
                module=wanted.name,
            )
        return self

    # -- asking it --------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._link.closed

    async def request(self, name: str, *args: Any, patience_s: float | None = None) -> Any:
        """Ask for an operation, by name.

        Args:
            name: Of the operation.
            args: What it takes.
            patience_s: Seconds that it may go on after the caller was cancelled; then the process
                is ended.

        Raises:
            LinkEnded: It is gone.
            BaseException: What it raised.
        """
        return unpack_in_host(await self._link.ask(name, pack(args), None, patience_s))

    async def ask(
        self, name: str, body: bytes, context: Context | None, patience_s: float | None = None
    ) -> Any:
        """Ask for a call or for the next item of a stream.

        Args:
            name: "call" or "next".
            body: What it takes.
            context: In which it is run what it calls in turn.
            patience_s: As for `request`.

        Raises:
            LinkEnded: It is gone.
            BaseException: What it raised.
        """
        return unpack_in_host(await self._link.ask(name, body, context, patience_s))

    def note(self, name: str, *args: Any) -> None:
        """Tell it something that wants no answer; what is asked later finds it done."""
        self._link.tell(name, pack(args))

    def resident_bytes(self) -> int:
        """Return the memory that it takes just now."""
        return self.process.resident_bytes()

    def cpu_s(self) -> float:
        """Return the CPU time that it has used, in seconds."""
        return self.process.cpu_s()

    # -- its end ----------------------------------------------------------------------------------

    def let_go(self) -> None:
        """End it at once: nothing that it holds is needed any more."""
        if self.alive:
            self.ended_because = self.ended_because or "its version was let go"
        self.wanted = False
        self._link.close()
        self.process.kill()

    async def abort(self, because: str) -> None:
        """End it because of what it does; it first writes where it stands.

        Args:
            because: Why, for the operator.
        """
        if self.ended_because:
            return
        self.ended_because = because
        self.process.kill(signal.SIGABRT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DUMP_S):
                await asyncio.shield(self.process.ended)
        self.process.kill()

    async def obituary(self) -> str:
        """Return how it ended and, when that is known, where it stood."""
        if self._buried is None:
            self._buried = asyncio.get_running_loop().create_task(self._bury())
        return await asyncio.shield(self._buried)

    async def _bury(self) -> str:
        """Wait for its end, read its last words, and let its descriptors go."""
        status: int | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STATUS_S):
                status = await asyncio.shield(self.process.ended)
        place = location_in_fault(self.process.last_words(), self._version)
        said = self.ended_because or _how(status)
        self.process.close()
        return f"{said}, at {place}" if place else said

    # -- what the link asks of this end -----------------------------------------------------------

    def serve(self, number: int, name: str, body: bytes) -> Coroutine[Any, Any, bytes]:
        """Answer the worker: in the context of the call that asks."""
        del number
        call, *args = unpack_in_host(body)
        context = self._link.contexts.get(call)
        return self._in_context(self._operations[name](*args), context or outside_chain())

    async def _in_context(self, work: Coroutine[Any, Any, Any], context: Context) -> bytes:
        result = await asyncio.get_running_loop().create_task(work, context=context)
        return pack(result)

    async def _outer(self, module: str, call: str, args: Any, kwargs: Any) -> Any:
        return await getattr(self._handle(module), call)(*args, **kwargs)

    async def _outer_send(self, module: str, call: str, args: Any, kwargs: Any) -> None:
        await getattr(self._handle(module).send, call)(*args, **kwargs)

    async def _outer_open(self, module: str, call: str, args: Any, kwargs: Any) -> int:
        self._last += 1
        self._streams[self._last] = getattr(self._handle(module), call)(*args, **kwargs)
        return self._last

    async def _outer_next(self, stream: int) -> tuple[str, Any]:
        try:
            return "item", await anext(self._streams[stream])
        except StopAsyncIteration:
            self._streams.pop(stream, None)
            return "end", None

    async def _outer_close(self, stream: int) -> None:
        items = self._streams.pop(stream, None)
        if items is not None:
            await items.aclose()

    async def _ask_host(self, method: str, args: Any, kwargs: Any) -> Any:
        assert self.runtime is not None, "it is wired before it is called"
        result = getattr(self.runtime.host, method)(*args, **kwargs)
        return await result if hasattr(result, "__await__") else result

    async def _ask_reload(self, method: str, args: Any, kwargs: Any) -> int:
        assert self.runtime is not None, "it is wired before it is called"
        self._last += 1
        self._tickets[self._last] = getattr(self.runtime.host, method)(*args, **kwargs)
        return self._last

    async def _await_ticket(self, number: int) -> Any:
        return await self._tickets[number]

    def _handle(self, module: str) -> Any:
        if module in self.handles:
            return self.handles[module]
        assert self.runtime is not None, "it is wired before it is called"
        return self.runtime.host[module]

    def tell(self, name: str, body: bytes) -> None:
        """Take a note of the worker's."""
        if name == "log":
            _log(*unpack_in_host(body))
        elif name == "task_failed":
            task, said = unpack_in_host(body)
            told = Told(*unpack_in_host(said))
            self._task_failed(task, raised(told, self._link.where, unpack_in_host))

    def failed(self, error: BaseException) -> bytes:
        """Return what was raised here, for the worker."""
        return pack(tuple(tell(error, None, "")))

    def stuck(self, name: str) -> None:
        """End a process that goes on with what it was told to leave."""
        if self._ending is None:
            work = self.abort(f"{name} went on after it was cancelled")
            self._ending = asyncio.get_running_loop().create_task(work)

    def ended(self) -> None:
        """Note that it is gone."""
        loop = asyncio.get_running_loop()
        streams, self._streams = self._streams, {}
        for items in streams.values():
            close = getattr(items, "aclose", None)
            if close is not None:
                closing = loop.create_task(close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)
        if self._buried is None:
            self._buried = loop.create_task(self._bury())
        if self.wanted:
            self.wanted = False
            self._on_end(self)


def _log(name: str, level: int, text: str, trace: str) -> None:
    log = logging.getLogger(name)
    if log.isEnabledFor(level):
        log.log(level, "%s%s", text, f"\n{trace}" if trace else "")


def _how(status: int | None) -> str:
    if status is None:
        return "it is gone"
    if status >= 0:
        return f"it ended by itself with status {status}"
    with contextlib.suppress(ValueError):
        return f"it was ended by signal {signal.Signals(-status).name}"
    return f"it was ended by signal {-status}"


__all__ = ["RemoteWorker"]
