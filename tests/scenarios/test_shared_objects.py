"""Objects of the module's own classes: new classes, the same aliases and cycles, up and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from replank import Host, Outcome
from replank.config import Config, ReloadConfig

MODULE = """
from __future__ import annotations

import enum
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass
from typing import Any

from replank import Module, Record, Table


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int{more}


class Node(Record):
    name: str
    next: Node | None = None


class Plain:
    friend: Any = None

    def says(self):
        return {label!r}


class Box(Module, version={label!r}, schema={schema}):
    points: list[Point]
    line: deque[Point]
    nested: dict[str, list[dict[str, Point]]]
    anything: list[Any]
    untyped: list
    first: Point | None = None
    node: Node | None = None
    colors: frozenset[Color] = frozenset()
    pair: tuple[Point, ...] = ()
    table: Table[str, Point]

    async def fill(self):
        point, plain, node = Point(1), Plain(), Node("one")
        plain.friend = plain
        node.next = Node("two", node)
        self.points, self.first, self.pair = [point, point, Point(3)], point, (point, point)
        self.line = deque([point, Point(5)], maxlen=7)
        self.nested = {{"a": [{{"b": point}}]}}
        self.node, self.colors = node, frozenset([Color.RED])
        self.anything = [plain, point, [node], Color.BLUE, {{"k": plain}}, {{Color.RED}}]
        self.anything.append(self.anything)
        self.untyped = [point, defaultdict(list, a=[point]), OrderedDict(z=plain), Point]
        self.table["a"] = point

    async def wrong(self):
        point, plain = self.first, self.anything[0]
        sorts, order = self.untyped[1], self.untyped[2]
        facts = {{
            "classes": type(point) is Point and type(plain) is Plain and type(self.node) is Node,
            "points": self.points[0] is self.points[1] is point is not self.points[2],
            "line": self.line[0] is point and self.line.maxlen == 7,
            "nested": self.nested["a"][0]["b"] is point,
            "pair": self.pair[0] is self.pair[1] is point,
            "table": self.table["a"] is point,
            "node": self.node.next.next is self.node is self.anything[2][0],
            "plain": plain.friend is plain is self.anything[4]["k"] and plain.says() == {label!r},
            "enums": self.anything[3] is Color.BLUE and self.anything[5] == {{Color.RED}},
            "frozen": self.colors == {{Color.RED}},
            "cycle": self.anything[6] is self.anything,
            "untyped": self.untyped[0] is point and self.untyped[3] is Point,
            "defaults": sorts["a"][0] is point and sorts.default_factory is list,
            "order": type(order) is OrderedDict and order["z"] is plain,
        }}
        return [name for name, holds in facts.items() if not holds]
"""


@pytest.mark.parametrize("field", ["", "\n    y: int = 0"], ids=["code only", "a field more"])
async def test_what_is_shared_stays_shared_on_the_new_classes_and_back(
    tmp_path: Path, field: str
) -> None:
    paths = tmp_path / "v1" / "box.py", tmp_path / "v2" / "box.py"
    for path, label, more in ((paths[0], "1.0", ""), (paths[1], "2.0", field)):
        path.parent.mkdir()
        path.write_text(MODULE.format(label=label, more=more, schema=2 if more else 1))
    config = Config(reload=ReloadConfig(probe=False))
    async with Host({"box": paths[0]}, data_dir=tmp_path / "data", config=config) as host:
        await host["box"].fill()
        assert await host["box"].wrong() == []
        up = await host.reload({"box": paths[1]})
        assert up.outcome is Outcome.COMMITTED, up.error
        assert await host["box"].wrong() == []
        back = await host.rollback("box")
        assert back.outcome is Outcome.COMMITTED, back.error
        assert await host["box"].wrong() == []
