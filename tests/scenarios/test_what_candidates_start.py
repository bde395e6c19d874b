"""What a candidate starts at import, in its constructor or in `on_start` ends with it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import warnings

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig
from replank.instrumentation.events import Warned
from replank.verification.effects import Effects
from replank.verification.leftovers import thread_left
from replank.verification.surroundings import Surroundings

# A thread that is asked to end by SystemExit ends in silence, except under this hook of pytest's.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

GOOD = """
from replank import Module
class Ledger(Module, version="1"):
    total: int = 0
    async def add(self, n: int) -> int:
        self.total += n
        return self.total
"""
START = """
import asyncio, atexit, logging, os, signal, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
from replank import Module

class Own(logging.Handler):
    def emit(self, record):
        pass

def work(*_):
    while threading.main_thread().is_alive():  # what a test leaves for atexit ends there
        time.sleep(0.002)

async def tick():
    while True:
        await asyncio.sleep(0.002)

async def connected(reader, writer):
    writer.close()

{at_import}

class Ledger(Module, version="2"):
    total: int = 0

    def __init__(self):
        pass
        {in_constructor}

    async def on_start(self):
        await asyncio.sleep(0)
        {in_on_start}
        {fail_late}

    async def add(self, n: int) -> int:
        self.total += 2 * n
        return self.total

