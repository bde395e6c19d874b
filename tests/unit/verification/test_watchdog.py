from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import signal
import threading
import time
from time import monotonic

import pytest

from replank.errors import PhaseTimeout
from replank.verification import watchdog as watchdog_module
from replank.verification.watchdog import Overrun, Watchdog
from tests.unit.traffic.parts import start, turns

SHORT = 0.02
LONG = 30.0


@pytest.fixture
def watchdog():
    with Watchdog() as one:
        yield one


def endless():
    while True:
        pass


def spin(seconds):
    until = monotonic() + seconds
    while monotonic() < until:
        pass
    return "done"


# -- code that does not give the loop back --------------------------------------------------------


def test_code_that_ends_in_time_gives_its_answer(watchdog):
    assert watchdog.guard(lambda: 5, LONG, "x") == 5


def test_code_that_raises_raises(watchdog):
    with pytest.raises(ZeroDivisionError):
        watchdog.guard(lambda: 1 / 0, LONG, "x")


def test_an_endless_loop_is_interrupted_with_a_clear_error(watchdog):
    with pytest.raises(PhaseTimeout) as failed:
        watchdog.guard(endless, SHORT, "check x")
    assert failed.value.what.startswith("check x held the event loop for more than 0.02 s")
    assert failed.value.do
    assert failed.value.__suppress_context__


def test_a_blocking_sleep_in_the_main_thread_is_interrupted(watchdog):
    assert threading.current_thread() is threading.main_thread()
    began = monotonic()
    with pytest.raises(PhaseTimeout):
        watchdog.guard(lambda: time.sleep(3600), SHORT, "x")
    assert monotonic() - began < 10


def test_a_blocking_lock_in_the_main_thread_is_interrupted(watchdog):
    lock = threading.Lock()
    with lock, pytest.raises(PhaseTimeout):
        watchdog.guard(lock.acquire, SHORT, "x")


def test_an_endless_loop_that_swallows_exceptions_is_interrupted(watchdog):
    def stubborn():
        while True:
            try:
                spin(0.001)
            except Exception:
                continue

    with pytest.raises(PhaseTimeout):
        watchdog.guard(stubborn, SHORT, "x")


def swallows_in_a_loop():
    while True:
        try:
            pass
        except BaseException:
            continue


def swallows_around_a_loop():
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def swallows_around_a_sleep():
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            continue


def swallows_around_a_long_sleep():
    while True:
        try:
            time.sleep(3600)
        except:  # noqa: E722 - as people write it
            continue


def swallows_deep_in_its_calls():
    while True:
        swallows_once()


def swallows_once():
    try:
        spin(3600)
    except BaseException:
        return


@pytest.mark.parametrize(
    "stubborn",
    [
        swallows_in_a_loop,
        swallows_around_a_loop,
        swallows_around_a_sleep,
        swallows_around_a_long_sleep,
        swallows_deep_in_its_calls,
    ],
)
def test_an_endless_loop_that_swallows_everything_is_interrupted(watchdog, stubborn):
    with pytest.raises(PhaseTimeout):
        watchdog.guard(stubborn, SHORT, "x")


def test_a_finally_block_still_runs_when_code_is_interrupted(watchdog):
    ended = []

    def careful():
        try:
            endless()
        finally:
            ended.append(1)

    with pytest.raises(PhaseTimeout):
        watchdog.guard(careful, SHORT, "x")
    assert ended == [1]


def test_one_interruption_leaves_the_next_block_alone(watchdog):
    for _ in range(5):
        with pytest.raises(PhaseTimeout):
            watchdog.guard(endless, SHORT, "x")
        assert watchdog.guard(lambda: spin(0.001), LONG, "x") == "done"


def test_no_overrun_is_astray_after_thousands_of_guards_that_end_around_their_deadline(monkeypatch):
    """What ends just when it is interrupted must never be interrupted afterwards."""
    monkeypatch.setattr(watchdog_module, "_LOOK_EVERY_S", 0.0002)
    chance = random.Random(7)
    limit_s = 0.0004
    ended = interrupted = 0
    with Watchdog() as watchdog:
        for _ in range(3_000):
            seconds = limit_s * chance.uniform(0.5, 1.6)
            try:
                watchdog.guard(lambda seconds=seconds: spin(seconds), limit_s, "x")
            except PhaseTimeout:
                interrupted += 1
            else:
                ended += 1
            assert watchdog._deadline is None
            for _ in range(50):  # an Overrun that is astray would strike here
                pass
    assert ended > 100
    assert interrupted > 10


def test_no_overrun_is_astray_when_the_guarded_code_swallows_everything(monkeypatch):
    monkeypatch.setattr(watchdog_module, "_LOOK_EVERY_S", 0.0002)

    def swallows(seconds):
        until = monotonic() + seconds
        while monotonic() < until:
            try:
                spin(0.0001)
            except BaseException:
                continue

    with Watchdog() as watchdog:
        for _ in range(300):
            with contextlib.suppress(PhaseTimeout):
                watchdog.guard(lambda: swallows(0.001), 0.0004, "x")
            for _ in range(50):
                pass


