"""A value inside a module's state: ordinary attributes, changed in place.

What was measured before the options were chosen (1 M records of five fields, CPython 3.13):

- `gc=True` (msgspec's default) tracks a record only once it holds a container, so that a full
  collection over 1 M flat records costs 23 ms against 165-225 ms for a dataclass. `gc=False` would
  make it 1.6 ms and leak every cycle through a record: not worth the surprise.
- `weakref=True` costs 8 bytes a record; caches and indexes outside the state need it.
- no `dict`: an attribute that is not declared is a spelling mistake, and has no schema.

There is no hook in the class: what notes the writes of a reload window is put on the class when
the window opens and taken off when it closes (`replank.state.watching`). Outside the window an
attribute write costs what it costs in any other class.
"""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, weakref=True):
    """Be a value inside the state, with ordinary attributes that may be changed in place.

    Subclasses annotate their fields, with or without defaults; empty mutable defaults (`[]`, `{}`,
    `set()`) are made anew for each record, others need `msgspec.field(default_factory=...)`.
    Records are built with positional or keyword arguments and compare by value.
    """


__all__ = ["Record"]
