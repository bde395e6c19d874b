import asyncio
import shutil
import sqlite3
import threading

import pytest

from replank.errors import InternalError, JournalError
from replank.journal import storage
from replank.journal.journal import (
    Committed,
    Journal,
    Participant,
    SnapshotRecord,
    read_history,
    utc_now,
)
from replank.report import (
    ErrorReport,
    ModuleReport,
    Outcome,
    Phase,
    PhaseReport,
    ReloadReport,
)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite").open()
    yield journal
    journal.close_blocking()


def participant(version, generation, module="ledger"):
    return Participant(module, "", f"sha256:{version}", generation)


def version(number, generation, module="ledger"):
    return Committed(
        module, f"sha256:{number}", f"{number}.0", generation, number, {"v": number}, "ledger.py"
    )


def report(tx, outcome=Outcome.COMMITTED, modules=("ledger",)):
    error = None
    if outcome is not Outcome.COMMITTED:
        error = ErrorReport(phase="verify", module="ledger", kind="CheckError", message="no")
    phases = (
        PhaseReport(name=Phase.PREPARE, seconds=0.1),
        PhaseReport(name=Phase.MIGRATE, seconds=0.001, window_seconds=0.2, detail="3 records"),
    )
    return ReloadReport(
        id=tx,
        outcome=outcome,
        modules=tuple(ModuleReport(name=name, generation_to=1) for name in modules),
        phases=phases,
        error=error,
    )


async def reload(journal, number, module="ledger"):
    tx, generation = journal.next_id(), journal.next_generation(module)
    await journal.begin(tx, [participant(number, generation, module)], "test")
    await journal.commit(tx, [version(number, generation, module)])
    await journal.finish(tx, report(tx, modules=(module,)))
    return tx


def crashed_copy(journal, tmp_path):
    """What a killed process leaves behind: the files as they are, nothing closed."""
    folder = tmp_path / "crashed"
    folder.mkdir()
    for file in tmp_path.glob("journal.sqlite*"):
        shutil.copy(file, folder)
    return folder / "journal.sqlite"


async def test_what_was_committed_serves_after_a_restart(journal):
    tx = await reload(journal, 1)
    await journal.close()
    again = Journal(journal.path).open()
    expected = Committed("ledger", "sha256:1", "1.0", 1, 1, {"v": 1}, "ledger.py", tx)
    assert again.committed() == {"ledger": expected}
    assert again.recover() == []
    assert again.history() == (report(tx),)
    await again.close()


async def test_ids_and_generations_are_never_used_twice_even_over_restarts(journal):
    assert journal.next_id() == "r1"
    await reload(journal, 1)
    assert journal.next_generation("ledger") == 2
    await journal.close()
    again = Journal(journal.path, reloads_kept=1).open()
    assert again.next_id() == "r3"
    assert again.next_generation("ledger") == 2
    assert again.next_generation("api") == 1
    await again.close()


async def test_a_reload_cut_off_before_its_commit_record_is_undone(journal, tmp_path):
    await reload(journal, 1)
    await journal.begin("r2", [participant(2, 2), participant(2, 1, "api")], "cli")
    after = Journal(crashed_copy(journal, tmp_path)).open()
    lines = after.recover()
    assert len(lines) == 1
    assert "r2 of ledger, api had not committed" in lines[0]
    assert after.committed()["ledger"].digest == "sha256:1"
    assert await after.state("r2") == "undone"
    undone = after.history(1)[0]
    assert undone.id == "r2"
    assert undone.outcome is Outcome.ROLLED_BACK
    assert undone.error.phase == "recovery"
    assert [module.name for module in undone.modules] == ["api", "ledger"]
    assert after.recover() == []
    await after.close()


async def test_a_reload_cut_off_after_its_commit_record_is_finished(journal, tmp_path):
    await reload(journal, 1)
    await journal.begin("r2", [participant(2, 2)], "cli")
    await journal.commit("r2", [version(2, 2)])
    after = Journal(crashed_copy(journal, tmp_path)).open()
    assert "r2 of ledger had committed" in after.recover()[0]
    assert after.committed()["ledger"].digest == "sha256:2"
    assert await after.state("r2") == "committed"
    assert after.history(1)[0].committed
    assert after.history(1)[0].modules[0].version_to == "2.0"
    await after.close()


