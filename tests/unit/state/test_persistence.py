import asyncio
import contextlib

import pytest

from replank.errors import HostStopped, PhaseTimeout, SnapshotError
from replank.journal.memory import MemoryPort
from replank.state.persistence import Persistence
from replank.traffic.drain import Drain
from replank.traffic.messages import Mark
from tests.durable_helpers import Module


class Shop:
    """A module to save: says what happened, in order, and can be slow or fail."""

    def __init__(self, **options):
        self.story = []
        self.position = 0
        self.in_flight = 0
        self.writing = 0
        self.written = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()
        self.fail_with = None
        self.failures = []
        self.persistence = Persistence(
            "shop",
            inbox=self,
            freeze=self.freeze,
            write=self.write,
            quiet=self.quiet,
            on_failure=lambda reason, error: self.failures.append((reason, error)),
            **options,
        )

    def mark(self):
        return Mark(self.position)

    async def saved(self, position):
        self.story.append(("saved", position))

    def freeze(self, mark):
        assert self.in_flight == 0
        self.story.append(("frozen", mark.position))
        return mark.position

    async def write(self, frozen, reason):
        assert not self.writing, "two saves overlap"
        self.writing += 1
        try:
            self.written.set()
            await self.go.wait()
            if self.fail_with is not None:
                raise self.fail_with
            self.story.append((f"written: {reason}", frozen))
        finally:
            self.writing -= 1

    @contextlib.asynccontextmanager
    async def quiet(self):
        self.story.append("quiet")
        yield


async def test_a_save_freezes_while_quiet_and_writes_then_tells_the_inbox():
    shop = Shop()
    shop.persistence.start()
    shop.position = 7
    await shop.persistence.save("test")
    assert shop.story == ["quiet", ("frozen", 7), ("written: test", 7), ("saved", 7)]
    await shop.persistence.close()


async def test_those_who_ask_during_a_save_share_the_next_one():
    shop = Shop()
    shop.persistence.start()
    shop.go.clear()
    first = asyncio.create_task(shop.persistence.save("first"))
    await shop.written.wait()
    shop.position = 1
    others = [asyncio.create_task(shop.persistence.save(f"other {n}")) for n in range(20)]
    await asyncio.wait(others, timeout=0)
    shop.go.set()
    await asyncio.gather(first, *others)
    assert shop.persistence.saves == 2
    assert shop.story[-2:] == [("written: other 0", 1), ("saved", 1)]
    await shop.persistence.close()


async def test_the_policy_stop_saves_at_the_stop_only():
    shop = Shop(policy="stop")
    shop.persistence.start()
    shop.persistence.committed()
    await shop.persistence.finish()
    assert [one for one in shop.story if "written" in str(one)] == [("written: stop", 0)]


async def test_the_policy_commit_saves_after_each_commit_and_at_the_stop():
    shop = Shop(policy="commit")
    shop.persistence.start()
    shop.persistence.committed()
    await shop.written.wait()
    await shop.persistence.finish()
    assert [one[0] for one in shop.story if "written" in str(one)] == [
        "written: commit",
        "written: stop",
    ]


async def test_the_policy_interval_saves_again_and_again():
    shop = Shop(policy="interval", interval_s=0.001)
    shop.persistence.start()
    for _ in range(3):
        shop.written.clear()
        await shop.written.wait()
    await shop.persistence.close()
    assert shop.persistence.saves >= 3
    assert ("written: interval", 0) in shop.story


async def test_the_last_save_needs_no_quiet_and_comes_after_the_one_that_runs():
    shop = Shop()
    shop.persistence.start()
    shop.go.clear()
    running = asyncio.create_task(shop.persistence.save("running"))
    await shop.written.wait()
    finishing = asyncio.create_task(shop.persistence.finish())
    await asyncio.wait((finishing,), timeout=0)
    shop.position = 9
    shop.go.set()
    await finishing
    await running
    assert shop.story.count("quiet") == 1
    assert shop.story[-3:] == [("frozen", 9), ("written: stop", 9), ("saved", 9)]


async def test_a_save_that_fails_is_told_and_the_inbox_forgets_nothing():
    shop = Shop()
    shop.persistence.start()
    shop.fail_with = SnapshotError("disk full")
    with pytest.raises(SnapshotError):
        await shop.persistence.save("test")
    assert shop.failures == [("test", shop.fail_with)]
    assert ("saved", 0) not in shop.story
    shop.fail_with = None
    await shop.persistence.save("again")
    assert shop.story[-1] == ("saved", 0)
    await shop.persistence.close()


async def test_the_last_save_failing_is_raised():
    shop = Shop()
    shop.fail_with = SnapshotError("disk full")
    with pytest.raises(SnapshotError):
        await shop.persistence.finish()


async def test_a_module_that_does_not_become_quiet_is_not_saved_and_told():
    shop = Shop()

    @contextlib.asynccontextmanager
    async def never():
        raise PhaseTimeout("still busy")
        yield

    shop.persistence._quiet = never
    shop.persistence.start()
    with pytest.raises(PhaseTimeout):
        await shop.persistence.save("test")
    assert shop.story == []
    await shop.persistence.close()


async def test_a_reload_that_holds_the_moment_keeps_a_save_out():
    shop = Shop()
    shop.persistence.start()
    async with shop.persistence.moment:
        saving = asyncio.create_task(shop.persistence.save("test"))
        await asyncio.wait((saving,), timeout=0.01)
        assert shop.story == []
    await saving
    assert shop.persistence.saves == 1
    await shop.persistence.close()


async def test_after_the_end_a_save_is_refused_and_a_request_does_nothing():
    shop = Shop()
    shop.persistence.start()
    await shop.persistence.close()
    with pytest.raises(HostStopped):
        await shop.persistence.save("late")
    shop.persistence.request("late")
    await shop.persistence.close()
    assert shop.story == []


async def test_saves_during_traffic_never_split_a_message_between_state_and_position():
    """The handler changes the state in two steps; no snapshot may see one of them alone."""
    snapshots = []

    async def note(value: int) -> None:
        module.state.append(value)
        await asyncio.sleep(0)
        module.state.append(value)

    module = Module(MemoryPort(), ([], 0), note)

    async def write(frozen, reason):
        snapshots.append(frozen)

    persistence = Persistence(
        "ledger",
        inbox=module.inbox,
        freeze=lambda mark: (len(module.state), mark.position),
        write=write,
        quiet=module.quiet,
        on_failure=lambda reason, error: module.failures.append((reason, error)),
    )
    module.inbox.start()
    persistence.start()

    async def sender():
        for n in range(300):
            await module.send(n)

    async def saver():
        while module.inbox.handled < 250:
            await persistence.save("test")

    await asyncio.gather(sender(), saver())
    await module.all_handled()
    await persistence.close()
    await module.inbox.stop()
    assert module.failures == []
    assert len(snapshots) > 10
    assert all(changes == 2 * position for changes, position in snapshots)


async def test_without_quiet_a_message_is_split_so_that_the_test_above_can_fail():
    reached, go = asyncio.Event(), asyncio.Event()

    async def note(value: int) -> None:
        module.state.append(value)
        reached.set()
        await go.wait()
        module.state.append(value)

    module = Module(MemoryPort(), ([], 0), note)
    module.inbox.start()
    await module.send(1)
    await reached.wait()
    assert (len(module.state), module.inbox.mark().position) == (1, 0)
    drain = Drain([module.gate])
    drain.close()
    go.set()
    await drain.wait(1.0, {})
    assert (len(module.state), module.inbox.mark().position) == (2, 1)
    drain.reopen()
    await module.inbox.stop()
