"""Suspended coroutines can be looked into, and free what they let go as if nobody had looked."""

import contextlib
import gc
import types
import weakref

from replank.suspended import arguments, references


class Big:
    pass


@types.coroutine
def pause():
    yield


async def work(first):
    big = Big()
    told.append(weakref.ref(big))
    await pause()
    del big
    await pause()
    return first


told = []


def test_what_a_coroutine_lets_go_is_freed_although_its_arguments_were_read():
    coroutine = work(1)
    coroutine.send(None)
    assert list(arguments(coroutine)) == list(arguments(coroutine)) == [1]
    assert told[-1]() in references(coroutine)
    coroutine.send(None)
    gc.collect()
    assert told[-1]() is None
    coroutine.close()


def test_locals_that_the_coroutine_has_asked_for_itself_stay():
    async def asks(first):
        mine = locals()
        await pause()
        assert mine["first"] == 1

    coroutine = asks(1)
    coroutine.send(None)
    assert list(arguments(coroutine)) == [1]
    with contextlib.suppress(StopIteration):
        coroutine.send(None)


def test_an_ended_coroutine_has_no_arguments():
    coroutine = work(1)
    coroutine.close()
    assert list(arguments(coroutine)) == []
