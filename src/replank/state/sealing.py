"""Seal a generation's state: calls that outlive it may read on, and what they write is refused.

The seal is put on when the drain has ended with calls in flight still (policy `detach`, or an open
stream), before the state is copied; a rollback takes it off again. While nothing outlives a drain
there is no seal, and nothing on any path looks for one. It refuses a write at once

- to a field of the module (`self.total += 1`), by a `__setattr__` on the generation's own class,
- to an object of one of the generation's own classes that the state holds, in the same way,
- to a `Table`, by switching its class, and to a list, dict or set that is itself a field, by
  putting a copy that cannot be written in its place.

What Python gives no hook for is found when the call ends: a container inside another one, one that
the call has held in a local variable since before, a global that a plain file's function rebinds.
Then the old state is compared with what was copied, and the call ends with `StateSealed` instead
of its answer. Of several such calls each one gets it, for nobody knows which of them wrote.

What is found by neither: a write through a large table that the call held in a local variable, for
the table is the new version's now; and to what is carried, which both versions share.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from replank.definition import Definition
from replank.errors import StateSealed
from replank.state.kinds import Inside, Tracking, declared_classes, kind_of
from replank.state.names import Namespace
from replank.state.sealed import Moved, is_untouched, sealed_copy, sealed_table
from replank.state.watching import unwatch_class, watch_class
from replank.table import Table
from replank.traffic.lane import Lane
from replank.traffic.outliving import as_usual, outlive


class Sealable(Protocol):
    """What a seal needs of a generation."""

    definition: Definition
    target: Any
    lane: Lane
    seal: Any

    @property
    def label(self) -> str:
        """The generation, for the operator."""

    @property
    def own(self) -> Namespace:
        """The names that are its own."""

    def values(self) -> dict[str, Any]:
        """Return the state, field by field; carried fields too."""


class Seal:
    """What keeps the calls in one retired generation from writing to its state.

    Args:
        holder: The generation.
        moved: The fields whose tables the next generation takes over as they are.
    """

    def __init__(self, holder: Sealable, moved: Collection[str]) -> None:
        self._holder = holder
        self._target = holder.target
        self._label = holder.label
        self._moved = frozenset(moved)
        carried = set(holder.definition.carried)
        self.values = {k: v for k, v in holder.values().items() if k not in carried}
        """The state itself, in whose place other objects may stand while the seal is on."""
        self.differs: Callable[[], bool] | None = None
        """Whether the state is another one than was copied; None until it has been copied."""
        self._shown: dict[str, Any] = {}
        self._tables: list[tuple[Table[Any, Any], type[Table[Any, Any]]]] = []
        self._sink = _Refusing(self)
        self._classes: list[type] = []
        self._hooks: dict[str, Any] = {}
        self._reached: set[int] | None = None
        self._moved_classes: set[type] = set()
        self._lost = False
        self._is_on = False

    def put(self) -> None:
        """Refuse writes from now on."""
        self._is_on = True
        self._holder.seal = self._holder.lane.seal = self
        for name, value in self.values.items():
            shown = self._sealed(name, value)
            self._shown[name] = shown
            if shown is not value:
                vars(self._target)[name] = shown
        hints = self._holder.definition.hints
        for name in self._moved:
            self._moved_classes |= declared_classes(hints[name])
        for cls in _own_classes(self._holder):
            watch_class(cls, self._sink)
            self._classes.append(cls)
        self._hook_owner()
        outlive(self._holder.lane)

    def lift(self) -> None:
        """Let the state be written again: it serves again, or nothing uses it any more."""
        if not self._is_on:
            return
        self._is_on = False
        self._holder.seal = self._holder.lane.seal = None
        owner = self._holder.definition.owner
        for name, before in self._hooks.items():
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        for cls in self._classes:
            unwatch_class(cls, self._sink)
        for table, steady in self._tables:
            table.__class__ = steady
            del table._layers
        for name, value in self.values.items():
            vars(self._target)[name] = value
        as_usual(self._holder.lane)
        self._target = None

    def check(self, error: BaseException | None) -> None:
        """Look whether something was written that nothing could refuse at once.

        Args:
            error: What the call raises already; then it gets a note instead.

        Raises:
            StateSealed: Something was: by this call, or by another that outlived its generation.
        """
        if not self._is_on or isinstance(error, StateSealed):
            return
        self._lost = self._lost or self._was_written()
        if not self._lost:
            return
        refusal = self.refusal("a write to a container inside the state, by this call or another")
        if error is None:
            raise refusal
        error.add_note(str(refusal))

    def refusal(self, found: str) -> StateSealed:
        """Return the error for a write.

        Args:
            found: What was written.
        """
        return StateSealed(
            "the call outlived its version, whose state takes no more writes: this one is not kept",
            module=self._holder.definition.name,
            found=f"{found}, in {self._label}",
            expected="reads only, once the next version has taken the state over",
            do="call again: the version that serves takes the write; for longer calls raise "
            "drain_timeout_s, and for streams declare @stream(on_reload=...)",
        )

    def holds(self, value: Any) -> bool:
        """Tell whether an object belongs to the state, and not to a call alone.

        Args:
            value: An object of one of the generation's own classes.
        """
        if type(value) in self._moved_classes:  # where its table is nobody can look it up
            return not _is_being_made(value)
        if self._reached is None:
            kept = [one for name, one in self.values.items() if name not in self._moved]
            self._reached = _reachable(kept)
        return id(value) in self._reached

    def _sealed(self, name: str, value: Any) -> Any:
        if name in self._moved:
            return Moved(lambda: self.refusal(f"a use of the table {name}, which has moved on"))
        refuse = _Refusal(self, name)
        if isinstance(value, Table):
            if hasattr(value, "_layers"):
                return value
            steady = type(value)
            sealed_table(value, refuse)
            self._tables.append((value, steady))
            return value
        return sealed_copy(value, refuse)

    def _hook_owner(self) -> None:
        owner = self._holder.definition.owner
        if owner is None:
            return
        target, fields, seal = self._target, frozenset(self.values), self
        set_before: Any = owner.__setattr__
        delete_before: Any = owner.__delattr__

        def refuse_set(one: Any, name: str, value: Any) -> None:
            if one is target and name in fields:
                raise seal.refusal(f"a write to {name}")
            set_before(one, name, value)

        def refuse_delete(one: Any, name: str) -> None:
            if one is target and name in fields:
                raise seal.refusal(f"a deletion of {name}")
            delete_before(one, name)

        for name, hook in (("__setattr__", refuse_set), ("__delattr__", refuse_delete)):
            self._hooks[name] = owner.__dict__.get(name)
            setattr(owner, name, hook)

    def _was_written(self) -> bool:
        space = vars(self._target)
        for name, shown in self._shown.items():
            if space.get(name) is not shown or not is_untouched(shown, self.values[name]):
                return True
        return self.differs is not None and self.differs()


class _Refusal:
    """Raises for one field."""

    __slots__ = ("_field", "_seal")

    def __init__(self, seal: Seal, field: str) -> None:
        self._seal = seal
        self._field = field

    def __call__(self) -> StateSealed:
        return self._seal.refusal(f"a write to {self._field}")


class _Refusing(dict[int, Any]):
    """What takes note of writes to watched objects: here, by refusing them."""

    def __init__(self, seal: Seal) -> None:
        super().__init__()
        self._seal = seal

    def __setitem__(self, _: int, value: Any) -> None:
        if self._seal.holds(value):
            raise self._seal.refusal(f"a write to {type(value).__qualname__}")


def _own_classes(holder: Sealable) -> set[type]:
    """Return the generation's own classes whose objects can be written attribute by attribute."""
    own, found = holder.own, set(holder.own.classes())
    for hint in holder.definition.hints.values():
        found |= {cls for cls in declared_classes(hint) if own.owns(cls)}
    found -= {holder.definition.owner}
    return {cls for cls in found if kind_of(cls).own is Tracking.WRITES}


