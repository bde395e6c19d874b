"""Read both shapes of a module, a class and a plain file, into one definition.

A file that defines one subclass of `Module` is a class module. A file without any is a plain
module: its public functions are calls, and the variables named in `STATE`, or annotated
`State[...]`, are its state.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, cast

from replank.definition import (
    NO_VALUE,
    Call,
    CallKind,
    Check,
    Definition,
    Factory,
    Timer,
    Use,
    default_for,
    kind_of,
    read_call,
)
from replank.errors import DefinitionError
from replank.module import Carry, Module, State, Uses, UsesMark, When
from replank.schema import read_schema

HOOKS = frozenset({"on_start", "on_stop"})
_MIGRATION = re.compile(r"migrate_\d+_\d+$")
_RESERVED = frozenset({"host", "spawn", "migrations"})
_HANDLE_NAMES = frozenset({"send", "blocking"})


def read_definition(pymodule: types.ModuleType, name: str) -> Definition:
    """Read a loaded Python module into a definition.

    Args:
        pymodule: The module or package, already executed.
        name: The module's name in the host.

    Raises:
        DefinitionError: It holds no module or two, or an annotation cannot be read.
    """
    owners = _module_classes(pymodule)
    if len(owners) > 1:
        raise DefinitionError(
            "the file holds more than one module",
            module=name,
            found=", ".join(f"class {owner.__name__}" for owner in owners),
            expected="exactly one subclass of Module",
            do="move each into a file of its own, or mark bases with `abstract = True`",
            location=_location(owners[1]),
        )
    return _read_class(owners[0], name) if owners else _read_file(pymodule, name)


def _module_classes(pymodule: types.ModuleType) -> list[type[Module]]:
    """Return the module classes that this file or package defines, abstract ones left out."""
    root = pymodule.__name__.partition(".")[0]
    found = [
        value
        for value in vars(pymodule).values()
        if isinstance(value, type)
        and issubclass(value, Module)
        and value is not Module
        and value.__module__.partition(".")[0] == root
        and not value.__dict__.get("abstract", False)
    ]
    unique = list(dict.fromkeys(found))
    # A base of another candidate in the same file is a helper, not a second module.
    return [one for one in unique if not any(one is not o and issubclass(o, one) for o in unique)]


def _location(thing: Any) -> str | None:
    try:
        lines = inspect.getsourcelines(thing)[1]
        file = inspect.getsourcefile(thing) or ""
    except (OSError, TypeError):
        return None
    return f"{file.rpartition('/')[2]}:{lines}"


def _hints_of(thing: Any, name: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except Exception as error:
        raise DefinitionError(
            f"the annotations of {getattr(thing, '__qualname__', thing)} cannot be read: {error}",
            module=name,
            found=f"{type(error).__name__}: {error}",
            expected="annotations whose names exist when the module is loaded",
            do="import the named types at run time, not only under TYPE_CHECKING",
            location=_location(thing),
        ) from error


def _refuse_reserved(owner: type[Module], name: str) -> None:
    """Refuse what would silently hide the runtime's own attributes, and not be state or a call."""
    for key in ("host", "spawn"):
        hinted = any(key in vars(one).get("__annotations__", {}) for one in owner.__mro__)
        if hinted or inspect.getattr_static(owner, key) is not inspect.getattr_static(Module, key):
            raise DefinitionError(
                f"{key} is the runtime's own name",
                module=name,
                found=f"{owner.__name__}.{key}",
                expected=f"self.{key} as every module has it",
                do="rename it",
                location=_location(owner),
            )


def _read_class(owner: type[Module], name: str) -> Definition:
    _refuse_reserved(owner, name)
    hints = {
        key: hint
        for key, hint in _hints_of(owner, name).items()
        if typing.get_origin(hint) is not typing.ClassVar
        and hint is not typing.ClassVar
        and not key.startswith("_replank")
        and key not in _RESERVED
    }
    statics = _statics(owner)
    for key, static in statics.items():
        if isinstance(static, UsesMark):
            hints.setdefault(key, Uses)  # the annotation is for type checkers only
    values = {key: getattr(owner, key) for key in hints if hasattr(owner, key)}
    members = [
        (key, getattr(owner, key), static)
        for key, static in statics.items()
        if not key.startswith("_") and key not in _RESERVED and key not in hints
    ]
    functions = {key: value for key, value, _ in members if callable(value)}
    return _assemble(
        name=name,
        label=owner.__replank_label__,
        shape="class",
        owner=owner,
        version=owner.__replank_schema__,
        hints=hints,
        values=values,
        functions={
            key: cast("Callable[..., Any]", value)
            for key, value, static in members
            if inspect.isroutine(value)
            and not isinstance(static, property)
            and not (key in HOOKS and getattr(Module, key) is value)
        },
        migrations=_migrations(owner.migrations, name),
        migrate={k: v for k, v in functions.items() if _MIGRATION.fullmatch(k)},
        doc=inspect.cleandoc(owner.__doc__ or "") if owner.__doc__ != Module.__doc__ else "",
    )


