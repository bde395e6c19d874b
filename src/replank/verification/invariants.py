"""Invariants: what a module says of its state must be the same before and after a reload.

Both versions are asked at the same instant, without the event loop in between, so that no call can
write between the two answers. That is in the rehearsal, on a copy brought to that instant, and
once more while calls wait, if asking is quick.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final

from replank.definition import Definition
from replank.errors import CheckError, PhaseTimeout
from replank.verification.watchdog import Watchdog

Methods = Mapping[str, Callable[..., Any]]

_SHOWN_CHARS: Final = 200
_FLOAT_TOLERANCE: Final = 1e-9
"""Relative: a sum of floats in another order differs in its last digits."""


class Invariants:
    """The invariants that both versions of a module define.

    Args:
        module: Name of the module.
        old: What serves.
        new: The candidate.
        methods: The bound methods of the two, by name.
        watchdog: Interrupts one that does not end.
    """

    def __init__(
        self,
        module: str,
        old: Definition,
        new: Definition,
        methods: tuple[Methods, Methods],
        watchdog: Watchdog,
    ) -> None:
        self.module = module
        self.names = tuple(sorted(set(old.invariants) & set(new.invariants)))
        self.warnings: list[str] = []
        self.seconds: dict[str, float] = {}
        """What asking both versions took, by name."""
        self._old, self._new = methods
        self._watchdog = watchdog
        self._before: dict[str, Any] = {}

    def rehearse(self, limit_s: float) -> tuple[str, ...]:
        """Ask both versions; the candidate's copy must be of this instant.

        Args:
            limit_s: Seconds for each answer.

        Returns:
            The names of those that hold.

        Raises:
            CheckError: One does not, or the candidate cannot answer.
        """
        for name in self.names:
            began = perf_counter()
            self.note(limit_s, (name,))
            self.verify(limit_s, (name,))
            self.seconds[name] = perf_counter() - began
        self.names = tuple(name for name in self.names if name in self._before)
        return self.names

    def leave_out(self, names: Sequence[str]) -> None:
        """Do not ask these again."""
        self.names = tuple(name for name in self.names if name not in names)
        self._before.clear()

    def note(self, limit_s: float, names: Sequence[str] | None = None) -> None:
        """Ask the version that serves, and keep its answers; one that fails is not compared.

        Args:
            limit_s: Seconds for each answer.
            names: Which; all by default.
        """
        for name in self.names if names is None else names:
            self._before.pop(name, None)
            try:
                self._before[name] = self._ask(self._old, name, limit_s)
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                self.warnings.append(not_compared(self.module, name, said))

    def verify(self, limit_s: float, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Ask the candidate, and compare with what was noted.

        Args:
            limit_s: Seconds for each answer.
            names: Which; all by default.

        Returns:
            The names of those that hold.

        Raises:
            CheckError: One does not, or the candidate cannot answer.
        """
        noted = {name: self._before[name] for name in names or self.names if name in self._before}
        for name, before in noted.items():
            try:
                after = self._ask(self._new, name, limit_s)
            except PhaseTimeout as error:
                error.module = self.module
                raise
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                raise cannot_say(self.module, name, before, said) from error
            compare(self.module, name, before, after)
        return tuple(noted)

    def _ask(self, methods: Methods, name: str, limit_s: float) -> Any:
        return self._watchdog.guard(methods[name], limit_s, f"invariant {name}")


def not_compared(module: str, name: str, said: str) -> str:
    """Return the warning for an invariant that the version that serves could not answer."""
    return f"{module}: invariant {name} is not compared: what serves raised {said}"


def cannot_say(module: str, name: str, before: Any, said: str) -> CheckError:
    """Return the error for an invariant that the candidate could not answer."""
    return CheckError(
        f"invariant {name} failed: {said}",
        module=module,
        found=said,
        expected=f"{_shown(before)}, as before",
        do="mend the invariant or the candidate, and reload again",
    )


def compare(module: str, name: str, before: Any, after: Any) -> None:
    """Refuse a candidate that says something else than the version that serves.

    Args:
        module: Name of the module.
        name: Name of the invariant.
        before: What the version that serves said.
        after: What the candidate says.

    Raises:
        CheckError: They differ.
    """
    if same(before, after):
        return
    raise CheckError(
        f"invariant {name} does not hold: {_shown(before)} before, {_shown(after)} after",
        module=module,
        found=_shown(after),
        expected=f"{_shown(before)}, as before",
        do="mend the migration or the candidate, and reload again",
    )


def same(before: Any, after: Any) -> bool:
    """Compare two answers by value; their classes may be of two generations.

    Args:
        before: Of the version that serves.
        after: Of the candidate.
    """
    if isinstance(before, float) and isinstance(after, float | int):
        close = math.isclose(before, after, rel_tol=_FLOAT_TOLERANCE, abs_tol=_FLOAT_TOLERANCE)
        return close or (math.isnan(before) and math.isnan(after))
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return before.keys() == after.keys() and all(same(before[k], after[k]) for k in before)
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        pairs = zip(before, after, strict=False)
        return len(before) == len(after) and all(same(one, other) for one, other in pairs)
    if type(before).__qualname__ == type(after).__qualname__ and type(before) is not type(after):
        return repr(before) == repr(after)  # a class of the module's own, in two generations
    return bool(before == after)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


__all__ = ["Invariants", "cannot_say", "compare", "not_compared", "same"]
