"""Candidates that come together share a child, and each is told what it would be told alone."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from replank.code.probe import Probe, ProbeLimits, ProbeResult
from replank.code.store import Version, VersionStore
from replank.errors import ModuleError
from tests.unit.code.conftest import BROKEN
from tests.unit.code.test_probe import EXPECTED

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT = ProbeLimits(seconds=0.5, memory_bytes=128 * 1024 * 1024)
PATIENT = ProbeLimits(seconds=20.0)
GOOD = """
import os
from replank.module import Module

class Ledger(Module, version=f"1.{os.getpid()}"):
    total: int = 0
    async def deposit(self, cents: int) -> int:
        self.total += cents
        return self.total
"""

Stored = Callable[..., Version]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def probe() -> AsyncIterator[Probe]:
    one = Probe(lanes=1)
    await one.start()
    yield one
    await one.close()


def numbered(stored: Stored, count: int, text: str = GOOD) -> list[Version]:
    """Store so many candidates that differ."""
    return [stored(f"number = {number}\n{text}") for number in range(count)]


def child_of(result: ProbeResult) -> int:
    """Return the process that has examined a candidate, which its label tells."""
    return int(result.contract["label"].removeprefix("1."))


async def examined(
    probe: Probe, versions: list[Version], limits: ProbeLimits = PATIENT
) -> list[ProbeResult | BaseException]:
    asked = [probe.examine(version, "ledger", limits=limits) for version in versions]
    return await asyncio.gather(*asked, return_exceptions=True)


def results(found: list[ProbeResult | BaseException]) -> list[ProbeResult]:
    for one in found:
        assert isinstance(one, ProbeResult), one
    return [one for one in found if isinstance(one, ProbeResult)]


async def test_candidates_that_leave_no_trace_share_a_child(probe: Probe, stored: Stored) -> None:
    versions = numbered(stored, 8)
    found = results(await examined(probe, versions))
    assert len({child_of(one) for one in found}) < 8  # one, but for a machine with much to do
    for version, one in zip(versions, found, strict=True):
        assert one.code is not None
        assert version.digest.encode() in one.code
        assert one.contract["calls"].keys() == {"deposit"}


async def test_a_candidate_alone_has_a_child_of_its_own(probe: Probe, stored: Stored) -> None:
    one, two = numbered(stored, 2)
    first = await probe.examine(one, "ledger")
    assert child_of(first) != child_of(await probe.examine(two, "ledger"))


async def test_a_candidate_finds_nothing_of_the_one_before_it(probe: Probe, stored: Stored) -> None:
    look = """
    import contextvars, sys
    if [name for name in sys.modules if "@" in name] != [__import__("sys")._getframe().f_globals["__spec__"].name]:
        raise ValueError(sorted(name for name in sys.modules if "@" in name))
    """
    text = re.sub(r"^    ", "", look, flags=re.MULTILINE) + GOOD
    found = results(await examined(probe, numbered(stored, 4, text)))
    assert [one.output for one in found] == [""] * 4


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_a_broken_candidate_among_good_ones_is_told_its_own_line(
    probe: Probe, store: VersionStore, stored: Stored, name: str
) -> None:
    good = numbered(stored, 3)
    bad = store.put(BROKEN / f"{name}.py")
    kind, place, words = EXPECTED[name]
    asked = [good[0], bad, *good[1:]]
    first, error, *others = await asyncio.gather(
        *(probe.examine(one, "ledger", limits=SHORT) for one in asked), return_exceptions=True
    )
    assert isinstance(error, kind)
    assert isinstance(error, ModuleError)
    assert re.fullmatch(place, error.location or "")
    assert words in (error.found or "")
    assert len(results([first, *others])) == 3


TRACES = {
    "prints": "print('hello')",
    "prints to the descriptor": "os.write(2, b'hello')",
    "warns": "import warnings\nwarnings.warn('soon gone', DeprecationWarning)",
    "replaces a function": "import json\njson.dumps = lambda value: ''",
    "puts a value into a library": "import json\njson.flag = 1",
    "sets an environment variable": "os.environ['LEDGER'] = '1'",
    "starts a thread": "import threading\n"
    "threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "imports what was not there": "import wave",
    "opens a file for good": "held = open(os.devnull)\nimport builtins\nbuiltins.held = held",
    "opens a descriptor": "os.open(os.devnull, os.O_RDONLY)",
    "starts a process": "if os.fork() == 0:\n    os._exit(0)",
    "lets recursion go deeper": "import sys\nsys.setrecursionlimit(sys.getrecursionlimit() + 1)",
    "asks for a signal": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 60)",
    "handles a signal": "import signal\nsignal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "switches the collector off": "import gc\ngc.disable()",
    "keeps memory": "import builtins\nbuiltins.kept = bytearray(64 * 1024 * 1024)",
    "traces": "import sys\nsys.setprofile(lambda *_: None)",
}


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES.keys())
async def test_what_leaves_a_trace_is_followed_by_nobody_and_is_told_as_ever(
    stored: Stored, trace: str
) -> None:
    one = Probe(lanes=1, preload=False)
    # The trace comes last: what was written to its child before would be told of it alone, too.
    text = GOOD.replace("import os\n", f"import os\n{trace}\n")
    leaves, *good = [stored(text), *numbered(stored, 2)]
    try:
        alone = await one.examine(leaves, "ledger", limits=PATIENT)
        first, *others = results(await examined(one, [leaves, *good]))
        among = results(await examined(one, [good[0], leaves, good[1]]))
    finally:
        await one.close()
    assert child_of(first) not in {child_of(other) for other in others}
    assert child_of(among[1]) not in {child_of(among[0]), child_of(among[2])}
    for other in (first, among[1]):
        assert (other.output, other.warnings) == (alone.output, alone.warnings)
        assert (other.patched, other.changed) == (alone.patched, alone.changed)
    for other in (*others, among[0], among[2]):
        assert (other.output, other.warnings, other.changed) == ("", (), ())


async def test_a_candidate_that_hangs_holds_up_none_of_those_behind_it(
    probe: Probe, stored: Stored
) -> None:
    first, *good = numbered(stored, 3)
    hangs = stored("import threading\nthreading.Event().wait()\n" + GOOD)
    before = asyncio.create_task(probe.examine(first, "ledger", limits=PATIENT))
    hanging = asyncio.create_task(probe.examine(hangs, "ledger", limits=PATIENT))
    assert len(results(await examined(probe, good))) == 2
    assert (await before).ok
    assert not hanging.done()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert (await probe.examine(first, "ledger")).ok


async def test_each_candidate_may_use_all_of_its_memory(probe: Probe, stored: Stored) -> None:
    text = GOOD + "used = bytearray(100 * 1024 * 1024)\ndel used\n"
    assert len(results(await examined(probe, numbered(stored, 4, text), SHORT))) == 4


async def test_one_that_was_given_up_while_it_waited_is_not_examined(
    probe: Probe, stored: Stored, tmp_path_factory: pytest.TempPathFactory
) -> None:
    mark = tmp_path_factory.mktemp("given_up") / "examined"
    first, *good = numbered(stored, 3)
    waits = stored(f"open({str(mark)!r}, 'w').close()\n" + GOOD)
    slow = stored("import time\ntime.sleep(0.05)\n" + GOOD)
    before = asyncio.create_task(probe.examine(slow, "ledger", limits=PATIENT))
    await asyncio.sleep(0)
    given_up = asyncio.create_task(probe.examine(waits, "ledger", limits=PATIENT))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert (await before).ok
    assert len(results(await examined(probe, [first, *good]))) == 3
    assert not mark.exists()


async def test_what_does_not_fit_into_a_pipe_gets_a_child_of_its_own(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(600):
        monkeypatch.syspath_prepend(f"/nowhere/{number:0100}")
    one = Probe(lanes=1)
    try:
        found = results(await examined(one, numbered(stored, 3)))
    finally:
        await one.close()
    assert len({child_of(result) for result in found}) == 3


async def test_candidates_of_another_folder_do_not_share(
    probe: Probe, stored: Stored, monkeypatch: pytest.MonkeyPatch, tmp_path_factory
) -> None:
    text = GOOD.replace("1.{os.getpid()}", "1.{os.getpid()}+{len(os.getcwd())}")
    versions = numbered(stored, 2, text)
    here = asyncio.create_task(probe.examine(versions[0], "ledger", limits=PATIENT))
    await asyncio.sleep(0)
    there = tmp_path_factory.mktemp("another_folder_with_a_longer_name")
    monkeypatch.chdir(there)
    other = await probe.examine(versions[1], "ledger", limits=PATIENT)
    assert other.contract["label"].endswith(f"+{len(os.fspath(there))}")
    assert other.contract["label"] != (await here).contract["label"]


async def test_with_more_lanes_candidates_are_examined_beside_each_other(stored: Stored) -> None:
    one = Probe(lanes=4)
    try:
        found = results(await examined(one, numbered(stored, 4)))
    finally:
        await one.close()
    assert len({child_of(result) for result in found}) == 4
