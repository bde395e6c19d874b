"""The journal in memory does what the one on disk does: one class, run against both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replank.errors import InternalError, JournalError
from replank.journal.journal import Journal
from replank.journal.records import Committed, Participant, SnapshotRecord
from replank.report import ErrorReport, ModuleReport, Outcome, ReloadReport
from replank.testing.journal import MemoryDisk, MemoryJournal, copy_disk

AnyJournal = Any


def participant(number: int, module: str = "ledger") -> Participant:
    return Participant(module, "", f"sha256:{number}", number)


def version(number: int, module: str = "ledger", digest: int | None = None) -> Committed:
    digest = number if digest is None else digest
    return Committed(module, f"sha256:{digest}", f"{digest}.0", number, 1, {"v": 1}, "x.py")


def report(tx: str, outcome: Outcome = Outcome.COMMITTED, *modules: str) -> ReloadReport:
    error = None
    if outcome is not Outcome.COMMITTED:
        error = ErrorReport(phase="verify", module="ledger", kind="CheckError", message="no")
    names = modules or ("ledger",)
    return ReloadReport(
        id=tx, outcome=outcome, modules=tuple(ModuleReport(name=n) for n in names), error=error
    )


Make = Callable[[bool], AnyJournal]


@pytest.fixture(params=["memory", "disk"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Open a journal; once more for its next life. `crashed` leaves the first one as it is."""
    disk = MemoryDisk()
    opened: list[AnyJournal] = []

    def open_journal(**options: Any) -> AnyJournal:
        for one in opened:
            one.close_blocking()
        if request.param == "memory":
            opened.append(MemoryJournal(disk, **options).open())
        else:
            opened.append(Journal(tmp_path / "journal.sqlite", **options).open())
        return opened[-1]

    yield open_journal
    for one in opened:
        one.close_blocking()


