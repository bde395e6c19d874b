"""What serves after a start is what was committed last, with the state of the last stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.errors import DataDirBusy, SourceError
from replank.instrumentation.events import Warned
from tests.scenarios.test_phases_that_fail import write


async def test_state_is_kept_over_a_stop(tmp_path: Path) -> None:
    source = write(tmp_path / "store.py", "1")
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        await host["store"].add(7)
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        assert await host["store"].read() == 7


async def test_the_committed_version_is_loaded_not_the_one_on_disk(tmp_path: Path) -> None:
    source = write(tmp_path / "store.py", "1")
    async with Host({"store": source}, data_dir=tmp_path / "data"):
        pass
    write(source, "2")
    host = Host({"store": source}, data_dir=tmp_path / "data")
    warnings: list[str] = []
    host.subscribe(lambda e: warnings.append(e.text) if isinstance(e, Warned) else None)
    async with host:
        assert await host["store"].add(1) == "1"
        assert any("replank reload store" in text for text in warnings)
        assert (await host.reload("store")).outcome is Outcome.COMMITTED
        assert await host["store"].add(1) == "2"
    source.unlink()
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        assert await host["store"].add(1) == "2"
        assert await host["store"].read() == 3


async def test_messages_not_handled_before_the_deadline_are_handled_after_the_next_start(
    tmp_path: Path,
) -> None:
    source = write(
        tmp_path / "store.py",
        "1",
        "    async def slow(self, n: int):\n        import asyncio\n"
        "        if n == 1:\n            await asyncio.sleep(30)\n        self.total += n\n",
    )
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        await host["store"].send.slow(1)
        for number in (10, 100):
            await host["store"].send.slow(number)
        await asyncio.sleep(0)
        await host.stop(0.1)
        host.stop = _nothing  # type: ignore[method-assign]
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        inbox = host._routes.slot("store").inbox
        while inbox.queued:
            await asyncio.sleep(0)
        assert await host["store"].read() == 110


async def _nothing() -> None:
    """Be stopped already."""


async def test_a_second_host_on_the_same_data_directory_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "store.py", "1")
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        with pytest.raises(DataDirBusy):
            await Host({"store": source}, data_dir=tmp_path / "data").start()
        assert await host["store"].add(1) == "1"


async def test_a_first_start_that_fails_says_where_and_can_be_tried_again(tmp_path: Path) -> None:
    source = tmp_path / "store.py"
    source.write_text("import nothing_of_that_name\n")
    with pytest.raises(SourceError) as raised:
        await Host({"store": source}, data_dir=tmp_path / "data").start()
    assert raised.value.location == "store.py:1"
    write(source, "1")
    async with Host({"store": source}, data_dir=tmp_path / "data") as host:
        assert await host["store"].add(1) == "1"