async def test_a_log_torn_at_any_byte_gives_all_of_the_old_or_all_of_the_new(journal, tmp_path):
    tx = journal.next_id()
    await journal.begin(tx, [participant(1, 1), participant(1, 1, "api")], "start")
    await journal.commit(tx, [version(1, 1), version(1, 1, "api")])
    await journal.finish(tx, report(tx))
    old = crashed_copy(journal, tmp_path).with_name("journal.sqlite-wal").stat().st_size
    await journal.begin("r2", [participant(2, 2), participant(2, 2, "api")], "cli")
    await journal.commit("r2", [version(2, 2), version(2, 2, "api")])
    shutil.rmtree(tmp_path / "crashed")
    image = crashed_copy(journal, tmp_path)
    log = image.with_name("journal.sqlite-wal").read_bytes()
    seen = set()
    for length in [*range(old, len(log), 509), len(log)]:
        image.with_name("journal.sqlite-wal").write_bytes(log[:length])
        image.with_name("journal.sqlite-shm").unlink(missing_ok=True)
        # Only read: opening to write and closing would fold the log into the file.
        link = sqlite3.connect(f"{image.as_uri()}?mode=ro", uri=True)
        serving = 'SELECT c.digest FROM serving s JOIN commits c ON c.number = s."commit"'
        digests = {row[0] for row in link.execute(serving)}
        state = link.execute("SELECT state FROM transactions WHERE id = 'r2'").fetchone()
        link.close()
        assert len(digests) == 1
        assert (digests == {"sha256:2"}) == (state == ("committed",))
        seen |= digests
    assert seen == {"sha256:1", "sha256:2"}


async def test_the_previous_version_is_the_last_one_with_another_source(journal):
    assert journal.previous("ledger") is None
    await reload(journal, 1)
    assert journal.previous("ledger") is None
    await reload(journal, 2)
    await reload(journal, 2)
    await reload(journal, 9, "api")
    assert journal.previous("ledger").digest == "sha256:1"
    assert journal.previous("ledger").schema_dict == {"v": 1}
    await reload(journal, 1)
    assert journal.previous("ledger").digest == "sha256:2"


async def test_a_rejected_reload_needs_no_intent_and_changes_nothing_that_serves(journal):
    await reload(journal, 1)
    await journal.finish("r2", report("r2", Outcome.REJECTED))
    assert await journal.state("r2") == "rejected"
    assert journal.committed()["ledger"].digest == "sha256:1"
    assert [entry.id for entry in journal.history()] == ["r2", "r1"]


async def test_history_is_limited_and_filtered_by_module(journal):
    for number in range(3):
        await reload(journal, number, "ledger")
        await reload(journal, number, "api")
    assert [entry.id for entry in journal.history(2)] == ["r6", "r5"]
    assert [entry.id for entry in journal.history(2, "ledger")] == ["r5", "r3"]
    assert journal.history(2, "nobody") == ()


async def test_a_commit_without_intent_is_our_mistake_and_changes_nothing(journal):
    with pytest.raises(InternalError, match="cannot commit"):
        await journal.commit("r9", [version(1, 1)])
    assert journal.committed() == {}


async def test_a_transaction_commits_only_once(journal):
    tx = await reload(journal, 1)
    with pytest.raises(InternalError, match="cannot commit"):
        await journal.commit(tx, [version(2, 2)])
    assert journal.committed()["ledger"].digest == "sha256:1"


async def test_a_report_that_contradicts_the_commit_record_is_refused(journal):
    await journal.begin("r1", [participant(1, 1)], "cli")
    with pytest.raises(InternalError, match="contradicts"):
        await journal.finish("r1", report("r1"))
    await journal.commit("r1", [version(1, 1)])
    with pytest.raises(InternalError, match="contradicts"):
        await journal.finish("r1", report("r1", Outcome.ROLLED_BACK))
    assert await journal.state("r1") == "committed"


async def test_the_same_transaction_is_not_begun_twice(journal):
    await journal.begin("r1", [participant(1, 1)], "cli")
    with pytest.raises(InternalError, match="contradicts itself"):
        await journal.begin("r1", [participant(1, 1)], "cli")


