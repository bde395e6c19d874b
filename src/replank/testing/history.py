"""A checker of histories: was every call, message and reload as it is promised?

Calls are checked key by key: a history over many keys can be explained by some order of its calls
if and only if that of each key can (linearizability is local). For one key the checker goes through
the invocations and returns in the order of time and keeps every *configuration* that is possible:
the value, and which of the open calls have taken effect already. A return rules out the
configurations in which its call cannot have had its effect with its answer. This is the search of
Wing and Gong with the memory of Lowe: equal configurations are looked at once, so that the cost
grows with the calls that are open at the same time, not with the length of the history.

A call whose answer nobody has seen (its caller was cancelled, or the process was killed) may take
effect at any time after its invocation, or never. A call that was refused must have had none: leave
it out, and an effect shows up as an answer that nothing explains.
"""

from __future__ import annotations

import enum
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

CONFIGURATIONS_MAX: Final = 200_000
"""Configurations of one key after which the checker gives up and says so."""

Seen = tuple[tuple[str, int], ...]
"""Modules with the generation that a call has seen of each."""


class Kind(enum.StrEnum):
    """What a call does to its key."""

    READ = "read"
    WRITE = "write"
    ADD = "add"
    """Add a number; the answer is the sum, or None when it was not asked for."""
    SWAP = "swap"
    """Write (old, new) if the value is old; the answer is whether it was."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call as its caller saw it.

    Attributes:
        process: Who called; the calls of one process follow one another.
        key: What it was about: "ledger/ada".
        kind: What it does.
        argument: What was written, added, or (old, new); None for a read.
        answer: What came back.
        invoked_at: Seconds on the clock of the history.
        returned_at: Seconds; None when nobody knows how it ended.
        seen: Which generations answered.
    """

    process: str
    key: str
    kind: Kind
    argument: Any = None
    answer: Any = None
    invoked_at: float = 0.0
    returned_at: float | None = None
    seen: Seen = ()

    def __str__(self) -> str:
        until = "?" if self.returned_at is None else f"{self.returned_at:.6f}"
        call = f"{self.kind}({'' if self.argument is None else self.argument})"
        return (
            f"{self.process}: {self.key}.{call} = {self.answer} "
            f"in {self.invoked_at:.6f}..{until} by {dict(self.seen) or 'nobody known'}"
        )


@dataclass(frozen=True, slots=True)
class Reloaded:
    """One reload: from and to which generation of each module, and how it ended."""

    id: str
    generations: Mapping[str, tuple[int, int]]
    committed: bool
    began_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class Sent:
    """One message as its sender saw it.

    Attributes:
        sender: Who sent; messages of one sender keep their order.
        number: What tells it from the sender's others.
        accepted: True, False when it was refused or given up, None when nobody knows.
    """

    sender: str
    number: int
    accepted: bool | None = True


@dataclass(frozen=True, slots=True)
class Violation:
    """One promise that the history breaks."""

    rule: str
    """ "loss", "doubling", "order", "unexplained", "epoch", "version" or "too large"."""
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(slots=True)
class History:
    """What happened between two starts of a process, as everybody outside saw it."""

    operations: list[Operation] = field(default_factory=list)
    reloads: list[Reloaded] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    handled: list[tuple[str, int]] = field(default_factory=list)
    """(sender, number) in the order of handling."""
    initial: dict[str, Any] = field(default_factory=dict)
    """Value of each key at the start: what the snapshot held; 0 when it is not named."""

    def check(self) -> tuple[Violation, ...]:
        """Return every promise that is broken; none when all is well."""
        return (
            *check_keys(self.operations, self.initial),
            *check_epochs(self.operations, self.reloads),
            *check_messages(self.sent, self.handled),
        )


# -- calls, key by key ---------------------------------------------------------------------------


def check_keys(
    operations: Iterable[Operation], initial: Mapping[str, Any] | None = None
) -> Iterator[Violation]:
    """Check that each key's answers are explained by some order of its calls.

    Args:
        operations: Of all keys.
        initial: Value of each key before; 0 when it is not named.

    Yields:
        One violation for each key that nothing explains.
    """
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    for key, own in by_key.items():
        violation = explain(own, (initial or {}).get(key, 0))
        if violation is not None:
            yield violation


def explain(operations: Sequence[Operation], initial: Any = 0) -> Violation | None:
    """Check that one key's answers are explained by some order of its calls.

    Args:
        operations: The calls of one key.
        initial: Its value before; values must be hashable.

    Returns:
        None, or the first return at which no order is left.
    """
    open_calls: set[int] = set()
    possible: set[tuple[Any, frozenset[int]]] = {(initial, frozenset())}
    for _, is_return, index in _events(operations):
        if not is_return:
            open_calls.add(index)
            continue
        before, possible = possible, set()
        for value, done in before:
            if index in done:
                possible.add((value, done - {index}))
        waiting = [one for one in before if index not in one[1]]
        possible |= _effects(operations, open_calls, waiting, index)
        open_calls.discard(index)
        if not possible:
            return _unexplained(operations[index], before)
        if len(possible) > CONFIGURATIONS_MAX:
            return Violation("too large", f"{operations[index].key}: too many calls at once")
    return None


def _events(operations: Sequence[Operation]) -> list[tuple[float, bool, int]]:
    """Return invocations and returns in order of time; at the same time, invocations first."""
    events = [(one.invoked_at, False, index) for index, one in enumerate(operations)]
    events += [
        (one.returned_at, True, index)
        for index, one in enumerate(operations)
        if one.returned_at is not None
    ]
    return sorted(events)


