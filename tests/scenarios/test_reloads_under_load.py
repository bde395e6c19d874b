"""Many reloads of a module with state, under calls and messages: nothing is lost.

`REPLANK_RELOADS=200 pytest tests/scenarios/test_reloads_under_load.py` runs the long form.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from replank import Host, Outcome
from tests.scenarios.load import NOTHING_WRONG, Load

RELOADS = int(os.environ.get("REPLANK_RELOADS", "60"))


async def settled(host: Host, name: str) -> None:
    """Return when every accepted message has been handled."""
    inbox = host._routes.slot(name).inbox
    while inbox.queued:
        await asyncio.sleep(0)


async def test_reloads_with_migration_lose_double_and_reorder_nothing(
    tmp_path: Path, modules: Path
) -> None:
    source = modules / "counter"
    async with Host({"counter": source / "v1.py"}, data_dir=tmp_path) as host:
        counter = host["counter"]
        async with Load(counter.add, counter.send.add) as load:
            for turn in range(RELOADS):
                version = "v2.py" if turn % 2 == 0 else "v1.py"
                report = await host.reload({"counter": source / version})
                assert report.outcome is Outcome.COMMITTED, report.error
                await load.some_answers(5)
        await settled(host, "counter")
        account = await counter.account()
    assert load.compare(account) == NOTHING_WRONG
    assert load.mixed_answers() == RELOADS


async def test_the_load_notices_a_loss(tmp_path: Path, modules: Path) -> None:
    """The accounting can fail: a caller whose call is thrown away is seen as lost."""
    async with Host({"counter": modules / "counter" / "v1.py"}, data_dir=tmp_path) as host:
        counter = host["counter"]

        async def losing(sender: str, number: int) -> tuple[str]:
            if sender == "caller-3" and number > 2:
                return ("1.0",)
            return await counter.add(sender, number)

        async with Load(losing, counter.send.add, callers=5, senders=1) as load:
            await load.some_answers(200)
        await settled(host, "counter")
        account = await counter.account()
    assert load.compare(account)["lost"] == 1
    assert load.compare(account)["wrong_sums"] == 1
