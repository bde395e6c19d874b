"""Count calls inside the method's own frame, so that an open gate costs next to nothing.

A wrapper coroutine around a method costs two to three times the method's own call. So each public
method gets a sibling at compile time, its *entry*: the same body with a few statements before it.

- An *atomic* method never suspends. Nothing can begin or end between its first and last statement,
  so nobody has to know that it is in flight: one attribute test, one look at the chain, one count.
- A *suspending* method may be waited for by a drain, so it enters its lane and leaves it again; as
  long as nobody waits, times or seals, that too is done in its own frame.

The entry is what a handle calls; the method itself stays as it was written, and is what the module
calls on itself. An entry that is not certain to behave like its method is not made: the generic
wrapper serves instead, slower and always right.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from types import CodeType, CoroutineType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from replank.code.passage import COUNT_LINES, LANE, LEAVE_LINES, enter_lines
from replank.syntax import parse_module
from replank.traffic.beat import last_beat
from replank.traffic.calls import Chain, chain_var

if TYPE_CHECKING:
    from replank.traffic.lane import Lane

ENTRY_PREFIX: Final = "_replank_entry_"

_MARKS: Final = frozenset({"query", "replank.query"})
_NO_CALLS: Final = frozenset({"on_start", "on_stop", "host", "spawn"})
_NO_CALL_PREFIXES: Final = ("_", "check_", "migrate_")
_LOCALS_READERS: Final = frozenset({"locals", "eval", "exec", "vars", "dir"})
"""Names whose use in a body could show it the entry's own variables."""

_Def = ast.FunctionDef | ast.AsyncFunctionDef

_NO_COROUTINE: Final = (
    *(ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare, ast.JoinedStr),
    *(ast.Dict, ast.List, ast.Set, ast.Tuple, ast.DictComp, ast.ListComp, ast.SetComp),
)
"""Expressions whose value is certainly no coroutine."""


def add_entries(tree: ast.Module, *, functions: bool) -> int:
    """Put an entry beside each method of a module class and, in a plain file, each function.

    Args:
        tree: The parsed source; changed in place.
        functions: Whether top-level functions are calls when the file has no module class.

    Returns:
        How many entries were added.
    """
    classes = list(_module_classes(tree))
    if classes:
        return sum(_add_siblings(one.body, method=True) for one in classes)
    return _add_siblings(tree.body, method=False) if functions else 0


def collect_entries(owner: type | ModuleType, names: Iterable[str]) -> dict[str, FunctionType]:
    """Take the compiled entries of a module out of its class or file.

    After this the class looks as its author wrote it. An entry is returned only when the name
    still stands for the function that the entry was made from: a method that was wrapped, replaced
    or inherited from elsewhere is left to `generic_entry`.

    Args:
        owner: The module class, or the plain file's module.
        names: Names of the calls.

    Returns:
        Entries by call name; for a class they take the instance first, as methods do.
    """
    wanted = set(names)
    taken: dict[str, FunctionType] = {}
    for space_owner in owner.__mro__ if isinstance(owner, type) else (owner,):
        for key in [key for key in vars(space_owner) if key.startswith(ENTRY_PREFIX)]:
            entry = vars(space_owner)[key]
            delattr(space_owner, key)
            name = key.removeprefix(ENTRY_PREFIX)
            # The original must be the one that the owner itself would find.
            original = next(
                (vars(o)[name] for o in getattr(owner, "__mro__", (owner,)) if name in vars(o)),
                None,
            )
            if name in wanted and _is_same(entry, original):
                assert isinstance(original, FunctionType)
                taken[name] = _dress(entry, original)
    return taken


def generic_entry(
    lane: Lane, name: str, bound: Callable[..., Any], *, is_async: bool
) -> Callable[..., Awaitable[Any]]:
    """Wrap a call that has no compiled entry.

    Args:
        lane: The generation's lane.
        name: Name of the call.
        bound: The callable itself, bound to its instance.
        is_async: Whether it is a coroutine function; what a sync one returns is awaited only when
            it turns out to be awaitable (a decorator may hide a coroutine function).
    """

    async def call_async(*args: Any, **kwargs: Any) -> Any:
        if not lane.open:
            return await lane.detour(name, args, kwargs)
        passage = lane.enter(name)
        __replank_since__ = last_beat.at  # noqa: F841 - found by its name, as in a compiled entry
        try:
            return await bound(*args, **kwargs)
        finally:
            if passage is not None:
                passage.leave()

    async def call_sync(*args: Any, **kwargs: Any) -> Any:
        if not lane.open:
            return await lane.detour(name, args, kwargs)
        if (chain := chain_var.get()) is not None and chain.first is not None:
            chain.touch(lane)
        lane.calls += 1
        result = bound(*args, **kwargs)
        return await _run_hidden(lane, name, result) if isinstance(result, Coroutine) else result

    entry = call_async if is_async else call_sync
    # Who looks for what blocks a drain reads the call's name off its frame.
    entry.__code__ = entry.__code__.replace(co_name=name, co_qualname=name)
    return entry


