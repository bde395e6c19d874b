"""The builtins of one generation: its own import, in which its own name means itself.

Everything that turns a *name* into a module has to be told: the import statement and
`__import__` by the builtins; `importlib`, `importlib.resources`, `importlib.util`, `pkgutil` and
`logging` by a facade that the version's code is given in place of the real module. `atexit` has one
that notes what is registered. Nothing outside the version's code sees a facade, and the real
modules are not touched.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

_RESOURCE_FUNCTIONS: Final = (
    "contents",
    "files",
    "is_resource",
    "open_binary",
    "open_text",
    "path",
    "read_binary",
    "read_text",
)


def own_builtins(
    entry: str,
    private_name: str,
    runtime_names: Mapping[str, Any],
    helpers: Mapping[str, str] = types.MappingProxyType({}),
    exits: list[Callable[..., object]] | None = None,
) -> dict[str, Any]:
    """Build the builtins dict of one generation.

    Args:
        entry: The name under which the source imports itself.
        private_name: What that name means for this generation.
        runtime_names: Further names, as if they were builtins.
        helpers: What the names of its helpers mean.
        exits: Where to note what its code registers with `atexit`, which keeps no list.
    """
    names = OwnNames(entry, private_name, helpers, exits)
    return {**vars(builtins), **runtime_names, "__import__": names.import_}


class OwnNames:
    """Translates the author's name of a version into the private one, wherever names are taken.

    Args:
        entry: The name under which the source imports itself.
        private_name: What that name means for this generation.
        helpers: What the names of its helpers mean.
        exits: Where to note what its code registers with `atexit`.
    """

    def __init__(
        self,
        entry: str,
        private_name: str,
        helpers: Mapping[str, str] = types.MappingProxyType({}),
        exits: list[Callable[..., object]] | None = None,
    ) -> None:
        self.exits: list[Callable[..., object]] = [] if exits is None else exits
        self._means = {**helpers, entry: private_name}
        self._private = private_name
        self._facades: dict[str, ModuleType] = {}

    def private(self, name: str) -> str:
        """Return the private form of a dotted name of our own, any other name as it is."""
        root, dot, rest = name.partition(".")
        return f"{self._means[root]}{dot}{rest}" if root in self._means else name

    def public(self, name: str) -> str:
        """Return a name as the author knows it: the generation's number left out."""
        root, dot, rest = name.partition(".")
        return f"{root.partition('@')[0]}{dot}{rest}" if root == self._private else name

    def import_(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - the protocol's name
        locals: Mapping[str, Any] | None = None,  # noqa: A002 - the protocol's name
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Stand in for `builtins.__import__`; it is looked up anew, so that tracers may wrap it."""
        if level:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = builtins.__import__(self.private(name), globals, locals, fromlist or (), 0)
        return self.facade(found)

    def facade(self, module: ModuleType) -> ModuleType:
        """Return what the version's code gets for this module: itself, or a facade of it."""
        name = vars(module).get("__name__", "") if type(module) is ModuleType else ""
        make = _FACADES.get(name)
        if make is None or sys.modules.get(name) is not module:
            return module
        if name not in self._facades:
            self._facades[name] = Facade(self, module, make(self, module))
        return self._facades[name]

    def anchored(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function whose first argument may name a package of our own."""

        @functools.wraps(function)
        def translate(*args: Any, **kwargs: Any) -> Any:
            if not args and not kwargs:
                # `files()` means the package of its caller, which it would look for one frame up.
                args = (sys._getframe(1).f_globals["__name__"],)
            elif args and isinstance(args[0], str):
                args = (self.private(args[0]), *args[1:])
            for key in ("anchor", "package"):
                if isinstance(kwargs.get(key), str):
                    kwargs[key] = self.private(kwargs[key])
            return function(*args, **kwargs)

        return translate


class Facade(ModuleType):
    """A module in which a few functions know the version's own name; all else is the real one's."""

    def __init__(self, names: OwnNames, real: ModuleType, overrides: Mapping[str, Any]) -> None:
        super().__init__(real.__name__, real.__doc__)
        for key in ("__file__", "__loader__", "__package__", "__path__", "__spec__", "__all__"):
            if hasattr(real, key):
                self.__dict__[key] = getattr(real, key)
        self.__dict__.update(overrides)
        self.__dict__["_replank_names"] = names
        self.__dict__["_replank_real"] = real

    def __getattr__(self, name: str) -> Any:
        """Ask the real module for all that is not overridden; its parts have facades too."""
        value = getattr(self.__dict__["_replank_real"], name)
        return self.__dict__["_replank_names"].facade(value) if type(value) is ModuleType else value

    def __dir__(self) -> list[str]:
        """List the real module's names."""
        return dir(self.__dict__["_replank_real"])


def _importlib(names: OwnNames, real: ModuleType) -> dict[str, Any]:
    @functools.wraps(real.import_module)
    def import_module(name: str, package: str | None = None) -> ModuleType:
        package = names.private(package) if package else package
        return names.facade(importlib.import_module(names.private(name), package))

    return {"import_module": import_module}


def _logging(names: OwnNames, real: ModuleType) -> dict[str, Any]:
    """Name loggers as the author does: configured once for all generations, and never leaked."""

    @functools.wraps(real.getLogger)
    def get_logger(name: str | None = None) -> Any:
        return real.getLogger(names.public(name) if isinstance(name, str) else name)

    return {"getLogger": get_logger}


def _atexit(names: OwnNames, real: ModuleType) -> dict[str, Any]:
    """Note what is registered: the real module tells nobody what it will run."""

    @functools.wraps(real.register)
    def register(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        names.exits.append(function)
        return real.register(function, *args, **kwargs)

    @functools.wraps(real.unregister)
    def unregister(function: Callable[..., Any]) -> Any:
        names.exits[:] = [one for one in names.exits if one != function]
        return real.unregister(function)

    return {"register": register, "unregister": unregister}


def _anchored(*functions: str) -> Callable[[OwnNames, ModuleType], dict[str, Any]]:
    def make(names: OwnNames, real: ModuleType) -> dict[str, Any]:
        # Names that this Python version does not have are left out.
        return {one: names.anchored(getattr(real, one)) for one in functions if hasattr(real, one)}

    return make


_FACADES: Final[dict[str, Callable[[OwnNames, ModuleType], dict[str, Any]]]] = {
    "atexit": _atexit,
    "importlib": _importlib,
    "importlib.resources": _anchored(*_RESOURCE_FUNCTIONS),
    "importlib.util": _anchored("find_spec"),
    "logging": _logging,
    "pkgutil": _anchored("get_data", "resolve_name", "get_loader", "find_loader"),
}


__all__ = ["Facade", "OwnNames", "own_builtins"]
