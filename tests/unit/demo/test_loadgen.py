"""The load generator against a fake shop: clean when it is honest, and every fault is found."""

from __future__ import annotations

import asyncio
import json

import pytest

from replank.demo.accounting import Verdict
from replank.demo.keepalive import Connection
from replank.demo.loadgen import LoadGenerator, Pace, Settings, listen, main, parse
from tests.unit.demo.fake_shop import FakeShop


async def traffic(
    shop: FakeShop, *, callers: int = 2, senders: int = 1, requests: int = 60
) -> Verdict:
    """Run full-speed traffic until the shop has seen so many requests."""
    async with shop.serving() as port:
        settings = Settings(
            port=port, callers=callers, senders=senders, rate=0, message_rate=0, timeout_s=5
        )
        generator = LoadGenerator(settings)
        running = asyncio.create_task(generator.run())
        while shop.requests < requests and not running.done():
            await asyncio.sleep(0)
        generator.stopping.set()
        return await running


async def test_an_honest_shop_gets_a_clean_verdict() -> None:
    shop = FakeShop()
    verdict = await traffic(shop)
    assert verdict.clean, verdict
    assert verdict.calls.sent + verdict.messages.sent == shop.requests
    assert verdict.versions == ("2.0", "5.0")


async def test_each_sender_keeps_one_connection() -> None:
    shop = FakeShop()
    await traffic(shop, callers=3, senders=2)
    assert shop.connections == 5 + 1  # and one to read the books at the end


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("lose", lambda v: v.calls.lost + v.messages.lost == 1 and not v.state_ok),
        ("double", lambda v: v.calls.duplicated + v.messages.duplicated == 1),
        ("refuse", lambda v: v.calls.failed + v.messages.failed == 1),
        ("hang_up", lambda v: v.calls.lost + v.messages.lost == 1),
        ("steal", lambda v: not v.state_ok and len(v.wrong_accounts) == 1),
    ],
)
async def test_a_fault_of_the_shop_is_found(fault: str, found: object) -> None:
    verdict = await traffic(FakeShop(fault))
    assert callable(found)
    assert found(verdict), verdict
    assert not verdict.clean


async def test_a_message_that_overtook_others_is_found() -> None:
    verdict = await traffic(FakeShop("swap"), callers=0, senders=1)
    assert verdict.messages.reordered > 0
    assert not verdict.clean


async def test_an_old_answer_after_a_new_one_is_found() -> None:
    verdict = await traffic(FakeShop("old"), callers=1, senders=0)
    assert verdict.stale_answers == 1


async def test_a_mix_of_old_and_new_modules_is_found() -> None:
    verdict = await traffic(FakeShop("mix"), callers=1, senders=0)
    assert verdict.mixed_answers == 1


async def test_a_shop_that_is_down_is_told_at_the_end() -> None:
    async with FakeShop().serving() as port:
        pass
    generator = LoadGenerator(Settings(port=port, callers=1, senders=0))
    generator.stopping.set()
    with pytest.raises(OSError):
        await generator.run()


async def test_the_words_on_standard_input_mark_reloads_and_stop_the_traffic() -> None:
    generator = LoadGenerator(Settings(port=1))
    stream = asyncio.StreamReader()
    stream.feed_data(b"reload\nreloaded\nstop\n")
    await listen(generator, stream)
    assert generator.stopping.is_set()


async def test_the_end_of_standard_input_stops_the_traffic() -> None:
    generator = LoadGenerator(Settings(port=1))
    stream = asyncio.StreamReader()
    stream.feed_eof()
    await listen(generator, stream)
    assert generator.stopping.is_set()


async def test_a_pace_without_a_rate_never_waits() -> None:
    pace = Pace(0, 1, 0)
    stopping = asyncio.Event()
    assert [await pace.wait(stopping) for _ in range(3)] == [True] * 3
    stopping.set()
    assert not await pace.wait(stopping)


async def test_a_pace_ends_at_once_when_the_traffic_stops() -> None:
    pace = Pace(0.001, 1, 0)
    stopping = asyncio.Event()
    assert await pace.wait(stopping)
    waiting = asyncio.create_task(pace.wait(stopping))
    await asyncio.sleep(0)
    stopping.set()
    assert not await waiting


async def test_the_process_writes_progress_and_verdict_as_json(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    async with FakeShop().serving() as port:
        code = await main(Settings(port=port, callers=2, senders=1, seconds=0.3), follow=False)
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert code == 0
    assert lines[0].keys() == {"progress"}
    assert lines[-1].keys() == {"verdict"}


async def test_a_fault_becomes_the_exit_code(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    async with FakeShop("double").serving() as port:
        settings = Settings(port=port, callers=2, senders=1, rate=0, message_rate=0, seconds=0.2)
        assert await main(settings, follow=False) == 1
    assert b'"duplicated":1' in capfdbinary.readouterr().out


def test_without_a_time_the_load_generator_follows_its_input() -> None:
    settings, follow = parse(["--port", "80"])
    assert (settings.port, settings.callers, settings.senders, follow) == (80, 50, 4, True)
    assert parse(["--port", "80", "--seconds", "2"])[1] is False


async def test_a_connection_is_opened_again_after_it_was_lost() -> None:
    shop = FakeShop("hang_up")
    shop.requests = 19
    arguments = {"sender": "deposit-1", "seq": 1, "owner": "ada", "cents": 1}
    async with shop.serving() as port, Connection("127.0.0.1", port) as connection:
        with pytest.raises(OSError):
            await connection.post("/modules/ledger/deposit", arguments)
        assert (await connection.post("/modules/ledger/deposit", arguments))[0] == 200
    assert shop.connections == 2