def _statics(owner: type) -> dict[str, Any]:
    """Return what stands in a class and its bases, by name in order, as it was put there."""
    found: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        found.update(vars(base))
    return dict(sorted(found.items()))


def _read_file(pymodule: types.ModuleType, name: str) -> Definition:
    space = vars(pymodule)
    root = pymodule.__name__.partition(".")[0]
    hints, values = _file_state(pymodule, name)
    functions: dict[str, Callable[..., Any]] = {
        key: value
        for key, value in space.items()
        if not key.startswith("_")
        and key not in hints
        and inspect.isroutine(value)
        and str(getattr(value, "__module__", "")).partition(".")[0] == root
    }
    migrate = {key: value for key, value in functions.items() if _MIGRATION.fullmatch(key)}
    calls = [k for k in functions if k not in HOOKS and k not in migrate]
    if not calls and not hints:
        raise DefinitionError(
            "the file holds no module",
            module=name,
            found="no subclass of Module, no public function and no STATE",
            expected="one class that derives from replank.Module, or public functions",
            do="define one; the tutorial shows both shapes",
            location=f"{(pymodule.__file__ or name).rpartition('/')[2]}:1",
        )
    return _assemble(
        name=name,
        label=str(space.get("VERSION", space.get("__version__", "0"))),
        shape="file",
        owner=None,
        version=_file_schema_number(space, name, migrate),
        hints=hints,
        values=values,
        functions=functions,
        migrations=_migrations(space.get("MIGRATIONS", ()), name),
        migrate=migrate,
        doc=inspect.cleandoc(pymodule.__doc__ or ""),
    )


def _migrations(declared: Any, name: str) -> tuple[Any, ...]:
    if isinstance(declared, list | tuple):
        return tuple(declared)
    raise DefinitionError(
        "migrations must be a list of steps",
        module=name,
        found=repr(declared)[:100],
        expected='such as [step(1, 2, add("hits", default=0))]',
        do="put it into square brackets",
    )


def _file_schema_number(
    space: Mapping[str, Any], name: str, migrate: Mapping[str, Callable[..., Any]]
) -> int:
    """A plain file's schema number: `SCHEMA = 2`, else the highest that a migration leads to."""
    declared = space.get("SCHEMA")
    if declared is None:
        return max((int(key.rpartition("_")[2]) for key in migrate), default=1)
    if not isinstance(declared, int) or isinstance(declared, bool) or declared < 1:
        raise DefinitionError(
            "SCHEMA must be a whole number from 1", module=name, found=repr(declared)
        )
    return declared


