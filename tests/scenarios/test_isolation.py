"""Modules in processes of their own: called, reloaded, crashed, and brought back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from replank import Host
from replank.config import Config, ModuleConfig, ReloadConfig
from replank.control.arguments import ReaderCache
from replank.control.wire import status_of
from replank.errors import (
    ConfigError,
    ModuleCrashed,
    ModuleDown,
    RemoteError,
    SelfReload,
    StateSealed,
    UnknownCall,
    UsageError,
    WrongArguments,
)
from replank.instrumentation.events import (
    Event,
    MessageFailed,
    WorkerEnded,
    WorkerGaveUp,
    WorkerRestarted,
)
from replank.live_config import is_live
from replank.report import Outcome

LEDGER = """
import asyncio, ctypes, enum, logging, os, time
from collections.abc import AsyncIterator
from replank import (Module, Record, Table, Uses, add, check, every, invariant, query, rename, step,
                     stream, uses)

log = logging.getLogger("ledger")

class Odd(ValueError):
    pass

class Kind(enum.Enum):
    OPEN = "open"

class Account(Record):
    owner: str
    cents: int = 0
    kind: Kind = Kind.OPEN

class Ledger(Module, version="1.0", schema=1):
    accounts: Table[str, Account]
    total: int = 0
    seen: list[str]
    beats: dict[int, int]
    api: Uses = uses("api")

    async def on_start(self) -> None:
        self.started = os.getpid()
        self.news = asyncio.Event()

    def deposit(self, owner: str, cents: int) -> tuple[str, int]:
        account = self.accounts.setdefault(owner, Account(owner))
        account.cents += cents
        self.total += cents
        return "1.0", account.cents

    async def pay(self, owner: str, cents: int) -> int:
        await asyncio.sleep(0)
        return self.deposit(owner, cents)[1]

    @query
    def account(self, owner: str) -> Account:
        return self.accounts[owner]

    def put(self, account: Account) -> str:
        return f"{type(account).__name__} {account.owner} {account.kind.name}"

    @query
    def sum(self) -> int:
        return self.total

    def pid(self) -> int:
        return os.getpid()

    def note(self, text: str) -> None:
        log.warning("noted %s", text)
        self.seen.append(text)

    async def read(self) -> list[str]:
        return list(self.seen)

    def odd(self) -> None:
        raise Odd("three")

    def lock(self) -> object:
        import threading
        return threading.Lock()

    async def hold(self) -> str:
        await self.news.wait()
        return "held"

    async def tell(self) -> None:
        self.news.set()

    async def ask(self, text: str) -> str:
        return await self.api.greet(text)

    async def ask_stream(self) -> list[int]:
        return [one async for one in self.api.count(3)]

    async def ask_message(self, text: str) -> None:
        await self.api.send.greet(text)

    async def ask_own_reload(self) -> str:
        ticket = self.host.reload("ledger")
        try:
            await ticket
        except Exception as error:
            return type(error).__name__
        return "no error"

    async def numbers(self, last: int) -> AsyncIterator[int]:
        for number in range(last):
            yield number
            if number == 0:
                await self.news.wait()
            self.total += 0

    @stream(on_reload="resume")
    async def feed(self, *, resume: int = 0) -> AsyncIterator[int]:
        number = resume
        while True:
            number += 1
            yield number
            await asyncio.sleep(0 if number < 3 else 3600)

    def spawned(self) -> None:
        self.spawn(self.pump())

    async def pump(self) -> None:
        self.seen.append(f"pump in {os.getpid()}")
        await asyncio.Event().wait()

    @every(0.02)
    async def beat(self) -> None:
        self.beats[os.getpid()] = self.beats.get(os.getpid(), 0) + 1

    @query
    def beaten(self) -> dict[int, int]:
        return self.beats

    def grab(self) -> int:
        return len(bytes(600_000_000))

    def crash(self) -> None:
        ctypes.string_at(0)

    async def exit(self) -> None:
        if os.fork() == 0:  # it holds the link to the host open, and ends with its parent
            time.sleep(3600)
        os._exit(7)

    def crash_if(self, text: str) -> None:
        self.seen.append(text)
        if text == "crash":
            os.abort()

    def loop(self) -> None:
        while True:
            pass

    async def leak(self) -> None:
        self.kept = []
        while True:
            self.kept.append(b"x" * 1_000_000)
            await asyncio.sleep(0)

    @invariant
    def in_sum(self) -> int:
        return self.total

    @check
    def counted(self) -> None:
        assert sum(one.cents for one in self.accounts.values()) == self.total
