"""The load generator's own ledger: what it sent, what was answered, and how that compares.

Nothing here is told by the host. Each sender numbers what it sends 1, 2, 3, ...; each request is
noted when it leaves and when its answer comes. At the end the modules are asked what *they* saw
(runs of numbers in order of arrival) and the two are laid side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

ERRORS_KEPT = 10


class Tally(msgspec.Struct, kw_only=True):
    """How one kind of traffic fared."""

    sent: int = 0
    answered: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    failed: int = 0

    @property
    def clean(self) -> bool:
        """Whether each one was answered, once and in order."""
        faults = self.lost + self.duplicated + self.reordered + self.failed
        return faults == 0 and self.answered == self.sent


class Waits(msgspec.Struct, kw_only=True):
    """The longest that one call took, in milliseconds."""

    with_reload_ms: float = 0.0
    without_reload_ms: float = 0.0
    each_reload_ms: list[float] = msgspec.field(default_factory=list)
    """For each reload, the longest of the calls that it overlapped."""


class Verdict(msgspec.Struct, kw_only=True):
    """What the load generator found when it closed its books."""

    calls: Tally
    messages: Tally
    waits: Waits
    stale_answers: int = 0
    """Answers by an older version after the first by a newer one."""
    mixed_answers: int = 0
    """Answers for which two modules of one transaction served from different epochs."""
    doubled_serials: int = 0
    """Answers that share a place in the ledger's count: a state that was lived twice."""
    expected_cents: int = 0
    found_cents: int = 0
    wrong_accounts: tuple[str, ...] = ()
    serials: int = 0
    """Entries in the ledger, by its own count."""
    expected_serials: int = 0
    """Entries that the answers promise."""
    versions: tuple[str, ...] = ()
    """Versions of the ledger that answered, in order."""
    seconds: float = 0.0
    errors: tuple[str, ...] = ()
    """The first few failures, as the callers saw them."""

    @property
    def state_ok(self) -> bool:
        """Whether the modules' state is exactly what the traffic must have made of it."""
        return (
            self.expected_cents == self.found_cents
            and not self.wrong_accounts
            and self.doubled_serials == 0
            and self.serials == self.expected_serials
        )

    @property
    def clean(self) -> bool:
        """Whether nothing at all went wrong."""
        return (
            self.calls.clean
            and self.messages.clean
            and self.state_ok
            and self.stale_answers == 0
            and self.mixed_answers == 0
        )


class Sent(msgspec.Struct):
    """What one sender has sent: numbers from 1 to `last`."""

    last: int = 0
    refused: set[int] = msgspec.field(default_factory=set)
    """Answered with an error: must not have been carried out."""
    unanswered: set[int] = msgspec.field(default_factory=set)
    """The connection ended without an answer."""

    @property
    def accepted(self) -> int:
        """How many were answered well."""
        return self.last - len(self.refused) - len(self.unanswered)

    def missing(self, seen: Iterable[int]) -> set[int]:
        """Return what was answered well and yet never arrived."""
        return set(range(1, self.last + 1)) - self.refused - self.unanswered - set(seen)


def arrivals(runs: Iterable[Sequence[int]]) -> list[int]:
    """Return the sequence numbers that a module saw, in order of arrival."""
    return [number for first, last in runs for number in range(first, last + 1)]


def compare(sent: Sent, runs: Iterable[Sequence[int]], into: Tally) -> None:
    """Add what became of one sender's requests to a tally.

    Args:
        sent: The sender's own notes.
        runs: What the module saw from this sender.
        into: The tally; `sent`, `answered`, `failed`, `lost`, `duplicated`, `reordered` grow.
    """
    seen = arrivals(runs)
    distinct = set(seen)
    into.sent += sent.last
    into.answered += sent.accepted
    into.failed += len(sent.refused)
    into.lost += len(sent.missing(seen)) + len(sent.unanswered)
    into.duplicated += len(seen) - len(distinct)
    # carried out although its sender was told that it failed: a retry would double it
    into.duplicated += len(distinct & sent.refused)
    into.reordered += sum(1 for one, after in pairwise(seen) if after < one)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Where and by whom a call was entered into the ledger."""

    serial: int
    version: str
    front: str = ""
    """Version of the api module, when the call came through it."""


def label_order(label: str) -> tuple[int, ...]:
    """Return what sorts labels such as "1.0" and "10.0" as versions."""
    return tuple(int(part) for part in label.split("."))


def stale(answers: Iterable[Answer]) -> int:
    """Count answers by an older version after the first by a newer one, in the ledger's order."""
    newest: tuple[int, ...] = ()
    count = 0
    for answer in sorted(answers, key=lambda one: one.serial):
        order = label_order(answer.version)
        if order < newest:
            count += 1
        newest = max(newest, order)
    return count


def mixed(answers: Iterable[Answer], together: str) -> int:
    """Count answers in which only one of two modules was of the version they changed to together.

    Args:
        answers: All answers.
        together: Label that both modules got in one transaction.
    """
    return sum(
        1
        for answer in answers
        if answer.front and (answer.front == together) != (answer.version == together)
    )


