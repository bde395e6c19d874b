"""A large state is written by a forked child while the module serves; one moment of it, whole."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import msgspec
import pytest

from replank import Host
from replank.errors import ReplankError, SnapshotError
from replank.forks import ChildDied
from replank.instrumentation.events import Warned
from replank.state import spool, streaming, writing
from replank.state.snapshot import read
from tests.scenarios.large_snapshot_host import RECORDS, make_host

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("REPLANK_SEED", "20240229"))


class Forks:
    """The children that were forked to write, and a way to hold them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Any] = []
        self.fault: Any = None
        init, work = writing.Writing.__init__, writing.Writing._write

        def made(one: Any, *args: Any) -> None:
            init(one, *args)
            self.made.append(one)

        def written(one: Any) -> bytes:
            if self.fault is not None:
                self.fault()
            return work(one)

        # However long a fork takes here, and however large this process is.
        monkeypatch.setattr(writing, "FORK_S_A_BYTE", 0.0)
        monkeypatch.setattr(writing.Writing, "__init__", made)
        monkeypatch.setattr(writing.Writing, "_write", written)


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> Forks:
    return Forks(monkeypatch)


def snapshots(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "data" / "snapshots"
    return sorted(folder.glob("*.snapshot"), key=lambda path: path.stat().st_mtime_ns)


async def save(host: Host) -> None:
    await host._routes.slot("ledger").persistence.save("test")


async def test_calls_go_on_while_a_large_state_is_written_and_the_file_is_of_one_moment(
    tmp_path: Path, forks: Forks
) -> None:
    async with make_host(tmp_path) as host:
        ledger = host["ledger"]
        await ledger.open(RECORDS)
        await asyncio.gather(*(ledger.deposit(n) for n in range(500)))
        saving = asyncio.ensure_future(save(host))
        while not forks.made:
            await asyncio.sleep(0)
        number = 500
        while not saving.done():
            await ledger.deposit(number)
            number += 1
        await saving
        assert number > 510
        assert forks.made[0].pause_s > 0
        (path,) = snapshots(tmp_path)
        tree = read(path).tree
        assert tree["half"] == 0
        assert len(tree["seen"]) == sum(one["cents"] for one in tree["accounts"].values())
        assert 500 <= len(tree["seen"]) < number
        assert read(path).records == RECORDS + len(tree["seen"])
    assert len(forks.made) == 2  # the stop leaves the large state to a child, too
    async with make_host(tmp_path) as host:
        half, seen, cents = await host["ledger"].account()
        assert (half, len(seen), cents) == (0, number, number)


async def test_a_small_state_is_copied_without_a_child(tmp_path: Path, forks: Forks) -> None:
    async with make_host(tmp_path) as host:
        await host["ledger"].open(100)
        await save(host)
    assert forks.made == []
    assert len(snapshots(tmp_path)) == 2


async def test_a_child_that_is_killed_costs_one_save_and_the_next_copies_here(
    tmp_path: Path, forks: Forks
) -> None:
    warnings: list[str] = []
    async with make_host(tmp_path) as host:
        host.subscribe(lambda e: warnings.append(e.text) if isinstance(e, Warned) else None)
        await host["ledger"].open(RECORDS)
        await save(host)
        forks.fault = lambda: os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(ChildDied):
            await save(host)
        assert any("ended without an answer" in text for text in warnings)
        assert len(snapshots(tmp_path)) == 1
        await save(host)
        assert len(snapshots(tmp_path)) == 2
        assert len(forks.made) == 2
    assert not list((tmp_path / "data" / "snapshots").glob(".*.tmp"))


async def test_a_child_that_is_killed_at_the_stop_loses_nothing(
    tmp_path: Path, forks: Forks
) -> None:
    async with make_host(tmp_path) as host:
        await host["ledger"].open(RECORDS)
        await host["ledger"].deposit(1)
        forks.fault = lambda: os.kill(os.getpid(), signal.SIGKILL)
    async with make_host(tmp_path) as host:
        assert await host["ledger"].account() == [0, [1], 1]


async def test_what_the_disk_refuses_in_the_child_is_told_and_the_old_file_stays(
    tmp_path: Path, forks: Forks
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    async with make_host(tmp_path) as host:
        await host["ledger"].open(RECORDS)
        await save(host)
        before = snapshots(tmp_path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writing, "write_frames", lambda *_: full())
            with pytest.raises(SnapshotError, match="cannot be written") as raised:
                await save(host)
        assert "No space left" in str(raised.value.found)
        assert "the last snapshot is untouched" in str(raised.value.do)
        assert snapshots(tmp_path) == before
        await save(host)  # a full disk is no reason to give up on children
        assert len(forks.made) == 3


async def test_when_no_process_can_be_made_the_state_is_copied_here(
    tmp_path: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise BlockingIOError("no more processes")

    async with make_host(tmp_path) as host:
        await host["ledger"].open(RECORDS)
        monkeypatch.setattr(os, "fork", refuse)
        await save(host)
        assert forks.made == []
        assert read(snapshots(tmp_path)[0]).records == RECORDS


async def test_a_torn_large_file_is_refused_and_the_one_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "CHUNK_ITEMS", 500)
    async with make_host(tmp_path) as host:
        await host["ledger"].open(RECORDS)
        await save(host)
        await host["ledger"].deposit(1)
    last = snapshots(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    warnings: list[str] = []
    host = make_host(tmp_path)
    host.subscribe(lambda e: warnings.append(e.text) if isinstance(e, Warned) else None)
    async with host:
        assert await host["ledger"].account() == [0, [], 0]
        assert await host["ledger"].size() == RECORDS
    assert any(
        "truncated" in text and "the snapshot before it is used" in text for text in warnings
    )


class Killed:
    """Lives of a host that sends messages, each killed at an ordered moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.accepted: list[int] = []
        self.forks = 0

    def live(self, first: int, *, after_forks: int, lines: int) -> None:
        """Start one, and kill it so many lines after so many forks."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.scenarios.large_snapshot_host"),
                *(str(self.folder), str(first), "100000"),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        forks = -1  # those after the first state is on the disk count
        for line in process.stdout:
            kind, *rest = line.split()
            forks = 0 if kind == b"S" else forks + (kind == b"F" and forks >= 0)
            if kind == b"A":
                self.accepted.append(int(rest[0]))
            if forks >= after_forks:
                lines -= 1
                if lines <= 0:
                    process.send_signal(signal.SIGKILL)
        self.forks += max(forks, 0)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()


async def test_killed_while_the_state_is_written_each_accepted_message_is_seen_once(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    killed = Killed(tmp_path)
    for life in range(4):
        lines = chance.choice((1, 1, 5, 40))
        killed.live(life * 100_000, after_forks=chance.randint(1, 2), lines=lines)
    assert killed.forks >= 4
    async with make_host(tmp_path, durable=True) as host:
        inbox = host._routes.slot("ledger").inbox
        while inbox.queued:
            await asyncio.sleep(0)
        half, seen, cents = await host["ledger"].account()
        # What was accepted may be one message more than what the life could still say.
        assert set(killed.accepted) <= set(seen), f"seed {SEED}"
        assert len(set(seen)) == len(seen) == cents, f"seed {SEED}"
        assert half == 0
        assert not list((tmp_path / "data" / "snapshots").glob(".*.tmp"))
    assert len(killed.accepted) > 4


class Exchange:
    """A ledger with a large state that is taken out and put in, with the forks counted."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = make_host(tmp_path)
        self.forks = 0
        self.fault: Any = None
        monkeypatch.setattr(writing, "FORK_S_A_BYTE", 0.0)
        monkeypatch.setattr(spool, "DOCUMENT_FROM_BYTES", 100_000)
        init = spool.Spool.__init__

        def made(one: Any, folder: Path, module: str, work: Any) -> None:
            self.forks += 1
            init(one, folder, module, self.fault or work)

        monkeypatch.setattr(spool.Spool, "__init__", made)

    def table(self) -> Any:
        return self.host._routes.current("ledger").values()["accounts"]


@pytest.fixture
def exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exchange:
    return Exchange(tmp_path, monkeypatch)


def die() -> list[bytes]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


async def test_a_large_state_is_exported_and_imported_by_children_while_calls_go_on(
    exchange: Exchange,
) -> None:
    async with exchange.host as host:
        ledger = host["ledger"]
        await ledger.open(RECORDS)
        await asyncio.gather(*(ledger.deposit(n) for n in range(50)))
        exporting = asyncio.ensure_future(host.export_state("ledger"))
        calls = 0
        while not exporting.done():
            await ledger.deposit(1_000 + calls)
            calls += 1
        document = await exporting
        facts = msgspec.json.decode(document)
        seen = facts["state"]["seen"]
        assert 50 <= len(seen) < 50 + calls
        assert sum(one["cents"] for one in facts["state"]["accounts"].values()) == len(seen)
        old = weakref.ref(next(iter(exchange.table().values())))
        importing = asyncio.ensure_future(host.import_state("ledger", document))
        calls = 0
        while not importing.done():
            await ledger.size()
            calls += 1
            await asyncio.sleep(0)
        report = await importing
        assert calls > 10
        assert report.records == RECORDS + len(seen)
        assert not report.warnings
        assert await ledger.account() == [0, seen, len(seen)]
        assert exchange.forks == 2
        assert old() is None  # the old state was taken apart
        assert (await ledger.size()) == RECORDS


async def test_an_old_state_that_somebody_holds_is_left_as_it_is(exchange: Exchange) -> None:
    async with exchange.host as host:
        await host["ledger"].open(RECORDS)
        document = await host.export_state("ledger")
        held = exchange.table()
        await host.import_state("ledger", document)
        assert exchange.table() is not held
        assert len(held) == RECORDS


async def test_an_import_that_is_refused_or_dies_leaves_the_state_as_it_was(
    exchange: Exchange,
) -> None:
    async with exchange.host as host:
        await host["ledger"].open(RECORDS)
        await host["ledger"].deposit(1)
        document = await host.export_state("ledger")
        await host["ledger"].deposit(2)
        before = exchange.table()
        for wrong, message in (
            (document.replace(b'"module":"ledger"', b'"module":"other"'), "another module"),
            (document[: len(document) // 2], "no exported state"),
            (document.replace(b'"cents":1', b'"cents":"x"'), r"at accounts\['a1'\].cents"),
        ):
            with pytest.raises(ReplankError, match=message):
                await host.import_state("ledger", wrong)
        exchange.fault = die
        with pytest.raises(ChildDied):
            await host.import_state("ledger", document)
        with pytest.raises(ChildDied):
            await host.export_state("ledger")
        assert exchange.table() is before
        assert await host["ledger"].account() == [0, [1, 2], 2]
        assert exchange.forks == 6
        assert not list((exchange.host.data_dir).glob("tmp*"))


async def test_what_exists_in_this_process_only_is_refused_by_the_child_that_exports(
    exchange: Exchange,
) -> None:
    async with exchange.host as host:
        await host["ledger"].open(RECORDS)
        exchange.table()["a7"].owner = open
        with pytest.raises(SnapshotError, match=r"accounts.a7.owner is carried by identity"):
            await host.export_state("ledger")
        exchange.table()["a7"].owner = "o7"
        assert len(await host.export_state("ledger")) > 100_000
