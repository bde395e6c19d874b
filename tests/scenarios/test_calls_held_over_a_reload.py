"""A request over HTTP that waits for a reload is read for the version that runs it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from replank import Host, Outcome
from replank.control.calls import CallsApp

BANK = """
import asyncio
from collections.abc import AsyncIterator
from replank import Module, Record

class Amount(Record):
    cents: int
    {field}

class Bank(Module, version="{v}"):
    async def hold(self, until: asyncio.Event) -> None:
        await until.wait()

    async def pay(self, amount: Amount) -> list:
        return ["{v}", isinstance(amount, Amount), {shown}]

    async def pay_out(self, amount: Amount) -> AsyncIterator[list]:
        yield ["{v}", isinstance(amount, Amount), {shown}]
"""
FIRST = BANK.format(v="1", field="", shown="amount.cents")
SECOND = BANK.format(v="2", field="currency: str = 'EUR'", shown="amount.currency")
STRICT = BANK.format(v="2", field="currency: str", shown="amount.currency")


async def post(app: CallsApp, path: str, body: Any) -> tuple[int, Any]:
    """Ask as a server would; return status and answer."""
    sent: list[dict[str, Any]] = []
    arrived = [{"type": "http.request", "body": msgspec.json.encode(body), "more_body": False}]

    async def receive() -> dict[str, Any]:
        return arrived.pop()

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path, "headers": []}
    await app(scope, receive, send)
    text = b"".join(event.get("body", b"") for event in sent)
    return sent[0]["status"], msgspec.json.decode(text)


@pytest.mark.parametrize("call", ["pay", "pay_out"])
@pytest.mark.parametrize("new", [SECOND, STRICT])
async def test_arguments_of_its_own_classes_are_of_the_version_that_runs_the_call(
    tmp_path: Path, call: str, new: str
) -> None:
    source = tmp_path / "bank.py"
    source.write_text(FIRST)
    guard: Any = SimpleNamespace(admit=lambda *_, **__: None, public=False)
    async with Host({"bank": source}, data_dir=tmp_path / "data") as host:
        app = CallsApp(host, guard, 10_000)
        assert await post(app, f"/modules/bank/{call}", {"amount": {"cents": 5}}) == (
            200,
            ["1", True, 5],
        )
        until = asyncio.Event()
        holding = asyncio.create_task(host["bank"].hold(until))
        await asyncio.sleep(0)
        source.write_text(new)
        reload = host.reload("bank")
        while host._routes.slot("bank").gate.is_open:
            await asyncio.sleep(0)
        held = asyncio.create_task(post(app, f"/modules/bank/{call}", {"amount": {"cents": 5}}))
        await asyncio.sleep(0)
        until.set()
        await holding
        assert (await reload).outcome is Outcome.COMMITTED
        status, answer = await held
        if new is SECOND:
            assert (status, answer) == (200, ["2", True, "EUR"])
        else:  # what fits no more is told in the words of the version that would have run it
            assert status == 422
            assert "currency" in str(answer)
        assert host.status().modules[0].in_flight == 0
