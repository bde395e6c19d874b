"""One table through a whole reload on the event loop, with traffic between the slices."""

import asyncio

import pytest

from replank.errors import UsageError
from replank.record import Record
from replank.state.collector import CollectorGuard
from replank.state.mirror import CopyOutcome
from replank.state.slices import Slices
from replank.state.transfer import TableTransfer
from replank.state.watching import watched_classes
from replank.table import Table


class Old(Record):
    n: int


class New(Record):
    count: int


class Bag(Record):
    items: list[int]


def up(old):
    return New(old.n)


def down(new, old):
    return Old(new.count)


async def test_a_transfer_loses_no_write_there_and_back():
    table = Table((i, Old(0)) for i in range(3000))
    written = dict.fromkeys(range(3000), 0)
    serving = True

    async def traffic():
        key = 0
        while serving:
            for _ in range(5):
                key = (key * 7 + 11) % 3000
                record = table[key]
                if type(record) is Old:
                    record.n += 1
                else:
                    record.count += 1
                written[key] += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(traffic())
    with CollectorGuard() as guard:
        slices = Slices(0.0002, between=guard.breathe)
        transfer = TableTransfer(table, up, downgrade=down, old_type=Old, new_type=New)
        assert transfer.statistics().state == "new"
        transfer.open()
        assert await transfer.copy(slices) is CopyOutcome.READY
        assert transfer.statistics().converted >= 3000
        transfer.finish()
        transfer.commit()
        await transfer.fold(slices)
        assert {key: record.count for key, record in table.items()} == written
        follower = transfer.follower()
        await slices.run(follower.follow_slices())
        follower.drain()
        follower.rollback()
        await slices.run(follower.fold_slices())
        await transfer.release(slices)
    serving = False
    await task

    assert {key: record.n for key, record in table.items()} == written
    assert type(table) is Table
    assert watched_classes() == ()
    assert transfer.statistics().state == "folded"


async def test_values_read_before_the_copy_are_copied_after_a_grace_period():
    table = Table((i, Bag([i])) for i in range(10))
    held = []
    graces = []

    async def grace():
        graces.append(1)
        for bag in held:
            bag.items.append(100)
        held.clear()

    transfer = TableTransfer(table, lambda old: New(sum(old.items)), old_type=Bag)
    transfer.open()
    held += [table[3], table[4]]
    await transfer.copy(Slices(), grace)

    assert graces
    assert transfer.statistics().reads_count
    assert transfer.finish() == 0
    transfer.commit()
    assert table[3] == New(103)
    await transfer.fold(Slices())


async def test_an_unexpected_container_restarts_the_copy_after_a_grace_period():
    table = Table(a=Old(1), b=[2])

    async def grace():
        table["b"].append(40)

    transfer = TableTransfer(table, lambda old: old, old_type=Old)
    transfer.open()

    assert await transfer.copy(Slices(), grace) is CopyOutcome.READY
    transfer.abandon()
    await transfer.release(Slices())


async def test_without_a_grace_period_the_copy_says_what_it_needs():
    transfer = TableTransfer(Table(a=[2]), lambda old: old, old_type=Old)
    transfer.open()

    assert await transfer.copy(Slices()) is CopyOutcome.NEEDS_READS
    transfer.abandon()


async def test_a_cancelled_copy_can_be_abandoned():
    table = Table((i, Old(i)) for i in range(5000))
    transfer = TableTransfer(table, up)
    transfer.open()
    task = asyncio.ensure_future(transfer.copy(Slices(0.0001)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    transfer.abandon()
    await transfer.release(Slices())

    assert type(table) is Table
    assert table == {i: Old(i) for i in range(5000)}
    assert watched_classes() == ()


def test_there_is_no_follower_before_the_commit():
    with pytest.raises(UsageError, match="no follower"):
        TableTransfer(Table(), up, downgrade=down).follower()


async def test_what_was_only_read_before_a_rollback_is_followed_before_the_pause():
    table = Table((i, Old(i)) for i in range(300))
    transfer = TableTransfer(
        table,
        lambda old: Bag([old.n]),
        downgrade=lambda new, old: Old(sum(new.items)),
        old_type=Old,
        new_type=Bag,
    )
    slices = Slices()
    transfer.open()
    await transfer.copy(slices)
    transfer.finish()
    transfer.commit()
    await transfer.fold(slices)
    held = table[7]
    for bag in table.values():
        assert bag.items

    async def grace():
        held.items.append(5)  # by a call that runs still

    await transfer.follow(slices, grace)

    assert transfer.follower().drain() == 0
    transfer.follower().rollback()
    assert table[7] == Old(12)


async def test_what_was_read_is_left_for_the_pause_when_waiting_for_calls_is_given_up():
    table = Table(a=Bag([1]), b=Bag([2]))
    transfer = TableTransfer(table, lambda old: New(sum(old.items)), old_type=Bag)
    transfer.open()
    await transfer.copy(Slices())
    held = table["a"]

    async def grace():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await transfer.copy(Slices(), grace)
    held.items.append(4)

    assert transfer.finish() == 1
    transfer.commit()
    assert table["a"] == New(5)
