"""A module's definition, made of what its worker says: its code is not loaded here."""

from __future__ import annotations

import inspect
from typing import Any, cast

from replank.definition import Call, CallKind, Check, Definition, Timer, Use
from replank.errors import InternalError
from replank.isolation.wanted import Offer
from replank.module import OnReload
from replank.shapes import Schema


def definition_of(offer: Offer) -> Definition:
    """Return the definition of a module that is loaded in a worker.

    Args:
        offer: What the worker said.
    """
    contract = offer.contract
    return Definition(
        name=contract["name"],
        label=contract["label"],
        shape=contract["shape"],
        owner=None,
        schema=Schema.from_dict(contract["schema"]),
        carried=(),
        hints=dict.fromkeys(offer.state, Any),
        defaults={},
        calls={
            name: _call(name, one, offer.on_reload.get(name, "finish"))
            for name, one in contract["calls"].items()
        },
        checks=tuple(Check(name, when) for name, when in contract["checks"].items()),
        timers=tuple(Timer(name, period_s) for name, period_s in contract["timers"].items()),
        uses=tuple(
            Use(field, module, versions, None if calls is None else _interface(calls))
            for field, module, versions, calls in offer.uses
        ),
        migrations=(),
        invariants=tuple(contract["invariants"]),
        functions=dict.fromkeys(offer.functions, _elsewhere),
        doc=contract["doc"],
        contract=contract,
    )


def _call(name: str, described: dict[str, Any], on_reload: str) -> Call:
    parameters = [
        inspect.Parameter(
            one["name"],
            getattr(inspect.Parameter, one["kind"].upper()),
            default=inspect.Parameter.empty if one["required"] else _Default(one["default"]),
            annotation=one["type"] or inspect.Parameter.empty,
        )
        for one in described["parameters"]
    ]
    returns = described["returns"] or inspect.Signature.empty
    return Call(
        name=name,
        kind=CallKind(described["kind"]),
        query=described["query"],
        signature=inspect.Signature(parameters, return_annotation=returns),
        hints={},
        function=_elsewhere,
        on_reload=cast("OnReload", on_reload),
        remote=True,
    )


class _Default:
    """A default value that is known by its text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _interface(calls: tuple[str, ...]) -> type:
    return type("Interface", (), dict.fromkeys(calls, _elsewhere))


def _elsewhere(*_: Any, **__: Any) -> Any:
    raise InternalError("this function is loaded in the process of its module")


class Elsewhere:
    """Stands for loaded code: there is none in this process."""

    helpers: frozenset[str] = frozenset()

    def __init__(self, private_name: str) -> None:
        self.private_name = private_name

    def unload(self) -> None:
        """Do nothing: its process ends."""


__all__ = ["Elsewhere", "definition_of"]
