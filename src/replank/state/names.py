"""Which classes and functions belong to a module, and how a new generation finds their heirs."""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Final

from replank.errors import MigrationError
from replank.hints import is_private

_HELPER: Final = re.compile(r"@h[0-9a-f]{12}$")
"""What the private name of a helper ends with (`code/helpers.py`): its content, no number."""


class Namespace:
    """The names of one generation of a module.

    Args:
        root: The private name of the generation (`ledger@7`), or None: then everything under any
            private name counts as the module's own, and nothing can be found by name.
        helpers: The private names of its helpers: their classes belong to it, too.
    """

    def __init__(self, root: str | None, helpers: Iterable[str] = ()) -> None:
        self.root = root
        self._roots = frozenset((root, *helpers)) if root is not None else frozenset()
        self._found: dict[str, Any] = {}

    @classmethod
    def of_hints(cls, hints: Iterable[Any]) -> Namespace:
        """Infer the generation from the own classes that its hints name.

        Args:
            hints: Resolved hints of the state.
        """
        roots = {
            module.partition(".")[0]
            for hint in hints
            for named in _classes_in(hint)
            if is_private(module := named.__module__)
        }
        helpers = {one for one in roots if _HELPER.search(one)}
        own = roots - helpers
        return cls(own.pop() if len(own) == 1 else None, helpers)

    def owns(self, thing: Any) -> bool:
        """Tell whether a class or function belongs to the module."""
        module = getattr(thing, "__module__", None)
        if not isinstance(module, str):
            return False
        if self.root is None:
            return is_private(module)
        return self._is_below(module)

    def classes(self) -> Iterable[type]:
        """Yield the module's own classes that stand at the top level of its files."""
        for module in self._modules():
            for thing in list(vars(module).values()):
                if isinstance(thing, type) and self.owns(thing):
                    yield thing

    def find(self, name: str) -> Any:
        """Return this generation's class or function of a qualified name.

        Args:
            name: What `__qualname__` said in the generation that wrote the state.

        Raises:
            MigrationError: There is none, or there are two in different files of the package.
        """
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> Any:
        found: dict[int, Any] = {}
        for module in self._modules():
            thing: Any = module
            for part in name.split("."):
                thing = getattr(thing, part, None)
            if thing is not None and self.owns(thing):
                found[id(thing)] = thing
        if len(found) == 1:
            return found.popitem()[1]
        if found:
            places = ", ".join(sorted(thing.__module__ for thing in found.values()))
            raise MigrationError(
                f"the state holds {name}, which exists more than once in the new version",
                found=f"{name} in {places}",
                expected="one class or function of that name",
                do="give them different names, or declare the field's type",
            )
        raise MigrationError(
            f"the state holds {name}, which does not exist in the new version",
            found=f"no {name}" + ("" if self.root else " (the generation's name is not known)"),
            expected="a class or function of the same name at module level",
            do=f"keep {name}, or write a step that replaces it",
        )

    def _is_below(self, module: str) -> bool:
        return any(module == one or module.startswith(f"{one}.") for one in self._roots)

    def _modules(self) -> list[ModuleType]:
        return [
            module
            for name, module in list(sys.modules.items())
            if self._is_below(name) and isinstance(module, ModuleType)
        ]


def _classes_in(hint: Any) -> Iterable[type]:
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        yield hint
    for arg in typing.get_args(hint):
        yield from _classes_in(arg)


__all__ = ["Namespace"]