async def test_snapshots_come_newest_first_and_can_ride_on_the_commit_record(journal):
    first = SnapshotRecord("ledger", "/s/1", "sha256:1", 1, utc_now())
    second = SnapshotRecord("ledger", "/s/2", "sha256:1", 1, utc_now(), "commit")
    await journal.record_snapshot(first)
    await journal.begin("r1", [participant(1, 1)], "cli")
    await journal.commit("r1", [version(1, 1)], [second])
    assert journal.latest_snapshots("ledger") == (second, first)
    assert journal.latest_snapshots("api") == ()
    await journal.record_snapshot(first)
    assert journal.latest_snapshots("ledger") == (first, second)
    await journal.forget_snapshot("/s/1")
    assert journal.latest_snapshots("ledger") == (second,)


async def test_old_reloads_are_pruned_and_what_serves_stays(journal):
    for number in range(1, 6):
        await reload(journal, number)
    await journal.close()
    again = Journal(journal.path, reloads_kept=2).open()
    again.recover()
    assert [entry.id for entry in again.history()] == ["r5", "r4"]
    assert again.committed()["ledger"].digest == "sha256:5"
    assert again.previous("ledger").digest == "sha256:4"
    assert again.next_id() == "r6"
    await again.close()


async def test_state_answers_after_the_writes_queued_before_it(journal):
    begun = asyncio.ensure_future(journal.begin("r1", [participant(1, 1)], "cli"))
    await asyncio.sleep(0)
    assert await journal.state("r1") == "prepared"
    await begun
    assert await journal.state("r2") is None


async def test_reads_do_not_wait_for_a_writer_that_is_in_the_middle(journal):
    await reload(journal, 1)
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM serving")
    assert journal.committed()["ledger"].digest == "sha256:1"
    other.execute("ROLLBACK")
    other.close()


