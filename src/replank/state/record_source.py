"""Writes the straight-line code of a record's migration.

A field is a local variable from the moment it is read until the new record is built from it:
renaming it costs nothing, adding it is a constant, converting it is one call. What a direction
parks (`operations`) is a local variable too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from replank.migration.conversions import Convert, Merge, Split
from replank.migration.operations import (
    MISSING,
    Add,
    Automatic,
    Operation,
    Remove,
    Rename,
    same,
)
from replank.migration.reshaping import Flatten, Nest
from replank.plain import SCALAR_TYPES
from replank.state.building import Mismatch, RecordBuilder, exact_types
from replank.state.memo import new_memo
from replank.state.record_generic import Generic, names_after
from replank.state.tree import Trees

Side = tuple[Trees, Any]
Explain = Callable[..., Exception]
Env = dict[str, str]
"""Field name -> the local variable that holds its node."""


Change = Operation | Generic


class Compiler:
    """Compiles the functions for one pair of record classes.

    Args:
        old: The old generation's types and its record class.
        new: The new ones.
        operations: What is done to a record, in order.
    """

    def __init__(self, old: Side, new: Side, operations: list[Any]) -> None:
        self.old, self.new = old, new
        self.operations: list[Change] = operations

    def up(self, explain: Explain) -> tuple[Any, str]:
        """Compile `up(o) -> new`."""
        code = _Code()
        env = code.read(self.old, "o")
        for operation in self.operations:
            code.change(operation, env, parks=None)
        code.build(self.new, env)
        return code.function("up", "o", explain)

    def down(self, explain: Explain) -> tuple[Any, str]:
        """Compile `down(n, o=None) -> old`."""
        code = _Code()
        env = self._down(code, always=False)
        code.build(self.old, env)
        return code.function("down", "n, o=None", explain)

    def check(self, interpreted: Callable[[Any, Any], bool]) -> tuple[Any, str]:
        """Compile `check(o, n) -> bool`: whether going down gives the old record back."""
        code = _Code()
        env = self._down(code, always=True)
        before = code.read(self.old, "o")
        tests = []
        for name, variable in before.items():
            made = env.get(name)
            if made is None:
                # Left to the type's default: the interpreted check knows what that is.
                return interpreted, "# check: interpreted, a field goes back to its default"
            one, other = code.values.get(made, made), code.values[variable]
            if one == other:
                continue  # what was parked is what is compared
            if made not in code.exact or variable not in code.exact:
                if variable in code.exact and made not in code.exact:
                    one = made
                else:
                    one, other = made, variable
                code.use(made)
                code.use(*([variable] if other == variable else []))
            tests.append(f"({one} is {other} or {one} == {other})")
        code.line(f"return {' and '.join(tests) or 'True'}")
        return code.function("check", "o, n", None)

    def _down(self, code: _Code, *, always: bool) -> Env:
        code.always = always
        parks = self._parks(code, always=always)
        env = code.read(self.new, "n")
        for n in reversed(range(len(self.operations))):
            inverse = self.operations[n].inverse()
            assert inverse is not None, "a one-way operation"
            code.change(inverse, env, parks=None, recall=parks.get(n))
        return env

    def _parks(self, code: _Code, *, always: bool) -> dict[int, str]:
        """Write the way up of the old record as far as it parks something."""
        parking = (Remove, Convert, Split, Merge, Generic)
        last = max(
            (n for n, op in enumerate(self.operations) if isinstance(op, parking)), default=-1
        )
        parks: dict[int, str] = {}
        if last < 0:
            return parks
        if not always:
            code.begin("if o is not None:")
        env = code.read(self.old, "o")
        for n, operation in enumerate(self.operations[: last + 1]):
            parked = f"p{n}" if isinstance(operation, parking) else None
            code.change(operation, env, parks=parked)
            if parked is not None:
                parks[n] = parked
        if not always:
            code.end()
            code.line("else:")
            code.line(f"    {' = '.join(parks.values())} = MISSING", *parks.values())
        return parks


class _Code:
    """The lines of one function; reads of fields that nothing uses are left out."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, frozenset[str] | None]] = []
        self.names: dict[str, Any] = {
            "MISSING": MISSING,
            "Mismatch": Mismatch,
            "new_memo": new_memo,
            "same": same,
            "deepcopy": copy.deepcopy,
        }
        self.used: set[str] = set()
        self.values: dict[str, str] = {}
        """Where a variable comes from, when it is a field as it was read."""
        self.exact: dict[str, tuple[int, frozenset[type]]] = {}
        """Line and classes of a variable that was read from a simple field."""
        self.count = 0
        self.indent = ""
        self.always = False

    def line(self, text: str, *used: str) -> None:
        self.lines.append((self.indent + text, None))
        self.use(*used)

    def use(self, *variables: str) -> None:
        self.used.update(variables)

    def begin(self, text: str) -> None:
        self.line(text)
        self.indent += "    "

    def end(self) -> None:
        self.indent = self.indent[4:]

    def fresh(self) -> str:
        self.count += 1
        return f"a{self.count}"

    def constant(self, value: Any) -> str:
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    # -- from a record, and to one

    def read(self, side: Side, record: str) -> Env:
        """Read the fields of a record into variables, each when something uses it."""
        trees, cls = side
        fields = RecordBuilder(cls, trees.thawer).fields
        env: Env = {field.name: self.fresh() for field in fields}
        deep = [f.name for f in fields if trees.freezer.exact_types(f.hint) is None]
        # Each reading has its own memo: operations change the nodes of an earlier one.
        self.lines.append(
            (f"{self.indent}memo = new_memo()", frozenset(env[name] for name in deep))
        )
        for field in fields:
            variable = env[field.name]
            self.values[variable] = f"{record}.{field.name}"
            exact = trees.freezer.exact_types(field.hint)
            walk = self.constant(trees.freezer.walk(field.hint))
            if exact is None:
                text = f"{variable} = {walk}({record}.{field.name}, memo)"
            else:
                one = next(iter(exact)) if len(exact) == 1 else exact
                test = "is not" if len(exact) == 1 else "not in"
                kind = self.constant(one)
                text = (
                    f"{variable} = {record}.{field.name}\n{self.indent}"
                    f"if {variable}.__class__ {test} {kind}: "
                    f"{variable} = {walk}({variable}, new_memo())"
                )
                self.exact[variable] = (len(self.lines), exact)
            self.lines.append((self.indent + text, frozenset({variable})))
        return env

    def build(self, side: Side, env: Env) -> None:
        """Build the record of a class from variables and return it."""
        trees, cls = side
        builder = RecordBuilder(cls, trees.thawer)
        self.use(*env.values())
        for n, field in enumerate(builder.fields):
            made = env.get(field.name)
            default = self.constant(builder.default_maker(field))
            if made is None:
                self.line(f"v{n} = {default}()")
                continue
            self.line(f"v{n} = {made}")
            if made in self.values and self.values[made] == "maybe":
                self.line(f"if v{n} is MISSING: v{n} = {default}()")
        converting, making = builder.fused(self.names)
        checks = [
            text for n, text in enumerate(converting) if not self._checked_once(env, n, builder)
        ]
        if any(", memo)" in text for text in checks):
            self.line("memo = new_memo()")
        for text in (*checks, *making):
            self.line(text)
        self.line("return o")

    def _checked_once(self, env: Env, n: int, builder: RecordBuilder) -> bool:
        """Check an untouched simple field where it is read, and not again."""
        field = builder.fields[n]
        variable = env.get(field.name, "")
        index, exact = self.exact.get(variable, (0, None))
        if exact is None or exact != exact_types(field.hint):
            return False
        text, needed = self.lines[index]
        head, _, call = text.rpartition(f"{variable} = ")
        self.lines[index] = (f"{head}{variable} = w{n}({call}, new_memo())", needed)
        return True

    def function(self, name: str, arguments: str, explain: Explain | None) -> tuple[Any, str]:
        """Put the lines together and compile them."""
        body = [text for text, needed in self.lines if needed is None or needed & self.used]
        text = "\n".join(body)
        if explain is not None:
            self.names["explain"] = explain
            given = ", ".join(part.partition("=")[0] for part in arguments.split(", "))
            kept = ", ".join(f"{part}_" for part in given.split(", "))
            text = f"{kept} = {given}\ntry:\n{_indented(text)}\n"
            text += f"except Exception as error:\n    raise explain(error, {kept}) from error"
        source = f"def {name}({arguments}):\n{_indented(text)}"
        exec(compile(source, f"<replank {name}>", "exec"), self.names)  # noqa: S102
        return self.names[name], source

    # -- operations

    def change(
        self, operation: Change, env: Env, *, parks: str | None, recall: str | None = None
    ) -> None:
        """Write one operation on the variables.

        Args:
            operation: What to do.
            env: The variables; changed.
            parks: Where to keep what is lost.
            recall: Where the other direction kept what it lost.
        """
        if isinstance(operation, Generic):
            self._generic(operation, env, parks, recall)
        elif isinstance(operation, Rename):
            env[operation.to] = env.pop(operation.name)
        elif isinstance(operation, Add):
            self._add(operation, env, recall)
        elif isinstance(operation, Remove):
            gone = env.pop(operation.name)
            if parks is not None:
                self.line(f"{parks} = {gone}", gone)
                self.values[parks] = self.values.get(gone, "")
        elif isinstance(operation, Automatic):
            if operation.drop:
                env.pop(operation.name, None)
        elif isinstance(operation, Nest):
            made = env[operation.into] = self.fresh()
            self._dict(made, {name: env.pop(name) for name in operation.names})
        elif isinstance(operation, Flatten):
            self._flatten(operation, env)
        else:
            self._call(operation, env, parks, recall)

    def _add(self, operation: Add, env: Env, recall: str | None) -> None:
        made = env[operation.name] = self.fresh()
        if operation.forgot:
            self.values[made] = "maybe"
            value = "MISSING"
        elif operation.compute is not None:
            node = self.fresh()
            self._dict(node, {name: var for name, var in env.items() if var != made})
            value = f"{self.constant(operation.compute)}({node})"
        elif operation.factory is not None:
            value = f"{self.constant(operation.factory)}()"
        else:
            shared = type(operation.default) in SCALAR_TYPES
            name = self.constant(operation.default)
            value = name if shared else f"deepcopy({name})"
        if recall is not None:
            value = f"{recall} if {recall} is not MISSING else {value}"
            self.values[made] = self.values.get(recall, "") if self.always else "maybe"
            self.use(recall)
        self.line(f"{made} = {value}")

    def _call(self, operation: Operation, env: Env, parks: str | None, recall: str | None) -> None:
        """Write an operation that is one call of the author's function."""
        made = self.fresh()
        if isinstance(operation, Convert):
            source = given = env[operation.segments[-1]]
            call = f"{self.constant(operation.up)}({given})"
        elif isinstance(operation, Split):
            source = given = env.pop(operation.name)
            count = len(operation.into)
            call = f"{self.constant(operation.up)}({given})"
        else:
            assert isinstance(operation, Merge), "an operation without a writer"
            given_parts = [env.pop(name) for name in operation.names]
            self.use(*given_parts)
            source = f"({', '.join(given_parts)},)"
            call = f"{self.constant(operation.up)}({', '.join(given_parts)})"
        if recall is not None:
            kept = f"{recall}[0] if {recall} is not MISSING and same({recall}[1], {source})"
            call = f"{kept} else {call}"
        self.line(f"{made} = {call}", *([source] if source.isidentifier() else []))
        if isinstance(operation, Split):
            parts = self.constant(_parts)
            self.line(f"if {made}.__class__ is not tuple or len({made}) != {count}:")
            self.line(f"    {made} = {parts}({made}, {count})")
        if parks is not None:
            self.line(f"{parks} = ({source}, {made})")
        if isinstance(operation, Split):
            names = [self.fresh() for _ in operation.into]
            env.update(zip(operation.into, names, strict=True))
            self.line(f"{', '.join(names)}, = {made}")
        else:
            env[operation.into if isinstance(operation, Merge) else operation.segments[-1]] = made

    def _flatten(self, operation: Flatten, env: Env) -> None:
        inner = env.pop(operation.name)
        names = frozenset(operation.names)
        self.line(
            f"if {inner}.keys() != {self.constant(names)}: raise KeyError({operation.name!r})"
        )
        self.use(inner)
        for name in operation.names:
            made = env[name] = self.fresh()
            self.line(f"{made} = {inner}[{name!r}]")

    def _generic(self, operation: Generic, env: Env, parks: str | None, recall: str | None) -> None:
        node = self.fresh()
        self._dict(node, env)
        lost = parks or "_"
        run = self.constant(operation.run)
        self.line(f"{node}, {lost} = {run}({node}, {recall or 'MISSING'})")
        absent = {name for name, variable in env.items() if self.values.get(variable) == "maybe"}
        names = names_after(operation.operation, list(env))
        env.clear()
        for name in names:
            made = env[name] = self.fresh()
            if name in absent:
                self.values[made] = "maybe"
                self.line(f"{made} = {node}.get({name!r}, MISSING)")
            else:
                self.line(f"{made} = {node}[{name!r}]")

    def _dict(self, made: str, parts: Env) -> None:
        self.use(*parts.values())
        inner = ", ".join(f"{name!r}: {variable}" for name, variable in parts.items())
        self.line(f"{made} = {{{inner}}}")
        for name, variable in parts.items():
            if self.values.get(variable) == "maybe":  # left to the type's default
                self.line(f"if {variable} is MISSING: del {made}[{name!r}]")


def _parts(made: Any, count: int) -> tuple[Any, ...]:
    if not isinstance(made, tuple | list) or len(made) != count:
        raise ValueError(made)
    return tuple(made)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))


__all__ = ["Compiler"]