{fail_early}
"""
OURS = ("asyncio", "replank", "pytest_timeout")
EVERYWHERE = {
    "environment": "os.environ['REPLANK_TEST'] = 'new'",
    "environment changed": "os.environ['REPLANK_KEPT'] = 'other'",
    "environment removed": "os.environ.pop('REPLANK_KEPT')",
    "library handler": "logging.getLogger().addHandler(logging.StreamHandler())",
    "own handler": "logging.getLogger('replank.tested').addHandler(Own())",
    "level": "logging.getLogger('replank.tested').setLevel(7)",
    "handlers removed": "logging.getLogger('replank.tested').handlers.clear()",
    "filter": "logging.getLogger('replank.tested').addFilter(lambda record: True)",
    "logging off": "logging.disable(logging.INFO)",
    "path": "sys.path.insert(0, '/replank/nowhere')",
    "warnings": "warnings.simplefilter('ignore', BytesWarning)",
    "hook": "sys.excepthook = work",
    "directory": "os.chdir('/')",
    "alias": "sys.modules['replank_tested_alias'] = sys.modules[__name__]",
    "exit": "atexit.register(work)",
    "daemon": "threading.Thread(target=work, name='tested', daemon=True).start()",
    "thread": "threading.Thread(target=work, name='tested').start()",
    "timer": "threading.Timer(600, work).start()",
    "pool": "pool = ThreadPoolExecutor(2); pool.submit(work); pool.submit(work)",
}
ON_THE_LOOP = {
    "idle pool": "self.pool = ThreadPoolExecutor(2); self.pool.submit(int).result()",
    "task": "asyncio.get_running_loop().create_task(tick(), name='tested')",
    "call later": "asyncio.get_running_loop().call_later(600, work)",
    "signal": "signal.signal(signal.SIGUSR1, work)",
    "loop signal": "asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, work)",
    "exception handler": "asyncio.get_running_loop().set_exception_handler(work)",
}
IN_ON_START = {
    "server": "await asyncio.start_server(connected, '127.0.0.1', 0)",
}


def source(effect: str, where: str, *, fails: str = "") -> str:
    parts = dict.fromkeys(("at_import", "in_constructor", "in_on_start"), "")
    parts[where] = effect
    early = "raise RuntimeError('no')" if fails == "import" else ""
    late = "raise RuntimeError('no')" if fails == "on_start" else "pass"
    return START.format(**parts, fail_early=early, fail_late=late)


def around() -> dict[str, object]:
    """Return what one can see of the process from outside, threads and tasks included."""
    loop = asyncio.get_running_loop()
    return {
        "threads": {one.name for one in threading.enumerate() if not one.name.startswith(OURS)},
        "tasks": {one.get_name() for one in asyncio.all_tasks() if one.get_name() == "tested"},
        "later": sum(
            1 for one in loop._scheduled if not one.cancelled() and one.when() > loop.time() + 60
        ),  # type: ignore[attr-defined]
        "readers": len(loop._selector.get_map()),  # type: ignore[attr-defined]
        "alias": "replank_tested_alias" in sys.modules,
    }


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """Leave nothing to the next test, whatever happens."""
    monkeypatch.setenv("REPLANK_KEPT", "as it was")
    logger = logging.getLogger("replank.tested")
    handler = logging.NullHandler()
    logger.addHandler(handler)
    before = Surroundings.now()
    yield before
    for change in before.changes(Surroundings.now()):
        change.put_back()
    logger.removeHandler(handler)
    warnings.filters[:] = list(before.lists["warnings.filters"])  # type: ignore[index]


CASES = [
    *(
        (name, where)
        for name in EVERYWHERE
        for where in ("at_import", "in_constructor", "in_on_start")
    ),
    *((name, where) for name in ON_THE_LOOP for where in ("in_constructor", "in_on_start")),
    *((name, "in_on_start") for name in IN_ON_START),
]
EFFECTS = {**EVERYWHERE, **ON_THE_LOOP, **IN_ON_START}


@pytest.fixture
async def host(tmp_path):
    (tmp_path / "ledger.py").write_text(GOOD)
    config = Config(reload=ReloadConfig(probe=False))
    async with Host(
        {"ledger": tmp_path / "ledger.py"}, data_dir=tmp_path / "data", config=config
    ) as one:
        yield one


@pytest.mark.parametrize(("name", "where"), CASES)
async def test_what_a_refused_candidate_started_is_taken_back(host, tmp_path, name, where):
    (tmp_path / "ledger.py").write_text(source(EFFECTS[name], where, fails="on_start"))
    before, seen = Surroundings.now(), around()
    report = await host.reload("ledger")
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.error.undo_errors == ()
    assert [one.text for one in before.changes(Surroundings.now())] == []
    assert around() == seen
    assert any("taken back" in line for line in report.warnings)
    assert await host["ledger"].add(1) == 1


@pytest.mark.parametrize("name", EVERYWHERE)
async def test_what_an_import_that_fails_started_is_taken_back(host, tmp_path, name):
    (tmp_path / "ledger.py").write_text(source(EFFECTS[name], "at_import", fails="import"))
    before, seen = Surroundings.now(), around()
    report = await host.reload("ledger")
    assert report.outcome is Outcome.REJECTED
    assert report.error.undo_errors == ()
    assert [one.text for one in before.changes(Surroundings.now())] == []
    assert around() == seen


KEPT = (
    "environment",
    "library handler",
    "own handler",
    "level",
    "path",
    "hook",
    "signal",
    "exception handler",
)


@pytest.mark.parametrize("name", KEPT)
async def test_what_a_committed_version_changed_is_kept(host, tmp_path, name):
    (tmp_path / "ledger.py").write_text(source(EFFECTS[name], "in_on_start"))
    before = Surroundings.now()
    report = await host.reload("ledger")
    assert report.outcome is Outcome.COMMITTED
    assert not any("taken back" in line for line in report.warnings)
    assert len(list(before.changes(Surroundings.now()))) == 1


PATCH = "import json\njson.dumps = lambda *_, **__: 'patched'"


async def test_a_function_of_others_that_an_import_replaces_is_told_and_put_back(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(json, "dumps", json.dumps)  # whatever happens
    path, dumps = tmp_path / "ledger.py", json.dumps
    path.write_text(GOOD)
    async with Host({"ledger": path}, data_dir=tmp_path / "data") as host:
        path.write_text(source(PATCH, "at_import", fails="on_start"))
        report = await host.reload("ledger")
        assert not report.committed
        assert json.dumps is dumps
        assert "taken back, for ledger does not serve: json.dumps" in report.warnings
        path.write_text(source(PATCH, "at_import"))
        report = await host.reload("ledger")
        assert report.committed, report.error
        told = "ledger: replaces json.dumps at import, for the whole process"
        assert told in report.warnings
        assert json.dumps(1) == "patched"


@pytest.mark.parametrize(
    ("effect", "found"),
    [
        (PATCH, "replaces json.dumps"),
        (EVERYWHERE["environment"], "changes environment variable REPLANK_TEST"),
        (EVERYWHERE["daemon"], "starts 1 thread(s)"),
        (EVERYWHERE["path"], "changes sys.path: +'/replank/nowhere'"),
        (EVERYWHERE["own handler"], "changes handlers of logger replank.tested"),
    ],
)
async def test_an_import_that_changes_the_process_is_rejected_where_that_is_wanted(
    tmp_path, effect, found
):
    path, dumps = tmp_path / "ledger.py", json.dumps
    path.write_text(GOOD)
    config = Config(reload=ReloadConfig(import_effects="reject"))
    async with Host({"ledger": path}, data_dir=tmp_path / "data", config=config) as host:
        path.write_text(source(effect, "at_import"))
        report = await host.reload("ledger")
        assert (report.outcome, report.error.phase) == ("rejected", "prepare")
        assert found in report.error.found
        assert 'reload.import_effects = "report"' in report.error.do
        assert json.dumps is dumps
        assert "REPLANK_TEST" not in os.environ


async def test_a_plan_leaves_nothing_of_what_the_candidate_did(host, tmp_path):
    (tmp_path / "ledger.py").write_text(source(EVERYWHERE["environment"], "at_import"))
    plan = await host.plan("ledger")
    assert plan.accepted
    assert "REPLANK_TEST" not in os.environ
    assert any("REPLANK_TEST" in line for line in plan.warnings)


async def test_a_thread_that_hears_nothing_is_named_with_its_stack_and_what_to_do(
    host, tmp_path, monkeypatch
):
    monkeypatch.setattr("replank.verification.effects._END_WITHIN_S", 0.01)
    end = threading.Event()
    monkeypatch.setattr(sys, "replank_tested_end", end, raising=False)
    start = "threading.Thread(target=lambda: sys.replank_tested_end.wait(), name='deaf').start()"
    (tmp_path / "ledger.py").write_text(source(start, "in_on_start", fails="on_start"))
    report = await host.reload("ledger")
    end.set()
    assert report.outcome is Outcome.ROLLED_BACK
    (line,) = report.error.undo_errors
    assert "thread 'deaf' runs on, at" in line
    assert "ledger.py:" in line
    assert "end it in on_stop" in line


async def test_an_import_that_goes_on_beside_one_that_fails_is_ended_and_takes_nothing_along(
    tmp_path, monkeypatch
):
    """It was imported in a thread of the loop's pool, whose next job was lost with it."""
    monkeypatch.setattr("replank.verification.effects._END_WITHIN_S", 0.05)
    arrived = threading.Event()
    monkeypatch.setattr(sys, "replank_tested_arrived", arrived, raising=False)
    sources = {name: tmp_path / f"{name}.py" for name in ("ledger", "other")}
    for path in sources.values():
        path.write_text(GOOD)
    config = Config(reload=ReloadConfig(probe=False))
    async with Host(sources, data_dir=tmp_path / "data", config=config) as host:
        endless = "sys.replank_tested_arrived.set()\nwhile True: pass"
        sources["ledger"].write_text(source(endless, "at_import"))
        sources["other"].write_text("import sys\nsys.replank_tested_arrived.wait()\n1 / 0\n")
        report = await host.reload(["other", "ledger"])
        assert report.outcome is Outcome.REJECTED
        assert report.error.location == "other.py:3"
        assert not any("goes on" in line for line in report.error.undo_errors)
        assert any("the import of ledger goes on, at " in line for line in report.warnings)
        for number in range(50):  # each in a thread
            assert await asyncio.to_thread(lambda n=number: n) == number
        assert await host["ledger"].add(1) == 1