async def test_a_writer_that_waits_too_long_for_another_program_says_so(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite", busy_timeout_s=0.01).open()
    other = sqlite3.connect(journal.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError) as caught:
        await journal.begin("r1", [participant(1, 1)], "cli")
    assert "locked" in caught.value.found
    assert "other program" in caught.value.do
    other.execute("ROLLBACK")
    other.close()
    await journal.begin("r1", [participant(1, 1)], "cli")
    await journal.close()


async def test_a_full_disk_leaves_what_serves_as_it_was(journal):
    await reload(journal, 1)
    await journal.begin("r2", [participant(2, 2)], "cli")
    pages = sqlite3.connect(journal.path)
    used = pages.execute("PRAGMA page_count").fetchone()[0]
    pages.close()
    journal._writer.submit(
        lambda: journal._write.execute(f"PRAGMA max_page_count = {used}")
    ).result()
    with pytest.raises(JournalError) as caught:
        await journal.commit(
            "r2", [msgspec_replace(version(2, 2), schema_dict={"x": "y" * 99_999})]
        )
    assert "SQLITE_FULL" in caught.value.found
    assert "free space" in caught.value.do
    assert await journal.state("r2") == "prepared"
    assert journal.committed()["ledger"].digest == "sha256:1"
    await journal.commit("r2", [version(2, 2)])
    assert journal.committed()["ledger"].digest == "sha256:2"


def msgspec_replace(struct, **changes):
    import msgspec

    return msgspec.structs.replace(struct, **changes)


@pytest.mark.parametrize(
    "content", [b"this is no database " * 300, b"SQLite format 3\0" + b"x" * 900]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(JournalError) as caught:
        Journal(path).open()
    assert "move the file away" in caught.value.do
    assert path.read_bytes() == content


async def test_a_damaged_page_is_refused(journal):
    for number in range(30):
        await reload(journal, number)
    await journal.close()
    content = bytearray(journal.path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    journal.path.write_bytes(content)
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(journal.path).open()


def test_another_programs_database_is_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    link = sqlite3.connect(path)
    link.execute("CREATE TABLE t (a)")
    link.commit()
    link.close()
    with pytest.raises(JournalError, match="is not a journal of Replank"):
        Journal(path).open()


def test_a_newer_journal_is_refused(tmp_path):
    path = tmp_path / "journal.sqlite"
    Journal(path).open().close_blocking()
    link = sqlite3.connect(path)
    link.execute("PRAGMA user_version = 99")
    link.commit()
    link.close()
    with pytest.raises(JournalError) as caught:
        Journal(path).open()
    assert caught.value.found == "journal version 99"


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "journal.sqlite").mkdir()
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path / "journal.sqlite").open()


async def test_history_can_be_read_without_a_host(journal, tmp_path):
    tx = await reload(journal, 1)
    assert [entry.id for entry in read_history(journal.path)] == [tx]
    await journal.close()
    assert [entry.id for entry in read_history(journal.path, 5, "ledger")] == [tx]
    with pytest.raises(JournalError, match="there is no journal"):
        read_history(tmp_path / "nothing.sqlite")
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(JournalError, match="is empty"):
        read_history(tmp_path / "empty.sqlite")


async def test_a_closed_journal_says_so_and_closes_again_without_harm(journal):
    await journal.close()
    await journal.close()
    with pytest.raises(JournalError, match="closed"):
        await journal.begin("r1", [], "cli")
    with pytest.raises(JournalError, match="closed"):
        journal.committed()


async def test_phases_are_kept_with_the_time_in_the_window_and_in_the_pause(journal):
    await reload(journal, 1)
    link = sqlite3.connect(journal.path)
    rows = link.execute(
        "SELECT phase, place, seconds FROM phases ORDER BY position, place"
    ).fetchall()
    link.close()
    assert rows == [
        ("prepare", "pause", 0.1),
        ("migrate", "pause", 0.001),
        ("migrate", "window", 0.2),
    ]


async def test_the_log_is_folded_after_reloads_and_never_by_a_commit_record(journal, monkeypatch):
    monkeypatch.setattr("replank.journal.journal._LOG_BYTES_MAX", 100_000)
    log = journal.path.with_name("journal.sqlite-wal")
    sizes = []
    for number in range(60):
        await reload(journal, number)
        assert await journal.state("r1") == "committed"  # after whatever was queued before
        sizes.append(log.stat().st_size)
    assert max(sizes) < 300_000  # folded again and again: it starts over from its beginning
    assert len(journal.history(100)) == 60


async def test_a_log_that_has_grown_once_is_not_folded_after_every_reload(journal, monkeypatch):
    monkeypatch.setattr("replank.journal.journal._LOG_BYTES_MAX", 400_000)  # some eight reloads
    folded = []
    original = journal._folding.after_reload
    journal._folding.after_reload = lambda *args: folded.append(original(*args))
    for number in range(40):
        await reload(journal, number)
    assert await journal.state("r1") == "committed"
    assert len(folded) == 40
    assert 2 <= sum(folded) <= 10


@pytest.fixture
def together(journal):
    """Have the writer thread busy until all writes of a test wait for it."""
    go = threading.Event()
    journal._writer.submit(go.wait)

    async def written(*writes):
        tasks = [asyncio.create_task(one) for one in writes]
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    yield written
    go.set()


@pytest.fixture
def transactions(monkeypatch):
    begun = []
    original = storage.transaction

    def counted(connection):
        begun.append(connection)
        return original(connection)

    monkeypatch.setattr(storage, "transaction", counted)
    return begun


async def test_writes_that_wait_together_share_one_flush_in_order(journal, together, transactions):
    begins = [journal.begin(f"r{n}", [participant(1, n)], "call") for n in range(1, 9)]
    states = [journal.state("r8"), journal.state("r9")]
    assert await together(*begins, *states) == [None] * 8 + ["prepared", None]
    assert len(transactions) == 1


async def test_a_write_that_fails_takes_no_other_with_it(journal, together, transactions):
    begins = [journal.begin(tx, [participant(1, 1)], "call") for tx in ("r1", "r2", "r1", "r3")]
    first, second, doubled, third = await together(*begins)
    assert (first, second, third) == (None, None, None)
    assert isinstance(doubled, InternalError)
    assert len(transactions) == 5
    assert [await journal.state(tx) for tx in ("r1", "r2", "r3")] == ["prepared"] * 3


async def test_a_write_that_nobody_wants_any_more_is_not_begun(journal, together):
    given_up = asyncio.create_task(journal.begin("r1", [participant(1, 1)], "call"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await together(journal.begin("r2", [participant(1, 2)], "call")) == [None]
    assert given_up.cancelled()
    assert await journal.state("r1") is None
    assert await journal.state("r2") == "prepared"
