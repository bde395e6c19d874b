"""Building records from the nodes of a tree by generated, straight-line code."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from replank.hints import (
    MAPPINGS,
    SCALARS,
    SEQUENCES,
    SETS,
    FormField,
    read_form,
    record_fields,
)
from replank.hints import record_flavour as flavour_of
from replank.plain import PLAIN_KEY, TYPE_KEY, Walk, show
from replank.state.freezing import Freezer
from replank.state.memo import Memo, new_memo

if TYPE_CHECKING:
    from replank.state.thawing import Thawer

_KIND_TYPES = {kind: cls for cls, kind in SCALARS.items()}


class Mismatch(Exception):
    """A value does not fit its type; each level on the way out adds where it was."""

    def __init__(self, expected: str, found: Any, why: str = "") -> None:
        super().__init__(expected)
        self.expected = expected
        self.found = found
        self.why = why
        self.places: list[str] = []

    def at(self, place: str) -> None:
        """Add the field or key through which the value was reached."""
        self.places.append(place)

    @property
    def path(self) -> str:
        """The whole path, from the state down."""
        return "".join(reversed(self.places)).removeprefix(".")


class Pending:
    """In the memo: a Struct that is being built and does not exist yet.

    Args:
        make: Makes an empty one and enters it, for a cycle that comes back before it exists.
    """

    __slots__ = ("shell",)

    def __init__(self, make: Callable[[int, Memo], Any]) -> None:
        self.shell = make


def expected_text(hint: Any) -> str:
    """Say a hint as an author would write it."""
    if isinstance(hint, type) and not hasattr(hint, "__args__"):
        return "None" if hint is type(None) else hint.__qualname__
    return str(hint).replace("typing.", "").replace("NoneType", "None")


def exact_types(hint: Any) -> frozenset[type] | None:
    """Return the classes whose nodes are the value; None when more has to be looked at."""
    form = read_form(hint)
    if form.constraints:
        return None
    if form.kind in _KIND_TYPES:
        return frozenset({_KIND_TYPES[form.kind]})
    if form.kind == "union":
        parts = [exact_types(arg) for arg in form.args]
        return None if None in parts else frozenset().union(*(part for part in parts if part))
    return None


def default_factory_of(hint: Any) -> Callable[[], Any] | None:
    """Return what makes an empty value of a hint: the factory of a `defaultdict[K, hint]`."""
    form = read_form(hint)
    if form.kind in ("int", "float", "str", "bool", "bytes") or form.kind in MAPPINGS | SEQUENCES:
        made: Callable[[], Any] = form.cls
        return made
    return form.cls if form.kind in SETS or form.kind == "record" else None


class RecordBuilder:
    """Writes the function that builds one record class.

    Structs and named tuples are built by their constructor; other records get their attributes
    set without their `__init__`, which would do its work a second time.

    Args:
        cls: The record class.
        thawer: Compiles the fields' types.
    """

    def __init__(self, cls: Any, thawer: Thawer) -> None:
        self.cls = cls
        self.thawer = thawer
        self.flavour = flavour_of(cls)
        self.fields = record_fields(cls)
        self.name: str = cls.__qualname__
        self.freezer = Freezer(thawer.own)
        self._known = {field.name for field in self.fields}
        self._template: Any = None

    def walk(self) -> Walk:
        """Return the compiled function."""
        if self.flavour == "typeddict":
            return self._typed_dict()
        names: dict[str, Any] = {
            "cls": self.cls,
            "name": self.name,
            "odd": lambda node, memo: self.thawer.odd_record(self.cls, node, memo),
            "complete": self._complete,
            "PENDING": Pending(self._shell),
            "Mismatch": Mismatch,
            "new": object.__new__,
            "put": object.__setattr__,
            "force": msgspec.structs.force_setattr if self.flavour == "struct" else None,
            "construct": self._constructor(),
        }
        source = "\n".join(self._source(names))
        exec(compile(source, f"<replank thaw {self.name}>", "exec"), names)  # noqa: S102
        walk: Walk = names["thaw"]
        return walk

    def fused(self, names: dict[str, Any]) -> tuple[list[str], list[str]]:
        """Return the lines that build a record from variables `v0`, `v1` ... into `o`.

        Args:
            names: The globals of the code that they become part of; extended.
        """
        names |= {
            "cls": self.cls,
            "construct": self._constructor(),
            "new": object.__new__,
            "put": object.__setattr__,
        }
        converting, _ = self._converting(names)
        making = self._making(early=False, flat=True)
        plain = [line.strip().replace("o = memo[i] = ", "o = ") for line in making]
        plain = [line.replace("memo.setdefault(i, ", "(") for line in plain]
        # Exact values need no memo: one is made only for the odd ones.
        lines = [line.strip() for line in converting]
        odd = [t.replace(", memo)", ", new_memo())") if t.startswith("if ") else t for t in lines]
        return odd, plain

    def default_maker(self, field: FormField) -> Callable[[], Any]:
        """Return what makes the node of a missing field.

        Args:
            field: The field; a required one raises `Mismatch`.
        """
        return lambda: self._default(field, new_memo())

    # -- the generated function

    def _source(self, names: dict[str, Any]) -> list[str]:
        convert, flat = self._converting(names)
        reads = [f"   v{n} = node[{field.name!r}]" for n, field in enumerate(self.fields)]
        lines = [
            "def thaw(node, memo):",
            " if node.__class__ is not dict: return odd(node, memo)",
            " i = id(node)",
            " o = memo.get(i)",
            " if o is not None: return o.shell(i, memo) if o is PENDING else o",
            f" if len(node) != {len(self.fields)}:",
            f"  if node.get({TYPE_KEY!r}, name) != name: return odd(node, memo)",
            "  node = complete(node, memo)",
            " while True:",
            "  try:",
            *(reads or ["   pass"]),
            "   break",
            "  except KeyError:",
            f"   if node.get({TYPE_KEY!r}, name) != name: return odd(node, memo)",
            "   node = complete(node, memo)",
        ]
        early = not flat and self.flavour in ("dataclass", "attrs")
        if early:
            lines.append(" o = memo[i] = new(cls)")
        elif not flat and self.flavour == "struct":
            lines.append(" memo[i] = PENDING")
        if convert:
            lines += [" f = ''", " try:", *convert, " except Mismatch as error:"]
            lines += ["  error.at('.' + f)", "  raise"]
        return [*lines, *self._making(early=early, flat=flat), " return o"]

    def _converting(self, names: dict[str, Any]) -> tuple[list[str], bool]:
        lines: list[str] = []
        flat = True
        for n, field in enumerate(self.fields):
            exact = exact_types(field.hint)
            if exact is None:
                flat = False
                names[f"w{n}"] = self.thawer.walk_later(field.hint)
                lines.append(f"  f = {field.name!r}; v{n} = w{n}(v{n}, memo)")
                continue
            one = len(exact) == 1
            names[f"t{n}"] = next(iter(exact)) if one else exact
            names[f"w{n}"] = self.thawer.walk_later(field.hint)
            test = f"v{n}.__class__ {'is not' if one else 'not in'} t{n}"
            lines.append(f"  if {test}: f = {field.name!r}; v{n} = w{n}(v{n}, memo)")
        return lines, flat

    def _making(self, *, early: bool, flat: bool) -> list[str]:
        values = [f"v{n}" for n in range(len(self.fields))]
        if self.flavour == "struct":
            given = ", ".join(
                f"{field.name}={value}" if self._keyword_only else value
                for field, value in zip(self.fields, values, strict=True)
            )
            made = f"construct({given})"
            if flat:
                return [f" o = memo[i] = {made}"]
            fill = [
                f"  force(o, {f.name!r}, {v})" for f, v in zip(self.fields, values, strict=True)
            ]
            return [
                " o = memo[i]",  # a shell, when a cycle came back to this record meanwhile
                " if o is PENDING:",
                f"  o = memo[i] = {made}",
                " else:",
                *(fill or ["  pass"]),
            ]
        if self.flavour == "namedtuple":
            tail = "," if values else ""
            return [f" o = memo.setdefault(i, tuple.__new__(cls, ({', '.join(values)}{tail})))"]
        lines = [] if early else [" o = memo[i] = new(cls)"]
        # A class with its own __setattr__ (frozen ones) is filled behind its back.
        direct = self.cls.__setattr__ is object.__setattr__
        for field, value in zip(self.fields, values, strict=True):
            name = field.name
            lines.append(f" o.{name} = {value}" if direct else f" put(o, {name!r}, {value})")
        return lines

    @property
    def _keyword_only(self) -> bool:
        parameters = inspect.signature(self.cls).parameters.values()
        return any(one.kind is one.KEYWORD_ONLY for one in parameters)

    def _constructor(self) -> Any:
        """Return what makes a Struct: the class, or a copy of a template.

        `__post_init__` runs once for the template and not for each record: it may count, open or
        convert something, and the record was already initialised when it was first made.
        """
        if self.flavour != "struct" or not hasattr(self.cls, "__post_init__"):
            return self.cls
        names = [field.name for field in self.fields]

        def construct(*args: Any, **kwargs: Any) -> Any:
            values = dict(zip(names, args, strict=False)) | kwargs
            if self._template is None:
                self._template = self.cls(**values)
            made = copy.copy(self._template)
            for name, value in values.items():
                msgspec.structs.force_setattr(made, name, value)
            return made

        return construct

    # -- what the generated function leaves to others

    def _shell(self, key: int, memo: Memo) -> Any:
        """Return an empty Struct for a cycle that comes back before the real one exists."""
        if self._template is None:
            try:
                self._template = self.cls(**{field.name: None for field in self.fields})
            except Exception as error:
                raise Mismatch(
                    f"{self.name} without a __post_init__ that needs its fields",
                    f"a cycle through {self.name}",
                    f"__post_init__ raises {type(error).__name__}",
                ) from None
        memo[key] = made = copy.copy(self._template)
        return made

    def _complete(self, node: dict[str, Any], memo: Memo) -> dict[str, Any]:
        """Return the node with exactly the fields of this class: tags off, defaults filled in."""
        full = {k: v for k, v in node.items() if k not in (TYPE_KEY, PLAIN_KEY)}
        for name, value in full.items():
            if name not in self._known:
                mismatch = Mismatch(f"only fields of {self.name}", value, "no such field")
                mismatch.at(f".{name}")
                raise mismatch
        for field in self.fields:
            if field.name not in full:
                full[field.name] = self._default(field, memo)
        memo[0].append(full)  # keep its parts alive: the memo knows them by their identity
        return full

    def _default(self, field: FormField, memo: Memo) -> Any:
        if field.required:
            mismatch = Mismatch(expected_text(field.hint), None, "missing, and it has no default")
            mismatch.at(f".{field.name}")
            raise mismatch
        value = field.factory() if field.factory is not None else field.default
        memo[0].append(value)
        return self.freezer.walk(field.hint)(value, new_memo(memo[0]))

    def _typed_dict(self) -> Walk:
        walks = {field.name: self.thawer.walk_later(field.hint) for field in self.fields}
        needed = [field.name for field in self.fields if not field.optional]

        def typed_dict(node: Any, memo: Memo) -> Any:
            if not isinstance(node, dict) or TYPE_KEY in node:
                raise Mismatch(self.name, node)
            if (known := memo.get(id(node))) is not None:
                return known
            memo[id(node)] = value = {}
            name = ""
            try:
                for name, part in node.items():
                    if name not in walks:
                        raise Mismatch(f"only keys of {self.name}", part, "no such key")  # noqa: TRY301
                    value[name] = walks[name](part, memo)
                for name in needed:
                    if name not in value:
                        raise Mismatch(f"the key {name!r}", show(node), "missing")  # noqa: TRY301
            except Mismatch as error:
                error.at(f".{name}")
                raise
            return value

        return typed_dict


__all__ = [
    "Mismatch",
    "Pending",
    "RecordBuilder",
    "default_factory_of",
    "exact_types",
    "expected_text",
]