"""
API = """
from collections.abc import AsyncIterator
from replank import Module, Uses, uses

class Api(Module, version="1.0"):
    greeted: list[str]
    ledger: Uses = uses("ledger")

    async def greet(self, text: str) -> str:
        self.greeted.append(text)
        return f"1.0 {text}"

    async def count(self, last: int) -> AsyncIterator[int]:
        for number in range(last):
            yield number

    async def pay(self, owner: str) -> int:
        return await self.ledger.pay(owner, 1)

    def read(self) -> list[str]:
        return list(self.greeted)
"""


def ledger(version: str = "1.0") -> str:
    """Return the source of a version; 2.0 has another schema."""
    text = LEDGER
    if version != "1.0":
        text = text.replace('version="1.0", schema=1', f'version="{version}", schema=2')
        text = text.replace("total: int = 0", "total_cents: int = 0").replace(
            "self.total", "self.total_cents"
        )
        steps = '    migrations = [step(1, 2, rename("total", "total_cents"))]\n'
        text = text.replace("    accounts: Table", steps + "    accounts: Table")
        text = text.replace('"1.0", account.cents', f'"{version}", account.cents')
    return text


class Events:
    """What happened, and a wait for what is to happen."""

    def __init__(self) -> None:
        self.all: list[Event] = []
        self._new = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.all.append(event)
        self._new.set()

    def of(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.all if isinstance(one, kind)]

    async def next(self, kind: type[Any], count: int = 1) -> Any:
        """Return the `count`-th event of a kind, when it has come."""
        async with asyncio.timeout(30):
            while len(self.of(kind)) < count:
                self._new.clear()
                await self._new.wait()
        return self.of(kind)[count - 1]


@contextlib.asynccontextmanager
async def isolated(
    folder: Path, restore_timeout_s: float = 5.0, **settings: Any
) -> AsyncIterator[tuple[Host, Any, Events]]:
    for name, text in (("ledger", ledger()), ("api", API)):
        if not (folder / f"{name}.py").exists():
            (folder / f"{name}.py").write_text(text)
    settings = {"isolation_backoff_s": 0.01, **settings}
    config = Config(
        modules={
            "ledger": ModuleConfig(
                source=str(folder / "ledger.py"), isolation="process", **settings
            ),
            "api": ModuleConfig(source=str(folder / "api.py")),
        },
        reload=ReloadConfig(probe=False, restore_timeout_s=restore_timeout_s),
        data_dir=str(folder / "data"),
    )
    host = Host(config=config)
    events = Events()
    host.subscribe(events)
    async with host:
        yield host, host["ledger"], events


async def saved(host: Host) -> None:
    """Return when the state as it is now is on the disk."""
    await host._routes.slot("ledger").persistence.save("test")


async def json_arguments(host: Host) -> None:
    """Arguments as JSON are read where their types are known."""
    readers = ReaderCache(host)

    def read(call: str, body: bytes) -> Any:
        return readers.reader("ledger", call).read(body)

    put = b'{"account": {"owner": "eve", "cents": %s}}'
    told = await host.call_with("ledger", "put", lambda: read("put", put % b"3"))
    assert told == "Account eve OPEN"
    with pytest.raises(WrongArguments) as wrong:
        await host.call_with("ledger", "put", lambda: read("put", put % b'"3"'))
    assert (wrong.value.path, status_of(wrong.value)) == ("$.account.cents", 422)
    await host.send("ledger", "note", *read("note", b'["by name"]'))
    with pytest.raises(WrongArguments):
        await host.send("ledger", "note", *read("note", b"[3]"))


async def a_call_that_is_given_up(host, module) -> None:
    holding = asyncio.create_task(module.hold())
    while host.status().modules[1].in_flight == 0:
        await asyncio.sleep(0)
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    async with asyncio.timeout(10):  # a timer's turn counts too, while it lasts
        while host.status().modules[1].in_flight:
            await asyncio.sleep(0)


async def test_calls_values_errors_and_other_modules_work_as_in_one_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with isolated(tmp_path) as (host, module, events):
        pid = await module.pid()
        status = {one.name: one for one in host.status().modules}
        assert pid != os.getpid()
        assert (status["ledger"].pid, status["ledger"].isolation) == (pid, "process")
        assert (status["api"].pid, status["api"].isolation) == (None, "none")
        assert status["ledger"].memory_bytes > 1_000_000

        assert await module.deposit("ada", 5) == ("1.0", 5)
        assert await module.pay("ada", cents=2) == 7
        # an object of a class of its own arrives as plain data, and is taken as such
        assert await module.account("ada") == {"owner": "ada", "cents": 7, "kind": "open"}
        assert await module.put({"owner": "bob", "kind": "open"}) == "Account bob OPEN"
        with pytest.raises(WrongArguments, match="account of put does not fit"):
            await module.put({"cents": 1})
        with pytest.raises(RemoteError, match="cannot leave the process"):
            await module.lock()
        with pytest.raises(UnknownCall):
            await module.nothing()
        with pytest.raises(WrongArguments, match="cannot reach the process"):
            await module.put(threading.Lock())
        with pytest.raises(ValueError, match="Odd: three") as odd:
            await module.odd()
        assert isinstance(odd.value, RemoteError)
        assert odd.value.type_name == "Odd"
        assert odd.value.location is not None
        assert odd.value.location.startswith("ledger.py:")
        assert f"pid {pid}" in odd.value.__notes__[0]
        with pytest.raises(TypeError, match="missing 1 required"):
            await module.deposit("ada")

        await json_arguments(host)

        # it calls others, and others call it, within one chain
        assert await module.ask("hello") == "1.0 hello"
        assert await module.ask_stream() == [0, 1, 2]
        await module.ask_message("later")
        assert await host["api"].pay("eve") == 1
        assert await module.ask_own_reload() == SelfReload.__name__
        await module.send.note("one")
        while await module.read() != ["by name", "one"]:
            pass
        async with asyncio.timeout(10):
            while "later" not in await host["api"].read():
                await asyncio.sleep(0)
        assert "noted one" in caplog.text
        assert (
            next(one for one in caplog.records if one.name == "ledger").levelno == logging.WARNING
        )

        await a_call_that_is_given_up(host, module)
        # what serves is another version by now: it has asked for its own reload
        assert not events.of(WorkerEnded)


async def test_a_reload_migrates_and_a_rollback_keeps_the_writes(tmp_path: Path) -> None:
    (tmp_path / "v2.py").write_text(ledger("2.0"))
    async with isolated(tmp_path) as (host, module, _):
        await module.deposit("ada", 5)
        await module.spawned()
        before = await module.pid()
        plan = await host.plan({"ledger": str(tmp_path / "v2.py")})
        assert plan.accepted
        assert any("over a socket" in note for note in plan.modules[0].notes)
        assert await module.pid() == before

        sums: list[int] = []
        stop = False

        async def call(number: int) -> None:
            while not stop:
                sums.append((await module.deposit(f"caller-{number}", 1))[1])

        callers = [asyncio.create_task(call(number)) for number in range(8)]
        while len(sums) < 50:
            await asyncio.sleep(0)
        report = await host.reload({"ledger": str(tmp_path / "v2.py")})
        assert report.outcome is Outcome.COMMITTED, report.error
        assert report.certificate is not None
        assert report.certificate.checks_passed >= 2  # the check and the invariant
        assert report.modules[0].steps == ("step 1 -> 2",) or report.modules[0].steps
        known = len(sums)
        while len(sums) < known + 50:
            await asyncio.sleep(0)
        assert await module.pid() != before
        back = await host.rollback("ledger")
        assert back.outcome is Outcome.COMMITTED, back.error
        stop = True
        await asyncio.gather(*callers)
        # every call was done once, by one version or the other
        assert await module.sum() == 5 + len(sums)
        assert (await module.deposit("ada", 1))[0] == "1.0"
        pumps = [one for one in await module.read() if one.startswith("pump in")]
        assert pumps[-1] == f"pump in {await module.pid()}"
        assert len(pumps) == 3  # once in each process
        # the timer went on with its own time: in one process after the other
        last = await module.pid()
        async with asyncio.timeout(20):
            while last not in (beats := await module.beaten()):
                await asyncio.sleep(0)
        assert list(beats) == [int(one.split()[-1]) for one in pumps]
    async with isolated(tmp_path) as (_, module, _):
        assert await module.account("ada") == {"owner": "ada", "cents": 6, "kind": "open"}


async def test_streams_finish_resume_and_never_block_a_reload(tmp_path: Path) -> None:
    async with isolated(tmp_path) as (host, module, _):
        finishing, resuming = module.numbers(2), module.feed()
        assert await anext(finishing) == 0
        assert [await anext(resuming) for _ in range(3)] == [1, 2, 3]
        waiting = asyncio.create_task(anext(resuming))
        sealed = module.numbers(3)
        assert await anext(sealed) == 0
        await module.tell()
        report = await host.reload("ledger")
        assert report.outcome is Outcome.COMMITTED, report.error
        assert (report.streams_carried, report.streams_finishing) == (1, 2)
        assert await waiting == 4
        with pytest.raises(StateSealed):  # it goes on where it was, and may not write there
            await anext(sealed)
        await resuming.aclose()
        await finishing.aclose()


IN_PAUSE, IN_WINDOW = Outcome.ROLLED_BACK, Outcome.REJECTED
START = "    async def on_start"
BAD = {
    # what is bad: where it is found out, what is said, and the text in whose place other stands
    "on_start aborts": (IN_PAUSE, "SIGABRT", "self.started =", "os.abort(); self.x ="),
    "on_start segfaults": (IN_PAUSE, "SIGSEGV", "self.started =", "ctypes.string_at(0); self.x ="),
    "on_start loops": (
        IN_PAUSE,
        "on_start did not end within",
        "self.started =",
        "self.loop(); self.x =",
    ),
    "import aborts": (IN_WINDOW, "SIGABRT", "\nimport", "\nimport os; os.abort()\nimport"),
    "constructor exits": (
        IN_WINDOW,
        "status 3",
        START,
        f"    def __init__(self): os._exit(3)\n{START}",
    ),
    "check segfaults": (IN_WINDOW, "SIGSEGV", "assert sum(", "ctypes.string_at(0); assert ("),
    "check fails": (IN_PAUSE, "counted", "assert sum(", "assert 1 + sum("),
    "invariant differs": (
        IN_WINDOW,
        "in_sum does not hold: 5 before, 6 after",
        "return self.total_cents\n\n    @check",
        "return self.total_cents + 1\n\n    @check",
    ),
    "state is carried": (
        IN_WINDOW,
        "cannot get from one process to another",
        "    seen: list[str]",
        "    seen: list[str]\n    feed: Carry[object] = None",
    ),
    "schema without a way": (
        IN_WINDOW,
        "the steps from schema 1 to 2 leave differences",
        "rename(",
        "add('x', 1) if True else rename(",
    ),
}


async def test_a_candidate_that_crashes_or_fails_leaves_the_old_process_alone(
    tmp_path: Path,
) -> None:
    source = tmp_path / "bad.py"
    async with isolated(tmp_path, restore_timeout_s=0.5) as (host, module, events):
        await module.deposit("ada", 5)
        pid = await module.pid()
        for what, (outcome, said, before, after) in BAD.items():
            text = ledger("2.0").replace("Module, Record", "Carry, Module, Record")
            assert before in text, what
            source.write_text(text.replace(before, after, 1))
            report = await host.reload({"ledger": str(source)})
            assert report.outcome is outcome, (what, report)
            assert said in str(report.error), (what, report.error)
            assert report.warnings == () or what.startswith("check"), (what, report.warnings)
            assert await module.pid() == pid, what
        assert await module.deposit("ada", 1) == ("1.0", 6)
        assert not events.of(WorkerEnded)


async def test_a_worker_that_crashes_comes_back_from_its_last_snapshot(tmp_path: Path) -> None:
    (tmp_path / "v2.py").write_text(ledger("2.0"))
    settings = {"isolation_hang_s": 0.6, "isolation_memory_bytes": 200 * 1024 * 1024}
    async with isolated(tmp_path, isolation_restarts=4, **settings) as (host, module, events):
        await module.deposit("ada", 5)
        await saved(host)
        await module.deposit("ada", 1)
        first = await module.pid()
        holding = asyncio.create_task(module.hold())
        while host.status().modules[1].in_flight == 0:
            await asyncio.sleep(0)
        with pytest.raises(ModuleCrashed, match="SIGSEGV") as crashed:
            await module.crash()
        assert "ledger.py:" in str(crashed.value)
        with pytest.raises(ModuleCrashed, match="while hold ran in it"):
            await holding
        # who comes now waits for the next process, and sees the state that was saved
        assert await module.deposit("ada", 1) == ("1.0", 6)
        assert (await events.next(WorkerRestarted)).saved_at
        assert await module.pid() != first
        assert host.status().modules[1].restarts == 1

        looping = asyncio.create_task(module.loop())
        turns = 0
        while not looping.done():  # the host and the other module go on meanwhile
            assert await host["api"].greet("x") == "1.0 x"
            await asyncio.sleep(0)
            turns += 1
        with pytest.raises(ModuleCrashed, match=r"its event loop did not turn for 0\.6 s"):
            await looping
        assert turns > 100
        assert await module.sum() == 5

        with pytest.raises(MemoryError):  # so much at once is refused, and nothing else happens
            await module.grab()
        with pytest.raises(ModuleCrashed, match=r"it took .* MiB of memory"):
            await module.leak()
        assert await module.sum() == 5
        with pytest.raises(ModuleCrashed, match="status 7"):
            await module.exit()
        assert await module.sum() == 5

        with pytest.raises(ModuleCrashed):
            await module.exit()  # once too often
        await events.next(WorkerGaveUp)
        await reloaded_from_its_snapshot(host, tmp_path / "v2.py")


async def reloaded_from_its_snapshot(host: Host, source: Path) -> None:
    """A module that is down refuses calls and keeps messages, until it is reloaded."""
    module = host["ledger"]
    with pytest.raises(ModuleDown, match="ended 5 times within 60 s"):
        await module.sum()
    assert "ended 5 times" in host.status().modules[1].down
    await module.send.note("kept")
    report = await host.reload({"ledger": str(source)})
    assert report.outcome is Outcome.COMMITTED, report.error
    assert await module.sum() == 5  # from the snapshot, migrated
    while not await module.read():
        pass
    assert await module.read() == ["kept"]
    assert host.status().modules[1].down == ""


async def test_one_that_stays_down_keeps_state_and_messages_over_a_stop(tmp_path: Path) -> None:
    async with isolated(tmp_path, isolation_restarts=1) as (host, module, events):
        await module.deposit("ada", 5)
        await saved(host)
        for _ in range(2):
            with pytest.raises(ModuleCrashed):
                await module.crash()
        await events.next(WorkerGaveUp)
        await module.send.note("kept")
    async with isolated(tmp_path) as (_, module, _):
        while not await module.read():
            pass
        assert await module.read() == ["kept"]
        assert await module.sum() == 5


async def test_a_durable_message_is_handled_exactly_once_over_a_crash(tmp_path: Path) -> None:
    async with isolated(tmp_path, durable=True, isolation_restarts=20) as (host, module, events):
        await module.send.crash_if("a")
        while await module.read() != ["a"]:
            pass
        await saved(host)
        await module.send.crash_if("b")
        await module.send.crash_if("c")
        while await module.read() != ["a", "b", "c"]:
            pass
        with pytest.raises(ModuleCrashed):
            await module.crash()
        # b and c were lost with the state, and are handled again
        async with asyncio.timeout(20):
            while await module.read() != ["a", "b", "c"]:
                await asyncio.sleep(0)
        await module.send.crash_if("crash")
        await module.send.crash_if("d")
        failed = await events.next(MessageFailed)  # the one under which it crashed three times
        assert (failed.call, failed.error.kind) == ("crash_if", "ModuleCrashed")
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(ModuleCrashed):
                    if await module.read() == ["a", "b", "c", "d"]:
                        break
                await asyncio.sleep(0)
        status = host.status().modules[1]
        assert (status.messages_queued, status.messages_lost) == (0, 0)


async def test_a_transaction_over_both_kinds_is_all_or_none(tmp_path: Path) -> None:
    (tmp_path / "v2.py").write_text(ledger("2.0"))
    (tmp_path / "api2.py").write_text(API.replace("1.0", "2.0"))
    (tmp_path / "api3.py").write_text(
        API.replace("1.0", "3.0").replace(
            "    async def greet", "    def on_start(self):\n        1 / 0\n    async def greet"
        )
    )
    async with isolated(tmp_path) as (host, module, _):
        await host["api"].pay("ada")
        both = {"ledger": str(tmp_path / "v2.py"), "api": str(tmp_path / "api3.py")}
        report = await host.reload(both)
        assert report.outcome is Outcome.ROLLED_BACK
        assert (await module.deposit("ada", 1), await host["api"].greet("x")) == (
            ("1.0", 2),
            "1.0 x",
        )
        report = await host.reload({**both, "api": str(tmp_path / "api2.py")})
        assert report.outcome is Outcome.COMMITTED, report.error
        assert (await module.deposit("ada", 1), await host["api"].greet("x")) == (
            ("2.0", 3),
            "2.0 x",
        )
        assert await host["api"].pay("ada") == 4


async def test_the_state_is_exported_and_imported_and_outlives_the_nursery(tmp_path: Path) -> None:
    async with isolated(tmp_path) as (host, module, events):
        await module.deposit("ada", 5)
        document = await host.export_state("ledger")
        await module.deposit("ada", 2)
        report = await host.import_state("ledger", document)
        assert report.records >= 1
        assert await module.sum() == 5
        with pytest.raises(Exception, match="check counted failed"):
            await host.import_state("ledger", document.replace(b'"total":5', b'"total":6'))
        assert await module.sum() == 5
        assert (await host.look_at_state("ledger")).records >= 1
        assert (await host.sample_state("ledger")).tree["total"] == 5
        with pytest.raises(UsageError, match="process of its own"):
            host.describe_state("ledger")
        with pytest.raises(UsageError, match="rehearsal copies"):
            await host.plan("ledger", rehearse=True)

        host._workshop.config = msgspec.structs.replace(host.config.reload, max_pause_s=1e-6)
        plan = await host.plan("ledger")
        assert plan.error is not None
        assert "run it in the host, where a Table travels in a window" in str(plan.error.do)

        # the process that starts the others is no more than that: another one takes its place
        await saved(host)
        nursery = host._isolation._nursery._child
        assert nursery is not None
        nursery.kill()
        assert "SIGKILL" in (await events.next(WorkerEnded)).how
        assert await module.sum() == 5
        await events.next(WorkerRestarted)


async def test_a_host_that_is_killed_leaves_no_worker(tmp_path: Path) -> None:
    (tmp_path / "ledger.py").write_text(ledger())
    (tmp_path / "api.py").write_text(API)
    program = f"""
