"""What a module is, whichever of the two shapes its author chose, and what it offers.

`reading.py` makes a `Definition` of a loaded module; `describe_definition` makes of it the
contract: plain values that two versions can be compared by.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from replank.errors import DefinitionError
from replank.hints import is_private, read_form, record_fields
from replank.module import Carry, Module, OnReload, When
from replank.schema import Schema


class CallKind(enum.StrEnum):
    """How a call is run: awaited, inline, or iterated."""

    ASYNC = "async"
    SYNC = "sync"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Call:
    """One public method or function that handles can call."""

    name: str
    kind: CallKind
    query: bool
    signature: inspect.Signature
    hints: dict[str, Any]
    function: Callable[..., Any]
    on_reload: OnReload = "finish"
    """Of a stream: what becomes of it when its module is reloaded."""
    remote: bool = False
    """Whether it runs in another process, which alone knows the types of its parameters."""


@dataclass(frozen=True, slots=True)
class Check:
    """One probe and when it runs."""

    name: str
    when: When


@dataclass(frozen=True, slots=True)
class Timer:
    """One method that runs each `period_s` seconds."""

    name: str
    period_s: float


@dataclass(frozen=True, slots=True)
class Use:
    """One other module that this one calls."""

    field: str
    module: str
    versions: str
    interface: type | None


@dataclass(frozen=True, slots=True)
class Definition:
    """What a module is: its state's shape and everything the host may call."""

    name: str
    label: str
    shape: Literal["class", "file"]
    owner: type[Module] | None
    schema: Schema
    carried: tuple[str, ...]
    hints: dict[str, Any]
    defaults: dict[str, Any]
    calls: dict[str, Call]
    checks: tuple[Check, ...]
    timers: tuple[Timer, ...]
    uses: tuple[Use, ...]
    migrations: tuple[Any, ...]
    invariants: tuple[str, ...] = ()
    """Names of the functions whose answer a reload must not change."""
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """`migrate_1_2` and the like, by name."""
    doc: str = ""
    contract: Mapping[str, Any] | None = None
    """What it offers, described by the process that has loaded it; None when that is this one."""

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of all state, snapshotted and carried."""
        return tuple(self.hints)

    def construct(self, pymodule: types.ModuleType) -> Any:
        """Return the object that holds the state: a new instance, or the file's module itself.

        Args:
            pymodule: The loaded Python module that this definition was read from.

        Raises:
            Exception: Whatever the author's constructor raises.
        """
        if self.owner is None:
            return pymodule
        instance = self.owner.__new__(self.owner)
        for name, value in self.fresh_defaults():
            setattr(instance, name, value)
        instance.__init__()  # type: ignore[misc]
        return instance

    def fresh_defaults(self) -> Iterator[tuple[str, Any]]:
        """Yield each state field with a default of its own, never shared between instances."""
        for name, value in self.defaults.items():
            yield name, _own_copy(value)


def describe_definition(definition: Definition) -> dict[str, Any]:
    """Return what a module offers as JSON-able values: the contract that versions are compared by.

    Args:
        definition: What to describe.
    """
    if definition.contract is not None:
        return dict(definition.contract)
    return {
        "name": definition.name,
        "label": definition.label,
        "shape": definition.shape,
        "schema": definition.schema.to_dict(),
        "carried": list(definition.carried),
        "calls": {name: _describe_call(call) for name, call in definition.calls.items()},
        "types": _describe_types(definition.calls.values()),
        "checks": {check.name: check.when for check in definition.checks},
        "invariants": list(definition.invariants),
        "timers": {timer.name: timer.period_s for timer in definition.timers},
        "uses": {use.module: use.versions for use in definition.uses},
        "doc": definition.doc,
    }


def _describe_call(call: Call) -> dict[str, Any]:
    return {
        "kind": call.kind.value,
        "query": call.query,
        "parameters": [
            {
                "name": parameter.name,
                "kind": parameter.kind.name.lower(),
                "type": _type_text(call.hints.get(parameter.name, parameter.annotation)),
                "required": parameter.default is inspect.Parameter.empty,
                "default": _default_text(parameter.default),
            }
            for parameter in call.signature.parameters.values()
        ],
        "returns": _type_text(call.hints.get("return", inspect.Signature.empty)),
    }


def _describe_types(calls: Iterable[Call]) -> dict[str, dict[str, Any]]:
    """Describe the module's own types that its calls take or answer with, by qualified name."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [hint for call in calls for hint in call.hints.values()]
    while waiting:
        form = read_form(waiting.pop())
        waiting += form.args
        if not isinstance(form.cls, type) or not is_private(form.cls.__module__):
            continue
        name = form.cls.__qualname__
        if name in found:
            continue
        own = [base.__qualname__ for base in form.cls.__mro__[1:] if is_private(base.__module__)]
        found[name] = {"kind": form.kind, "bases": own}
        if form.kind == "record":
            fields = record_fields(form.cls)
            waiting += [one.hint for one in fields]
            found[name]["fields"] = [
                {"name": one.name, "type": _type_text(one.hint), "required": one.required}
                for one in fields
            ]
        elif issubclass(form.cls, enum.Enum):
            found[name]["members"] = sorted(form.cls.__members__)
    return found


