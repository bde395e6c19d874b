"""The step to paste: certain operations written, uncertain ones asked, never guessed."""

from __future__ import annotations

from collections.abc import Iterable

from replank.difference import Change, Difference
from replank.shapes import Field, Shape

_LITERAL_KINDS = ("none", "bool", "int", "float", "str", "bytes", "literal")


def step_text(start: int, end: int, differences: Iterable[Difference]) -> str:
    """Write the step that a difference needs, as Python source.

    Args:
        start: Schema number of the old state.
        end: Schema number of the new one.
        differences: What changed; safe changes need nothing and are left out.

    Returns:
        Source of a call of `step`; `...  # how?` marks what only the author knows.
    """
    found = list(differences)
    # A field that has a default may be a removed one under its new name all the same.
    came = [one for one in found if one.kind is Change.ADDED]
    lines = [f"    {line}" for line in _lines([one for one in found if not one.safe], came)]
    return "\n".join([f"step({start}, {end},", *lines, ")"]) if lines else f"step({start}, {end})"


def _lines(unsafe: list[Difference], came: list[Difference]) -> Iterable[str]:
    for found in unsafe:
        if found.kind is Change.REMOVED:
            yield from _removed(found, came)
        elif found.kind is Change.ADDED:
            yield f"add({found.path!r}, default=...),  # how? no default in the type{_of(found)}"
        elif found.kind is Change.KEYS_RETYPED:
            yield f"rekey({found.path!r}, up=..., down=...),  # how? {found.text}"
        elif found.kind is Change.RENAMED_TYPE:
            if any(other.path.startswith(f"{found.path}.") for other in unsafe):
                yield f"# {found.text}: the fields below say what changed"
            else:  # a class that names no fields
                how = f"{found.text}; or keep the name"
                yield f"convert({found.path!r}, up=..., down=...),  # how? {how}"
        elif found.kind is Change.MEMBERS_CHANGED:
            yield f"convert({found.path!r}, up=..., down=...),  # how? {found.text}"
        else:
            yield f"convert({found.path!r}, up=..., down=...),  # how? {found.old} -> {found.new}"


def _removed(found: Difference, came: list[Difference]) -> Iterable[str]:
    parent = found.path.rpartition(".")[0]
    for other in came:
        if other.path.rpartition(".")[0] == parent and _like(found.old, other.new):
            name = other.path.rpartition(".")[2]
            instead = "remove" if other.safe else "remove and add"
            yield f"# how? renamed: rename({found.path!r}, {name!r}) instead of {instead}"
    default = _default(found.field)
    if default is None:
        yield f"remove({found.path!r}),  # lossy: give default=... for the way down"
    else:
        yield f"remove({found.path!r}, default={default}),"


def _default(field: Field | None) -> str | None:
    if field is None or field.required or field.optional:
        return None
    if field.factory:
        return {"list": "[]", "dict": "{}", "set": "set()", "table": "{}"}.get(field.shape.kind)
    kinds = {item.kind for item in field.shape.items} or {field.shape.kind}
    return repr(field.default) if kinds <= set(_LITERAL_KINDS) else None


def _like(old: Shape | None, new: Shape | None) -> bool:
    return old is not None and new is not None and str(old) == str(new)


def _of(found: Difference) -> str:
    return f" ({found.new})" if found.new is not None else ""


__all__ = ["step_text"]