async def _run_hidden(lane: Lane, name: str, hidden: Coroutine[Any, Any, Any]) -> Any:
    """Run the coroutine that a call which looked atomic returned: it is in flight after all."""
    # Nothing of it has run yet. `enter` counts the call, which was counted already.
    lane.calls -= 1
    passage = lane.enter(name)
    try:
        return await hidden
    finally:
        if passage is not None:
            passage.leave()


ENTRY_NAMES: Final[dict[str, Any]] = {
    "__replank_coroutine__": CoroutineType,
    "__replank_hidden__": _run_hidden,
    "__replank_begin__": Chain,
    "__replank_set_chain__": chain_var.set,
    "__replank_beat__": last_beat,
}
"""What entries need besides the lane and the chain; the loader puts them into the builtins."""


def _module_classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """Yield the classes that look like module classes; being wrong here costs only speed."""
    known = {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname and alias.name.endswith("Module")
    }
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {_dotted(base) for base in node.bases}
        labelled = any(keyword.arg in ("version", "schema") for keyword in node.keywords)
        if labelled or bases & known or any(base.endswith("Module") for base in bases):
            known.add(node.name)
            yield node


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def _add_siblings(body: list[ast.stmt], *, method: bool) -> int:
    added = 0
    for index in range(len(body) - 1, -1, -1):
        node = body[index]
        if isinstance(node, _Def) and _can_have_entry(node, method=method):
            body.insert(index + 1, _entry_for(node, method=method))
            added += 1
    return added


def _can_have_entry(node: _Def, *, method: bool) -> bool:
    public = node.name not in _NO_CALLS and not node.name.startswith(_NO_CALL_PREFIXES)
    marked_only = all(_dotted(one) in _MARKS for one in node.decorator_list)
    takes_self = not method or bool(node.args.posonlyargs or node.args.args)
    # A type parameter (`def m[T]`) is visible in the body only inside its own hidden scope.
    generic = bool(getattr(node, "type_params", ()))
    if not (public and marked_only and takes_self) or generic:
        return False
    yields = any(isinstance(one, ast.Yield | ast.YieldFrom) for one in _own_nodes(node))
    reads_locals = any(
        isinstance(one, ast.Name) and one.id in _LOCALS_READERS for one in ast.walk(node)
    )
    return not (yields or reads_locals)


def _own_nodes(node: _Def) -> Iterator[ast.AST]:
    """Walk a body without entering nested functions, lambdas and classes.

    Comprehensions are entered: one that awaits makes its function suspend.
    """
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        one = waiting.pop()
        yield one
        if not isinstance(one, _Def | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(one))


def _suspends(node: _Def) -> bool:
    return any(
        isinstance(one, ast.Await | ast.AsyncFor | ast.AsyncWith)
        or (isinstance(one, ast.comprehension) and bool(one.is_async))
        for one in _own_nodes(node)
    )


def _entry_for(node: _Def, *, method: bool) -> ast.AsyncFunctionDef:
    """Build the entry: docstring, the gate's test, the count, then the author's own body."""
    body: list[ast.stmt] = copy.deepcopy(node.body)
    has_doc = ast.get_docstring(node, clean=False) is not None
    doc, rest = (body[:1], body[1:]) if has_doc else ([], body)
    gate = [
        f"if not {LANE}.open:",
        f"    return await {LANE}.detour({node.name!r}, {_forwarded(node.args, method=method)})",
    ]
    if _suspends(node):
        prelude = _at(node, [*gate, *enter_lines(node.name)])
        leave = _at(node, LEAVE_LINES)
        guarded = ast.Try(body=rest or [ast.Pass()], handlers=[], orelse=[], finalbody=leave)
        counted: list[ast.stmt] = [*prelude, guarded]
    else:
        # `__replank_lane__.calls += 1` is no assignment to the name: the lane stays a global.
        if isinstance(node, ast.FunctionDef):
            rest = [_AwaitHidden(node).visit(one) for one in rest]
        counted = [*_at(node, [*gate, *COUNT_LINES]), *rest]
    entry = ast.AsyncFunctionDef(
        name=ENTRY_PREFIX + node.name,
        args=_bare_arguments(node.args),
        body=[*doc, *counted],
        decorator_list=[],
        returns=None,
        type_comment=None,
    )
    if "type_params" in entry._fields:
        vars(entry)["type_params"] = []  # Python 3.12 on; the typing stubs of 3.11 lack it
    return ast.fix_missing_locations(ast.copy_location(entry, node))