def _effects(
    operations: Sequence[Operation],
    open_calls: set[int],
    start: Iterable[tuple[Any, frozenset[int]]],
    returning: int,
) -> set[tuple[Any, frozenset[int]]]:
    """Let open calls take effect in every order until the returning one has."""
    reached: set[tuple[Any, frozenset[int]]] = set()
    seen = set(start)
    stack = list(seen)
    while stack:
        value, done = stack.pop()
        for index in open_calls - done:
            fits, after = apply(operations[index], value)
            if not fits:
                continue
            if index == returning:
                reached.add((after, done))
                continue
            if after == value and operations[index].returned_at is None:
                continue  # an effect that nobody can see, of a call that nobody waits for
            following = (after, done | {index})
            if following not in seen and len(seen) <= CONFIGURATIONS_MAX:
                seen.add(following)
                stack.append(following)
    return reached


def apply(operation: Operation, value: Any) -> tuple[bool, Any]:
    """Return whether a call may have had its answer at this value, and the value afterwards.

    Args:
        operation: The call.
        value: The key's value before it.
    """
    known = operation.returned_at is not None
    match operation.kind:
        case Kind.READ:
            return not known or operation.answer == value, value
        case Kind.WRITE:
            return True, operation.argument
        case Kind.ADD:
            total = value + operation.argument
            return not known or operation.answer in (None, total), total
        case Kind.SWAP:
            old, new = operation.argument
            swaps = value == old
            return not known or operation.answer == swaps, new if swaps else value


def _unexplained(operation: Operation, before: set[tuple[Any, frozenset[int]]]) -> Violation:
    values = sorted({repr(value) for value, _ in before})[:5]
    return Violation(
        "unexplained", f"{operation}; before its return the value could be {', '.join(values)}"
    )


# -- one epoch, and the right one ----------------------------------------------------------------


def check_epochs(
    operations: Sequence[Operation], reloads: Sequence[Reloaded]
) -> Iterator[Violation]:
    """Check which generations the calls have seen.

    Args:
        operations: With what they have seen.
        reloads: All of the history.

    Yields:
        Calls that have seen two generations of a module, half of a transaction, a generation that
        never served, one that did not serve yet, or one that no longer did.
    """
    bounds = _service(reloads)
    committed = [one for one in reloads if one.committed]
    for one in operations:
        seen: dict[str, int] = {}
        for module, generation in one.seen:
            if seen.setdefault(module, generation) != generation:
                yield Violation("epoch", f"two generations of {module} in one call: {one}")
        for reload in committed:
            sides = {
                seen[module] >= to
                for module, (_, to) in reload.generations.items()
                if module in seen
            }
            if len(sides) > 1:
                yield Violation("epoch", f"half of reload {reload.id} in one call: {one}")
        for module, generation in seen.items():
            first, last = bounds.get((module, generation), (-math.inf, math.inf))
            if first == math.inf:
                yield Violation("version", f"{module} {generation} never served: {one}")
            elif one.invoked_at > last or (one.returned_at or math.inf) < first:
                yield Violation("version", f"{module} {generation} did not serve then: {one}")


def _service(reloads: Iterable[Reloaded]) -> dict[tuple[str, int], tuple[float, float]]:
    """Return from when and until when each generation can have served."""
    bounds: dict[tuple[str, int], tuple[float, float]] = {}
    for reload in sorted(reloads, key=lambda one: one.began_at):
        for module, (old, new) in reload.generations.items():
            if not reload.committed:
                if new:
                    bounds.setdefault((module, new), (math.inf, -math.inf))
                continue
            first = bounds.get((module, old), (-math.inf, math.inf))[0]
            bounds[module, old] = (first, reload.ended_at)
            bounds[module, new] = (reload.began_at, math.inf)
    return bounds


# -- messages ------------------------------------------------------------------------------------


def check_messages(
    sent: Sequence[Sent], handled: Sequence[tuple[str, int]], *, at_least_once: bool = False
) -> Iterator[Violation]:
    """Check that every accepted message was handled once, in the order of its sender.

    Args:
        sent: In the order of each sender.
        handled: (sender, number) in the order of handling.
        at_least_once: Whether handling a message again, as after a crash, is allowed.

    Yields:
        Messages that were lost, doubled, out of order, or handled though they were not accepted.
    """
    times = Counter(handled)
    accepted = {(one.sender, one.number): one.accepted for one in sent}
    for key, was_accepted in accepted.items():
        if was_accepted and not times[key]:
            yield Violation("loss", f"message {key[1]} of {key[0]} was accepted and never handled")
        if was_accepted is False and times[key]:
            yield Violation("doubling", f"message {key[1]} of {key[0]} was refused and handled")
    for key, count in times.items():
        if key not in accepted:
            yield Violation("doubling", f"message {key[1]} of {key[0]} was never sent")
        elif count > 1 and not at_least_once:
            yield Violation("doubling", f"message {key[1]} of {key[0]} was handled {count} times")
    order = {(one.sender, one.number): place for place, one in enumerate(sent)}
    last: dict[str, int] = {}
    for sender, number in dict.fromkeys(handled):
        place = order.get((sender, number), -1)
        if 0 <= place < last.get(sender, -1):
            yield Violation("order", f"message {number} of {sender} came after a later one")
        last[sender] = max(place, last.get(sender, -1))


__all__ = [
    "History",
    "Kind",
    "Operation",
    "Reloaded",
    "Sent",
    "Violation",
    "apply",
    "check_epochs",
    "check_keys",
    "check_messages",
    "explain",
]
