"""Whatever a candidate does, it does it to a child; the host gets a result or a clear error."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from replank.code import probe as probe_module
from replank.code.loader import Loader
from replank.code.probe import Probe, ProbeLimits
from replank.code.store import VersionStore
from replank.errors import DefinitionError, InternalError, ModuleError, SourceError
from tests.unit.code.conftest import BROKEN

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT = ProbeLimits(seconds=0.5, memory_bytes=128 * 1024 * 1024)

GOOD = """
from replank.module import Module

class Ledger(Module, version="1.0"):
    total: int = 0
    async def deposit(self, cents: int) -> int:
        self.total += cents
        return self.total
"""

# What each broken candidate is to be told: error class, place, and words in "found".
EXPECTED = {
    "aborts": (SourceError, "aborts.py:13", "SIGABRT"),
    "bad_timer": (DefinitionError, "bad_timer.py:7", "0"),
    "constructor_exits": (SourceError, "constructor_exits.py:8", "SystemExit: no licence"),
    "constructor_loops": (SourceError, r"constructor_loops.py:1[01]", "still running"),
    "constructor_raises": (SourceError, "constructor_raises.py:10", "ValueError"),
    "endless_loop": (SourceError, r"endless_loop.py:1[34]", "still running"),
    "endless_wait": (SourceError, "endless_wait.py:13", "still running"),
    "forks_and_floods": (SourceError, "forks_and_floods.py:16", "exited with code 4"),
    "import_error": (SourceError, "import_error.py:5", "no_such_package_anywhere"),
    "keyboard_interrupt": (SourceError, "keyboard_interrupt.py:11", "KeyboardInterrupt"),
    "kills_itself": (SourceError, "kills_itself.py:14", "SIGKILL"),
    "memory_blow_up": (SourceError, "memory_blow_up.py:13", "MemoryError"),
    "no_module": (DefinitionError, "no_module.py:1", "no subclass of Module"),
    "null_bytes": (SourceError, "null_bytes.py:1", "null bytes"),
    "os_exit": (SourceError, "os_exit.py:13", "exited with code 3"),
    "output_flood": (SourceError, "output_flood.py:17", "after the flood"),
    "raises_at_import": (SourceError, "raises_at_import.py:7", "ZeroDivisionError"),
    "segfault": (SourceError, "segfault.py:13", "SIGSEGV"),
    "syntax_error": (SourceError, "syntax_error.py:7", "SyntaxError"),
    "sys_exit": (SourceError, "sys_exit.py:13", "SystemExit: 3"),
    "two_modules": (DefinitionError, r"two_modules.py:\d+", "class Ledger, class Api"),
    "unknown_annotation": (DefinitionError, r"unknown_annotation.py:\d+", "Accounts"),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def probe() -> AsyncIterator[Probe]:
    one = Probe()
    await one.start()
    yield one
    await one.close()


def pid_of(probe: Probe) -> int:
    assert probe._server is not None
    return probe._server._process.pid


async def test_every_broken_candidate_is_expected_to_be_something() -> None:
    assert sorted(EXPECTED) == sorted(path.stem for path in BROKEN.glob("*.py"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_a_broken_candidate_is_told_its_line_and_the_server_lives(
    probe: Probe, store: VersionStore, stored, name: str
) -> None:
    kind, place, found = EXPECTED[name]
    version, server = store.put(BROKEN / f"{name}.py"), pid_of(probe)
    for _ in range(3):
        with pytest.raises(ModuleError) as caught:
            await probe.examine(version, "ledger", limits=SHORT)
        error = caught.value
        assert type(error) is kind
        assert re.fullmatch(place, error.location or ""), error.location
        assert found in (error.found or "")
        assert error.module == "ledger"
        assert error.do
        assert "ledger@" not in str(error) + error.candidate_traceback
        assert str(version.root) not in str(error) + error.candidate_traceback
    assert (await probe.examine(stored(GOOD), "ledger")).ok
    assert pid_of(probe) == server


async def test_broken_candidates_are_told_apart_when_examined_together(
    probe: Probe, store: VersionStore, stored
) -> None:
    names = ["segfault", "os_exit", "endless_wait", "syntax_error", "sys_exit", "two_modules"]
    asked = [probe.examine(store.put(BROKEN / f"{n}.py"), n, limits=SHORT) for n in names * 2]
    good = asyncio.create_task(probe.examine(stored(GOOD), "ledger"))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for name, answer in zip(names * 2, answers, strict=True):
        assert isinstance(answer, EXPECTED[name][0])
        assert answer.module == name
        assert re.fullmatch(EXPECTED[name][1], answer.location or "")
    assert (await good).ok


async def test_a_good_candidate_is_described_and_compiled(probe: Probe, stored) -> None:
    version = stored({"__init__.py": GOOD, "late.py": "x = 1\n", "old.py": "print 1\n"})
    result = await probe.examine(version, "ledger")
    assert result.contract["label"] == "1.0"
    assert result.contract["calls"]["deposit"]["kind"] == "async"
    assert set(result.seconds) == {"load", "define", "construct", "compile", "total"}
    (doubt,) = result.warnings
    assert doubt.startswith("ledger/old.py:1 does not compile")
    loaded = Loader().load(version, "ledger", 1, code=result.code)
    assert await loaded.module.Ledger().deposit(3) == 3
    assert set(loaded._tree._marshalled) == {"ledger/late.py"}
    loaded.unload()


async def test_code_from_the_probe_spares_the_host_from_compiling(
    probe: Probe, stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = stored(GOOD)
    result = await probe.examine(version, "ledger")
    monkeypatch.setattr("replank.code.loader.compile_source", None)
    Loader().load(version, "ledger", 1, code=result.code).unload()


async def test_what_a_candidate_prints_is_kept_within_bounds(probe: Probe, stored) -> None:
    version = stored("import sys\nprint('x' * 9999)\nprint('end', file=sys.stderr)\n" + GOOD)
    result = await probe.examine(version, "ledger", limits=ProbeLimits(output_bytes=100))
    assert len(result.output) == 100
    assert result.output.endswith("xxx\nend\n")


async def test_what_it_printed_last_is_shown_with_its_error(probe: Probe, stored) -> None:
    version = stored("print('opening the vault')\nimport os\nos._exit(9)\n")
    with pytest.raises(SourceError) as caught:
        await probe.examine(version, "ledger")
    assert "opening the vault" in caught.value.candidate_traceback
    assert "os._exit(9)" in caught.value.candidate_traceback


async def test_warnings_of_the_candidates_own_files_are_told_once(probe: Probe, stored) -> None:
    text = GOOD + "    async def odd(self) -> bool:\n        return 'a' is 'b'\n"
    text += "import warnings\nwarnings.warn('soon gone', DeprecationWarning)\n"
    result = await probe.examine(stored(text), "ledger")
    assert len(result.warnings) == 2
    assert "SyntaxWarning" in result.warnings[0]
    assert result.warnings[1] == "ledger.py:12 DeprecationWarning: soon gone"


async def test_threads_started_at_import_are_told(probe: Probe, stored) -> None:
    text = (
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    result = await probe.examine(stored(text + GOOD), "ledger")
    assert result.warnings == ("starts 1 thread(s) at import; start them in on_start instead",)


async def test_the_candidate_sees_the_hosts_folder_path_and_arguments(
    probe: Probe, stored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "extra"))
    text = "import os, sys\nprint(os.getcwd(), sys.path[0], sys.argv)\n" + GOOD
    result = await probe.examine(stored(text), "ledger")
    assert result.output == f"{tmp_path} {tmp_path / 'extra'} {sys.argv}\n"


async def test_nothing_of_the_hosts_is_open_in_the_child(probe: Probe, stored) -> None:
    text = """
    import os, stat
    for fd in range(3, 200):
        try:
            found = os.fstat(fd).st_mode
        except OSError:
            continue
        if stat.S_ISSOCK(found):
            print("socket", fd)
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.set_inheritable(True)
        one = Probe()
        try:
            # The second child is forked while the first one's pipes are open in the server.
            loud = [one.examine(stored(textwrap.dedent(text) + GOOD), "ledger") for _ in range(2)]
            assert [result.output for result in await asyncio.gather(*loud)] == ["", ""]
        finally:
            await one.close()