def _file_state(pymodule: types.ModuleType, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return hints and values of a plain file's state: STATE, `State[...]`, Carry and Uses."""
    space = vars(pymodule)
    annotated = _hints_of(pymodule, name)
    declared = space.get("STATE", ())
    if not isinstance(declared, tuple | list | set | frozenset) or not all(
        isinstance(one, str) for one in declared
    ):
        raise DefinitionError(
            "STATE must be a tuple of names",
            module=name,
            found=repr(declared)[:100],
            expected='such as STATE = ("sessions", "hits")',
        )
    hints: dict[str, Any] = {}
    for key in declared:
        if key not in space:
            raise DefinitionError(
                f"STATE names {key!r}, which the file does not define",
                module=name,
                expected=f"a module-level variable {key}",
                do=f"define {key}, or take it out of STATE",
            )
        hints[key] = _unwrap(annotated.get(key, _observed(space[key])))
    for key, hint in annotated.items():
        if typing.get_origin(hint) in (State, Carry, Uses) or hint in (State, Carry, Uses):
            hints[key] = _unwrap(hint)
    for key, value in space.items():
        if isinstance(value, UsesMark):
            hints.setdefault(key, Uses)
    return hints, {key: space[key] for key in hints if key in space}


def _unwrap(hint: Any) -> Any:
    if typing.get_origin(hint) is State:
        return typing.get_args(hint)[0]
    return Any if hint is State else hint


def _observed(value: Any) -> Any:
    """The hint of an unannotated variable: its value's own type, `Any` for None."""
    return Any if value is None else type(value)


def _assemble(
    *,
    name: str,
    label: str,
    shape: Literal["class", "file"],
    owner: type[Module] | None,
    version: int,
    hints: dict[str, Any],
    values: dict[str, Any],
    functions: dict[str, Callable[..., Any]],
    migrations: tuple[Any, ...],
    migrate: dict[str, Callable[..., Any]],
    doc: str,
) -> Definition:
    """Sort hints into state and uses, functions into calls, checks, timers and hooks."""
    uses = tuple(_read_uses(hints, values, name))
    used = {use.field for use in uses}
    state = {key: hint for key, hint in hints.items() if key not in used}
    defaults = {
        key: values[key] if key in values else default_for(hint) for key, hint in state.items()
    }
    given = {
        key: (value.make() if isinstance(value, Factory) else value)
        for key, value in defaults.items()
        if value is not NO_VALUE
    }
    schema, carried = read_schema(state, given, version=version, where=name)
    calls: dict[str, Call] = {}
    checks: list[Check] = []
    timers: list[Timer] = []
    invariants: list[str] = []
    for key, function in functions.items():
        when = getattr(function, "__replank_check__", None)
        period = getattr(function, "__replank_every__", None)
        if when is None and shape == "file" and key.startswith("check_"):
            when = "both"
        if when is not None:
            checks.append(Check(key, cast("When", when)))
        elif period is not None:
            timers.append(Timer(key, period))
        elif _is_invariant(key, function, name, shape):
            invariants.append(key)
        elif key in _HANDLE_NAMES:
            raise DefinitionError(
                f"a call cannot be named {key}",
                module=name,
                found=f"def {key}",
                expected=f"another name: handles use {key} themselves",
                do="rename it, or begin its name with an underscore if it is no call",
                location=_location(function),
            )
        elif key not in HOOKS and not _MIGRATION.fullmatch(key):
            # A class or static method's signature has no self to take off.
            takes_self = owner is not None and not isinstance(
                inspect.getattr_static(owner, key), classmethod | staticmethod
            )
            calls[key] = read_call(key, function, name, bound=takes_self)
    return Definition(
        name=name,
        label=label,
        shape=shape,
        owner=owner,
        schema=schema,
        carried=carried,
        hints=state,
        defaults={key: value for key, value in defaults.items() if value is not NO_VALUE},
        calls=calls,
        checks=tuple(checks),
        timers=tuple(timers),
        uses=uses,
        migrations=migrations,
        invariants=tuple(invariants),
        functions={**migrate, **{key: functions[key] for key in HOOKS if key in functions}},
        doc=doc,
    )


def _is_invariant(key: str, function: Callable[..., Any], name: str, shape: str) -> bool:
    marked = getattr(function, "__replank_invariant__", False)
    if not marked and not (shape == "file" and key.startswith("invariant_")):
        return False
    if kind_of(inspect.unwrap(function)) is not CallKind.SYNC:
        # Both versions answer at the same instant: nothing may be written between the two.
        raise DefinitionError(
            f"invariant {key} must be a plain function",
            module=name,
            found=f"async def {key}",
            expected=f"def {key}, which answers at once, from the state alone",
            do="take the async away, or make it a @check",
            location=_location(function),
        )
    return True


def _read_uses(hints: dict[str, Any], values: dict[str, Any], name: str) -> Iterator[Use]:
    for key, hint in hints.items():
        origin = typing.get_origin(hint) or hint
        mark = values.get(key)
        if origin is not Uses and not isinstance(mark, UsesMark):
            continue
        if not isinstance(mark, UsesMark):
            mark = UsesMark(key)
        args = typing.get_args(hint) if origin is Uses else ()
        interface = args[0] if args and isinstance(args[0], type) else None
        if interface is not None and issubclass(interface, Module):
            interface = None  # for type checkers: which of its calls are made, the source says
        if mark.module == name:
            raise DefinitionError(
                f"{key} uses the module itself",
                module=name,
                do="call its own methods on self",
            )
        yield Use(key, mark.module, mark.versions, interface)


__all__ = ["HOOKS", "read_definition"]
