"""Calls that outlive a drain: what they write is refused, and their callers are told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from replank import Host
from replank.config import Config, ModuleConfig, ReloadConfig
from replank.errors import CallAborted, StateSealed
from replank.state.sealing import Seal

VAULT = """
import asyncio
from dataclasses import dataclass, field
from replank import Carry, Module, Record, Table, Uses

class Account(Record):
    cents: int = 0
    notes: list[str] = []

@dataclass
class Order:
    paid: bool = False

class Vault(Module, version="{label}"):
    total: int = 0
    names: list[str]
    nested: dict[str, list[int]]
    tags: set[str]
    accounts: Table[str, Account]
    first: Account = Account()
    orders: list[Order]
    feed: Carry[dict | None] = None

    async def fill(self) -> None:
        self.names.append("ada")
        self.nested["a"] = [1]
        self.accounts["ada"] = Account(1)
        self.orders.append(Order())
        self.feed = {{}}

    async def read(self) -> tuple:
        account = self.accounts["ada"]
        return (self.total, list(self.names), dict(self.nested), len(self.tags), account.cents,
                sorted(self.accounts), self.first.cents, len(self.orders), self.orders[0].paid)

    async def outlive(self, what: str, reached, go) -> object:
        names, inner, account = self.names, self.nested["a"], self.accounts["ada"]
        order, mine = self.orders[0], Order()
        reached.set()
        await go.wait()
        match what:
            case "a field": self.total += 1
            case "a deleted field": del self.total
            case "a list": self.names.append("eve")
            case "a list with +=": self.names += ["eve"]
            case "a dict": self.nested["b"] = []
            case "a set": self.tags.add("x")
            case "a table": self.accounts["eve"] = Account()
            case "a table's update": self.accounts.update(eve=Account())
            case "a record": self.accounts["ada"].cents += 1
            case "a record held before": account.cents += 1
            case "a record in a field": self.first.cents = 3
            case "a dataclass in a list": order.paid = True
            case "a list in a dict": self.nested["a"].append(2)
            case "a list held before": names.append("eve")
            case "a list in a dict, held before": inner.append(2)
            case "a list in a record": self.accounts["ada"].notes.append("x")
            case "a list, from C": list.append(self.names, "eve")
            case "a field, past its hook": self.__dict__["total"] = 9
            case "nothing":
                made = Order()
                made.paid = mine.paid = True
                self.feed["carried"] = 1
                self.scratch = 1
                return len(self.names), self.accounts["ada"].cents, isinstance(account, Account)
{more}
"""
FAILS = "    async def on_start(self):\n        raise OSError('no')\n"


class Rig:
    """One host with one module whose calls outlive their drain."""

    def __init__(self, folder: Path, source: str, policy: str = "detach", **fields: Any) -> None:
        self.file = folder / "vault.py"
        self.source = source
        self.write(1)
        module = ModuleConfig(
            source=str(self.file), drain_policy=policy, drain_timeout_s=0.02, **fields
        )
        reload = ReloadConfig(probe=False, windowed_from_records=fields.pop("records", 2_000))
        config = Config(modules={"vault": module}, reload=reload)
        self.host = Host(data_dir=folder / "data", config=config)
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    def write(self, label: int, more: str = "") -> None:
        self.file.write_text(self.source.format(label=label, more=more))

    async def reload(self, more: str = "") -> Any:
        self.write(2, more)
        return await self.host.reload("vault")

    async def outlive(self, what: str) -> asyncio.Task[Any]:
        """Start a call that has not ended when the module is reloaded."""
        vault = self.host["vault"]
        call = asyncio.create_task(vault.outlive(what, self.reached, self.go))
        await self.reached.wait()
        return call


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


WRITES = [
    *("a field", "a deleted field", "a list", "a list with +=", "a dict", "a set"),
    *("a table", "a table's update", "a record", "a record held before", "a record in a field"),
    *("a dataclass in a list", "a list in a dict", "a list held before"),
    *("a list in a dict, held before", "a list in a record", "a list, from C"),
    "a field, past its hook",
]


async def test_what_a_detached_call_writes_is_refused(tmp_path: Path) -> None:
    """Each way in turn, each in a host of its own time: the new state never has it."""
    rig = Rig(tmp_path, VAULT)
    async with rig.host as host:
        await host["vault"].fill()
        before = await host["vault"].read()
        for what in WRITES:
            rig.reached, rig.go = asyncio.Event(), asyncio.Event()
            call = await rig.outlive(what)
            report = await rig.reload(f"    # {what}\n")
            assert report.committed, report
            assert any("outlived the drain" in one for one in report.warnings)
            rig.go.set()
            with pytest.raises(StateSealed) as refused:
                await call
            assert refused.value.module == "vault", what
            assert "generation" in refused.value.found, what
            assert await host["vault"].read() == before, what


async def test_a_detached_call_reads_makes_objects_of_its_own_and_uses_what_is_carried(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, VAULT)
    async with rig.host as host:
        await host["vault"].fill()
        call = await rig.outlive("nothing")
        assert (await rig.reload()).committed
        rig.go.set()
        assert await call == (1, 1, True)


async def test_after_a_rollback_the_call_writes_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, VAULT)
    async with rig.host as host:
        await host["vault"].fill()
        calls = [await rig.outlive(what) for what in ("a field", "a list", "a table", "a record")]
        assert (await rig.reload(FAILS)).outcome == "rolled_back"
        rig.go.set()
        await asyncio.gather(*calls)
        total, names, *_, cents, accounts, _, _, _ = await host["vault"].read()
        assert (total, names, cents, accounts) == (1, ["ada", "eve"], 2, ["ada", "eve"])


async def test_a_seal_that_cannot_be_put_on_whole_is_taken_off_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by seed 1015 of the simulation: the version that served on took no more writes."""
    rig = Rig(tmp_path, VAULT)
    async with rig.host as host:
        await host["vault"].fill()
        call = await rig.outlive("nothing")
        with monkeypatch.context() as patch:
            patch.setattr(Seal, "_hook_owner", lambda _: 1 / 0)
            report = await rig.reload()
        assert report.outcome == "rolled_back"
        assert report.error.kind == "ZeroDivisionError"
        for what in ("a field", "a list", "a table", "a record", "a list in a dict"):
            assert await host["vault"].outlive(what, asyncio.Event(), _set()) is None
        total, names, nested, *_ = await host["vault"].read()
        assert (total, names, nested) == (1, ["ada", "eve"], {"a": [1, 2]})
        rig.go.set()
        await call


