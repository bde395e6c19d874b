"""One level of a type hint, said in our words.

Two readers need the same answer to "what is `dict[str, Account]`?": the schema, which describes
it, and the trees, which take values of it apart and put them together again. Each asks here, one
level at a time, and goes on with the hints in `Form.args` or the fields of a record.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from replank.errors import DefinitionError
from replank.module import Carry, State, Uses
from replank.table import Table

NO_DEFAULT: Any = msgspec.NODEFAULT
"""Stands for "no default"."""

SCALARS: dict[Any, str] = {
    type(None): "none",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    bytes: "bytes",
    dt.datetime: "datetime",
    dt.date: "date",
    dt.time: "time",
    dt.timedelta: "timedelta",
    uuid.UUID: "uuid",
    decimal.Decimal: "decimal",
}
"""Immutable values that a tree holds as they are."""

CONTAINERS: dict[Any, str] = {
    list: "list",
    set: "set",
    frozenset: "frozenset",
    tuple: "tuple",
    collections.deque: "deque",
    dict: "dict",
    collections.defaultdict: "defaultdict",
    collections.OrderedDict: "ordereddict",
    collections.Counter: "counter",
    Table: "table",
}

MAPPINGS = frozenset({"dict", "defaultdict", "ordereddict", "counter", "table"})
SEQUENCES = frozenset({"list", "tuple", "deque"})
SETS = frozenset({"set", "frozenset"})

_UNTYPED = (Any, object, typing.Hashable, collections.abc.Hashable)
_TRANSPARENT = (typing.Final, typing.Required, typing.NotRequired, State)
_BUILTIN_RECORD_BASES = (msgspec.Struct,)

Flavour = Literal["struct", "dataclass", "attrs", "namedtuple", "typeddict"]


@dataclasses.dataclass(frozen=True, slots=True)
class FormField:
    """One field of a record type.

    `default` is `NO_DEFAULT` or a value; `factory` is None or makes the default.
    """

    name: str
    hint: Any
    default: Any = NO_DEFAULT
    factory: Callable[[], Any] | None = None
    optional: bool = False
    """True for a TypedDict key that may be absent."""

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is NO_DEFAULT and self.factory is None and not self.optional


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """What one hint is, without its insides.

    `kind` is a scalar's or container's name, or one of any, literal, enum, flag, union, record,
    object (an own class without a schema), carry, uses, foreign. `tuple` with `variable` is
    `tuple[T, ...]`. `args` are hints: items, (key, value), members of a union.
    """

    kind: str
    args: tuple[Any, ...] = ()
    cls: Any = None
    values: tuple[Any, ...] = ()
    variable: bool = False
    flavour: Flavour | None = None
    constraints: tuple[msgspec.Meta, ...] = ()


def is_private(module_name: str) -> bool:
    """Tell whether a module is a generation's private copy (`ledger@7.helpers`)."""
    return "@" in module_name.partition(".")[0]


def read_form(hint: Any) -> Form:
    """Read one level of a hint.

    Args:
        hint: A resolved type hint.

    Returns:
        Its form; kind "foreign" when its values have no schema.
    """
    hint, metas = _unwrap(hint)
    form = _read_bare(hint)
    return dataclasses.replace(form, constraints=metas) if metas else form