class _AwaitHidden(ast.NodeTransformer):
    """Has a `def` that returns a coroutine awaited: a handle's caller awaits only once."""

    def __init__(self, node: _Def) -> None:
        self._node = node

    def visit(self, node: ast.AST) -> Any:
        """Leave nested functions and classes alone: their returns are not the call's."""
        return node if isinstance(node, _Def | ast.Lambda | ast.ClassDef) else super().visit(node)

    def visit_Return(self, node: ast.Return) -> ast.Return:
        """Look at the value when it is of a kind that could be a coroutine."""
        if node.value is None or isinstance(node.value, _NO_COROUTINE):
            return node
        text = (
            "return __replank_r if (__replank_r := 0).__class__ is not __replank_coroutine__ "
            f"else await __replank_hidden__({LANE}, {self._node.name!r}, __replank_r)"
        )
        (made,) = _at(self._node, [text])
        for one in ast.walk(made):
            if isinstance(one, ast.NamedExpr):
                one.value = node.value
            if isinstance(one, ast.stmt | ast.expr) and one is not node.value:
                ast.copy_location(one, node)
        assert isinstance(made, ast.Return)
        return made


def _at(node: _Def, lines: list[str]) -> list[ast.stmt]:
    """Parse statements as if they stood on the line of the `def`."""
    # Awaiting is legal only inside a function, so the statements are parsed inside one.
    (holder,) = parse_module("async def f():\n" + "\n".join("  " + line for line in lines)).body
    assert isinstance(holder, ast.AsyncFunctionDef)
    for statement in holder.body:
        for one in ast.walk(statement):
            if isinstance(one, ast.stmt | ast.expr):
                one.lineno = one.end_lineno = node.lineno
                one.col_offset, one.end_col_offset = node.col_offset, node.col_offset + 3
    return holder.body


def _forwarded(args: ast.arguments, *, method: bool) -> str:
    """Return "(a, b, *rest), {...}": the parameters as they came, `self` left out."""
    given = [one.arg for one in (*args.posonlyargs, *args.args)][1 if method else 0 :]
    if args.vararg:
        given.append("*" + args.vararg.arg)
    named = [f"{one.arg!r}: {one.arg}" for one in args.kwonlyargs]
    if args.kwarg:
        named.append("**" + args.kwarg.arg)
    return f"({''.join(one + ', ' for one in given)}), {{{', '.join(named)}}}"


def _bare_arguments(args: ast.arguments) -> ast.arguments:
    """Copy parameters with annotations left out and each default replaced by None.

    The author's expressions are evaluated once, for the method; the entry is given their values.
    """

    def bare(one: ast.arg) -> ast.arg:
        return ast.copy_location(ast.arg(arg=one.arg, annotation=None, type_comment=None), one)

    def none(one: ast.expr) -> ast.expr:
        return ast.copy_location(ast.Constant(value=None), one)

    return ast.arguments(
        posonlyargs=[bare(one) for one in args.posonlyargs],
        args=[bare(one) for one in args.args],
        vararg=bare(args.vararg) if args.vararg else None,
        kwonlyargs=[bare(one) for one in args.kwonlyargs],
        kw_defaults=[none(one) if one is not None else None for one in args.kw_defaults],
        kwarg=bare(args.kwarg) if args.kwarg else None,
        defaults=[none(one) for one in args.defaults],
    )


def _is_same(entry: Any, original: Any) -> bool:
    """Return whether an entry was made from this very function, which nothing wrapped since."""
    if type(entry) is not FunctionType or type(original) is not FunctionType:
        return False
    made, found = entry.__code__, original.__code__
    return (
        found.co_filename == made.co_filename
        and found.co_qualname == made.co_qualname.replace(ENTRY_PREFIX, "", 1)
        # A decorated function begins at its first decorator, its entry at the `def`.
        and found.co_firstlineno <= made.co_firstlineno <= _last_line(found)
        and _parameters(found) == _parameters(made)
    )


def _last_line(code: CodeType) -> int:
    return max(line for _, _, line in code.co_lines() if line is not None)


def _parameters(code: CodeType) -> tuple[str, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    return code.co_varnames[:count]


def _dress(entry: FunctionType, original: FunctionType) -> FunctionType:
    """Give an entry the values and the name of its method; tracebacks then show the author's."""
    entry.__code__ = entry.__code__.replace(
        co_name=original.__code__.co_name, co_qualname=original.__code__.co_qualname
    )
    entry.__defaults__ = original.__defaults__
    entry.__kwdefaults__ = original.__kwdefaults__
    entry.__annotations__ = original.__annotations__
    entry.__name__ = original.__name__
    entry.__qualname__ = original.__qualname__
    return entry


__all__ = ["ENTRY_NAMES", "ENTRY_PREFIX", "add_entries", "collect_entries", "generic_entry"]
