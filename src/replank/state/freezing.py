"""From live values to class-free trees.

A function is compiled for each type, so that a record is taken apart by straight-line code and
not by a walk that asks each value what it is. Where a value is not what its type says, the
general walk takes over: freezing never fails because of a wrong type, building the new value
does (`replank.state.thawing`), where the error can say what was expected.

"""

from __future__ import annotations

import collections
import enum
from typing import Any

from replank.hints import MAPPINGS, SCALARS, SEQUENCES, SETS, Form, read_form, record_fields
from replank.hints import record_flavour as flavour_of
from replank.plain import SCALAR_TYPES, TYPE_KEY, DefaultNode, Walk
from replank.state.containers import deque_of, list_of, looks_tagged, tuple_of
from replank.state.generated import generate_record
from replank.state.memo import Memo, mark
from replank.state.names import Namespace
from replank.state.untyped_freezing import UntypedFreezer
from replank.table import Table

_KIND_TYPES = {kind: cls for cls, kind in SCALARS.items()}


class Freezer(UntypedFreezer):
    """Compiles and keeps the functions that take one generation's values apart.

    Args:
        own: The names of the generation.
        typed: False to name the class of every own object, also where its type is known.
    """

    def __init__(self, own: Namespace, *, typed: bool = True) -> None:
        super().__init__(own)
        self.typed = typed
        self._by_hint: dict[Any, Walk] = {}
        self._records: dict[type, Walk] = {}

    def walk(self, hint: Any) -> Walk:
        """Return the compiled function for values of a hint."""
        try:
            known = self._by_hint.get(hint)
        except TypeError:  # an unhashable hint, such as Literal[[]]: compiled each time
            return self._compile(hint)
        if known is None:
            known = self._by_hint[hint] = self._compile(hint)
        return known

    def exact_types(self, hint: Any) -> frozenset[type] | None:
        """Return the classes whose instances go into the tree as they are; None when not so."""
        form = read_form(hint)
        if form.kind in _KIND_TYPES:
            return frozenset({_KIND_TYPES[form.kind]})
        if form.kind == "literal":
            classes = frozenset(type(value) for value in form.values)
            return classes if classes <= SCALAR_TYPES else None
        if form.kind == "union":
            parts = [self.exact_types(arg) for arg in form.args]
            return None if None in parts else frozenset().union(*(p for p in parts if p))
        return None

    def _compile(self, hint: Any) -> Walk:  # noqa: PLR0911 - one line a kind
        exact = self.exact_types(hint)
        if exact is not None:
            return self._scalar(exact)
        if not self.typed:
            return self.untyped
        form = read_form(hint)
        if form.kind == "record":
            return self.record(form.cls)
        if form.kind in ("enum", "flag"):
            return self._enum(form.cls)
        if form.kind == "union":
            return self._union(form.args)
        if form.kind in MAPPINGS:
            node_class: Any = {
                "dict": dict,
                "table": dict,  # a step sees a plain dict
                "defaultdict": DefaultNode,
                "ordereddict": collections.OrderedDict,
                "counter": collections.Counter,
            }[form.kind]
            return self._checked(form, self._dict_of(self.walk(form.args[1]), node_class))
        if form.kind in SEQUENCES and (form.kind != "tuple" or form.variable):
            item = self.walk(form.args[0])
            make = {"list": list_of, "deque": deque_of, "tuple": tuple_of}[form.kind]
            return self._checked(form, make(item))
        if form.kind == "tuple":
            return self._fixed_tuple([self.walk(arg) for arg in form.args])
        if form.kind in SETS:
            return self._checked(form, self._set)
        return self.untyped

    def _checked(self, form: Form, walk: Walk) -> Walk:
        untyped, cls = self.untyped, form.cls
        # Sets and keys always name their classes; tuples are not kept as one object.
        marked = form.kind not in SETS and form.kind != "tuple" and not self._plain(form.args[-1])

        def checked(value: Any, memo: Memo) -> Any:
            # While a window is open a Table's class is a subclass of Table.
            if value.__class__ is cls or (cls is Table and isinstance(value, Table)):
                if marked:
                    mark(value, walk, memo)
                return walk(value, memo)
            return untyped(value, memo)

        return checked

    def _plain(self, hint: Any) -> bool:
        """Tell whether nodes of a hint are the same as if nothing were known of it."""
        form = read_form(hint)
        if form.kind in MAPPINGS | SEQUENCES:
            return all(self._plain(arg) for arg in form.args)
        return form.kind in (*SETS, "any", "object") or self.exact_types(hint) is not None

    def _scalar(self, exact: frozenset[type]) -> Walk:
        untyped = self.untyped

        def scalar(value: Any, memo: Memo) -> Any:
            return value if value.__class__ in exact else untyped(value, memo)

        return scalar

    def _enum(self, cls: Any) -> Walk:
        untyped = self.untyped
        is_flag = issubclass(cls, enum.Flag)

        def member(value: Any, memo: Memo) -> Any:
            if value.__class__ is not cls:
                return untyped(value, memo)
            return value.value if is_flag else value.name

        return member

    def _union(self, args: tuple[Any, ...]) -> Walk:
        """Leave off the class name only where one member alone can be meant."""
        scalars = [exact for arg in args if (exact := self.exact_types(arg)) is not None]
        others = [arg for arg in args if self.exact_types(arg) is None]
        exact = frozenset().union(*scalars)
        alone = len(others) == 1 and read_form(others[0]).kind not in ("union", "any")
        if alone and read_form(others[0]).kind in ("enum", "flag"):
            alone = not exact & {str, int}
        if not alone:
            return self.untyped
        walk = self.walk_later(others[0])

        def union(value: Any, memo: Memo) -> Any:
            return value if value.__class__ in exact else walk(value, memo)

        return union

    def walk_later(self, hint: Any) -> Walk:
        """Return a function that compiles its type at first use: recursive types need it."""
        found: list[Walk] = []

        def later(value: Any, memo: Memo) -> Any:
            if not found:
                found.append(self.walk(hint))
            return found[0](value, memo)

        return later

    def record(self, cls: Any) -> Walk:
        """Return the compiled function for one record class."""
        known = self._records.get(cls)
        if known is None:
            known = self._records[cls] = self._compile_record(cls)
        return known

    def _compile_record(self, cls: Any) -> Walk:
        fields = [(field.name, self._field_walk(field.hint)) for field in record_fields(cls)]
        if flavour_of(cls) == "typeddict":
            return self._typed_dict(dict(fields))
        return generate_record(cls, fields, self._incomplete(dict(fields)), self.untyped)

    def _field_walk(self, hint: Any) -> Walk | frozenset[type]:
        exact = self.exact_types(hint)
        return exact if exact is not None else self.walk_later(hint)

    def _incomplete(self, fields: dict[str, Walk | frozenset[type]]) -> Walk:
        """Freeze an object that lacks an attribute: building it anew says so, or has a default."""

        def incomplete(value: Any, memo: Memo) -> Any:
            node: dict[str, Any] = memo.setdefault(id(value), {})
            for name, walk in fields.items():
                if hasattr(value, name):
                    part = getattr(value, name)
                    node[name] = (
                        self._scalar(walk)(part, memo)
                        if isinstance(walk, frozenset)
                        else walk(part, memo)
                    )
            return node

        return incomplete

    def _typed_dict(self, fields: dict[str, Walk | frozenset[type]]) -> Walk:
        untyped = self.untyped
        walks = {
            name: self._scalar(walk) if isinstance(walk, frozenset) else walk
            for name, walk in fields.items()
        }

        def typed_dict(value: Any, memo: Memo) -> Any:
            if value.__class__ is not dict or TYPE_KEY in value:
                return untyped(value, memo)
            mark(value, walks, memo)
            if (known := memo.get(id(value))) is not None:
                return known
            memo[id(value)] = node = {}
            for name, part in value.items():
                node[name] = walks.get(name, untyped)(part, memo)
            return node

        return typed_dict

    def _fixed_tuple(self, walks: list[Walk]) -> Walk:
        untyped = self.untyped
        count = len(walks)

        def fixed(value: Any, memo: Memo) -> Any:
            if value.__class__ is not tuple or len(value) != count or looks_tagged(value):
                return untyped(value, memo)
            return tuple([walk(part, memo) for walk, part in zip(walks, value, strict=True)])

        return fixed


__all__ = ["Freezer"]