def doubled(answers: Iterable[Answer]) -> int:
    """Count answers that share their place in the ledger with another one."""
    serials = [answer.serial for answer in answers]
    return len(serials) - len(set(serials))


def in_order(answers: Iterable[Answer]) -> tuple[str, ...]:
    """Return the versions that answered, each once, in order of their first answer."""
    ordered = sorted(answers, key=lambda one: one.serial)
    return tuple(dict.fromkeys(answer.version for answer in ordered))


class Books:
    """The load generator's ledger.

    Args:
        together: Label of the version that both modules change to in one transaction.
    """

    def __init__(self, together: str = "5.0") -> None:
        self.together = together
        self.senders: dict[str, Sent] = {}
        self.answers: list[Answer] = []
        self.accounts: dict[str, int] = {}
        self.waits = Waits()
        self.errors: list[str] = []
        self._running = False
        self._last_end = float("-inf")

    @property
    def accepted(self) -> int:
        """How many requests of all senders were answered well."""
        return sum(sent.accepted for sent in self.senders.values())

    def reload_began(self) -> None:
        """Note that from now on a reload runs; one at a time."""
        self._running = True
        self.waits.each_reload_ms.append(0.0)

    def reload_ended(self, now: float) -> None:
        """Note that a reload has ended.

        Args:
            now: Seconds on the clock that `answered` and `refused` use.
        """
        self._running = False
        self._last_end = now

    def leaves(self, sender: str) -> int:
        """Note that a request leaves.

        Returns:
            Its sequence number.
        """
        sent = self.senders.setdefault(sender, Sent())
        sent.last += 1
        return sent.last

    def answered(self, owner: str, cents: int, *, started: float, now: float) -> None:
        """Note that a request was taken: its money must be on the account at the end."""
        self.accounts[owner] = self.accounts.get(owner, 0) + cents
        taken_ms = (now - started) * 1000
        if self._running or started <= self._last_end:
            each = self.waits.each_reload_ms
            each[-1] = max(each[-1], taken_ms)
            self.waits.with_reload_ms = max(self.waits.with_reload_ms, taken_ms)
        else:
            self.waits.without_reload_ms = max(self.waits.without_reload_ms, taken_ms)

    def refused(self, sender: str, number: int, why: str) -> None:
        """Note that a request was answered with an error."""
        self.senders[sender].refused.add(number)
        self._error(f"{sender} {number}: {why}")

    def unanswered(self, sender: str, number: int, why: str) -> None:
        """Note that the connection ended before the answer came."""
        self.senders[sender].unanswered.add(number)
        self._error(f"{sender} {number}: no answer: {why}")

    def close(self, ledger: dict[str, Any], front: dict[str, Any], *, seconds: float) -> Verdict:
        """Compare these books with the modules' own.

        Args:
            ledger: What the ledger module's `statement` returned.
            front: What the api module's `statement` returned.
            seconds: How long the traffic ran.
        """
        calls, messages = Tally(), Tally()
        for sender, sent in self.senders.items():
            tally = messages if sender.startswith("message") else calls
            compare(sent, ledger["senders"].get(sender, []), tally)
            if sender.startswith("order"):
                self._add_front(sent, ledger, front, sender, tally)
        found: dict[str, int] = ledger["accounts"]
        owners = sorted(self.accounts.keys() | found.keys())
        return Verdict(
            calls=calls,
            messages=messages,
            waits=self.waits,
            stale_answers=stale(self.answers),
            mixed_answers=mixed(self.answers, self.together),
            doubled_serials=doubled(self.answers),
            expected_cents=sum(self.accounts.values()),
            found_cents=ledger["total_cents"],
            wrong_accounts=tuple(
                owner for owner in owners if self.accounts.get(owner) != found.get(owner)
            )[:ERRORS_KEPT],
            serials=ledger["serial"],
            expected_serials=self.accepted,
            versions=in_order(self.answers),
            seconds=round(seconds, 3),
            errors=tuple(self.errors),
        )

    def _add_front(
        self, sent: Sent, ledger: dict[str, Any], front: dict[str, Any], sender: str, tally: Tally
    ) -> None:
        """Add what only the api module missed, doubled or turned round of one sender's calls."""
        runs = front["senders"].get(sender, [])
        seen = Tally()
        compare(sent, runs, seen)
        booked = arrivals(ledger["senders"].get(sender, []))
        tally.lost += len(sent.missing(arrivals(runs)) - sent.missing(booked))
        tally.duplicated += seen.duplicated
        tally.reordered += seen.reordered

    def _error(self, text: str) -> None:
        if len(self.errors) < ERRORS_KEPT:
            self.errors.append(text)


__all__ = [
    "Answer",
    "Books",
    "Sent",
    "Tally",
    "Verdict",
    "Waits",
    "arrivals",
    "compare",
    "doubled",
    "in_order",
    "label_order",
    "mixed",
    "stale",
]
