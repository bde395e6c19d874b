"""Generated code that takes records apart."""

from __future__ import annotations

from typing import Any

from replank.plain import Walk


def generate_record(
    cls: Any, fields: list[tuple[str, Walk | frozenset[type]]], incomplete: Walk, untyped: Walk
) -> Walk:
    """Write and compile the function that takes one record class apart.

    Args:
        cls: The class.
        fields: Name of each field with the classes that are kept as they are, or its function.
        incomplete: Takes over when an attribute is missing.
        untyped: Takes over when the object is of another class.
    """
    names: dict[str, Any] = {"cls": cls, "incomplete": incomplete, "untyped": untyped}
    head = ["def freeze(o, memo):", " if o.__class__ is not cls:", "  return untyped(o, memo)"]
    head += [" i = id(o)", " node = memo.get(i)", " if node is not None:", "  return node"]
    body, flat = [], True
    for n, (name, how) in enumerate(fields):
        body.append(f"  v{n} = o.{name}")
        if isinstance(how, frozenset):
            names[f"t{n}"] = next(iter(how)) if len(how) == 1 else how
            test = "is not" if len(how) == 1 else "not in"
            body.append(f"  if v{n}.__class__ {test} t{n}:\n   v{n} = untyped(v{n}, memo)")
        else:
            flat = False
            names[f"f{n}"] = how
            if isinstance(getattr(cls, name, None), property):
                body.append(f"  memo[0].append(v{n})")
            body.append(f"  v{n} = f{n}(v{n}, memo)")
    literal = "{" + ", ".join(f"{name!r}: v{n}" for n, (name, _) in enumerate(fields)) + "}"
    # A flat record cannot be part of a cycle: its node is entered when it is complete.
    begin = [" try:"] if flat else [" memo[i] = node = {}", " try:"]
    rest = [f"  node.update({literal})"] if not flat else []
    end = [" except AttributeError:", "  return incomplete(o, memo)"]
    end += [f" memo[i] = node = {literal}"] if flat else []
    source = "\n".join([*head, *begin, *(body or ["  pass"]), *rest, *end, " return node"])
    exec(compile(source, f"<replank freeze {cls.__qualname__}>", "exec"), names)  # noqa: S102
    walk: Walk = names["freeze"]
    return walk


__all__ = ["generate_record"]