async def test_a_thread_of_a_pool_that_others_use_is_named_and_never_ended(
    host, tmp_path, monkeypatch
):
    monkeypatch.setattr("replank.verification.effects._END_WITHIN_S", 0.01)
    end = threading.Event()
    monkeypatch.setattr(sys, "replank_tested_end", end, raising=False)
    job = "work = lambda: begun.set() or sys.replank_tested_end.wait(60)\n        "
    job += "begun = threading.Event()\n        "
    job += "asyncio.get_running_loop().run_in_executor(None, work); begun.wait(60)"
    (tmp_path / "ledger.py").write_text(source(job, "in_on_start", fails="on_start"))
    report = await host.reload("ledger")
    threads = set(asyncio.get_running_loop()._default_executor._threads)  # type: ignore[attr-defined]
    end.set()
    assert report.outcome is Outcome.ROLLED_BACK
    (line,) = report.error.undo_errors
    assert "runs on, at" in line
    for number in range(50):
        assert await asyncio.to_thread(lambda n=number: n) == number
    assert all(one.is_alive() for one in threads)


async def test_a_place_that_somebody_else_wrote_to_since_is_left_alone(monkeypatch):
    effects = Effects()
    with effects.step("ledger@2", exact=True):
        monkeypatch.setenv("REPLANK_TEST", "the candidate's")
        monkeypatch.setenv("REPLANK_KEPT", "the candidate's")
    monkeypatch.setenv("REPLANK_TEST", "somebody's")
    taken = await effects.take_back()
    assert os.environ["REPLANK_TEST"] == "somebody's"
    assert os.environ["REPLANK_KEPT"] == "as it was"
    assert taken.done == ("environment variable REPLANK_KEPT",)


