"""What the interpreter remembers of loaded code, and would keep alive for ever."""

from __future__ import annotations

import inspect
import linecache
import sys
import typing


def forget_caches(name: str, root: str) -> None:
    """Remove a generation's files and names from the interpreter's caches.

    Args:
        name: Its private name.
        root: The folder of its stored version.
    """
    for path in [path for path in list(linecache.cache) if path.startswith(root)]:
        linecache.cache.pop(path, None)
    for path in [path for path in list(sys.path_importer_cache) if path.startswith(root)]:
        sys.path_importer_cache.pop(path, None)
    _forget_inspected(name, root)
    # `Optional[Account]` and the like are kept in least-recently-used caches inside typing.
    for clear in getattr(typing, "_cleanups", ()):
        clear()


def _forget_inspected(name: str, root: str) -> None:
    for table_name in ("modulesbyfile", "_filesbymodname"):
        table: dict[str, str] = getattr(inspect, table_name, {})
        for key, value in list(table.items()):
            if key.startswith(root) or value.startswith(root) or is_below(key, name):
                table.pop(key, None)


def modules_below(private_name: str) -> list[str]:
    """Return the names in `sys.modules` of a generation and its parts, in order."""
    # One search through all names at once: one for each of a thousand would be most of an unload.
    names = "\n".join(["", *list(sys.modules), ""])
    found = []
    at = names.find(f"\n{private_name}")
    while at >= 0:
        end = names.index("\n", at + 1)
        found.append(names[at + 1 : end])
        at = names.find(f"\n{private_name}", end)
    return sorted(name for name in found if is_below(name, private_name))


def is_below(fullname: str, private_name: str) -> bool:
    """Say whether a module is a generation or a part of it.

    Args:
        fullname: Its name in `sys.modules`.
        private_name: The generation's.
    """
    return fullname == private_name or fullname.startswith(f"{private_name}.")


__all__ = ["forget_caches", "is_below", "modules_below"]