@pytest.mark.parametrize("mode", ["windowed", "lazy"])
@pytest.mark.parametrize("what", ["a table", "a record", "a record held before", "a field"])
async def test_a_large_table_that_has_moved_on_is_not_even_read(
    tmp_path: Path, what: str, mode: str
) -> None:
    rig = Rig(tmp_path, VAULT, mode=mode)
    async with rig.host as host:
        await host["vault"].fill()
        before = await host["vault"].read()
        # The window waits for calls that hold records already: this one comes at its very end.
        moment = host._routes.slot("vault").persistence.moment
        await moment.acquire()
        reload = asyncio.create_task(rig.reload())
        while not moment._waiters:
            await asyncio.sleep(0)
        call = await rig.outlive(what)
        moment.release()
        report = await reload
        assert report.committed, report
        assert report.modules[0].mode == mode
        rig.go.set()
        with pytest.raises(StateSealed):
            await call
        assert await host["vault"].read() == before


PLAIN = """
VERSION = "{label}"
STATE = ("hits", "names")
hits = 0
names = []
async def outlive(what: str, reached, go):
    global hits
    reached.set()
    await go.wait()
    if what == "a global":
        hits += 1
    elif what == "a list":
        names.append(1)
    return "done"
async def read():
    return hits, list(names)
{more}
"""


@pytest.mark.parametrize("what", ["a global", "a list"])
async def test_a_plain_files_globals_are_sealed_too(tmp_path: Path, what: str) -> None:
    rig = Rig(tmp_path, PLAIN)
    async with rig.host as host:
        call = await rig.outlive(what)
        assert (await rig.reload()).committed
        rig.go.set()
        with pytest.raises(StateSealed):
            await call
        assert await host["vault"].read() == (0, [])


SELF = """
from replank import Module
class Vault(Module, version="{label}"):
    total: int = 0
    async def outlive(self, what: str, reached, go) -> object:
        reached.set()
        await go.wait()
        return await self.host["vault"].add()
    async def add(self) -> str:
        self.total += 1
        return "{label}"
    async def read(self) -> int:
        return self.total
{more}
"""


async def test_a_detached_call_that_calls_its_own_module_enters_the_new_version(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, SELF)
    async with rig.host as host:
        call = await rig.outlive("")
        assert (await rig.reload()).committed
        rig.go.set()
        assert await call == "2"
        assert await host["vault"].read() == 1


async def test_a_call_that_the_drain_cancelled_tells_its_caller(tmp_path: Path) -> None:
    rig = Rig(tmp_path, VAULT, policy="cancel")
    async with rig.host as host:
        await host["vault"].fill()
        call = await rig.outlive("a field")
        assert (await rig.reload()).committed
        with pytest.raises(CallAborted) as aborted:
            await call
        assert aborted.value.module == "vault"
        assert "vault.py:" in aborted.value.found
        assert "drain_timeout_s" in aborted.value.do
        assert (await host["vault"].read())[0] == 0
