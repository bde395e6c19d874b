"""A whole state as a class-free tree, and back.

`Trees` belongs to one generation: it knows its classes and keeps the functions compiled for them.
One memo serves all fields of a state, so an object that two fields share stays one object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replank.errors import MigrationError
from replank.hints import read_form
from replank.plain import show, too_deep
from replank.state.building import Mismatch
from replank.state.freezing import Freezer
from replank.state.memo import Conflict, Memo, new_memo
from replank.state.names import Namespace
from replank.state.thawing import Thawer


class Trees:
    """Takes values of one generation apart and puts them together.

    Args:
        hints: Resolved hint of each state field.
        own: The generation's names; by default inferred from the classes that the hints name.
            Needed when untyped fields (`STATE` of a plain file) hold the module's own objects.
    """

    def __init__(self, hints: Mapping[str, Any], own: Namespace | None = None) -> None:
        self.hints = hints
        self.own = own or Namespace.of_hints(hints.values())
        self.freezer = Freezer(self.own)
        self.thawer = Thawer(self.own)

    def freeze(self, values: Mapping[str, Any], met: Memo | None = None) -> dict[str, Any]:
        """Turn state values into a tree; nothing of the values is changed or shared.

        Args:
            values: The state, field by field.
            met: Filled with the node of each object, by its id.

        Raises:
            MigrationError: An object cannot be taken apart, or the state is nested too deeply.
        """
        try:
            return self._freeze(values, met, typed=True)
        except Conflict:
            # Rare: one list in two fields, of which only one says what its items are.
            return self._freeze(values, met, typed=False)
        except RecursionError:
            raise too_deep() from None

    def _freeze(
        self, values: Mapping[str, Any], met: Memo | None, *, typed: bool
    ) -> dict[str, Any]:
        memo = {} if met is None else met
        memo.clear()
        memo.update(new_memo())
        freezer = self.freezer if typed else Freezer(self.own, typed=False)
        return {
            name: freezer.walk(self.hints.get(name, Any))(value, memo)
            for name, value in values.items()
        }

    def thaw(self, tree: Mapping[str, Any], known: Memo | None = None) -> dict[str, Any]:
        """Build state values from a tree, each checked against its type.

        Args:
            tree: What `freeze` made, possibly in another generation, and migrations changed.
            known: Objects that exist already, by the ids of their nodes.

        Returns:
            The values of the fields that the tree holds.

        Raises:
            MigrationError: A value does not fit its type, or its class is gone.
        """
        memo = new_memo() | (known or {})
        values: dict[str, Any] = dict.fromkeys(tree)
        # A part that an untyped field shares with a typed one is built, and checked, by its type.
        for name in sorted(
            tree, key=lambda name: read_form(self.hints.get(name, Any)).kind == "any"
        ):
            node = tree[name]
            try:
                values[name] = self.thawer.walk(self.hints.get(name, Any))(node, memo)
            except Mismatch as error:
                error.at(name)
                raise mismatch_error(error) from None
            except RecursionError:
                raise too_deep() from None
        return values


def mismatch_error(error: Mismatch) -> MigrationError:
    """Say a mismatch with its whole path.

    Args:
        error: The signal, with every place it came through.
    """
    why = f" ({error.why})" if error.why else ""
    new = f"{show(error.found)} ({type(error.found).__qualname__})"
    return MigrationError(
        f"the state does not fit its type at {error.path or 'its root'}{why}",
        found=new,
        expected=error.expected,
        do="write a step that converts the value, or widen the type",
    ).at("", (error.path,), new=new)


def freeze(value: Any, hint: Any = Any, *, own: Namespace | None = None) -> Any:
    """Turn one value into a tree.

    Args:
        value: Any state value.
        hint: Its type.
        own: The names of the generation it belongs to.

    Raises:
        MigrationError: See `Trees.freeze`.
    """
    return Trees({"value": hint}, own).freeze({"value": value})["value"]


def thaw(node: Any, hint: Any = Any, *, own: Namespace | None = None) -> Any:
    """Build one value from a tree.

    Args:
        node: What `freeze` made.
        hint: The type to build.
        own: The names of the generation to build for.

    Raises:
        MigrationError: See `Trees.thaw`.
    """
    return Trees({"value": hint}, own).thaw({"value": node})["value"]


__all__ = ["Trees", "freeze", "mismatch_error", "thaw"]
