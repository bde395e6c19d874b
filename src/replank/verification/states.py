"""Make up states that fit a schema: for laws that must hold for every state there could be.

Among them are the values at which functions break: 0, -1, the empty text, an empty
container. One seed always gives the same states.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import random
import string
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from replank.hints import MAPPINGS, SETS
from replank.plain import TYPE_KEY, DefaultNode
from replank.shapes import Field, Schema, Shape

_DEPTH_MAX = 5
_ITEMS_MAX = 4
_TRIES = 20
_INT_MAX = 1 << 53  # beyond it a float is no longer exact
_WORDS = ("", "a", "ada", "ada lovelace", "Ä ö\n", "0", "a.b", "日本")
_EPOCH = dt.datetime(2020, 2, 29, 23, 59, 59, 999999)  # noqa: DTZ001 - both kinds are made of it
_SCALAR_NAMES = frozenset(
    [
        "none",
        "bool",
        "int",
        "float",
        "str",
        "bytes",
        "datetime",
        "date",
        "time",
        "timedelta",
        "uuid",
        "decimal",
    ]
)


class CannotGenerate(Exception):
    """A shape of which no value can be made up: a class of the module's own, a text pattern."""


class StateGenerator:
    """Make states of one schema, as trees.

    Args:
        schema: The schema.
        seed: The same seed gives the same states.
    """

    def __init__(self, schema: Schema, seed: int = 0) -> None:
        self.schema = schema
        self.left_out: set[str] = set()
        """Fields that keep their default, because no value of them can be made up."""
        self._random = random.Random(f"{schema.fingerprint} {seed}")  # noqa: S311 - no secret
        self._size = 0

    def states(self, count: int) -> Iterator[dict[str, Any]]:
        """Yield states, the first with empty containers.

        Args:
            count: How many.

        Raises:
            CannotGenerate: A field without a default is of a shape that cannot be made up.
        """
        for number in range(count):
            self._size = number % (_ITEMS_MAX + 1)
            yield self._fields(self.schema.fields, "", 0)

    def value(self, shape: Shape) -> Any:
        """Return one value of a shape.

        Raises:
            CannotGenerate: None can be made up.
        """
        self._size = max(self._size, 2)
        return self._value(shape, 0)

    def _fields(self, fields: tuple[Field, ...], where: str, depth: int) -> dict[str, Any]:
        node: dict[str, Any] = {}
        for field in fields:
            if field.optional and self._random.random() < 0.5:  # noqa: PLR2004 - a coin
                continue
            try:
                node[field.name] = self._value(field.shape, depth)
            except CannotGenerate:
                if field.required:
                    raise
                self.left_out.add(f"{where}{field.name}")
        return node

    def _value(  # noqa: PLR0911 - one line a kind
        self, shape: Shape, depth: int, *, tagged: bool = False
    ) -> Any:
        kind = shape.kind
        if kind == "record":
            record = self.schema.records[shape.name]
            node = self._fields(record.fields, f"{record.name}.", depth + 1)
            return {TYPE_KEY: shape.name, **node} if tagged else node
        if kind == "union":
            return self._union(shape, depth)
        if kind == "enum":
            member = self._random.choice(sorted(shape.members))
            return ("$enum", shape.name, member) if tagged else member
        if kind == "flag":
            numbers = [value for value in shape.members.values() if isinstance(value, int)]
            return self._random.choice(numbers or [0])
        if kind == "literal":
            return self._random.choice(shape.values)
        if kind == "any":
            return self._random.choice([None, self._int(Shape("int")), self._str(Shape("str"))])
        if kind in _SCALAR_NAMES:
            return self._scalar(shape)
        if kind == "bytearray":
            return bytearray(self._bytes())
        if shape.items or kind == "tuple":
            return self._container(shape, depth)
        raise CannotGenerate(str(shape))

    def _union(self, shape: Shape, depth: int) -> Any:
        none = [item for item in shape.items if item.kind == "none"]
        others = [item for item in shape.items if item.kind not in _SCALAR_NAMES]
        if none and depth >= _DEPTH_MAX:
            return None
        chosen = self._random.choice(shape.items)
        texts = {item.kind for item in shape.items} & {"str", "int"}
        named = chosen.kind == "enum" and bool(texts)
        return self._value(chosen, depth, tagged=len(others) > 1 or named)

    def _container(self, shape: Shape, depth: int) -> Any:
        kind, items = shape.kind, shape.items
        count = 0 if depth >= _DEPTH_MAX else self._random.randint(0, self._size)
        low, high = self._lengths(shape, count)
        count = max(low, min(count, high))
        if kind in MAPPINGS:
            pairs = {
                self._key(items[0], depth): self._value(items[1], depth + 1) for _ in range(count)
            }
            if kind == "defaultdict":
                return DefaultNode(pairs)
            made: dict[str, Callable[[Any], Any]] = {
                "ordereddict": collections.OrderedDict,
                "counter": collections.Counter,
            }
            return made.get(kind, dict)(pairs)
        if kind in SETS:
            keys = [self._key(items[0], depth) for _ in range(count)]
            return frozenset(keys) if kind == "frozenset" else set(keys)
        if kind == "tuple" and not shape.variable:
            return tuple(self._value(item, depth + 1) for item in items)
        values = [self._value(items[0], depth + 1) for _ in range(count)]
        if kind == "tuple":
            return tuple(values)
        return collections.deque(values) if kind == "deque" else values

    def _key(self, shape: Shape, depth: int) -> Any:
        if shape.kind == "record":
            raise CannotGenerate("a record as a key")
        key = self._value(shape, depth + 1)
        try:
            hash(key)
        except TypeError:
            raise CannotGenerate(str(shape)) from None
        return key

    def _lengths(self, shape: Shape, count: int) -> tuple[int, int]:
        low = int(shape.constraints.get("min_length", 0))
        return low, max(low, int(shape.constraints.get("max_length", max(low, count))))

    # -- scalars

    def _scalar(self, shape: Shape) -> Any:  # noqa: C901, PLR0911 - one line a kind
        kind, choose = shape.kind, self._random.choice
        moved = dt.timedelta(seconds=choose([0, -1, 1, self._random.randint(0, 10**9)]))
        if kind == "none":
            return None
        if kind == "bool":
            return choose([False, True])
        if kind == "int":
            return self._int(shape)
        if kind == "float":
            return self._float(shape)
        if kind == "str":
            return self._str(shape)
        if kind == "bytes":
            return self._bytes()
        if kind in ("datetime", "time"):
            moment = (_EPOCH - moved).replace(tzinfo=choose([None, dt.UTC]))
            return moment if kind == "datetime" else moment.timetz()
        if kind == "date":
            return (_EPOCH - moved).date()
        if kind == "timedelta":
            return moved
        if kind == "uuid":
            return uuid.UUID(int=self._random.getrandbits(128))
        cents = self._random.randint(-(10**6), 10**6)
        return decimal.Decimal(choose([0, 1, cents])) / choose([1, 100])

    def _int(self, shape: Shape) -> int:
        low, high = self._range(shape, _INT_MAX)
        step = int(shape.constraints.get("multiple_of", 1))
        near = [0, 1, -1, self._random.randint(-1000, 1000), self._random.randint(low, high)]
        return self._fitting(near, low, high, step)

    def _fitting(self, near: list[int], low: int, high: int, step: int) -> int:
        for _ in range(_TRIES):
            number = self._random.choice(near) // step * step
            if low <= number <= high:
                return number
        number = -(-low // step) * step
        if number > high:
            raise CannotGenerate("an empty range")
        return number

    def _float(self, shape: Shape) -> float:
        low, high = self._range(shape, 10**12)
        if low > high:
            raise CannotGenerate("an empty range")
        near = [0.0, 0.5, -1.5, self._random.randint(-1000, 1000) / 100]
        fitting = [number for number in near if low <= number <= high]
        return self._random.choice([*fitting, float(self._random.randint(low, high))])

    def _range(self, shape: Shape, limit: int) -> tuple[int, int]:
        """Return the lowest and highest whole number that the constraints allow."""
        given = shape.constraints
        low = max(int(-(-given.get("ge", -limit) // 1)), int(given.get("gt", -limit - 1) // 1) + 1)
        high = min(int(given.get("le", limit) // 1), int(-(-given.get("lt", limit + 1) // 1)) - 1)
        # A range far from zero: as wide as any other, from the bound that is given.
        if low > high and "le" not in given and "lt" not in given:
            high = low + limit
        if low > high and "ge" not in given and "gt" not in given:
            low = high - limit
        if low > high:
            raise CannotGenerate("an empty range")
        return low, high

    def _str(self, shape: Shape) -> str:
        if "pattern" in shape.constraints:
            raise CannotGenerate("a text pattern")
        number = self._random.randint(0, 10**6)
        text = self._random.choice([*_WORDS, f"k{number}"])
        low = int(shape.constraints.get("min_length", 0))
        high = int(shape.constraints.get("max_length", max(low, len(text))))
        letters = self._random.choices(string.ascii_lowercase, k=max(0, low - len(text)))
        return (text + "".join(letters))[:high]

    def _bytes(self) -> bytes:
        return self._random.randbytes(self._random.randint(0, 4))


__all__ = ["CannotGenerate", "StateGenerator"]
