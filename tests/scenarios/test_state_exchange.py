"""A live state is looked at, taken out and put in, while calls keep arriving."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from replank import Host
from replank.config import Config, HttpConfig
from replank.control.client import Client
from replank.control.server import ControlServer
from replank.errors import CheckError, UnknownModule, UsageError

LEDGER = """
from replank import Carry, Module, Record, Table, check{imports}


class Account(Record):
    owner: str
    cents: int = 0


class Ledger(Module, version="{label}", schema={schema}):
    accounts: Table[str, Account]
    {total}: int = 0
    opened: Carry[object | None] = None
    {migrations}

    def on_start(self):
        self.opened = self.opened or object()

    async def deposit(self, owner: str, cents: int) -> int:
        before = self.{total}
        self.accounts.setdefault(owner, Account(owner)).cents += cents
        self.{total} = before + cents
        return self.{total}

    async def slow(self, release) -> int:
        await release.wait()
        return self.{total}

    async def mark(self) -> int:
        return id(self.opened)

    @check
    async def books_balance(self) -> None:
        total = sum(account.cents for account in self.accounts.values())
        if total != self.{total}:
            raise ValueError(f"{{total}} in the accounts, {{self.{total}}} in the books")
"""


def source_of(folder: Path, label: str = "1.0", *, schema: int = 1) -> Path:
    path = folder / "bank.py"
    new = schema > 1
    path.write_text(
        LEDGER.format(
            label=label,
            schema=schema,
            total="cents" if new else "total",
            imports=", rename, step" if new else "",
            migrations='migrations = [step(1, 2, rename("total", "cents"))]' if new else "",
        )
    )
    return path


@pytest.fixture
async def host(tmp_path: Path):
    async with Host({"bank": source_of(tmp_path)}, data_dir=tmp_path / "data") as host:
        for n in range(100):
            await host["bank"].deposit(f"a{n}", n)
        yield host


def changed(document: bytes, **state: object) -> bytes:
    plain = json.loads(document)
    plain["state"] |= state
    return json.dumps(plain).encode()


async def test_an_import_replaces_the_whole_state_and_leaves_what_is_carried(host: Host) -> None:
    mark = await host["bank"].mark()
    document = await host.export_state("bank")
    await host["bank"].deposit("late", 1)
    report = await host.import_state("bank", document)
    assert (report.schema_from, report.schema_to, report.records) == (1, 1, 100)
    assert report.pause_s > 0
    assert not report.warnings
    assert await host["bank"].deposit("a1", 1) == 4951
    assert await host["bank"].mark() == mark


async def test_an_older_export_is_migrated_and_a_newer_one_refused(
    host: Host, tmp_path: Path
) -> None:
    old = await host.export_state("bank")
    source_of(tmp_path, "2.0", schema=2)
    assert (await host.reload("bank")).committed
    new = await host.export_state("bank")
    await host["bank"].deposit("late", 1)
    report = await host.import_state("bank", old)
    assert (report.schema_from, report.schema_to) == (1, 2)
    assert await host["bank"].deposit("a1", 0) == 4950
    assert (await host.rollback("bank")).committed
    assert await host["bank"].deposit("a1", 1) == 4951
    with pytest.raises(UsageError, match="newer than the code"):
        await host.import_state("bank", new)
    assert await host["bank"].deposit("a1", 0) == 4951


async def test_a_state_that_a_check_refuses_is_taken_out_again(host: Host) -> None:
    document = await host.export_state("bank")
    with pytest.raises(CheckError, match="books_balance"):
        await host.import_state("bank", changed(document, total=1))
    assert await host["bank"].deposit("a1", 0) == 4950


async def test_what_is_no_export_changes_nothing(host: Host) -> None:
    document = await host.export_state("bank")
    for bad in (b"", b"{}", document[:-1], document.replace(b'"bank"', b'"api"')):
        with pytest.raises(UsageError):
            await host.import_state("bank", bad)
    with pytest.raises(UnknownModule):
        await host.import_state("api", document)
    assert await host["bank"].deposit("a1", 0) == 4950


async def test_an_import_is_on_the_disk_when_it_returns(host: Host, tmp_path: Path) -> None:
    document = await host.export_state("bank")
    await host.import_state("bank", document)
    assert list((tmp_path / "data" / "snapshots").glob("bank-*.snapshot"))


async def test_calls_and_reloads_go_on_around_imports_and_none_is_lost(
    host: Host, tmp_path: Path
) -> None:
    document = await host.export_state("bank")
    answers: list[int] = []
    ended = asyncio.Event()

    async def call() -> None:
        while not ended.is_set():
            answers.append(await host["bank"].deposit("a1", 0))
            await asyncio.sleep(0)

    callers = [asyncio.create_task(call()) for _ in range(4)]
    for n in range(5):
        source_of(tmp_path, f"1.{n + 1}")
        reports = await asyncio.gather(host.reload("bank"), host.import_state("bank", document))
        assert reports[0].committed, reports[0].error
        assert reports[1].records == 100
    ended.set()
    await asyncio.gather(*callers)
    assert set(answers) == {4950}


async def test_a_task_begins_anew_with_the_imported_state(tmp_path: Path) -> None:
    path = tmp_path / "pump.py"
    path.write_text(
        "import asyncio\nfrom replank import Module\n\n\n"
        "class Pump(Module):\n    seen: list[int] = []\n\n"
        "    def on_start(self):\n        self.wanted = asyncio.Event()\n"
        "        self.spawn(self.pump())\n\n"
        "    async def pump(self):\n        seen = self.seen\n        while True:\n"
        "            await self.wanted.wait()\n            self.wanted.clear()\n"
        "            seen.append(len(seen))\n\n"
        "    async def want(self) -> list[int]:\n        self.wanted.set()\n"
        "        for _ in range(5):\n            await asyncio.sleep(0)\n        return list(self.seen)\n"
    )
    async with Host({"pump": path}, data_dir=tmp_path / "data") as host:
        assert await host["pump"].want() == [0]
        document = await host.export_state("pump")
        assert await host["pump"].want() == [0, 1]
        await host.import_state("pump", document)
        assert await host["pump"].want() == [0, 1]


async def test_an_export_waits_for_calls_in_flight(host: Host) -> None:
    release = asyncio.Event()
    running = asyncio.create_task(host["bank"].slow(release))
    await asyncio.sleep(0)
    export = asyncio.create_task(host.export_state("bank"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not export.done()
    release.set()
    assert json.loads(await export)["records"] == 100
    assert await running == 4950


async def test_a_sample_lets_calls_go_on(host: Host) -> None:
    release = asyncio.Event()
    running = asyncio.create_task(host["bank"].slow(release))
    sample = asyncio.create_task(host.sample_state("bank"))
    for _ in range(50):
        await host["bank"].deposit("a1", 0)
    assert (await sample).records == 100
    release.set()
    assert await running == 4950


async def test_the_control_socket_shows_exports_samples_and_imports(
    host: Host, tmp_path: Path
) -> None:
    config = Config(data_dir=str(tmp_path / "data"), http=HttpConfig(enabled=False))
    async with ControlServer(host, config):

        def work() -> tuple[object, ...]:
            with Client.find(tmp_path / "data") as client:
                report = client.describe_state("bank")
                document = client.export_state("bank")
                (tmp_path / "state.json").write_bytes(document)
                done = client.import_state("bank", tmp_path / "state.json")
                with pytest.raises(UsageError, match="cannot be read"):
                    client.import_state("bank", tmp_path / "none.json")
                with pytest.raises(UnknownModule):
                    client.describe_state("api")
                return report, client.sample_state("bank"), done

        report, sample, done = await asyncio.to_thread(work)
    assert report.records == 100  # type: ignore[attr-defined]
    assert sample.tree["total"] == 4950  # type: ignore[attr-defined]
    assert done.records == 100  # type: ignore[attr-defined]