async def test_installed_packages_are_preloaded_after_they_were_seen(stored) -> None:
    text = "import sys\nprint('wave' in sys.modules)\nimport wave\n" + GOOD
    one = Probe()
    try:
        seen = [(await one.examine(stored(text), "ledger")).output for _ in range(2)]
    finally:
        await one.close()
    assert seen == ["False\n", "True\n"]


async def test_the_authors_own_modules_are_not_preloaded(
    stored, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shared_types_of_ours.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "shared_types_of_ours"
    text = f"import sys\nprint('{name}' in sys.modules)\nimport {name}\n" + GOOD
    one = Probe()
    try:
        seen = [(await one.examine(stored(text), "ledger")).output for _ in range(2)]
    finally:
        await one.close()
    assert seen == ["False\n", "False\n"]


async def test_a_candidate_that_forks_reports_once(probe: Probe, stored) -> None:
    result = await probe.examine(stored("import os\nos.fork()\n" + GOOD), "ledger")
    assert result.ok


class Lifeline:
    """A named pipe that a candidate holds: its end tells when the last holder is dead."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lifeline"
        os.mkfifo(self.path)
        self._reading = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        # Reads block from here on: in worker threads, until the candidate writes or dies.
        os.set_blocking(self._reading, True)

    @property
    def text(self) -> str:
        """Source lines that take hold of the pipe and say so."""
        return f"import os\nline = os.open({str(self.path)!r}, os.O_WRONLY)\nos.write(line, b'!')\n"

    async def held(self) -> None:
        """Wait until a candidate holds the pipe."""
        data = b""
        while not data:  # no writer yet reads as an end
            data = await asyncio.to_thread(os.read, self._reading, 1)

    async def let_go(self) -> None:
        """Wait until nobody holds it any more."""
        async with asyncio.timeout(20):
            while await asyncio.to_thread(os.read, self._reading, 100):
                pass

    def close(self) -> None:
        os.close(self._reading)


@pytest.fixture
def lifeline(tmp_path: Path):
    one = Lifeline(tmp_path)
    yield one
    one.close()


WAIT = "import threading\nthreading.Event().wait()\n"


async def test_a_cancelled_examination_kills_its_child(
    probe: Probe, stored, lifeline: Lifeline
) -> None:
    task = asyncio.create_task(probe.examine(stored(lifeline.text + WAIT), "ledger"))
    await lifeline.held()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await lifeline.let_go()


async def test_what_a_candidate_started_does_not_outlive_its_examination(
    probe: Probe, stored, lifeline: Lifeline
) -> None:
    text = f"import os\nif os.fork() == 0:\n{textwrap.indent(lifeline.text + WAIT, '    ')}"
    text += f"open({str(lifeline.path)!r}, 'w').close()\n"
    await probe.examine(stored(text + GOOD), "ledger")
    await lifeline.let_go()


async def test_closing_the_probe_ends_server_and_children(stored, lifeline: Lifeline) -> None:
    one = Probe()
    task = asyncio.create_task(one.examine(stored(lifeline.text + WAIT), "ledger"))
    await lifeline.held()
    process = one._server._process
    await one.close()
    await one.close()
    with pytest.raises(InternalError, match="the probe is closed"):
        await task
    assert process.returncode == 0
    await lifeline.let_go()
    with pytest.raises(InternalError, match="the probe is closed"):
        await one.start()


async def test_a_server_that_was_killed_is_replaced_without_a_word(stored) -> None:
    one = Probe()
    try:
        await one.start()
        os.kill(pid_of(one), signal.SIGKILL)
        assert (await one.examine(stored(GOOD), "ledger")).ok
        assert (await one.examine(stored(GOOD), "ledger")).ok
    finally:
        await one.close()


async def test_an_examination_under_way_survives_the_death_of_the_server(
    stored, lifeline: Lifeline, tmp_path: Path
) -> None:
    mark = tmp_path / "second"
    text = f"import pathlib\nif not pathlib.Path({str(mark)!r}).exists():\n"
    text += textwrap.indent(lifeline.text + WAIT, "    ") + GOOD
    one = Probe()
    try:
        task = asyncio.create_task(one.examine(stored(text), "ledger"))
        await lifeline.held()
        mark.touch()
        os.kill(pid_of(one), signal.SIGKILL)
        assert (await task).ok
        assert (await one.examine(stored(GOOD), "ledger")).ok
    finally:
        await one.close()


async def test_a_candidate_that_kills_the_server_is_refused_and_the_next_is_examined(
    stored,
) -> None:
    one = Probe()
    try:
        version = stored("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n")
        with pytest.raises(SourceError, match="ends the process that examines it") as caught:
            await one.examine(version, "ledger")
        assert caught.value.location == "ledger.py"
        assert (await one.examine(stored(GOOD), "ledger")).ok
    finally:
        await one.close()


async def test_a_server_that_is_stuck_is_given_up(stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "_ANSWER_GRACE_S", 0.1)
    one = Probe()
    await one.start()
    stuck = pid_of(one)
    os.kill(stuck, signal.SIGSTOP)
    monkeypatch.setattr(probe_module, "_STOP_TIMEOUT_S", 0.1)
    try:
        result = await one.examine(stored(GOOD), "ledger", limits=ProbeLimits(seconds=1))
        assert result.ok
        assert (await one.examine(stored(GOOD), "ledger")).ok
        assert pid_of(one) != stuck
    finally:
        await one.close()


async def test_a_server_that_does_not_start_is_said_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe_module, "_BOOT", "raise SystemExit('no interpreter today')")
    with pytest.raises(InternalError, match="does not start") as caught:
        await Probe().start()
    assert caught.value.found == "no interpreter today"


async def test_an_interpreter_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(InternalError, match="cannot be started"):
        await Probe().start()


async def test_server_and_children_die_with_the_host(
    store: VersionStore, stored, lifeline: Lifeline, tmp_path: Path
) -> None:
    version = stored(lifeline.text + WAIT)
    host = f"""
    import asyncio, pathlib
    from replank.code.probe import Probe
    from replank.code.store import VersionStore
    version = VersionStore(pathlib.Path({str(tmp_path / "versions")!r})).get({version.digest!r})
    asyncio.run(Probe().examine(version, "ledger"))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(host)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    await lifeline.held()
    process.kill()
    await asyncio.to_thread(process.wait)
    await lifeline.let_go()
