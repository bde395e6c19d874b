"""Generations for tests of state: source run under a private module name."""

from __future__ import annotations

import itertools
import sys
import textwrap
import types

PRELUDE = """
from __future__ import annotations
import collections, dataclasses, datetime, decimal, enum, threading, typing, uuid
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict, Union
import msgspec
from replank.module import Carry, State, Uses, uses
from replank.record import Record
from replank.table import Table
"""

_numbers = itertools.count(1)


def load(source: str, name: str = "ledger") -> types.ModuleType:
    """Run source as the next generation of a module."""
    # A name that no host uses: these modules stay in sys.modules.
    private = f"tried_{name}@{next(_numbers)}"
    module = types.ModuleType(private)
    sys.modules[private] = module
    text = textwrap.dedent(PRELUDE) + textwrap.dedent(source)
    exec(compile(text, f"{private}.py", "exec"), module.__dict__)
    return module


def hints_of(module: types.ModuleType, **names: str) -> dict[str, object]:
    """Evaluate annotations in a generation."""
    return {name: eval(text, module.__dict__) for name, text in names.items()}
