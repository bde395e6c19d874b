"""A worker: the process of one generation of an isolated module.

It is a fork of the nursery. It loads one version, runs what the host's gate lets in, and keeps the
state between; it decides nothing about reloads. When the host is gone it ends at once.
"""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import logging
import os
import resource
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from replank.code.generation import Generation, make_generation
from replank.code.held import Held
from replank.code.loader import Loader
from replank.code.trace import candidate_traceback, constructor_error, location_of
from replank.code.undeclared import Undeclared
from replank.definition import CallKind, Definition, describe_definition
from replank.errors import DefinitionError, ReplankError
from replank.isolation.link import Link
from replank.isolation.outside import OutsideHandle, OutsideHost
from replank.isolation.values import pack, tell, unpack
from replank.isolation.wanted import Load, Offer
from replank.isolation.worker_calls import WorkerCalls
from replank.isolation.worker_state import WorkerState
from replank.module import Runtime
from replank.reading import read_definition
from replank.traffic.calls import chain_var
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane
from replank.traffic.tasks import Tasks
from replank.verification.usage import interface_calls


def live(sock: socket.socket, fault: int, data_bytes_max: int | None) -> None:
    """Be a worker until the host hangs up.

    Args:
        sock: The worker's end of the socket pair.
        fault: Where the interpreter writes where it stood when it crashes.
        data_bytes_max: Hard limit of private memory; None for none.
    """
    faulthandler.enable(file=fault)
    if data_bytes_max is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes_max, data_bytes_max))
    asyncio.run(_live(sock))


async def _live(sock: socket.socket) -> None:
    worker = Worker()
    worker.link = await Link.over(sock, worker, "the host", unpack)
    await asyncio.get_running_loop().create_future()


class Worker:
    """Answers the host."""

    link: Link

    def __init__(self) -> None:
        self._generation: Generation | None = None
        self._state: WorkerState | None = None
        self._calls: WorkerCalls
        self._tasks = Tasks(self._task_failed)
        self._operations: dict[str, Callable[..., Any]] = {
            "load": self._load,
            "ping": self._ping,
            "check": self._check,
            "started": self._started,
            "open": self._open,
            "close": self._close,
            "end_held": self._tasks.end_held,
            "stop_tasks": self._tasks.stop,
        }
        self._notes: dict[str, Callable[..., Any]] = {
            "hold": self._tasks.hold,
            "release": self._release,
            "resume": lambda names: self._tasks.start({}, names),
        }

    # -- the link ---------------------------------------------------------------------------------

    def serve(self, number: int, name: str, body: bytes) -> Coroutine[Any, Any, bytes] | bytes:
        """Answer the host."""
        if name == "call":
            return self._calls.call(number, body)
        if name == "next":
            return self._calls.next(number, body)
        return self._operate(self._operations[name], unpack(body))

    def tell(self, name: str, body: bytes) -> None:
        """Take a note of the host's."""
        self._notes[name](*unpack(body))

    def failed(self, error: BaseException) -> bytes:
        """Return what was raised, with the author's own lines."""
        location, own_frames = None, ""
        if self._generation is not None:
            version = self._generation.version
            location = location_of(error, version)
            if location is not None:
                name = self._generation.code.private_name
                own_frames = candidate_traceback(error, version, name)
        return pack(tuple(tell(error, location, own_frames)))

    def stuck(self, name: str) -> None:
        """Do nothing: the host is not ended for a request."""

    def ended(self) -> NoReturn:
        """End with the host: nobody is left who could ask or be told."""
        os._exit(0)

    async def _operate(self, operation: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
        result = operation(*args)
        return pack(await result if inspect.isawaitable(result) else result)

    # -- what the host asks -----------------------------------------------------------------------

    async def _load(self, wanted: Load) -> Offer:
        """Load a version, construct it, and say what it offers."""
        logging.getLogger().addHandler(_ToHost(self.link))
        logging.getLogger().setLevel(wanted.log_level)
        name, number = wanted.name, wanted.number
        gate = Gate(name)
        lane = Lane(gate, number)
        names = {"__replank_lane__": lane, "__replank_chain__": chain_var.get}
        version = wanted.stored.version()
        code = Loader().load(version, name, number, runtime_names=names, code=wanted.code)
        definition = read_definition(code.module, name)
        _refuse_carried(definition)
        try:
            generation = make_generation(number, version, code, definition, lane)
        except ReplankError:
            raise
        except BaseException as error:
            raise constructor_error(error, name) from error
        self._generation = generation
        gate.first_open(lane)
        self._calls = WorkerCalls(generation)
        self._state = state = WorkerState(generation, wanted)
        self._operations |= state.operations()
        self._notes |= {"hold_stream": self._calls.hold, "seal": state.seal, "unseal": state.unseal}
        self._tasks.adopt(lane, generation.methods)
        held = Held(generation, lambda: self._tasks.all_running)
        self._operations |= {
            "held.sizes": held.sizes,
            "held.begin": held.begin,
            "held.look": held.look,
        }
        handles = {one.module: OutsideHandle(one.module, self.link) for one in definition.uses}
        runtime = Runtime(name, OutsideHost(self.link), self._tasks.spawn)
        generation.wire(handles, runtime)
        return _offer(generation)

    def _ping(self) -> tuple[tuple[str, ...], tuple[int, int]]:
        """Say that the event loop turns, which tasks a successor would go on with, and the size."""
        assert self._state is not None, "it is loaded first"
        return self._tasks.resumable, self._state.size()

    def _check(self, name: str, raw: Any) -> None:
        self._calls.check(name, raw)

    def _started(self) -> None:
        """Note what it holds besides its state, now that it has started."""
        generation = self._generation
        assert generation is not None, "it is loaded first"
        generation.undeclared = Undeclared(generation.definition, generation.target)

    def _open(self, stream: int, name: str, args: Any, kwargs: Any) -> Any:
        return self._calls.open(stream, name, args, kwargs)

    def _close(self, stream: int) -> Any:
        return self._calls.close(stream)

    def _release(self) -> None:
        self._tasks.release()
        if self._generation is not None:
            self._calls.release()

    def _task_failed(self, name: str, error: BaseException) -> None:
        self.link.tell("task_failed", pack((name, self.failed(error))))


class _ToHost(logging.Handler):
    """Hands log records on to the host, whose own configuration decides about them."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record as plain values."""
        trace = self._formatter.formatException(record.exc_info) if record.exc_info else ""
        body = pack((record.name, record.levelno, record.getMessage(), trace))
        if threading.get_ident() == self._thread:
            self._link.tell("log", body)
        else:
            self._loop.call_soon_threadsafe(self._link.tell, "log", body)


def _refuse_carried(definition: Definition) -> None:
    if definition.carried:
        raise DefinitionError(
            "what is carried cannot get from one process to another",
            module=definition.name,
            found=f"Carry fields: {', '.join(definition.carried)}",
            expected='no live objects in the state of a module with isolation = "process"',
            do="open them in on_start and close them in on_stop, or run the module in the host",
        )


def _offer(generation: Generation) -> Offer:
    definition = generation.definition
    streams = [one for one in definition.calls.values() if one.kind is CallKind.STREAM]
    return Offer(
        contract=describe_definition(definition),
        state=definition.state_names,
        functions=tuple(definition.functions),
        on_reload={one.name: one.on_reload for one in streams},
        uses=tuple(
            (
                one.field,
                one.module,
                one.versions,
                None if one.interface is None else tuple(sorted(interface_calls(one.interface))),
            )
            for one in definition.uses
        ),
        calls_others=generation.lane.leaf is None,
    )


__all__ = ["Worker", "live"]