def test_watchdogs_that_come_and_go_disturb_nothing(monkeypatch):
    monkeypatch.setattr(watchdog_module, "_LOOK_EVERY_S", 0.0002)
    watchdog = Watchdog()
    for _ in range(100):
        with watchdog:
            with contextlib.suppress(PhaseTimeout):
                watchdog.guard(lambda: spin(0.0006), 0.0004, "x")
        spin(0.0001)


def test_the_thread_lives_only_as_long_as_somebody_uses_it():
    watchdog = Watchdog()

    def threads():
        return [one for one in threading.enumerate() if one.name == "replank watchdog"]

    with watchdog:
        with watchdog:
            (thread,) = threads()
        assert threads() == [thread]
    thread.join(10)
    assert not thread.is_alive()


def test_a_watchdog_works_in_another_thread_without_signals():
    results = []

    def work():
        with Watchdog() as watchdog:
            assert not watchdog._wake
            try:
                watchdog.guard(endless, SHORT, "x")
            except PhaseTimeout as error:
                results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert len(results) == 1


def test_a_signal_handler_of_the_program_stays_in_place():
    def own(*_):
        pass

    before = signal.signal(signal.SIGURG, own)
    try:
        with Watchdog() as watchdog:
            with pytest.raises(PhaseTimeout):
                watchdog.guard(lambda: time.sleep(3600), SHORT, "x")
            assert signal.getsignal(signal.SIGURG) is own
    finally:
        signal.signal(signal.SIGURG, before)


# -- code that awaits -------------------------------------------------------------------------------


async def test_a_plain_value_is_returned_as_it_is(watchdog):
    assert await watchdog.run(5, LONG, "x") == 5


async def test_a_coroutine_is_awaited_through_all_its_steps(watchdog):
    async def stepping():
        for _ in range(3):
            await asyncio.sleep(0)
        return "done"

    assert await watchdog.call(stepping, LONG, "x") == "done"


async def test_an_awaitable_that_is_no_coroutine_is_awaited_too(watchdog):
    async def answer():
        return False

    assert await watchdog.call(lambda: asyncio.ensure_future(answer()), LONG, "x") is False


async def test_a_generator_is_a_value_and_nothing_to_await(watchdog):
    def numbers():
        yield 1

    assert list(await watchdog.call(numbers, LONG, "x")) == [1]


async def test_a_coroutine_that_waits_too_long_is_ended(watchdog):
    ended = []

    async def waiting():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    with pytest.raises(PhaseTimeout) as failed:
        await watchdog.call(waiting, 0.001, "on_start")
    assert failed.value.what.startswith("on_start did not end within")
    assert ended == [1]


async def test_a_coroutine_that_computes_for_ever_after_an_await_is_ended(watchdog):
    async def stuck():
        await asyncio.sleep(0)
        endless()

    with pytest.raises(PhaseTimeout, match="held the event loop"):
        await watchdog.call(stuck, SHORT, "x")


async def test_a_coroutine_that_swallows_its_cancellation_is_ended_all_the_same(
    watchdog, monkeypatch
):
    monkeypatch.setattr(watchdog_module, "_CANCEL_GRACE_S", 0.01)

    async def stubborn():
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    with pytest.raises(PhaseTimeout):
        await watchdog.call(stubborn, 0.001, "x")
    assert asyncio.current_task().cancelling() == 0
    await turns()


async def test_a_coroutine_may_clean_up_when_its_time_is_over(watchdog):
    ended = []

    async def careful():
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append(1)

    with pytest.raises(PhaseTimeout):
        await watchdog.call(careful, 0.001, "x")
    assert ended == [1]


async def test_a_timeout_of_the_candidates_own_stays_its_own(watchdog):
    async def own():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await watchdog.call(own, LONG, "x")


async def test_what_an_awaited_thing_raises_reaches_the_code_that_awaits_it(watchdog):
    future = asyncio.get_running_loop().create_future()

    async def waiting():
        try:
            await future
        except ValueError as error:
            return str(error)

    task = start(watchdog.call(waiting, LONG, "x"))
    await turns()
    future.set_exception(ValueError("no"))
    assert await task == "no"


async def test_a_cancellation_from_outside_goes_through(watchdog):
    ended = []

    async def waiting():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    task = start(watchdog.call(waiting, LONG, "x"))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [1]


async def test_other_tasks_are_never_interrupted_while_a_guarded_one_waits(monkeypatch, watchdog):
    go = asyncio.Event()

    async def waiting():
        await go.wait()
        return "done"

    task = start(watchdog.call(waiting, 0.2, "x"))
    await asyncio.sleep(0)
    spin(0.1)  # longer than several looks: this is not the guarded code
    assert watchdog._deadline is None
    go.set()
    assert await task == "done"


async def test_an_abandoned_guarded_coroutine_is_closed(watchdog):
    ended = []

    async def waiting():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    outer = watchdog.call(waiting, LONG, "x")
    outer.send(None)
    outer.close()
    del outer
    gc.collect()
    assert ended == [1]


def test_overrun_is_not_swallowed_by_except_exception():
    assert not issubclass(Overrun, Exception)
