"""The kinds of values that settings have, each with its unit and its bounds."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB

Seconds = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
ByteCount = Annotated[int, msgspec.Meta(ge=1)]
TypeChecker = Literal["mypy", "pyright", "ty"]
DrainPolicy = Literal["abort", "cancel", "detach"]
PersistPolicy = Literal["stop", "commit", "interval"]
ContractPolicy = Literal["users", "strict", "off"]
WhenBusy = Literal["newest", "queue", "refuse"]
StateMode = Literal["auto", "eager", "windowed", "lazy"]
ImportEffects = Literal["report", "reject"]
BadRecordPolicy = Literal["abort", "quarantine", "default"]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the configuration: frozen, so that what was checked stays checked."""


__all__ = [
    "GIB",
    "MIB",
    "BadRecordPolicy",
    "ByteCount",
    "ContractPolicy",
    "Count",
    "DrainPolicy",
    "ImportEffects",
    "PersistPolicy",
    "Port",
    "Seconds",
    "Section",
    "StateMode",
    "TypeChecker",
    "WhenBusy",
]
