"""kill -9 at any moment: no accepted message is lost, and the state has seen each exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec

from tests.faults.message_lives import SENDERS, Order, Saved

ROOT = Path(__file__).parents[2]
LABELS = (
    "before a transaction",
    "in a transaction",
    "after a transaction",
    "handled",
    "frozen",
    "snapshot written",
    "snapshot in its place",
)
SEED = int(os.environ.get("REPLANK_SEED", "20240229"))


class Nursery:
    """Starts lives, kills them, and remembers what they said."""

    def __init__(self, folder: Path) -> None:
        self.accepted: list[tuple[int, int]] = []
        self.failures: list[str] = []
        self.killed = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.message_lives", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.process.stdout.close()

    def live(self, order: Order, *, kill_after: int = 0) -> None:
        """Have one life lived; killed from outside after so many accepted messages, if any."""
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")
        self.process.stdin.flush()
        pid, count = 0, 0
        for line in self.process.stdout:
            kind, *rest = line.decode().split(maxsplit=1)
            said = rest[0].strip()
            if kind == "P":
                pid = int(said)
            elif kind == "A":
                sender, number = map(int, said.split())
                self.accepted.append((sender, number))
                count += 1
            elif kind == "F":
                self.failures.append(said)
            elif kind == "D":
                self.killed += said == "killed"
                return
            if pid and kill_after and count >= kill_after:
                os.kill(pid, signal.SIGKILL)
                kill_after = 0


def problems(accepted: list[tuple[int, int]], state: list[tuple[int, int]]) -> list[str]:
    """Compare what was accepted with what the state has seen."""
    counts = Counter(map(tuple, state))
    found = [f"lost: {one}" for one in accepted if one not in counts]
    found += [f"handled {count} times: {one}" for one, count in counts.items() if count > 1]
    for sender in range(SENDERS):
        own = [number for who, number in state if who == sender]
        if own != sorted(own):
            found.append(f"out of order: sender {sender}")
    return found


def seen_at_the_end(nursery: Nursery, folder: Path, keep: str = "together") -> Saved:
    nursery.live(Order(finish=True, keep=keep))
    name = "snapshot" if keep == "together" else "state"
    return msgspec.msgpack.decode((folder / name).read_bytes(), type=Saved)


def test_killed_forty_times_nothing_accepted_is_lost_and_the_state_saw_each_once(tmp_path):
    chance = random.Random(SEED)
    orders = [(Order(die_at=label, count=count), 0) for label in LABELS for count in (1, 2, 7)]
    orders += [(Order(count=chance.randint(1, 120)), 0) for _ in range(12)]
    orders += [(Order(), chance.randint(1, 100)) for _ in range(8)]
    chance.shuffle(orders)
    with Nursery(tmp_path) as nursery:
        for life, (order, kill_after) in enumerate(orders):
            order.first = life * 1_000
            nursery.live(order, kill_after=kill_after)
        end = seen_at_the_end(nursery, tmp_path)
    assert problems(nursery.accepted, end.state) == [], f"seed {SEED}"
    assert nursery.failures == []
    assert nursery.killed >= 35
    assert len(nursery.accepted) > 500


def wrong_way(tmp_path: Path, keep: str) -> list[str]:
    """Do the same with state and position in two files; return what the checker says."""
    with Nursery(tmp_path) as nursery:
        for life in range(3):
            nursery.live(Order(first=life * 1_000, die_at="between the two", count=2, keep=keep))
        end = seen_at_the_end(nursery, tmp_path, keep)
    assert nursery.killed == 3
    return problems(nursery.accepted, end.state)


def test_with_the_position_saved_after_the_state_messages_are_handled_twice(tmp_path):
    found = wrong_way(tmp_path, "state first")
    assert any(one.startswith("handled 2 times") for one in found)


def test_with_the_position_saved_before_the_state_messages_are_lost(tmp_path):
    found = wrong_way(tmp_path, "position first")
    assert any(one.startswith("lost") for one in found)


def test_the_checker_finds_what_it_looks_for():
    accepted = [(0, 1), (0, 2), (1, 1)]
    assert problems(accepted, [(0, 1), (1, 1), (0, 2)]) == []
    assert problems(accepted, [(0, 2), (0, 1), (1, 1)]) == ["out of order: sender 0"]
    assert problems(accepted, [(0, 1), (0, 2)]) == ["lost: (1, 1)"]
    assert problems(accepted, [(0, 1), (0, 2), (0, 2), (1, 1)]) == ["handled 2 times: (0, 2)"]
