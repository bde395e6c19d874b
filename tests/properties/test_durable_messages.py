"""Whatever is sent, saved and crashed in whatever order: nothing is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from replank.journal.embedded import EmbeddedPort
from replank.journal.memory import MemoryPort
from replank.journal.port import last_position
from replank.traffic.messages import to_plain
from replank.traffic.payload import read_message
from tests.durable_helpers import Module, calls_of, message

STREAMS = st.sampled_from(["a", "b"])
PAYLOADS = st.lists(st.binary(max_size=5), max_size=4)


class Ports(RuleBasedStateMachine):
    """The port on disk does what the one in memory does, also after it was closed and opened."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "inbox.sqlite"
        self.disk = EmbeddedPort(self.path).open()
        self.memory = MemoryPort()

    def both(self, ask):
        mine, twin = self.loop.run_until_complete(self._both(ask))
        assert mine == twin
        return mine

    async def _both(self, ask):
        return await ask(self.disk), await ask(self.memory)

    @rule(stream=STREAMS, payloads=PAYLOADS)
    def publish(self, stream, payloads):
        async def ask(port):
            return list(await port.publish(stream, payloads)) if payloads else []

        self.both(ask)

    @rule(stream=STREAMS, after=st.integers(0, 30), limit=st.integers(1, 10))
    def read(self, stream, after, limit):
        self.both(lambda port: port.read(stream, after, limit))

    @rule(stream=STREAMS, upto=st.integers(0, 30))
    def truncate(self, stream, upto):
        self.both(lambda port: port.truncate(stream, upto))

    @rule(key=STREAMS, version=st.integers(0, 3), data=st.binary(max_size=3))
    def compare_and_set(self, key, version, data):
        self.both(lambda port: port.compare_and_set(f"key/{key}", version, data))

    @rule(key=STREAMS)
    def get(self, key):
        self.both(lambda port: port.get(f"key/{key}"))

    @rule()
    def open_again(self):
        self.loop.run_until_complete(self.disk.close())
        self.disk = EmbeddedPort(self.path).open()

    @invariant()
    def stands_at_the_same_position(self):
        for stream in ("a", "b"):
            self.both(lambda port, stream=stream: last_position(port, stream))

    def teardown(self):
        self.loop.run_until_complete(self.disk.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()


TestPorts = Ports.TestCase
TestPorts.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)


class Lives(RuleBasedStateMachine):
    """One module through many crashes and stops; its state lists every message it has seen."""

    position_is_in_the_snapshot = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.port = MemoryPort()
        self.snapshots: list[tuple[list[int], int]] = []
        self.position_apart = 0
        self.accepted: list[int] = []
        self.module = self.run(self.life())

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def life(self, *, from_before=0):
        """Start from the last snapshot, or from one before it when that is corrupt."""
        saved = self.snapshots[-1 - from_before] if self.snapshots else ([], 0)
        if not self.position_is_in_the_snapshot:
            saved = (saved[0], self.position_apart)
        module = Module(self.port, saved, messages_max=5)
        module.inbox.start()
        return module

    @rule(count=st.integers(1, 4), handled=st.booleans())
    def send(self, count, handled):
        async def go():
            for _ in range(count):
                number = len(self.accepted)
                await self.module.send(number)
                self.accepted.append(number)
            if handled:
                await self.module.all_handled()

        self.run(go())

    @rule()
    def save(self):
        async def go():
            state, position = await self.module.save()
            self.snapshots = [*self.snapshots, (state, position)][-3:]
            await self.module.inbox.saved(position)
            self.position_apart = position

        self.run(go())

    @rule()
    def save_and_crash_before_the_inbox_knows(self):
        async def go():
            self.snapshots = [*self.snapshots, await self.module.save()][-3:]
            await self.module.inbox.stop()
            self.module = await self.life()

        self.run(go())

    @rule()
    def crash(self):
        async def go():
            await self.module.inbox.stop()
            self.module = await self.life()

        self.run(go())

    @precondition(lambda self: len(self.snapshots) > 1)
    @rule(from_before=st.integers(1, 2))
    def crash_with_corrupt_snapshots(self, from_before):
        async def go():
            await self.module.inbox.stop()
            before = min(from_before, len(self.snapshots) - 1)
            self.module = await self.life(from_before=before)

        self.run(go())

    @rule()
    def reload(self):
        async def go():
            async with self.module.quiet():
                lane = self.module.load(2, self.module.note)
            self.module.gate.close()
            self.module.gate.reopen(lane)

        self.run(go())

    @invariant()
    def the_state_is_a_beginning_of_what_was_accepted(self):
        assert self.module.state == self.accepted[: len(self.module.state)]

    @invariant()
    def the_numbers_add_up(self):
        seen = self.module.inbox.statistics()
        assert seen.accepted == seen.handled + seen.failed + seen.queued

    def teardown(self):
        try:
            self.run(self.module.all_handled())
            assert self.module.state == self.accepted
        finally:
            self.run(self.module.inbox.stop())
            self.loop.close()


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


def test_a_start_from_an_older_snapshot_keeps_what_the_next_ones_may_need():
    lives = Lives()
    lives.save()
    lives.send(count=1, handled=False)
    lives.save()
    lives.crash_with_corrupt_snapshots(from_before=1)
    lives.save_and_crash_before_the_inbox_knows()
    lives.save_and_crash_before_the_inbox_knows()
    lives.crash_with_corrupt_snapshots(from_before=2)
    lives.save()
    lives.save()
    lives.crash_with_corrupt_snapshots(from_before=2)
    lives.teardown()  # every message was seen once


class LivesApart(Lives):
    """The control experiment: the position is kept apart from the state, and is the older one."""

    position_is_in_the_snapshot = False


def test_with_the_position_kept_apart_from_the_state_the_same_test_fails():
    control = settings(
        max_examples=500,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        report_multiple_bugs=False,
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(LivesApart, settings=control)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    | st.binary()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    args=st.lists(PLAIN, max_size=3), kwargs=st.dictionaries(st.text(max_size=5), PLAIN, max_size=3)
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_message_of_plain_values_comes_back_as_it_was_sent(args, kwargs):
    async def note(*args, **kwargs) -> None: ...

    payload = msgspec.msgpack.encode(to_plain(message("note", *args, **kwargs)))
    assert read_message(payload, calls_of(note), "ledger") == message("note", *args, **kwargs)