def _unwrap(hint: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    """Take off what says nothing about the shape: Annotated, aliases, NewType, Final, State."""
    metas: tuple[msgspec.Meta, ...] = ()
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            metas += tuple(m for m in hint.__metadata__ if isinstance(m, msgspec.Meta))
            hint = hint.__origin__
        elif origin in _TRANSPARENT:
            hint = hint.__args__[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":  # by name: Python 3.11 has none
            hint = hint.__value__
        elif isinstance(hint, typing.TypeVar):
            hint = hint.__bound__ or Any
        elif isinstance(hint, dataclasses.InitVar):
            hint = hint.type
        elif hint in (State, typing.Final):
            return Any, metas
        else:
            return hint, metas


def _read_bare(hint: Any) -> Form:
    if hint is None:
        return Form("none")
    if any(hint is untyped for untyped in _UNTYPED):
        return Form("any")
    origin = typing.get_origin(hint)
    if origin is not None:
        return _read_generic(hint, origin)
    if not isinstance(hint, type):
        return Form("any") if isinstance(hint, typing.ParamSpec) else Form("foreign", cls=hint)
    return _read_class(hint)


def _read_generic(hint: Any, origin: Any) -> Form:  # noqa: PLR0911 - one line a kind
    args: tuple[Any, ...] = typing.get_args(hint)
    if origin is Literal:
        return Form("literal", values=args)
    if origin is typing.Union or origin is types.UnionType:
        return Form("union", args=args)
    if origin is Carry:
        return Form("carry", args=args)
    if origin is Uses:
        return Form("uses", args=args)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:  # noqa: PLR2004 - tuple[T, ...]
            return Form("tuple", args=args[:1], cls=tuple, variable=True)
        return Form("tuple", args=args, cls=tuple)
    if origin in CONTAINERS:
        kind = CONTAINERS[origin]
        return Form(kind, args=(args[0], int) if kind == "counter" else args, cls=origin)
    if isinstance(origin, type):
        return _read_class(origin)
    return Form("foreign", cls=hint)


def _read_class(cls: Any) -> Form:  # noqa: PLR0911 - one line a kind
    if cls in SCALARS:
        return Form(SCALARS[cls], cls=cls)
    if cls is bytearray:
        return Form("bytearray", cls=cls)
    if cls is tuple:
        return Form("tuple", args=(Any,), cls=tuple, variable=True)
    if cls in CONTAINERS:
        kind = CONTAINERS[cls]
        if kind == "counter":
            return Form(kind, args=(Any, int), cls=cls)
        return Form(kind, args=(Any, Any) if kind in MAPPINGS else (Any,), cls=cls)
    if cls is Carry or cls is Uses:
        return Form(cls.__name__.lower())
    if issubclass(cls, enum.Flag):
        return Form("flag", cls=cls)
    if issubclass(cls, enum.Enum):
        return Form("enum", cls=cls)
    flavour = record_flavour(cls)
    if flavour is not None:
        return Form("record", cls=cls, flavour=flavour)
    return Form("object" if is_private(cls.__module__) else "foreign", cls=cls)


def record_flavour(cls: Any) -> Flavour | None:
    """Tell which kind of record a class is; None when it has no declared fields.

    Args:
        cls: Any class.
    """
    if isinstance(cls, msgspec.StructMeta):
        return None if cls in _BUILTIN_RECORD_BASES else "struct"
    if hasattr(cls, "__optional_keys__"):  # also what typing_extensions makes
        return "typeddict"
    if not isinstance(cls, type):
        return None
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return "namedtuple"
    if dataclasses.is_dataclass(cls):
        return "dataclass"
    return "attrs" if "__attrs_attrs__" in cls.__dict__ else None


def record_fields(cls: Any) -> tuple[FormField, ...]:
    """List the fields of a record type, in order, with resolved hints.

    Args:
        cls: A class that `record_flavour` knows.

    Raises:
        DefinitionError: A hint cannot be resolved.
    """
    flavour = record_flavour(cls)
    hints = resolve_hints(cls)
    if flavour == "struct":
        return tuple(
            FormField(
                field.name,
                hints.get(field.name, Any),
                field.default,
                None if field.default_factory is NO_DEFAULT else field.default_factory,
            )
            for field in msgspec.structs.fields(cls)
        )
    if flavour == "dataclass":
        return tuple(_dataclass_field(field, hints) for field in dataclasses.fields(cls))
    if flavour == "namedtuple":
        defaults = cls._field_defaults
        return tuple(
            FormField(name, hints.get(name, Any), defaults.get(name, NO_DEFAULT))
            for name in cls._fields
        )
    if flavour == "typeddict":
        return tuple(
            FormField(name, hint, optional=_may_be_absent(cls, name, hint))
            for name, hint in hints.items()
        )
    return tuple(_attrs_field(field, hints) for field in cls.__attrs_attrs__)


def resolve_hints(cls: Any) -> dict[str, Any]:
    """Resolve a class's annotations.

    Raises:
        DefinitionError: A name in them is unknown.
    """
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise DefinitionError(
            f"an annotation of class {cls.__qualname__} cannot be read",
            found=str(error),
            expected="names that exist in the module when it has been imported",
            do="import the name outside `if TYPE_CHECKING`, or define it at module level",
        ) from error


def _may_be_absent(cls: Any, name: str, hint: Any) -> bool:
    # Under `from __future__ import annotations` the class itself does not know.
    origin = typing.get_origin(hint)
    if origin in (typing.NotRequired, typing.Required):
        return origin is typing.NotRequired
    return name in cls.__optional_keys__


def _dataclass_field(field: dataclasses.Field[Any], hints: dict[str, Any]) -> FormField:
    return FormField(
        field.name,
        hints.get(field.name, Any),
        NO_DEFAULT if field.default is dataclasses.MISSING else field.default,
        None if field.default_factory is dataclasses.MISSING else field.default_factory,
    )


def _attrs_field(field: Any, hints: dict[str, Any]) -> FormField:
    default, factory = field.default, None
    if type(default).__name__ == "Factory":
        # A factory that takes the half-built object cannot be called by us: the field counts as
        # required, so that a step has to say what existing records get.
        default, factory = NO_DEFAULT, None if default.takes_self else default.factory
    elif type(default).__name__ == "_Nothing" or repr(default) == "NOTHING":
        default = NO_DEFAULT
    return FormField(field.name, hints.get(field.name, Any), default, factory)


__all__ = [
    "CONTAINERS",
    "MAPPINGS",
    "NO_DEFAULT",
    "SCALARS",
    "SEQUENCES",
    "SETS",
    "Flavour",
    "Form",
    "FormField",
    "is_private",
    "read_form",
    "record_fields",
    "record_flavour",
    "resolve_hints",
]