def _default_text(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return ""
    # Where an object lies in memory is no difference between two versions.
    return _without_private_names(re.sub(r" at 0x[0-9a-f]+", "", repr(default)))[:200]


def _type_text(annotation: Any) -> str:
    """Name a type without the private module name, so that two generations can be compared."""
    if annotation is inspect.Signature.empty:
        return ""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__qualname__
    text = annotation if isinstance(annotation, str) else repr(annotation)
    return _without_private_names(text)


def _without_private_names(text: str) -> str:
    return re.sub(r"\b[\w.]+@\w+(\.\w+)*\.|\btyping\.", "", text)


def _own_copy(value: Any) -> Any:
    """Copy a class-level default: mutable containers are not shared between instances."""
    if isinstance(value, dataclasses.Field):
        if value.default_factory is not dataclasses.MISSING:
            return value.default_factory()
        return value.default
    if type(value) in (list, dict, set, bytearray):
        return type(value)(value)
    if isinstance(value, Factory):
        return value.make()
    return value


@dataclass(frozen=True, slots=True)
class Factory:
    """The default of a container field without one: a new empty container for each instance."""

    make: Callable[[], Any]


NO_VALUE: Final = object()
"""The type of a field has no empty value, and its author gave none."""


def default_for(hint: Any) -> Any:
    """A state field without a default starts empty, when its type has an empty value."""
    origin = typing.get_origin(hint) or hint
    if origin is typing.Annotated:
        return default_for(typing.get_args(hint)[0])
    if origin is Carry:
        return None
    if origin in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint):
        return None
    if isinstance(origin, type):
        try:
            origin()
        except Exception:
            return NO_VALUE
        return Factory(origin)
    return NO_VALUE


def read_call(key: str, function: Callable[..., Any], name: str, *, bound: bool) -> Call:
    """Read one public method or function.

    Args:
        key: Its name.
        function: The function itself, or the method as its class has it.
        name: The module's name, for errors.
        bound: Whether the first parameter is the module's own instance.

    Raises:
        DefinitionError: It has no signature that can be read.
    """
    plain = inspect.unwrap(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise DefinitionError(
            f"the signature of {key} cannot be read: {error}", module=name
        ) from error
    parameters = list(signature.parameters.values())
    if bound and parameters:
        signature = signature.replace(parameters=parameters[1:])
    return Call(
        name=key,
        kind=kind_of(plain),
        query=bool(getattr(function, "__replank_query__", False)),
        signature=signature,
        hints=_call_hints(plain),
        function=function,
        on_reload=_on_reload(key, function, signature, name),
    )


def _on_reload(
    key: str, function: Callable[..., Any], signature: inspect.Signature, name: str
) -> OnReload:
    """Return what becomes of a stream in a reload; refuse what could not be done then."""
    said: OnReload | None = getattr(function, "__replank_on_reload__", None)
    if said is None:
        return "finish"
    if kind_of(inspect.unwrap(function)) is not CallKind.STREAM:
        raise DefinitionError(
            f"{key} is marked @stream and is none",
            module=name,
            expected="async def with yield",
            do="take the mark away, or yield its items",
        )
    if said == "resume" and not takes_resume(signature):
        raise DefinitionError(
            f"{key} is marked @stream(on_reload='resume') and takes no resume value",
            module=name,
            found=f"{key}{signature}",
            expected=f"a parameter with a default: async def {key}(..., *, resume=None)",
            do="add it: it gets the last item that was read, None at the beginning",
        )
    return said


def takes_resume(signature: inspect.Signature) -> bool:
    """Tell whether a stream can be called again with the last item that was read."""
    parameter = signature.parameters.get("resume")
    return parameter is not None and parameter.kind in (
        parameter.KEYWORD_ONLY,
        parameter.POSITIONAL_OR_KEYWORD,
    )


def _call_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a call; those that cannot be resolved are left out, arguments pass untyped."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        return {}


def kind_of(function: Callable[..., Any]) -> CallKind:
    """Tell how a function is run."""
    if inspect.isasyncgenfunction(function):
        return CallKind.STREAM
    if inspect.iscoroutinefunction(function):
        return CallKind.ASYNC
    return CallKind.SYNC


__all__ = [
    "NO_VALUE",
    "Call",
    "CallKind",
    "Check",
    "Definition",
    "Factory",
    "Timer",
    "Use",
    "default_for",
    "describe_definition",
    "kind_of",
    "read_call",
    "takes_resume",
]
