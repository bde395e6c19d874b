"""Bugs that a host could have, planted one at a time: each must be found by some seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from replank.coordinator.coordinator import ReloadCoordinator
from replank.traffic.drain import Drain, Drained
from replank.traffic.gate import Gate
from replank.traffic.messages import Inbox
from replank.traffic.tasks import Tasks

_swap = ReloadCoordinator._swap_in_pause
_commit = ReloadCoordinator._commit_in_pause
_reopen = Gate.reopen


async def open_before_the_swap(self: Any, tx: Any) -> str:
    tx.drain.reopen()
    await asyncio.sleep(0)
    tx.drain.close()
    return await _swap(self, tx)


async def open_before_the_record(self: Any, tx: Any) -> None:
    self._reopen(tx)
    await asyncio.sleep(0)
    tx.drain.close()
    await _commit(self, tx)


async def swap_one_by_one(self: Any, tx: Any) -> str:
    before = {one.name: one.old for one in tx.each()}
    tx.on_undo("put the routing table back", lambda: self.routes.assign(before) and None)
    for one in tx.each():
        self.routes.assign({one.name: one.new})
        await asyncio.sleep(0)
    return ""


async def swap_without_a_way_back(self: Any, tx: Any) -> str:
    self.routes.assign({one.name: one.new for one in tx.each()})
    return ""


async def drain_without_waiting(self: Any, deadline_s: float, policies: Any) -> Drained:
    for gate in self._gates:
        gate.quiet()
    return Drained(tuple(gate.module for gate in self._gates))


def let_no_chain_in(self: Any, chain: Any, asked: Any) -> None:
    return None


def release_the_last_first(self: Any, lane: Any = None) -> Any:
    self._waiting.reverse()
    return _reopen(self, lane)


def keep_what_was_given_up(self: Any, sending: Any) -> None:
    if sending in self._senders:
        self._senders.remove(sending)
        self._accept(sending.message)


async def stop_no_task(self: Any, tasks: Any) -> tuple[str, ...]:
    return tuple(name for name in tasks.values() if name)


BUGS: dict[str, tuple[type, str, Callable[..., Any]]] = {
    "the gates open before the swap": (ReloadCoordinator, "_swap_in_pause", open_before_the_swap),
    "the gates open before the commit record": (
        ReloadCoordinator,
        "_commit_in_pause",
        open_before_the_record,
    ),
    "modules are swapped one by one": (ReloadCoordinator, "_swap_in_pause", swap_one_by_one),
    "a rollback forgets the routing table": (
        ReloadCoordinator,
        "_swap_in_pause",
        swap_without_a_way_back,
    ),
    "the drain does not wait": (Drain, "wait", drain_without_waiting),
    "a chain has no admission": (Gate, "let_in", let_no_chain_in),
    "waiting calls are released in reverse": (Gate, "reopen", release_the_last_first),
    "a message that was given up is kept": (Inbox, "_give_up", keep_what_was_given_up),
    "tasks go on beside their successors": (Tasks, "_cancel", stop_no_task),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant one bug for the time of the block."""
    owner, attribute, bug = BUGS[name]
    with mock.patch.object(owner, attribute, bug):
        yield