def _is_being_made(value: Any) -> bool:
    """Tell whether a write comes from the constructor of the object that is written."""
    frame = sys._getframe(4)  # above: the hook on the class, the sink, `holds`, this function
    code = frame.f_code
    if code.co_name not in ("__init__", "__post_init__") or not code.co_argcount:
        return False
    return frame.f_locals.get(code.co_varnames[0]) is value


def _reachable(values: Collection[Any]) -> set[int]:
    """Return the ids of all that these values hold, as far as it may change."""
    found: set[int] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        kind = kind_of(type(value))
        if kind.atom or id(value) in found:
            continue
        found.add(id(value))
        if kind.inside is not Inside.NOTHING:
            waiting.extend(kind.parts(value))
    return found


def seal(holder: Sealable, moved: Collection[str]) -> Seal:
    """Seal a generation whose calls or streams go on although another takes its state over.

    Args:
        holder: The generation.
        moved: The fields whose tables the next generation takes over as they are.

    Returns:
        The seal; it is on.
    """
    made = Seal(holder, moved)
    try:
        made.put()
    except BaseException:
        made.lift()  # half a seal refuses writes as well as a whole one
        raise
    return made


def sealed_values(seal: Seal | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as it is behind its seal."""
    return {**values, **seal.values} if seal is not None else dict(values)


__all__ = ["Seal", "Sealable", "seal", "sealed_values"]