import asyncio
from replank import Host
from replank.config import Config, ModuleConfig
async def main():
    source = {str(tmp_path)!r} + "/"
    modules = {{
        "ledger": ModuleConfig(source=source + "ledger.py", isolation="process"),
        "api": ModuleConfig(source=source + "api.py"),
    }}
    async with Host(config=Config(modules=modules, data_dir=source + "data")) as host:
        print(await host["ledger"].pid(), flush=True)
        await host["ledger"].loop()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    worker = int(await process.stdout.readline())
    fd = os.pidfd_open(worker)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with asyncio.timeout(20):
        await ended.wait()  # although it never looks at its socket
    asyncio.get_running_loop().remove_reader(fd)
    os.close(fd)


@pytest.mark.parametrize(
    ("key", "value"),
    [("threads", True), ("mode", "windowed"), ("mode", "lazy"), ("on_bad_record", "quarantine")],
)
def test_what_an_isolated_module_cannot_have_is_refused(
    tmp_path: Path, key: str, value: object
) -> None:
    from replank.config import load_config

    said = "true" if value is True else f'"{value}"'
    file = tmp_path / "replank.toml"
    file.write_text(f'[modules.m]\nsource = "m.py"\nisolation = "process"\n{key} = {said}\n')
    with pytest.raises(ConfigError, match=f"{key} = {said} in a process of its own") as refused:
        load_config(file)
    assert str(refused.value.location).endswith(":4")
    assert not is_live("modules.m.isolation")
    assert is_live("modules.m.isolation_hang_s")