async def test_what_may_be_another_candidates_is_left_and_told(monkeypatch):
    """Both are imported at the same time, each in a thread: nobody can tell who did it."""
    refused, other = Effects(), Effects()
    with refused.step("ledger@2", exact=False), other.step("other@2", exact=False):
        monkeypatch.setenv("REPLANK_TEST", "whose?")
    taken = await refused.take_back()
    assert os.environ["REPLANK_TEST"] == "whose?"
    (line,) = taken.left
    assert "environment variable REPLANK_TEST" in line
    assert "put it right by hand" in line


async def test_what_a_serving_module_does_while_a_candidate_is_imported_stays(tmp_path):
    """The handler's class is under another private name: it is certainly not the candidate's."""
    (tmp_path / "ledger.py").write_text(GOOD)
    (tmp_path / "other.py").write_text(
        "import logging, threading\nfrom replank import Module\n"
        "class Mine(logging.Handler):\n    pass\n"
        "class Other(Module):\n"
        "    async def attach(self) -> None:\n"
        "        logging.getLogger('replank.tested').addHandler(Mine())\n"
    )
    arrived, go = threading.Event(), threading.Event()
    sources = {"ledger": tmp_path / "ledger.py", "other": tmp_path / "other.py"}
    config = Config(reload=ReloadConfig(probe=False))
    sys.replank_tested_wait = lambda: (arrived.set(), go.wait(5))  # type: ignore[attr-defined]
    try:
        async with Host(sources, data_dir=tmp_path / "data", config=config) as host:
            wait = "sys.replank_tested_wait()"
            (tmp_path / "ledger.py").write_text(source(wait, "at_import", fails="import"))
            ticket = host.reload("ledger")
            await asyncio.to_thread(arrived.wait, 5)
            await host["other"].attach()
            go.set()
            assert (await ticket).outcome is Outcome.REJECTED
            handlers = logging.getLogger("replank.tested").handlers
            assert [type(one).__name__ for one in handlers] == ["NullHandler", "Mine"]
    finally:
        del sys.replank_tested_wait  # type: ignore[attr-defined]


LEFT = {
    "daemon": "daemon thread 'tested' runs on",
    "task": "task 'tested' runs on",
    "call later": "a call of work by loop.call_later is still to come",
    "own handler": "is attached to logger replank.tested",
    "library handler": "handlers of the root logger",
    "exit": "atexit will run work",
    "server": "a server listens on ('127.0.0.1', ",
}


@pytest.mark.parametrize("name", LEFT)
async def test_what_a_retired_generation_has_left_is_told(host, tmp_path, name):
    warned: list[str] = []
    host.subscribe(lambda event: warned.append(event.text) if isinstance(event, Warned) else None)
    (tmp_path / "ledger.py").write_text(source(EFFECTS[name], "in_on_start"))
    assert (await host.reload("ledger")).committed
    assert not [line for line in warned if "left behind" in line]
    (tmp_path / "ledger.py").write_text(GOOD.replace('version="1"', 'version="3"'))
    assert (await host.reload("ledger")).committed
    await host._routes.slot("ledger").probation.settled()
    await host._coordinator.retirement.close(5)
    (line,) = [line for line in warned if "left behind" in line]
    assert line.startswith("left behind by ledger 2 (generation 2), which serves no more")
    assert LEFT[name] in line
    assert "on_stop" in line
    end_all(name)


def end_all(name: str) -> None:
    """End what the last version has left: nobody else does."""
    for task in asyncio.all_tasks():
        if task.get_name() == "tested":
            task.cancel()
    for thread in threading.enumerate():
        if thread.name == "tested":
            thread_left(thread, owned=True).end()
            thread.join()
    if name == "server":
        loop = asyncio.get_running_loop()
        for key in list(loop._selector.get_map().values()):  # type: ignore[attr-defined]
            reader = key.data[0] if isinstance(key.data, tuple) else None
            if reader is not None and "_accept_connection" in repr(reader._callback):
                reader._args[3].close()
