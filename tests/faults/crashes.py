"""Kill a host at the k-th thing that it puts on the disk, start again, and compare."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec

from replank.testing.faults import When
from tests.faults.crash_lives import Facts, Order

ROOT = Path(__file__).parents[2]


@dataclass
class World:
    """What a start must find: by module the label that serves and the amount that was kept."""

    labels: tuple[str, str] | None = None
    """Of alpha and beta; None when nothing was ever committed."""
    amounts: tuple[int, int] = (0, 0)


@dataclass
class Said:
    """What a life has said before it died."""

    begun: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    result: str = ""
    killed: bool = False
    error: str = ""


class Nursery:
    """Has lives lived, each in a process of its own."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crash_lives"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()

    def live(self, order: Order, *, kill_after: int = 0) -> Said:
        """Have one life lived; killed from outside after so many things it said, if any."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")
        self.process.stdin.flush()
        said, pid = Said(), 0
        for line in self.process.stdout:
            kind, _, text = line.decode().rstrip("\n").partition(" ")
            if kind == "P":
                pid = int(text)
                continue
            if kind == "X":
                said.killed = text == "killed"
                break
            if kind == "E":
                said.error = text
            elif kind == "R":
                said.result = text
            else:
                (said.begun if kind == "S" else said.done).append(text)
            if pid and 0 < kill_after <= len(said.begun) + len(said.done):
                os.kill(pid, signal.SIGKILL)
                kill_after = 0
        return said

    def count(self, folder: Path) -> list[str]:
        """Let one life end by itself; return every operation it did."""
        said = self.live(Order(str(folder)))
        assert said.result, said.error
        operations: list[str] = json.loads(said.result)
        return operations

    def crash(
        self, folder: Path, die_at: int = 0, when: When = "before", *, kill_after: int = 0
    ) -> list[str]:
        """Kill a life at one operation, start again, and return what is wrong.

        Args:
            folder: An empty folder.
            die_at: The operation, counted from 1.
            when: Whether none, half or all of it is done first.
            kill_after: Kill it from outside instead, after so many things that it said.
        """
        order = Order(str(folder), die_at=die_at, when=when)
        said = self.live(order, kill_after=kill_after)
        if said.error:
            return [f"the life failed by itself: {said.error}"]
        if not said.killed:
            return []
        after = self.live(Order(str(folder), examine=True))
        if not after.result:
            return [f"the examination failed: {after.error or 'it died'}"]
        facts = msgspec.json.decode(after.result, type=Facts)
        return problems(said, facts)


def problems(said: Said, facts: Facts) -> list[str]:
    """Compare what a start found with what the life before had done and begun."""
    if facts.error:
        return [f"it does not start again: {facts.error}"]
    found = []
    possible = worlds(said)
    labels = (facts.labels["alpha"], facts.labels["beta"])
    if labels not in {world.labels or ("1", "1") for world in possible}:
        found.append(f"{labels} serve, expected one of {[w.labels for w in possible]}")
    for index, name in enumerate(("alpha", "beta")):
        expected = {world.amounts[index] for world in possible}
        if facts.amounts[name] not in expected:
            found.append(f"{name} has {facts.amounts[name]}, expected one of {sorted(expected)}")
        if facts.amounts_after[name] != facts.amounts[name] + 1:
            found.append(
                f"{name} had {facts.amounts[name]}, after a reload and a call "
                f"{facts.amounts_after[name]}"
            )
    if not facts.consistent:
        found.append("a state is half of one and half of another")
    if facts.next_reload != "committed":
        found.append(f"the next reload was {facts.next_reload}")
    if facts.litter:
        found.append(f"left on the disk: {facts.litter}")
    return found + history_problems(said, facts)


def history_problems(said: Said, facts: Facts) -> list[str]:
    """Every reload that was answered is told as it was answered; one cut off is told as well."""
    outcomes = [outcome for _, outcome, _ in reversed(facts.history)]
    expected = [OUTCOMES[step] for step in said.done if step in OUTCOMES]
    # The reload of the examination itself comes after what is compared here.
    if outcomes[: len(expected)] != expected:
        return [f"the history is {outcomes}, expected {expected} first"]
    if len(outcomes) > len(expected) + 2:
        return [f"the history has more than happened: {outcomes}, expected {expected}"]
    return []


OUTCOMES = {
    "start 1 1": "committed",
    "reload alpha 2": "committed",
    "reload both 3": "committed",
    "fail 4": "rolled_back",
    "rollback beta": "committed",
}


def worlds(said: Said) -> list[World]:
    """Return what a start may find: all before the step that was cut off, or all after it.

    Only a stop keeps the state of one module after the other: each may be new or old.
    """
    now = World()
    counted = 0
    for step in said.done:
        now, counted = _after(step, now, counted)
    if len(said.begun) == len(said.done):
        return [now]
    cut = said.begun[-1]
    then, _ = _after(cut, now, counted)
    if cut == "stop":
        mixed = [
            (a, b)
            for a in (now.amounts[0], then.amounts[0])
            for b in (now.amounts[1], then.amounts[1])
        ]
        return [World(now.labels, amounts) for amounts in mixed]
    return [now, then]


def _after(step: str, now: World, counted: int) -> tuple[World, int]:
    labels, amounts = now.labels, now.amounts
    if step == "start 1 1":
        labels = ("1", "1")
    elif step.startswith("calls"):
        counted += int(step.split()[1])
    elif step == "stop":
        amounts = (counted, counted)
    elif step == "reload alpha 2":
        labels = ("2", "1")
    elif step == "reload both 3":
        labels = ("3", "3")
    elif step == "rollback beta":
        labels = ("3", "1")
    return World(labels, amounts), counted
