"""Scheduled reloads of real hosts, on a clock that stands still, over restarts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from replank import Host
from replank.config import Config, ReloadConfig
from replank.errors import HostStopped, JournalError, UnknownModule, UsageError
from replank.settings import ScheduleConfig
from replank.testing.clock import FakeClock

SOURCE = """
from replank import Module

class Counter(Module, version="{version}"):
    value: int = 0
    async def bump(self) -> int:
        self.value += 1
        return self.value
    async def version(self) -> str:
        return "{version}"
"""


def write(path: Path, version: str) -> Path:
    path.write_text(SOURCE.format(version=version))
    return path


@dataclass
class Place:
    folder: Path
    clock: FakeClock = field(default_factory=FakeClock)

    def host(self, **schedule) -> Host:
        config = Config(reload=ReloadConfig(probe=False), schedule=ScheduleConfig(**schedule))
        return Host(
            {"counter": self.folder / "counter.py"},
            data_dir=self.folder / "data",
            config=config,
            clock=self.clock,
        )


@pytest.fixture
def place(tmp_path):
    write(tmp_path / "counter.py", "1")
    return Place(tmp_path)


async def reloaded(host: Host) -> None:
    """Wait for the end of the next reload."""
    ended = asyncio.Event()
    stop = host.subscribe(
        lambda event: ended.set() if type(event).__name__ == "ReloadEnded" else None
    )
    await asyncio.wait_for(ended.wait(), 20)
    stop()


async def test_a_scheduled_reload_is_done_at_its_time_and_keeps_the_state(place):
    async with place.host() as host:
        await host["counter"].bump()
        record = await host.schedule("counter", at="22:30")
        write(place.folder / "counter.py", "2")
        assert (record.id, record.standing) == ("s1", "waiting")
        await place.clock.reach("2026-01-05T22:29:59+00:00")
        assert await host["counter"].version() == "1"
        done = asyncio.create_task(reloaded(host))
        await place.clock.advance(1)
        await done
        assert await host["counter"].version() == "2"
        assert await host["counter"].bump() == 2
        (answered,) = host.scheduled()
        assert (answered.standing, answered.last_outcome) == ("answered", "committed")


async def test_scheduled_requests_and_the_pause_survive_a_restart(place):
    async with place.host() as host:
        await host.schedule({"counter": place.folder / "v2.py"}, after_s=3600, priority="high")
        await host.schedule("counter", cron="0 3 * * *")
        await host.pause_reloads("counter")
    write(place.folder / "v2.py", "2")
    await place.clock.advance(7200)
    async with place.host() as host:
        assert host.paused() == ("counter",)
        assert [one.id for one in host.scheduled()] == ["s1", "s2"]
        assert (await host.schedule("counter", after_s=9e5)).id == "s3"
        assert await host["counter"].version() == "1"
        done = asyncio.create_task(reloaded(host))
        await host.resume_reloads()
        await done
        assert await host["counter"].version() == "2"
    async with place.host() as host:
        assert sorted(one.id for one in host.scheduled()) == ["s2", "s3"]


async def test_a_request_that_was_due_while_no_host_ran_is_done_at_the_next_start(place):
    async with place.host() as host:
        await host.schedule("counter", after_s=60)
        await host.schedule("counter", cron="1 12 * * *")
    write(place.folder / "counter.py", "2")
    await place.clock.advance(3600)
    host = place.host()
    done = asyncio.create_task(reloaded(host))
    async with host:
        await done
        assert await host["counter"].version() == "2"
        (cron,) = [one for one in host.scheduled() if one.cron]
        assert cron.due - place.clock.now() == 23 * 3600 + 60


async def test_a_crash_forgets_no_scheduled_request(place):
    host = place.host()
    await host.start()
    await host.schedule("counter", after_s=60)
    await host.cancel_scheduled((await host.schedule("counter", after_s=90)).id)
    file = place.folder / "data" / "schedule.sqlite"
    left = {one.name: one.read_bytes() for one in file.parent.glob("schedule.sqlite*")}
    await host.stop()
    for name, data in left.items():  # as a process that was killed would have left it
        (file.parent / name).write_bytes(data)
    async with place.host() as host:
        assert [one.id for one in host.scheduled()] == ["s1"]


async def test_a_reload_in_quiet_hours_waits_and_is_answered(place):
    async with place.host(quiet_hours=("09:00-17:00",)) as host:
        write(place.folder / "counter.py", "2")
        ticket = host.reload("counter")
        await place.clock.advance(60)
        assert not ticket.done
        assert "quiet hours until 2026-01-05 17:00" in host.scheduled()[0].why
        await place.clock.reach("2026-01-05T17:00:00+00:00")
        assert (await ticket).committed
        assert await host["counter"].version() == "2"


async def test_an_urgent_reload_and_a_rollback_wait_for_no_quiet_hours(place):
    async with place.host(quiet_hours=("09:00-17:00",)) as host:
        write(place.folder / "counter.py", "2")
        patient = host.reload("counter")
        urgent = await host.reload("counter", priority="critical")
        assert urgent.committed
        assert await patient == urgent  # the same source: there is nothing left to do for it
        waits = host.reload({"counter": write(place.folder / "v3.py", "3")})
        assert (await host.rollback("counter")).committed
        assert await host["counter"].version() == "1"
        assert not waits.done
        await place.clock.reach("2026-01-05T17:00:00+00:00")
        assert (await waits).committed
        assert await host["counter"].version() == "3"


async def test_whoever_waits_when_the_host_stops_is_told_so(place):
    async with place.host() as host:
        ticket = host.reload("counter", at="23:00")
    with pytest.raises(HostStopped):
        await ticket


async def test_a_corrupt_schedule_is_refused_before_anything_starts(place):
    async with place.host() as host:
        await host.schedule("counter", after_s=60)
    (place.folder / "data" / "schedule.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(JournalError):
        await place.host().start()
    (place.folder / "data" / "schedule.sqlite").unlink()
    async with place.host() as host:
        assert host.scheduled() == ()


async def test_misuse_is_refused_at_once(place):
    async with place.host() as host:
        with pytest.raises(UnknownModule, match="name one of these"):
            await host.schedule("ledger", after_s=1)
        with pytest.raises(UnknownModule, match="did you mean counter"):
            host.reload("countr")
        with pytest.raises(UsageError, match="one time"):
            await host.schedule("counter", after_s=1, cron="0 3 * * *")
        with pytest.raises(UsageError, match="is no time"):
            host.reload("counter", at="later")
        with pytest.raises(UsageError, match="no priority"):
            host.reload("counter", priority="now")
        with pytest.raises(UnknownModule):
            await host.pause_reloads("ledger")
        assert host.scheduled() == ()
