"""Types compared by what they accept, from their text in two contracts.

The text is all there is: the classes belong to two generations, or to another process. A union is
a set of its members, `Optional[T]` is `T | None`, an `int` is welcome where a `float` is, a `list`
where a `Sequence` is. A module's own records are compared field by field, its enums by members.
What is not annotated, or `Any`, accepts everything and is accepted everywhere: nothing was
promised.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from replank.syntax import parse_expression

OwnTypes = Mapping[str, Mapping[str, Any]]
"""The `types` of a contract: records and enums of the module, by name."""


@dataclass(frozen=True, slots=True)
class Type:
    """One type, read from its text.

    Attributes:
        name: Its last name ("date" of "datetime.date"), "union", "literal" or "any".
        args: What stands in brackets; the members of a union.
        values: Of a literal.
        limits: What `Annotated` says of it.
    """

    name: str
    args: tuple[Type, ...] = ()
    values: frozenset[str] = frozenset()
    limits: frozenset[str] = frozenset()


ANY: Final = Type("any")

_NAMES: Final = {
    "Any": "any",
    "NoneType": "None",
    "List": "list",
    "Dict": "dict",
    "Set": "set",
    "FrozenSet": "frozenset",
    "Tuple": "tuple",
    "Type": "type",
    "Deque": "deque",
    "DefaultDict": "defaultdict",
}

_ITERABLE: Final = frozenset({"Iterable", "Collection", "Container", "Sized", "Reversible"})
_SEQUENCE: Final = frozenset({"Sequence"}) | _ITERABLE
_MAPPING: Final = frozenset({"Mapping"}) | _ITERABLE
_DICT: Final = frozenset({"dict", "MutableMapping"}) | _MAPPING
_SET: Final = frozenset({"AbstractSet"}) | _ITERABLE
_WIDER: Final[Mapping[str, frozenset[str]]] = {
    "bool": frozenset({"int", "float", "complex"}),
    "int": frozenset({"float", "complex"}),
    "float": frozenset({"complex"}),
    "datetime": frozenset({"date"}),
    "str": _SEQUENCE,
    "bytes": _SEQUENCE,
    "tuple": _SEQUENCE,
    "list": frozenset({"MutableSequence"}) | _SEQUENCE,
    "deque": frozenset({"MutableSequence"}) | _SEQUENCE,
    "MutableSequence": _SEQUENCE,
    "Sequence": _ITERABLE,
    "dict": _DICT - {"dict"},
    "Table": _DICT - {"dict"},
    "defaultdict": _DICT,
    "OrderedDict": _DICT,
    "Counter": _DICT,
    "MutableMapping": _MAPPING,
    "Mapping": _ITERABLE,
    "set": frozenset({"MutableSet"}) | _SET,
    "MutableSet": _SET,
    "frozenset": _SET,
    "AbstractSet": _ITERABLE,
    "Collection": _ITERABLE - {"Collection", "Reversible"},
    "Generator": frozenset({"Iterator", "Iterable"}),
    "Iterator": frozenset({"Iterable"}),
    "AsyncGenerator": frozenset({"AsyncIterator", "AsyncIterable"}),
    "AsyncIterator": frozenset({"AsyncIterable"}),
}
"""By name, what accepts it; an alias of the same type is in `_NAMES` instead."""


@lru_cache(maxsize=1024)
def parse_type(text: str) -> Type:
    """Read a type from its text.

    Args:
        text: As a contract has it; empty when nothing was annotated.

    Returns:
        The type; one named by the whole text when it is no Python expression.
    """
    if not text:
        return ANY
    try:
        return _read(parse_expression(text))
    except (SyntaxError, ValueError, RecursionError):
        return Type(text)


def _read(node: ast.expr) -> Type:  # noqa: PLR0911 - one line a kind
    match node:
        case ast.Constant(value=None):
            return Type("None")
        case ast.Constant(value=str(text)) | ast.Call(args=[ast.Constant(value=str(text)), *_]):
            return parse_type(text)  # a forward reference
        case ast.Name(id=name):
            return Type(_NAMES.get(name, name))
        case ast.Attribute(attr="Set") if ast.unparse(node) == "collections.abc.Set":
            return Type("AbstractSet")
        case ast.Attribute(attr=name):
            return Type(_NAMES.get(name, name))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union(_read(left), _read(right))
        case ast.Subscript(value=value, slice=inside):
            return _read_generic(_read(value), inside)
        case ast.List(elts=items):  # the parameters of a Callable
            return Type("[]", tuple(map(_read, items)))
        case _:
            return Type(ast.unparse(node))


def _read_generic(origin: Type, inside: ast.expr) -> Type:
    items = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if origin.name == "Literal":
        return Type("literal", values=frozenset(map(ast.unparse, items)))
    if origin.name == "Annotated":
        bare = _read(items[0])
        return replace(bare, limits=bare.limits | {ast.unparse(item) for item in items[1:]})
    args = tuple(map(_read, items))
    if origin.name == "Optional":
        return _union(*args, Type("None"))
    if origin.name == "Union":
        return _union(*args)
    if origin.name in ("Final", "Required", "NotRequired", "ClassVar"):
        return args[0]
    return Type(origin.name, args)


def _union(*members: Type) -> Type:
    flat = [m for one in members for m in (one.args if one.name == "union" else (one,))]
    unique = tuple(dict.fromkeys(flat))
    return unique[0] if len(unique) == 1 else Type("union", unique)


class TypeComparison:
    """Tell whether every value of one type is welcome where another one is declared.

    Args:
        wide: The own types of the version that declares what is accepted.
        narrow: The own types of the version whose values arrive.
        result: Whether an answer is compared, which the caller only reads, rather than an
            argument, which the caller makes.
    """

    def __init__(self, wide: OwnTypes, narrow: OwnTypes, *, result: bool) -> None:
        self._wide = wide
        self._narrow = narrow
        self._result = result
        self._open: set[str] = set()  # records on the way down: ends recursion

    def refusal(self, wide: Type, narrow: Type) -> str | None:  # noqa: PLR0911 - one rule a line
        """Say why some value of `narrow` is not welcome where `wide` is declared.

        Args:
            wide: What is declared.
            narrow: What arrives.

        Returns:
            None when all are; the reason inside a record or enum; "" when the types say it all.
        """
        if ANY in (wide, narrow) or wide.name == "object":
            return None
        if wide.limits - narrow.limits:
            return ""
        if narrow.name == "union" or len(narrow.values) > 1:
            members = narrow.args or [replace(narrow, values=frozenset({v})) for v in narrow.values]
            return next(self._refusals((wide, member) for member in members), None)
        if wide.name == "union":
            reasons = [self.refusal(member, narrow) for member in wide.args]
            return None if None in reasons else max(filter(None, reasons), default="")
        if narrow.name == "literal":
            return self._literal(wide, narrow)
        if wide.name != narrow.name:
            return self._nominal(wide, narrow)
        if narrow.name in self._wide and narrow.name in self._narrow:
            return self._own(narrow.name)
        return self._arguments(wide, narrow)

    def _refusals(self, pairs: Any) -> Iterator[str]:
        for wide, narrow in pairs:
            reason = self.refusal(wide, narrow)
            if reason is not None:
                yield reason

    def _literal(self, wide: Type, narrow: Type) -> str | None:
        if wide.name == "literal":
            return None if narrow.values <= wide.values else ""
        (value,) = narrow.values
        return self.refusal(wide, Type(_kind_of_value(value)))

    def _nominal(self, wide: Type, narrow: Type) -> str | None:
        """Compare two types of different names."""
        if wide.name in self._narrow.get(narrow.name, {}).get("bases", ()):
            return None
        if wide.name not in _WIDER.get(narrow.name, ()):
            return ""
        # Where only one of them says what is inside, nothing was promised.
        pairs = zip(wide.args, narrow.args, strict=False)
        return next(self._refusals(p for p in pairs if p[1].name != "..."), None)

    def _arguments(self, wide: Type, narrow: Type) -> str | None:
        if wide.name == "Callable":
            return None if wide.args == narrow.args or not (wide.args and narrow.args) else ""
        if wide.name == "tuple" and wide.args[1:] == (Type("..."),):
            items = [one for one in narrow.args if one.name != "..."]
            return next(self._refusals((wide.args[0], item) for item in items), None)
        if not wide.args or not narrow.args:
            return None
        if len(wide.args) != len(narrow.args) or narrow.args[-1].name == "...":
            return ""
        return next(self._refusals(zip(wide.args, narrow.args, strict=True)), None)

    def _own(self, name: str) -> str | None:
        """Compare a record or enum of the module that both versions define."""
        if name in self._open:
            return None
        wide, narrow = self._wide[name], self._narrow[name]
        if "members" in wide and "members" in narrow:
            gone = sorted(set(narrow["members"]) - set(wide["members"]))
            said = "is new" if self._result else "was removed"
            return f"{name}.{gone[0]} {said}" if gone else None
        if "fields" not in wide or "fields" not in narrow:
            return None
        self._open.add(name)
        try:
            return next(self._field_refusals(name, wide["fields"], narrow["fields"]), None)
        finally:
            self._open.discard(name)

    def _field_refusals(self, name: str, wide: Any, narrow: Any) -> Iterator[str]:
        here = {field["name"]: field for field in narrow}
        for field in wide:
            path = f"{name}.{field['name']}"
            given = here.pop(field["name"], None)
            if given is None:
                if self._result:
                    yield f"{path} was removed"
                elif field["required"]:
                    yield f"{path} is new and required"
                continue
            if field["required"] and not given["required"] and not self._result:
                yield f"{path} is now required"
            reason = self.refusal(parse_type(field["type"]), parse_type(given["type"]))
            if reason is not None:
                old, new = (field, given) if self._result else (given, field)
                yield reason or f"{path}: {old['type']} -> {new['type']}"
        if here and not self._result:
            yield f"{name}.{min(here)} was removed"


def _kind_of_value(text: str) -> str:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text.rpartition(".")[0] or text  # a member of an enum: Color.RED
    return "None" if value is None else type(value).__name__


__all__ = ["ANY", "OwnTypes", "Type", "TypeComparison", "parse_type"]
