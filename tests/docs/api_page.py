"""Write docs/reference/api.md from the docstrings: `python -m tests.docs.api_page`."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from replank import errors
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "reference" / "api.md"
LINE = 100
HEAD = """\
# The Python API

<!-- written by `python -m tests.docs.api_page` from the docstrings; do not edit by hand -->

Everything that is public can be imported from `replank`; what a section imports from elsewhere is said there.
"""
SECTIONS = (
    (
        "For authors of modules",
        "replank",
        "Module Record Table Carry State Uses uses query every stream check invariant",
    ),
    (
        "Steps of a migration",
        "replank",
        "step add remove rename move convert split merge nest flatten each rekey",
    ),
    ("For programs", "replank", "Host Handle"),
    ("What a reload answers", "replank", "ReloadReport Outcome Phase Plan"),
    (
        "Parts of reports",
        "replank.report",
        """ModuleReport PhaseReport PhaseOutcome ErrorReport Certificate ReplayReport
        ProbationReport CallReport ModulePlan RehearsalReport BadRecord""",
    ),
    ("What they say of the state", "replank.report_state", "StateCost BadRecordReport"),
    ("What is true now", "replank.instrumentation.status", "HostStatus ModuleStatus Gate"),
    ("For tests of modules", "replank.testing", "check_migrations MigrationsBroken"),
)
_PART = re.compile(r"^(Args|Returns|Raises|Attributes|Yields|Class keywords):$")


def page() -> str:
    parts = [HEAD]
    for title, place, names in SECTIONS:
        parts.append(f"## {title}\n")
        if place != "replank":
            parts.append(f"`from {place} import …`\n")
        module = importlib.import_module(place)
        for name in names.split():
            parts.extend(entry(name, getattr(module, name)))
    parts.append("## Errors\n")
    parts.append("`from replank.errors import …`; each is a kind of the one above it.\n")
    parts.extend(tree(errors.ReplankError, 0))
    return "\n".join(parts).rstrip() + "\n"


def entry(name: str, thing: Any) -> Iterator[str]:
    yield f"### `{name}`\n"
    if inspect.isclass(thing):
        yield from described(thing)
        if issubclass(thing, msgspec.Struct):
            yield from fields(thing)
        for method, value in members(thing):
            yield f"#### `{name}.{method}`\n"
            if not isinstance(value, property):
                yield from code(value)
            yield from described(value)
    else:
        yield from code(thing)
        yield from described(thing)


def members(owner: type) -> Iterator[tuple[str, Any]]:
    """Yield public methods and properties of a class and its bases, each base in its order."""
    seen: set[str] = set()
    for base in owner.__mro__:
        if not base.__module__.startswith("replank"):
            continue
        for name, value in vars(base).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            known = inspect.isfunction(function) or isinstance(function, property)
            if known and function.__doc__ and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, function


def code(function: Any) -> Iterator[str]:
    """Show how a function is called."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef)
    start = "async def" if isinstance(tree, ast.AsyncFunctionDef) else "def"
    given = list(parameters(tree.args))
    if given[:1] in (["self"], ["cls"]):
        given = given[2:] if given[1:2] == ["/"] else given[1:]
    answer = f" -> {ast.unparse(tree.returns)}" if tree.returns else ""
    line = f"{start} {tree.name}({', '.join(given)}){answer}: ..."
    if len(line) > LINE:
        rows = "".join(f"    {one},\n" for one in given)
        line = f"{start} {tree.name}(\n{rows}){answer}: ..."
    yield f"```python\n{line}\n```\n"


def parameters(given: ast.arguments) -> Iterator[str]:
    """Yield each parameter as the formatter writes it."""
    by_place = [*given.posonlyargs, *given.args]
    without = len(by_place) - len(given.defaults)
    for place, one in enumerate(by_place):
        yield parameter(one, given.defaults[place - without] if place >= without else None)
        if place + 1 == len(given.posonlyargs):
            yield "/"
    if given.vararg or given.kwonlyargs:
        yield "*" + (parameter(given.vararg) if given.vararg else "")
    for one, value in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield parameter(one, value)
    if given.kwarg:
        yield "**" + parameter(given.kwarg)


def parameter(one: ast.arg, default: ast.expr | None = None) -> str:
    text = f"{one.arg}: {ast.unparse(one.annotation)}" if one.annotation else one.arg
    if default is None:
        return text
    constant = isinstance(default, ast.Constant) and isinstance(default.value, str)
    value = json.dumps(default.value) if constant else ast.unparse(default)  # type: ignore[attr-defined]
    return text + (" = " if one.annotation else "=") + value


def described(thing: Any) -> Iterator[str]:
    """Show a docstring, its sections as lists."""
    section = ""
    lines: list[str] = []
    for line in (inspect.cleandoc(thing.__doc__ or "")).splitlines():
        found = _PART.match(line)
        if found:
            section = found[1]
            lines += ["", f"**{section}**", ""]
        elif section and line and not line.startswith(" "):
            section = ""  # an ordinary paragraph after a section
            lines += ["", plain(line)]
        elif section:
            lines += listed(section, line)
        else:
            lines.append(plain(line))
    yield re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def listed(section: str, line: str) -> list[str]:
    """Return one line of a section as part of a list."""
    text = line.removeprefix("    ")
    name, mark, rest = text.partition(": ")
    if text.startswith(" ") or not text:
        return [f"  {text.strip()}"] if text else []
    if section in {"Returns", "Yields"} or not mark:
        return [plain(text)]
    return [f"- `{name}`: {plain(rest)}"]


def plain(text: str) -> str:
    """Escape what Markdown would read as emphasis or a tag, outside of code."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*<\[])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def fields(record: type[msgspec.Struct]) -> Iterator[str]:
    """Show the fields of a record as a table."""
    if not msgspec.structs.fields(record):
        return
    yield "| field | type | default | means |\n|---|---|---|---|"
    texts, types = texts_of(record)
    for field in msgspec.structs.fields(record):
        kind = types[field.name].replace("|", "\\|")
        yield f"| `{field.name}` | `{kind}` | {default(field)} | {texts.get(field.name, '')} |"
    yield ""


def texts_of(record: type) -> tuple[dict[str, str], dict[str, str]]:
    """Return the text under each field of a class, and its type as it stands there."""
    texts, types = {}, {}
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0].body  # type: ignore[attr-defined]
    for one, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            types[one.target.id] = ast.unparse(one.annotation)
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                texts[one.target.id] = plain(" ".join(str(after.value.value).split()))
    return texts, types


def default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "given"
    if field.default is msgspec.NODEFAULT:
        return "`" + repr(field.default_factory()) + "`"
    value = field.default
    return f"`{str(value)!r}`" if isinstance(value, str) else f"`{value!r}`"


def tree(kind: type, depth: int) -> Iterator[str]:
    """Show the errors, each below what it is a kind of."""
    first = plain((kind.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip())
    yield f"{'  ' * depth}- `{kind.__name__}`: {first}"
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield from tree(one, depth + 1)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
