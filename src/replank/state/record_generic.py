"""Operations that reach below a record's own fields, inside compiled code."""

from __future__ import annotations

from typing import Any

from replank.migration.operations import MISSING, Operation, Parked, Run


class Generic:
    """An operation that reaches below the record's own fields: run on a node of the record.

    Args:
        operation: The operation.
        fields: The table's old and new name; the operation is written for one of them.
    """

    def __init__(self, operation: Operation, fields: tuple[str, str]) -> None:
        self.operation = operation
        self.field = operation.segments[0] if operation.segments else fields[0]

    def inverse(self) -> Generic | None:
        """Return the other direction."""
        back = self.operation.inverse()
        return None if back is None else Generic(back, (self.field, self.field))

    def run(self, node: dict[str, Any], parked: Any) -> tuple[dict[str, Any], Parked]:
        """Change a record's node; return it with what was lost."""
        run = Run("step", None if parked is MISSING else parked)
        tree = self.operation.apply({self.field: {"*": node}}, run)
        changed: dict[str, Any] = tree[self.field]["*"]
        return changed, run.parked


def names_after(operation: Operation, names: list[str]) -> list[str]:
    """Return the record's own fields after an operation below it: a move may add or take one."""
    own = len(operation.segments) == 2  # noqa: PLR2004 - the table and `*`
    if own and hasattr(operation, "source"):
        if not operation.source:
            names.remove(operation.name)  # type: ignore[attr-defined]
        if not operation.target:  # type: ignore[attr-defined]
            names.append(operation.to)  # type: ignore[attr-defined]
    return names


__all__ = ["Generic", "names_after"]
