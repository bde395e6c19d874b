"""Replank: hot reload for running Python that people trust in production.

What a module's author needs is imported at once. What a program needs to run modules is imported
when it is first used, so that a candidate's probe and the command line start fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from replank.errors import ReplankError
from replank.migration.steps import (
    add,
    convert,
    each,
    flatten,
    merge,
    move,
    nest,
    rekey,
    remove,
    rename,
    split,
    step,
)
from replank.module import (
    Carry,
    Module,
    State,
    Uses,
    check,
    every,
    invariant,
    query,
    stream,
    uses,
)
from replank.record import Record
from replank.table import Table

if TYPE_CHECKING:
    from replank.config import Config
    from replank.host import Host
    from replank.report import Outcome, Phase, Plan, ReloadReport
    from replank.traffic.handle import Handle

__version__ = "0.1.0"

_LATER = {
    "Config": "replank.config",
    "Handle": "replank.traffic.handle",
    "Host": "replank.host",
    "Outcome": "replank.report",
    "Phase": "replank.report",
    "Plan": "replank.report",
    "ReloadReport": "replank.report",
}


def __getattr__(name: str) -> Any:
    """Import what a program needs when it asks for it."""
    if name not in _LATER:
        raise AttributeError(f"module 'replank' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


__all__ = [
    "Carry",
    "Config",
    "Handle",
    "Host",
    "Module",
    "Outcome",
    "Phase",
    "Plan",
    "Record",
    "ReloadReport",
    "ReplankError",
    "State",
    "Table",
    "Uses",
    "__version__",
    "add",
    "check",
    "convert",
    "each",
    "every",
    "flatten",
    "invariant",
    "merge",
    "move",
    "nest",
    "query",
    "rekey",
    "remove",
    "rename",
    "split",
    "step",
    "stream",
    "uses",
]