class TestAnyJournal:
    async def test_what_was_committed_serves_in_the_next_life(self, make: Any) -> None:
        journal = make()
        assert journal.committed() == {}
        tx, number = journal.next_id(), journal.next_generation("ledger")
        assert (tx, number) == ("r1", 1)
        await journal.begin(tx, [participant(1)], "test")
        assert await journal.state(tx) == "prepared"
        await journal.commit(tx, [version(1)])
        assert await journal.state(tx) == "committed"
        await journal.finish(tx, report(tx))
        again = make()
        assert again.committed()["ledger"].tx == tx
        assert again.recover() == []
        assert [one.id for one in again.history()] == [tx]
        assert (again.next_id(), again.next_generation("ledger")) == ("r2", 2)

    async def test_what_was_cut_off_before_the_record_is_undone(self, make: Any) -> None:
        journal = make()
        await journal.begin("r1", [participant(1), participant(1, "api")], "test")
        again = make()
        (line,) = again.recover()
        assert "r1 of ledger, api had not committed" in line
        assert await again.state("r1") == "undone"
        (told,) = again.history()
        assert told.outcome is Outcome.ROLLED_BACK
        assert [one.name for one in told.modules] == ["api", "ledger"]
        assert again.committed() == {}
        assert again.recover() == []

    async def test_what_was_cut_off_after_the_record_is_finished(self, make: Any) -> None:
        journal = make()
        await journal.begin("r1", [participant(1)], "test")
        journal.commit_now("r1", [version(1)])
        again = make()
        assert "r1 of ledger had committed" in again.recover()[0]
        assert again.history()[0].committed
        assert again.history()[0].modules[0].version_to == "1.0"

    async def test_a_commit_needs_its_intent_and_happens_once(self, make: Any) -> None:
        journal = make()
        with pytest.raises(InternalError, match="cannot commit"):
            await journal.commit("r1", [version(1)])
        await journal.begin("r1", [participant(1)], "test")
        with pytest.raises(InternalError, match="contradicts itself"):
            await journal.begin("r1", [participant(1)], "test")
        journal.commit_now("r1", [version(1)])
        with pytest.raises(InternalError, match="cannot commit"):
            journal.commit_now("r1", [version(2)])
        assert journal.committed()["ledger"].generation == 1

    async def test_a_report_that_contradicts_the_record_is_refused(self, make: Any) -> None:
        journal = make()
        with pytest.raises(InternalError, match="contradicts"):
            await journal.finish("r9", report("r9"))
        await journal.begin("r1", [participant(1)], "test")
        with pytest.raises(InternalError, match="contradicts"):
            await journal.finish("r1", report("r1"))
        await journal.finish("r1", report("r1", Outcome.ROLLED_BACK))
        with pytest.raises(InternalError, match="contradicts"):
            await journal.finish("r1", report("r1", Outcome.ROLLED_BACK))
        assert await journal.state("r1") == "rolled_back"

    async def test_a_rejected_reload_needs_no_intent(self, make: Any) -> None:
        journal = make()
        await journal.finish("r1", report("r1", Outcome.REJECTED, "ledger", "api"))
        assert await journal.state("r1") == "rejected"
        assert await journal.state("r2") is None
        assert [one.id for one in journal.history(5, "api")] == ["r1"]
        assert journal.history(5, "other") == ()

    async def test_the_previous_version_has_another_source(self, make: Any) -> None:
        journal = make()
        assert journal.previous("ledger") is None
        for number, digest in ((1, 1), (2, 2), (3, 2)):
            tx = journal.next_id()
            await journal.begin(tx, [participant(number)], "test")
            await journal.commit(tx, [version(number, digest=digest)])
            await journal.finish(tx, report(tx))
        assert journal.previous("ledger").generation == 1
        assert journal.previous("api") is None

    async def test_snapshots_come_newest_first(self, make: Any) -> None:
        journal = make()
        first = SnapshotRecord("ledger", "1", "sha256:1", 1, "now")
        second = SnapshotRecord("ledger", "2", "sha256:1", 1, "now", "commit")
        await journal.record_snapshot(first)
        await journal.begin("r1", [participant(1)], "test")
        await journal.commit("r1", [version(1)], [second])
        assert journal.latest_snapshots("ledger") == (second, first)
        await journal.record_snapshot(first)
        assert journal.latest_snapshots("ledger") == (first, second)
        assert journal.all_snapshots() == (first, second)
        await journal.forget_snapshot("1")
        assert journal.latest_snapshots("ledger") == (second,)
        assert journal.latest_snapshots("api") == ()

    async def test_old_reloads_are_pruned_and_numbers_never_used_twice(self, make: Any) -> None:
        journal = make()
        for _ in range(3):
            tx, number = journal.next_id(), journal.next_generation("ledger")
            await journal.begin(tx, [participant(number)], "test")
            await journal.commit(tx, [version(number)])
            await journal.finish(tx, report(tx))
        again = make(reloads_kept=1)
        again.recover()
        assert [one.id for one in again.history()] == ["r3"]
        assert again.committed()["ledger"].generation == 3
        assert (again.next_id(), again.next_generation("ledger")) == ("r4", 4)

    async def test_a_state_comes_after_the_writes_before_it(self, make: Any) -> None:
        journal = make()
        begun = asyncio.ensure_future(journal.begin("r1", [participant(1)], "test"))
        await asyncio.sleep(0)
        assert await journal.state("r1") == "prepared"
        await begun

    async def test_a_closed_journal_says_so(self, make: Any) -> None:
        journal = make()
        await journal.close()
        await journal.close()
        with pytest.raises(JournalError, match="closed"):
            await journal.begin("r1", [], "test")
        with pytest.raises(JournalError, match="closed"):
            journal.commit_now("r1", [version(1)])
        with pytest.raises(JournalError, match="closed"):
            journal.committed()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "commit", "committed", "rolled_back", "rejected", "crash"]),
        st.integers(1, 4),
        st.sampled_from([("a",), ("b",), ("a", "b")]),
    ),
    max_size=12,
)


async def do(journal: AnyJournal, step: str, number: int, modules: tuple[str, ...]) -> str:
    tx = f"r{number}"
    try:
        if step == "begin":
            await journal.begin(tx, [participant(number, one) for one in modules], "test")
        elif step == "commit":
            journal.commit_now(tx, [version(number, one) for one in modules])
        else:
            await journal.finish(tx, report(tx, Outcome(step), *modules))
    except InternalError as error:
        return str(error.what)
    return "done"


def all_of(journal: AnyJournal) -> Any:
    told = [
        (one.id, one.outcome, {m.name for m in one.modules}, one.error is None)
        for one in journal.history()
    ]
    names = {name: (one.digest, one.tx) for name, one in journal.committed().items()}
    before = [getattr(journal.previous(name), "digest", None) for name in ("a", "b")]
    return told, names, before, journal.next_id(), journal.next_generation("a")


@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_any_order_of_writes_and_crashes_has_the_same_answers(
    steps: Any, tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite"

    async def compare() -> None:
        disk = MemoryDisk()
        memory, real = MemoryJournal(disk).open(), Journal(path).open()
        try:
            for step, number, modules in steps:
                if step == "crash":
                    memory.close_blocking()
                    real.close_blocking()
                    memory, real = MemoryJournal(copy_disk(disk)).open(), Journal(path).open()
                    disk = memory.disk
                    assert len(memory.recover()) == len(real.recover())
                else:
                    assert await do(memory, step, number, modules) == await do(
                        real, step, number, modules
                    )
                for tx in ("r1", "r2", "r3", "r4"):
                    assert await memory.state(tx) == await real.state(tx)
            assert all_of(memory) == all_of(real)
        finally:
            memory.close_blocking()
            real.close_blocking()

    asyncio.run(compare())
